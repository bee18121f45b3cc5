"""Whether length, position or indifference decides, where quality should."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Final

from guerdon.contracts import Estimate, Finding, Quantity
from guerdon.data.checks.contract import SECTION, Check, Data, Row
from guerdon.models.estimates import percent

__all__ = ["Length", "Position", "Ties"]

POSITION_SHARE: Final = (0.45, 0.55)


class Ties(Check):
    """How many comparisons prefer nothing."""

    quantities: ClassVar[Mapping[str, Quantity]] = {
        "ties": Quantity("ties", "share", SECTION, "comparisons that people call equal")
    }

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._ties = 0

    def add(self, row: Row) -> None:
        """Count a comparison without a winner."""
        self._ties += not row.pairs

    def findings(self) -> Iterator[Finding]:
        """Nothing but ties is an error."""
        if self._ties and self._ties == self.data.rows:
            evidence = f"none of {self.data.rows:,} comparisons prefers a response"
            yield Finding("error", "All ties", evidence, "Collect preferences.")

    def estimates(self) -> Mapping[str, Estimate]:
        """Of all comparisons."""
        return {"ties": self.data.share(self._ties, self.data.rows)} if self.data.rows else {}


class Length(Check):
    """How well the longer response is the better one.

    The score of a comparison is the share of its pairs in which the longer response is preferred, equal lengths counted
    half; the mean is the AUC of length alone.
    """

    quantities: ClassVar[Mapping[str, Quantity]] = {
        "preferred_is_longer": Quantity(
            "the preferred response is longer", "share", SECTION, "of comparisons whose lengths differ"
        ),
        "length_auc": Quantity("length predicts the better one", "share", SECTION, "AUC: 50 % is chance"),
    }

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._score = self._longer = 0.0
        self._decided = self._unequal = 0

    def add(self, row: Row) -> None:
        """Compare lengths where a response is preferred."""
        if not row.pairs:
            return
        lengths = row.lengths
        scores = [(lengths[i] > lengths[j]) + (lengths[i] == lengths[j]) / 2 for i, j in row.pairs]
        unequal = [score for score in scores if score != 0.5]
        self._decided += 1
        self._score += sum(scores) / len(scores)
        self._unequal += bool(unequal)
        self._longer += sum(unequal) / len(unequal) if unequal else 0.0

    def findings(self) -> Iterator[Finding]:
        """A warning where length alone predicts the preference, in whichever direction."""
        auc, warn = self.data.share(self._score, self._decided), self.options.length_auc_warn
        if not self._decided or max(auc.value, 1 - auc.value) <= warn:
            return
        word = "longer" if auc.value > 0.5 else "shorter"
        if word == "shorter":
            auc = Estimate(1 - auc.value, 1 - auc.high, 1 - auc.low, auc.n)
        bounds = f"50 % is balanced, {100 * warn:g} % warns"
        evidence = f"length alone predicts the preference with AUC {percent(auc)}; {bounds}"
        remedy = "Audit for length bias, and balance lengths in what is collected next."
        yield Finding("warning", f"The {word} response is preferred", evidence, remedy)

    def estimates(self) -> Mapping[str, Estimate]:
        """Shares of comparisons that prefer a response."""
        shares = {
            "preferred_is_longer": (self._longer, self._unequal),
            "length_auc": (self._score, self._decided),
        }
        return {name: self.data.share(cases, n) for name, (cases, n) in shares.items() if n}


class Position(Check):
    """How often the first of two responses is preferred."""

    quantities: ClassVar[Mapping[str, Quantity]] = {
        "first_is_preferred": Quantity("the first one is better", "share", SECTION, "of pairs with a winner"),
    }

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._first = self._decided = 0

    def add(self, row: Row) -> None:
        """Count a pair with a winner."""
        if len(row.comparison.responses) == 2 and row.pairs:
            self._decided += 1
            self._first += row.pairs[0][0] == 0

    def findings(self) -> Iterator[Finding]:
        """A warning outside 45-55 %, unless the preferred one is always first: such a format does not record the order."""
        share = self.data.share(self._first, self._decided)
        low, high = POSITION_SHARE
        if not self._decided or self._first in (0, self._decided) or low <= share.value <= high:
            return
        if share.low <= 0.5 <= share.high:
            return
        evidence = f"the first response is preferred in {percent(share)} of pairs; {100 * low:g} to {100 * high:g} % is balanced"
        remedy = "Show responses in random order, and import them in the order shown."
        yield Finding("warning", "Position predicts the preference", evidence, remedy)

    def estimates(self) -> Mapping[str, Estimate]:
        """Of pairs with a winner."""
        return {"first_is_preferred": self.data.share(self._first, self._decided)} if self._decided else {}
