"""A rubric as a judge with verdicts: log-odds are differences of rewards, the same in both orders."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import final

from scipy.special import expit

from guerdon.models.judges.comparing import ComparesByVerdict, Pair, Tally
from guerdon.models.judges.driver import Conversation, together
from guerdon.models.judges.rubric.model import RubricModel
from guerdon.models.judges.rubric.questions import RubricVerdict
from guerdon.models.judges.verdicts import PairVerdict


@final
class RubricJudge(ComparesByVerdict):
    """A pair without a reward for both responses is unresolved, with the failures of every criterion. model: gives the rewards."""

    def __init__(self, model: RubricModel) -> None:
        self.model, self.tally = model, Tally()

    @property
    def name(self) -> str:
        """The model's."""
        return self.model.name

    @property
    def fingerprint(self) -> str:
        """The model's."""
        return self.model.fingerprint

    def compare(self, pairs: Iterable[Pair]) -> Iterator[tuple[int, PairVerdict]]:
        """Judge pairs; yields the position and the verdict of each as it is reached."""
        conversations = (self._both(pair) for pair in pairs)
        for position, (first, second) in self.model.respondent.converse(conversations):
            self.model.tally.add(first)
            self.model.tally.add(second)
            verdict = _difference(first, second)
            self.tally.add(verdict)
            yield position, verdict

    def _both(self, pair: Pair) -> Conversation[list[RubricVerdict]]:
        interview = self.model.interview
        return together([interview.judge(pair.prompt, each, pair.item) for each in (pair.first, pair.second)])


def _difference(first: RubricVerdict, second: RubricVerdict) -> PairVerdict:
    log_odds = first.reward - second.reward
    failures = (*first.failures, *second.failures)
    if math.isnan(log_odds):
        return PairVerdict(None, math.nan, failures=failures)
    return PairVerdict(float(expit(log_odds)), log_odds, failures=failures)
