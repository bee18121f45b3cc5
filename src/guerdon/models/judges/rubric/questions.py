"""How a response is judged by a rubric: one question for each criterion, one verdict for each, and one reward of all.

A criterion whose question failed has no verdict, and a response that lacks a verdict has no reward: both are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.special import expit

from guerdon.config.judging import JudgeOptions
from guerdon.contracts import Message, Prompt, Response
from guerdon.formulas.rubrics import combine_criteria, toward_reward
from guerdon.formulas.verdicts import clip_log_odds, smoothed_share
from guerdon.models.judges.calls import Question
from guerdon.models.judges.driver import Conversation, Reading, ask, together
from guerdon.models.judges.failures import Failure
from guerdon.models.judges.prompts import JudgePrompt, load_prompt, material
from guerdon.models.judges.readers import OptionReader, ScoreReader, TokenVerdict, WordReader
from guerdon.models.judges.rubric.rubrics import OWN, Criterion, Rubric, weights_of

YES_NO = ("yes", "no")
NO_CRITERIA = Failure("judge_error", "the rubric has no criterion for this prompt")

Wording = Literal["as_written", "reworded"]


@dataclass(frozen=True, slots=True)
class CriterionVerdict:
    """What a judge said about one criterion. p: P(it is met), NaN where there is no verdict. keys: of the calls."""

    p: float
    keys: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class RubricVerdict:
    """What a judge said about a response, by criterion. reward: nats, NaN where any criterion has no verdict."""

    reward: float
    criteria: tuple[Criterion, ...] = ()
    verdicts: tuple[CriterionVerdict, ...] = ()
    attributes: Mapping[str, float] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    @property
    def is_resolved(self) -> bool:
        """Whether every criterion has a verdict."""
        return not math.isnan(self.reward)


class RubricInterview:
    """The questions of one rubric: how a judge is asked, and whether its answers come with log-probabilities."""

    def __init__(
        self, rubric: Rubric, options: JudgeOptions, has_log_probs: bool, wording: Wording = "as_written"
    ) -> None:
        self.rubric, self.options, self.has_log_probs = rubric, options, has_log_probs
        own = "criterion" if wording == "as_written" else "criterion_reworded"
        self.templates: Mapping[str, JudgePrompt] = {
            "yes_no": load_prompt(options.template or own if wording == "as_written" else own),
            "score": load_prompt("score"),
        }

    def judge(self, prompt: Prompt, response: Response, item: str = "") -> Conversation[RubricVerdict]:
        """Ask about every criterion of a response. All questions share the text up to the criterion."""
        criteria = tuple(self.rubric.of(prompt))
        if not criteria:
            return RubricVerdict(math.nan, failures=(NO_CRITERIA,))
        conversation, numbered = material(prompt, [response], self.options.seed)
        groups = [self._questions(criterion, conversation, numbered, item) for criterion in criteria]
        readings = yield from self._ask_all(criteria, groups)
        verdicts = tuple(self._verdict(c, answered) for c, answered in zip(criteria, readings, strict=True))
        return self._combined(criteria, verdicts)

    def _questions(self, criterion: Criterion, conversation: str, numbered: str, item: str) -> list[Question]:
        options, template = self.options, self.templates[criterion.kind]
        values = {
            **self._values(criterion), "conversation": conversation, "responses": numbered,
            "count": "1", "example": "",
        }  # fmt: skip
        messages = tuple(
            Message(role, template.fill(role, values)) for role in ("system", "user") if role in template.sections
        )
        name = item or f"rubric {self.rubric.fingerprint} {criterion.id}"
        common = {"seed": options.seed, "item": name, "shown": (0,), "purpose": "score"}
        if criterion.kind == "score":
            by_log_probs = self._scores_by_log_probs(criterion)
            words = tuple(str(score) for score in range(criterion.low, criterion.high + 1)) if by_log_probs else ()
            reader = ScoreReader(criterion.low, criterion.high, by_log_probs, options.min_mass)
            return [Question(messages, reader, words, 1 if by_log_probs else 16, **common)]  # type: ignore[arg-type]
        if self.has_log_probs:
            return [Question(messages, OptionReader(YES_NO, options.min_mass), YES_NO, **common)]  # type: ignore[arg-type]
        return [
            Question(
                messages, WordReader(YES_NO), max_tokens=options.max_tokens, temperature=options.temperature, sample=sample,
                **{**common, "seed": (options.seed + 7919 * sample) % 2**31},  # type: ignore[arg-type]
            )
            for sample in range(options.samples)
        ]  # fmt: skip

    def _scores_by_log_probs(self, criterion: Criterion) -> bool:
        return self.has_log_probs and self.options.score_by != "text" and 0 <= criterion.low and criterion.high <= 9

    def _ask_all(
        self, criteria: Sequence[Criterion], groups: Sequence[list[Question]]
    ) -> Conversation[list[list[Reading]]]:
        """The readings of each criterion's questions. Those of one kind, whose reminder is the same, are asked together."""
        conversations = [
            ask(questions, self.options.reasks, self._reminder(criterion))
            for criterion, questions in zip(criteria, groups, strict=True)
        ]
        return (yield from together(conversations))

    def _reminder(self, criterion: Criterion) -> str:
        template = self.templates[criterion.kind]
        return template.fill("reminder", self._values(criterion)) if "reminder" in template.sections else ""

    def _values(self, criterion: Criterion) -> dict[str, str]:
        return {"criterion": criterion.text, "low": str(criterion.low), "high": str(criterion.high)}

    def _verdict(self, criterion: Criterion, readings: Sequence[Reading]) -> CriterionVerdict:
        """P(met) from the readings of one criterion; none where more than half of its samples failed."""
        keys = tuple(reading.key for reading in readings)
        failures = tuple(reading.failure for reading in readings if reading.failure)
        values = [reading.value for reading in readings if reading.failure is None]
        if len(failures) * 2 > len(readings):
            return CriterionVerdict(math.nan, keys, failures)
        return CriterionVerdict(_probability(criterion, values), keys, failures)

    def _combined(self, criteria: tuple[Criterion, ...], verdicts: tuple[CriterionVerdict, ...]) -> RubricVerdict:
        weight, required = weights_of(criteria)
        p = np.array([[verdict.p for verdict in verdicts]])
        rule = self.rubric.combine
        reward = self.rubric.nats * float(combine_criteria(p, weight, required, rule)[0])
        columns = toward_reward(p, weight)[0]
        shared = len(self.rubric.criteria)
        attributes = {c.id: float(value) for c, value in zip(self.rubric.criteria, columns, strict=False)}
        if self.rubric.prompts:
            own = weight[shared:]
            size = np.abs(own).sum()
            attributes[OWN] = float(columns[shared:] @ np.abs(own) / size) if size else math.nan
        failures = tuple(failure for verdict in verdicts for failure in verdict.failures)
        return RubricVerdict(reward, criteria, verdicts, attributes, failures)


def _probability(criterion: Criterion, values: Sequence[TokenVerdict | float]) -> float:
    first = values[0]
    if isinstance(first, TokenVerdict):
        return float(expit(clip_log_odds(np.array([first.log_odds])))[0])
    if criterion.kind == "score":
        return (float(first) - criterion.low) / (criterion.high - criterion.low)
    return smoothed_share(sum(value == 1.0 for value in values), 0, len(values))
