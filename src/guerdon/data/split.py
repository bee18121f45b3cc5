"""Train, calibrate and audit parts by prompt group, never by row: the same on any machine and in any order."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

from guerdon.config import SplitOptions
from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.hashes import hash_parts
from guerdon.errors import counted, verb

__all__ = ["part_of", "split"]

LARGE: Final = 0.05  # share of the groups; a larger cluster changes the sizes of parts
Part = Literal["train", "calibrate", "audit"]


def part_of(group: str, options: SplitOptions) -> Part:
    """The part of a prompt group, which depends on its name and the salt alone: adding rows moves none."""
    return _part_at(_position(group, options), options)


def split(
    comparisons: Iterable[Comparison], options: SplitOptions, note: Callable[[str], None] = lambda line: None
) -> Iterator[tuple[Part, Comparison]]:
    """Each comparison with the name of its part, one by one and in order; io.writers.write_parts writes them.

    With options.near_duplicates the comparisons are iterated twice, and groups that near-duplicate prompts connect share the
    part of one of them, whatever the order of rows. `note` is called with a line where that makes parts of other sizes.
    """
    _part_at(0.0, options)  # refuse the options before a long pass
    positions = _cluster_positions(comparisons, options, note) if options.near_duplicates else {}
    for comparison in comparisons:
        position = positions.get(hash_parts(comparison.group)) if positions else None
        if position is None:
            position = _position(comparison.group, options)
        yield _part_at(position, options), comparison


def _cluster_positions(
    comparisons: Iterable[Comparison], options: SplitOptions, note: Callable[[str], None]
) -> dict[int, float]:
    """Hash of a group -> the position of the group that decides for its cluster, for connected groups only."""
    from guerdon.data.clusters import GroupClusters

    collected, positions = GroupClusters(), array("d")
    for comparison in comparisons:
        collected.add(comparison)
        positions.append(_position(comparison.group, options))
    clusters = collected.clusters()
    if not clusters:
        return {}
    groups, first_rows = collected.distinct_groups()
    position_of = dict(zip(groups.tolist(), (positions[row] for row in first_rows), strict=True))
    num_groups = len(groups)
    sizes = Counter(clusters.values())
    largest = max(sizes.values())
    note(
        f"{len(clusters):,} of {num_groups:,} groups have near-duplicate prompts: "
        f"{counted(len(sizes), 'cluster')} {verb(len(sizes), 'stay')} together"
    )
    if largest > LARGE * num_groups:
        note(
            f"one cluster holds {largest:,} of {num_groups:,} groups, because their prompts share most of their words. "
            "If that is a template, set split.near_duplicates=false"
        )
    return {group: position_of[first] for group, first in clusters.items()}


def _part_at(position: float, options: SplitOptions) -> Part:
    shares: dict[Part, float] = {"train": options.train, "calibrate": options.calibrate, "audit": options.audit}
    if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-9):
        got = " + ".join(f"{share:g}" for share in shares.values())
        raise GuerdonError(
            f"split: train + calibrate + audit must be 1, got {got} = {sum(shares.values()):g}. Change the shares."
        )
    bound = 0.0
    parts = [part for part, share in shares.items() if share > 0]
    for part in parts:
        bound += shares[part]
        if position < bound:
            return part
    return parts[-1]  # rounding may leave the sum just below 1


def _position(group: str, options: SplitOptions) -> float:
    """A group's position in [0, 1): 53 bits of a hash, so that it is never rounded up to 1."""
    hashed = hashlib.sha256(f"{options.salt}\0{group}".encode("utf-8", "surrogatepass")).digest()
    return float((int.from_bytes(hashed[:8], "big") >> 11) / 2**53)
