"""Several judges as one: only verdicts that are decided count, and without enough of them there is none.

A judge decides a pair if it has a verdict that prefers one response, the same one in both orders where it saw both. A failed
call, a tie and a verdict that depends on the order are abstentions: they are counted, and never pull towards 1/2. Log-odds are
nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from scipy.special import expit

from guerdon.contracts import digest
from guerdon.errors import field_error
from guerdon.models.judges.comparing import ComparesByVerdict, Pair, Tally, VerdictJudge
from guerdon.models.judges.failures import Failure
from guerdon.models.judges.verdicts import PairVerdict

CHUNK = 1024  # pairs that are put to one judge after the other


class Jury(ComparesByVerdict):
    """Judges whose decided verdicts are averaged in log-odds, and a quorum of them that a pair needs.

    weights: reliability of each judge, above 0; all equal by default. The quorum counts judges, whatever their weights.
    """

    def __init__(
        self,
        judges: Sequence[VerdictJudge],
        *,
        quorum: int = 2,
        weights: Sequence[float] | None = None,
        name: str = "jury",
    ) -> None:
        if not 1 <= quorum <= len(judges):
            claim = f"from 1 to the number of judges, {len(judges)}"
            raise field_error("judge.quorum", claim, quorum, "Lower it, or add judges.")
        given = list(weights) if weights is not None else [1.0] * len(judges)
        if len(given) != len(judges) or not all(0 < weight < math.inf for weight in given):
            raise field_error("judge.weights", f"{len(judges)} numbers above 0", given, "Give one for each judge.")
        self.judges, self.quorum, self.weights, self.name, self.tally = (
            tuple(judges),
            quorum,
            tuple(given),
            name,
            Tally(),
        )

    @property
    def fingerprint(self) -> str:
        """A hash of what changes its verdicts."""
        return digest(["jury", [judge.fingerprint for judge in self.judges], self.weights, self.quorum])

    def compare(self, pairs: Iterable[Pair]) -> Iterator[tuple[int, PairVerdict]]:
        """Judge pairs, a chunk at a time by one judge after the other."""
        numbered = enumerate(pairs)
        while chunk := list(islice(numbered, CHUNK)):
            columns = [self._column(judge, [pair for _, pair in chunk]) for judge in self.judges]
            for (position, _), verdicts in zip(chunk, zip(*columns, strict=True), strict=True):
                verdict = self.combine(verdicts)
                self.tally.add(verdict)
                yield position, verdict

    def combine(self, verdicts: Sequence[PairVerdict]) -> PairVerdict:
        """The jury's verdict on a pair from that of each judge."""
        failures = tuple(failure for verdict in verdicts for failure in verdict.failures)
        decided = [(w, v.log_odds) for w, v in zip(self.weights, verdicts, strict=True) if is_decided(v)]
        if len(decided) < self.quorum:
            reason = f"{len(decided)} of {len(verdicts)} judges decided, and {self.quorum} must"
            return PairVerdict(None, math.nan, failures=(*failures, Failure("no_quorum", reason)))
        log_odds = math.fsum(w * odds for w, odds in decided) / math.fsum(w for w, _ in decided)
        rationale = "\n\n".join(v.rationale for v in verdicts if v.rationale and is_decided(v))
        return PairVerdict(float(expit(log_odds)), log_odds, rationale=rationale, failures=failures)

    @staticmethod
    def _column(judge: VerdictJudge, pairs: Sequence[Pair]) -> list[PairVerdict]:
        column: list[PairVerdict | None] = [None] * len(pairs)
        for position, verdict in judge.compare(pairs):
            column[position] = verdict
        assert all(verdict is not None for verdict in column), "a judge gives every pair a verdict"
        return column  # type: ignore[return-value]


def is_decided(verdict: PairVerdict) -> bool:
    """Whether a verdict prefers one response, and the same one in both orders where the judge saw both."""
    return verdict.is_resolved and verdict.is_consistent is not False and verdict.log_odds != 0
