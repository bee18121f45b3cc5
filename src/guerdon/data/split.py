"""Train, calibrate and audit parts by prompt group: never by row, the same on any machine and in any order."""

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
    """The part that a prompt group belongs to, by its name and the salt alone, so adding rows moves none."""
    shares: dict[Part, float] = {"train": options.train, "calibrate": options.calibrate, "audit": options.audit}
    if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-9):
        got = " + ".join(f"{share:g}" for share in shares.values())
        raise GuerdonError(
            f"split: train + calibrate + audit is 1, got {got} = {sum(shares.values()):g}; remedy: change the shares"
        )
    place, bound = _place(f"{options.salt}\0{group}"), 0.0
    taking = [part for part, share in shares.items() if share > 0]
    for part in taking:
        bound += shares[part]
        if place < bound:
            return part
    return taking[-1]  # the sum may fall short of 1 by a rounding


def split(comparisons: Iterable[Comparison], options: SplitOptions) -> Iterator[tuple[Part, Comparison]]:
    """Comparisons in, each with the name of its part out, one by one and in order; files.write_parts writes them."""
    for comparison in comparisons:
        yield part_of(comparison.group, options), comparison


def _place(name: str) -> float:
    """A name's place in [0, 1): 53 bits of its hash, so that it is never rounded up to 1."""
    hashed = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return float((int.from_bytes(hashed[:8], "big") >> 11) / 2**53)
