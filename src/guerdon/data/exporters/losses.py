"""What a format cannot hold of the comparisons written in it, counted by kind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from guerdon.contracts import Comparison, prompt_digest
from guerdon.errors import counted

__all__ = ["Losses"]

TIES = "ties"


@dataclass(slots=True)
class Losses:
    """How many comparisons lost what.

    comparisons: how many were to be written. written: how many were, in one row or several. counts: kind -> comparisons that lost
    it, or ties that were dropped. pending: what the comparison loses that is being written.
    """

    comparisons: int = 0
    written: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    pending: dict[str, None] = field(default_factory=dict)

    def add(self, kind: str) -> None:
        """Note what the comparison loses if it is written; the same kind counts once."""
        self.pending.setdefault(kind)

    def add_tie(self) -> None:
        """Count a tie that is dropped."""
        self.counts[TIES] += 1

    def end_comparison(self, is_written: bool) -> None:
        """Count what a comparison lost; one that was not written is lost as a whole, and counted elsewhere."""
        self.comparisons += 1
        if is_written:
            self.written += 1
            self.counts.update(self.pending.keys())
        self.pending.clear()

    def add_fields(self, comparison: Comparison, has_extras: bool) -> None:
        """Count the fields of a comparison that no row of another tool holds, and those that need columns of our own."""
        responses, preference = comparison.responses, comparison.preference
        lost = {
            "author": any(response.author is not None for response in responses),
            "ratings": any(response.ratings for response in responses),
            "finish": any(response.finish is not None for response in responses),
            "vote counts": preference.votes is not None,
        }
        if not has_extras:
            lost |= {
                "id": True,
                "group": comparison.group != prompt_digest(comparison.prompt),
                "annotator": comparison.annotator is not None,
                "source": comparison.source is not None,
                "rationale": comparison.rationale is not None,
                "weight": comparison.weight != 1.0,
                "soft label": preference.q not in (None, 0.0, 1.0),
            }
        for kind, is_lost in lost.items():
            if is_lost:
                self.add(kind)

    def describe(self) -> str:
        """Such as "34 ties (dropped), order shown of all comparisons, annotator of 120 comparisons"; "" where nothing is lost."""
        kinds = sorted(self.counts, key=lambda kind: (kind != TIES, -self.counts[kind]))
        return ", ".join(self._part(kind, self.counts[kind]) for kind in kinds)

    def _part(self, kind: str, count: int) -> str:
        if kind == TIES:
            return f"{counted(count, 'tie')} (dropped)"
        return f"{kind} of {self._comparisons(count)}"

    def _comparisons(self, count: int) -> str:
        return "all comparisons" if count == self.written else counted(count, "comparison")
