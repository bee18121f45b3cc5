"""Comparisons under principles: each pair is judged under several, in both orders, and their probabilities are averaged.

After Bai et al. 2022, arXiv 2212.08073, section 4.1, which ensembles 16 principles. Each principle is an annotator of its own.
Also the check of synthetic pairs: a revision must be better under its principle and not much less helpful.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from guerdon.config.feedback import ConstitutionOptions
from guerdon.config.judging import JudgeOptions
from guerdon.feedback.constitution.principles import Constitution
from guerdon.models.judges.driver import Conversation, Respondent, together
from guerdon.models.judges.prompted import Pair, PromptedJudge
from guerdon.models.judges.verdicts import Interview, PairVerdict

HELPFULNESS = "helpfulness"


@dataclass(frozen=True, slots=True)
class PrincipledVerdict:
    """What several principles say about a pair. q: the mean of their P(the first is better), None where too few answered.

    spread: standard deviation of q over the principles; NaN for fewer than two. by_principle: the verdict under each.
    """

    q: float | None
    spread: float
    by_principle: Mapping[str, PairVerdict] = field(default_factory=dict)


class PrincipleJudge:
    """A model that judges under the principles of a constitution."""

    def __init__(
        self, respondent: Respondent, judge: JudgeOptions, constitution: Constitution, options: ConstitutionOptions
    ) -> None:
        self.respondent, self.constitution, self.options = respondent, constitution, options
        self._plain = PromptedJudge(respondent, judge)
        self._interviews: dict[str, Interview] = {}

    def compare(self, pairs: Iterable[Pair]) -> Iterator[tuple[int, PrincipledVerdict]]:
        """Judge pairs under `principles_per_pair` principles each; yields positions and verdicts as they are reached."""
        yield from self.respondent.converse(self._conversation(pair) for pair in pairs)

    def check(self, pairs: Iterable[tuple[Pair, str]]) -> Iterator[tuple[int, tuple[PairVerdict, PairVerdict]]]:
        """Judge each pair under the principle named with it and under helpfulness; both verdicts, as they are reached."""
        by_id = {principle.id: principle for principle in self.constitution.principles}

        def conversation(pair: Pair, name: str) -> Conversation[tuple[PairVerdict, PairVerdict]]:
            principle = by_id[name]
            question = principle.compare_question or principle.revision_request
            first, second = yield from together(
                [self._under(name, question, pair), self._under(HELPFULNESS, self.constitution.helpfulness, pair)]
            )
            return first, second

        yield from self.respondent.converse(conversation(pair, name) for pair, name in pairs)

    def _conversation(self, pair: Pair) -> Conversation[PrincipledVerdict]:
        options = self.options
        principles = self.constitution.choose(pair.prompt, options.principles_per_pair, options.seed, to_compare=True)
        distinct = {principle.id: principle for principle in principles}
        verdicts = yield from together([self._under(p.id, p.compare_question, pair) for p in distinct.values()])
        return combine(dict(zip(distinct, verdicts, strict=True)))

    def _under(self, name: str, question: str, pair: Pair) -> Conversation[PairVerdict]:
        if name not in self._interviews:
            plain = self._plain.interview
            options = plain.options.model_copy(update={"criterion": question})
            self._interviews[name] = Interview(options, plain.mode, plain.has_log_probs, plain.template)
        return self._interviews[name].pair(pair.prompt, pair.first, pair.second, pair.item)


def combine(verdicts: Mapping[str, PairVerdict]) -> PrincipledVerdict:
    """The mean over principles; none where half of them or more gave no verdict."""
    q = np.array([verdict.q for verdict in verdicts.values() if verdict.q is not None])
    if len(q) * 2 <= len(verdicts):
        return PrincipledVerdict(None, math.nan, verdicts)
    return PrincipledVerdict(float(q.mean()), float(q.std(ddof=1)) if len(q) > 1 else math.nan, verdicts)


def is_verified(under_principle: PairVerdict, helpful: PairVerdict, options: ConstitutionOptions) -> bool:
    """Whether the first response, the revision, is better under its principle and not much less helpful. A pair without a
    verdict is not."""
    if under_principle.q is None or helpful.q is None:
        return False
    return under_principle.q >= options.min_q and helpful.q >= options.min_helpful_q
