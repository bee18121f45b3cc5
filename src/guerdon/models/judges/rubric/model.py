"""A rubric and a model that judges by it, as a reward model and, by subtraction, as a judge.

Axes: n responses, c criteria.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np

from guerdon.config.judging import JudgeOptions
from guerdon.contracts import Prompt, PromptLike, Response, ResponseLike, Scores, as_prompt, as_response, digest
from guerdon.models.judges.driver import Respondent
from guerdon.models.judges.rubric.questions import RubricInterview, RubricVerdict, Wording
from guerdon.models.judges.rubric.rubrics import Rubric
from guerdon.models.scored_pairs import ComparesByReward


class Judged(NamedTuple):
    """A response to judge. item: a name to keep with the calls."""

    prompt: Prompt
    response: Response
    item: str = ""


@dataclass(slots=True)
class RubricTally:
    """What a rubric's judge did so far: responses, those without a reward, and for each criterion what was said.

    failures: calls by criterion and code. answered, met: verdicts and those that say yes. lowest, highest: P(met).
    """

    responses: int = 0
    unresolved: int = 0
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: RubricVerdict) -> None:
        """Count a response."""
        self.responses += 1
        self.unresolved += not verdict.is_resolved
        if not verdict.criteria:
            self.failures.update(("", failure.code) for failure in verdict.failures)
        for criterion, each in zip(verdict.criteria, verdict.verdicts, strict=True):
            self.failures.update((criterion.id, failure.code) for failure in each.failures)
            if not math.isnan(each.p):
                self.answered[criterion.id] += 1
                self.met[criterion.id] += each.p >= 0.5

    @property
    def unresolved_share(self) -> float:
        """Share of responses without a reward."""
        return self.unresolved / self.responses if self.responses else 0.0

    @property
    def failures_by_code(self) -> Counter[str]:
        """Failed calls by code."""
        total: Counter[str] = Counter()
        for (_, code), count in self.failures.items():
            total[code] += count
        return total


@final
class RubricModel(ComparesByReward):
    """A model that judges responses by a rubric. Fulfills RewardModel and Judge.

    A response for which any criterion has no verdict gets NaN. Scores.attributes has a column for each criterion: the
    probability that the response does right by it, which is P(met), or for a fault P(not met). tally: what was done so far.
    """

    def __init__(
        self, respondent: Respondent, rubric: Rubric, options: JudgeOptions, *, wording: Wording = "as_written"
    ) -> None:
        self.respondent, self.rubric, self.options, self.wording = respondent, rubric, options, wording
        self.tally = RubricTally()
        self._interview: RubricInterview | None = None

    @property
    def name(self) -> str:
        """The name under which its judgments are kept."""
        return self.options.name or f"{self.respondent.name}+{self.rubric.id}"

    @property
    def interview(self) -> RubricInterview:
        """Its questions. The first use finds out whether the model gives log-probabilities."""
        if self._interview is None:
            by_words = self.options.mode == "pair_samples"
            has_log_probs = False if by_words else self.respondent.gives_log_probs()
            self._interview = RubricInterview(self.rubric, self.options, has_log_probs, self.wording)
        return self._interview

    @property
    def fingerprint(self) -> str:
        """A hash of what changes its rewards: the model, the rubric, the templates, and how it is asked."""
        interview = self.interview
        names = {"samples", "temperature", "max_tokens", "min_mass", "score_by", "seed"}
        templates = [template.fingerprint for template in interview.templates.values()]
        settings = self.options.model_dump(include=names)
        return digest(
            [self.respondent.fingerprint, self.rubric.fingerprint, templates, interview.has_log_probs, settings]
        )

    def judge(self, responses: Iterable[Judged]) -> Iterator[tuple[int, RubricVerdict]]:
        """Judge responses; yields the position and the verdict of each as it is reached. Memory does not grow with their number."""
        interview = self.interview
        conversations = (interview.judge(*each) for each in responses)
        for position, verdict in self.respondent.converse(conversations):
            self.tally.add(verdict)
            yield position, verdict

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """The reward of response i to prompt i in nats, NaN where a criterion has no verdict, and a column per criterion."""
        value = np.full(len(prompts), math.nan)
        attributes = {name: np.full(len(prompts), math.nan) for name in self.rubric.columns}
        rows = (Judged(as_prompt(p), as_response(r)) for p, r in zip(prompts, responses, strict=True))
        for position, verdict in self.judge(rows):
            value[position] = verdict.reward
            for name, p in verdict.attributes.items():
                attributes[name][position] = p
        return Scores(value, np.zeros(len(prompts), dtype=bool), attributes=attributes)
