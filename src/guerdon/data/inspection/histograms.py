"""Counts by range or by name, and how they are drawn: shares as bars, one row for each range or name."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from guerdon.contracts import Curve, Estimate

__all__ = [
    "EDGES",
    "LOW_EDGES",
    "PROMPT_EDGES",
    "SIGNED_EDGES",
    "NameCounter",
    "Share",
    "bars",
    "name_bars",
    "range_bars",
    "range_of",
]

Share = Callable[[float, int], Estimate]
"""From cases and n to a share with its interval."""

EDGES: Final = (0, 1, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000)
LOW_EDGES: Final = (*range(0, 11), 20, 50, 100, 1_000)
PROMPT_EDGES: Final = (*range(0, 6), 10, 20, 50, 100, 200, 500, 1_000, 10_000)
SIGNED_EDGES: Final = (
    *(-edge + 1 for edge in (5_000, 2_000, 1_000, 500, 200, 100, 50, 10)), 0, 1, 10, 50, 100, 200, 500, 1_000, 2_000, 5_000
)  # fmt: skip
MAX_NAMES: Final = 50_000  # that are counted; those that come later are counted together
MAX_BARS: Final = 20
OTHERS: Final = "all others"


class NameCounter(Counter[str]):
    """Counts names, as many as memory allows: later ones count as one."""

    def add(self, name: str) -> None:
        """Count the name once more."""
        self[name if name in self or len(self) < MAX_NAMES else OTHERS] += 1


def range_of(value: float, edges: Sequence[int]) -> int:
    """The position of the range that holds the value: from an edge to below the next; -1 is below the first."""
    return bisect_right(edges, value) - 1


def range_bars(counts: Mapping[int, int], edges: Sequence[int], share: Share, x: str, y: str, title: str) -> Curve:
    """Counts by `range_of` as bars, from the first range that has any to the last."""
    positions = range(min(counts), max(counts) + 1) if counts else range(0)
    return bars([(_range_name(i, edges), counts.get(i, 0)) for i in positions], share, x, y, title)


def bars(counts: Iterable[tuple[str, int]], share: Share, x: str, y: str, title: str, caption: str = "") -> Curve:
    """Named counts as shares of their sum, in this order."""
    rows = list(counts)
    total = sum(count for _, count in rows)
    return Curve(
        x=tuple(float(i) for i in range(len(rows))),
        y=tuple(share(count, total) for _, count in rows),
        x_label=x,
        y_label=y,
        kind="bars",
        x_names=tuple(name for name, _ in rows),
        title=title,
        caption=caption,
    )


def name_bars(counts: Mapping[str, int], share: Share, x: str, y: str, title: str) -> Curve:
    """The most frequent names as bars, and the others together."""
    ordered = sorted(counts.items(), key=lambda item: (item[0] == OTHERS, -item[1], item[0]))
    shown, rest = ordered[:MAX_BARS], sum(count for _, count in ordered[MAX_BARS:])
    return bars([*shown, *([(OTHERS, rest)] if rest else [])], share, x, y, title)


def _range_name(position: int, edges: Sequence[int]) -> str:
    """Such as "20–49", "1,000,000 or more" or "below −4,999"."""
    if position < 0:
        return f"below {_number(edges[0])}"
    low = edges[position]
    if position + 1 == len(edges):
        return f"{_number(low)} or more"
    high = edges[position + 1] - 1
    if low == high:
        return _number(low)
    return f"{_number(low)} to {_number(high)}" if low < 0 else f"{_number(low)}–{_number(high)}"


def _number(value: int) -> str:
    return f"{value:,}".replace("-", "\N{MINUS SIGN}")
