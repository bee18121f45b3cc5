"""What `check --fix` does about the faults that checks find: drop the row, or merge rows of one pair into votes.

Every other comparison stays as it is. A pair that named annotators judge is left to `aggregate`, which needs their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from guerdon.contracts import Comparison, Preference, Report, response_identity
from guerdon.data.checks import CHECKS, examine
from guerdon.data.checks.contract import Check, Data
from guerdon.data.checks.repeats import Repeats
from guerdon.data.hashes import hash_parts
from guerdon.io.schema import Rejected

__all__ = ["Fix", "Fixer"]

ReadRows = Callable[[], Iterable[Comparison | Rejected]]
UNUSABLE, ALL_TIES = "Rows that cannot be used", "All ties"


Fix = Mapping[str, str]  # row: where it was; check: the finding; action: dropped or merged; detail: why, or into what


class Fixer:
    """The checks of rows that can be read several times, and then the same rows without their faults."""

    def __init__(
        self, read_rows: ReadRows, data: Data, against: Mapping[str, Iterable[Comparison]] | None = None
    ) -> None:
        self._read_rows = read_rows
        self._checks: list[Check] = [make(data) for make in CHECKS]
        self.report: Report = examine(self._comparisons(), data, self._checks, against=against)
        self._drops: dict[int, str] = {}
        for check in self._checks:
            for title, rows in check.drops().items():
                self._drops.update((number, title) for number in rows if number not in self._drops)
        repeats = next(check for check in self._checks if isinstance(check, Repeats))
        self._has_winner = False  # among the comparisons that stay
        self._leader_of, self._repeated = repeats.merges(frozenset(self._drops))

    @property
    def remaining_errors(self) -> list[str]:
        """Titles of errors that no dropped row repairs, once all `rows` were read: those that are left may all be ties."""
        repaired = {title for check in self._checks for title in check.drops()} | {UNUSABLE}
        errors = [f.title for f in self.report.findings if f.severity == "error" and f.title not in repaired]
        return errors if self._has_winner or ALL_TIES in errors else [*errors, ALL_TIES]

    def rows(self) -> Iterator[Comparison | Fix]:
        """Each comparison that stays, and a Fix for each row that was changed, merged or dropped; in the order of rows."""
        for row in self._changed_rows():
            self._has_winner |= isinstance(row, Comparison) and len(set(row.ranks)) > 1
            yield row

    def _changed_rows(self) -> Iterator[Comparison | Fix]:
        merged = self._merged()
        number = -1
        for row in self._read_rows():
            if isinstance(row, Rejected):
                yield _fix(row.place, UNUSABLE, "dropped", row.reason)
                continue
            number += 1
            place = row.prompt.location or row.id
            if number in self._drops:
                yield _fix(place, self._drops[number], "dropped")
            elif number in self._repeated:
                yield _fix(
                    place, "Exact duplicates", "dropped", f"repeats {self._place(self._repeated[number], merged)}"
                )
            elif number in merged:
                votes = merged[number]
                yield votes.apply(row)
                yield _fix(place, votes.check, "merged", votes.detail)
            elif number in self._leader_of:
                leader = merged[self._leader_of[number]]
                yield _fix(place, leader.check, "merged", f"into {leader.place}")
            else:
                yield row

    def _comparisons(self) -> Iterator[Comparison]:
        return (row for row in self._read_rows() if isinstance(row, Comparison))

    def _place(self, number: int, merged: Mapping[int, _Votes]) -> str:
        return merged[number].place if number in merged else f"row {number + 1}"

    def _merged(self) -> dict[int, _Votes]:
        """The votes of each pair that several rows judge, by the number of the first of them."""
        votes: dict[int, _Votes] = {}
        if not self._leader_of:
            return votes
        leaders = set(self._leader_of.values())
        for number, comparison in enumerate(self._comparisons()):
            if number in leaders:
                votes[number] = _Votes(comparison)
            if number in leaders or number in self._leader_of:
                votes[self._leader_of.get(number, number)].add(comparison)
        return votes


def _fix(row: str, check: str, action: str, detail: str = "") -> Fix:
    return {"row": row, "check": check, "action": action, **({"detail": detail} if detail else {})}


class _Votes:
    """Judgments of one pair, in the orientation of the first row."""

    def __init__(self, leader: Comparison) -> None:
        self.place = leader.prompt.location or leader.id
        self._first = hash_parts(response_identity(leader.responses[0]))
        self._counts: list[int] | None = [0, 0, 0]
        self._qs: list[float] = []

    def add(self, comparison: Comparison) -> None:
        """Count a judgment; a soft label without votes makes the votes of the pair unknown."""
        q, votes = comparison.q or 0.0, comparison.preference.votes
        counts: Sequence[int] | None = votes or ([int(q == 1), 0, int(q == 0)] if q in (0.0, 1.0) else None)
        if hash_parts(response_identity(comparison.responses[0])) != self._first:
            q, counts = 1 - q, counts and counts[::-1]
        self._qs.append(q)
        if counts is None or self._counts is None:
            self._counts = None
        else:
            self._counts = [a + b for a, b in zip(self._counts, counts, strict=True)]

    @property
    def q(self) -> float:
        """P(the first is better): ties count half."""
        if self._counts and sum(self._counts):
            return (self._counts[0] + self._counts[1] / 2) / sum(self._counts)
        return sum(self._qs) / len(self._qs)

    @property
    def check(self) -> str:
        """What the rows were called."""
        return "Contradictions" if min(self._qs) < 0.5 < max(self._qs) else "Exact duplicates"

    @property
    def detail(self) -> str:
        """Such as "q = 0.6667 of 3 rows"."""
        return f"q = {self.q:.4g} of {len(self._qs)} rows"

    def apply(self, comparison: Comparison) -> Comparison:
        """The first row with the label of all of them."""
        votes = (self._counts[0], self._counts[1], self._counts[2]) if self._counts else None
        return replace(comparison, preference=Preference(q=self.q, votes=votes))
