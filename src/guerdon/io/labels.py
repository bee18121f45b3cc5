"""What a comparison's preference says, in the words that people read."""

from __future__ import annotations

from guerdon.contracts import Comparison

__all__ = ["label_of", "label_of_response"]


def label_of(comparison: Comparison) -> str:
    """Such as "first is better", "probably the second", "tie" or "ranking of 4"."""
    q = comparison.q
    if q is None:
        return "tie" if len(set(comparison.ranks)) == 1 else f"ranking of {len(comparison.ranks)}"
    if q == 0.5:
        return "tie"
    side = "first" if q > 0.5 else "second"
    return f"{side} is better" if q in (0.0, 1.0) else f"probably the {side}"


def label_of_response(comparison: Comparison, i: int) -> str:
    """What it says of one response: "preferred", "not preferred", "tie", "better with probability 0.7" or "rank 2 of 4"."""
    q, rank = comparison.q, comparison.ranks[i]
    if q is None:
        return f"rank {rank + 1} of {len(comparison.responses)}" if rank >= 0 else "not ranked"
    share = q if i == 0 else 1 - q
    if share == 0.5:
        return "tie"
    if share in (0.0, 1.0):
        return "preferred" if share else "not preferred"
    return f"better with probability {share:.2g}"
