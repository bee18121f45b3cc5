"""Train, calibrate and audit parts by prompt group, never by row: the same on any machine and in any order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from typing import Literal

from guerdon.config import SplitOptions
from guerdon.contracts import Comparison, GuerdonError

__all__ = ["part_of", "split"]

Part = Literal["train", "calibrate", "audit"]


def part_of(group: str, options: SplitOptions) -> Part:
    """The part of a prompt group, which depends on its name and the salt alone: adding rows moves none."""
    shares: dict[Part, float] = {"train": options.train, "calibrate": options.calibrate, "audit": options.audit}
    if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-9):
        got = " + ".join(f"{share:g}" for share in shares.values())
        raise GuerdonError(
            f"split: train + calibrate + audit must be 1, got {got} = {sum(shares.values()):g}. Change the shares."
        )
    position, bound = _position(f"{options.salt}\0{group}"), 0.0
    parts = [part for part, share in shares.items() if share > 0]
    for part in parts:
        bound += shares[part]
        if position < bound:
            return part
    return parts[-1]  # rounding may leave the sum just below 1


def split(comparisons: Iterable[Comparison], options: SplitOptions) -> Iterator[tuple[Part, Comparison]]:
    """Each comparison with the name of its part, one by one and in order; io.writers.write_parts writes them."""
    for comparison in comparisons:
        yield part_of(comparison.group, options), comparison


def _position(name: str) -> float:
    """A name's position in [0, 1): 53 bits of its hash, so that it is never rounded up to 1."""
    hashed = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return float((int.from_bytes(hashed[:8], "big") >> 11) / 2**53)
