"""A world whose truth is planted: judges that decide criteria by rules, and texts whose quality is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from scripted_judges import scripted, shown_first

from guerdon.config.judging import JudgeOptions
from guerdon.models.judges.calls import Answer, Question
from guerdon.models.judges.failures import Failure
from guerdon.models.judges.rubric.model import RubricModel
from guerdon.models.judges.rubric.rubrics import Rubric

Rule = Callable[[str], float]
"""The text of a response in, P(the criterion is met) out."""

SOURCE = "The response mentions a source."
CORRECT = "The response is correct."
KIND = "The response is kind."


def yes_no(p: float) -> Answer:
    """An answer whose first token is "yes" with this probability."""
    parts = {"yes": p, "no": 1 - p}
    return Answer("yes" if p >= 0.5 else "no", "length", {word: math.log(x) for word, x in parts.items() if x > 0})


def script_of(rules: Mapping[str, Rule | Failure]) -> Callable[[Question], Answer | Failure]:
    """A script that decides each criterion, recognized by its text, by its rule; a Failure fails every call about it."""

    def answer(question: Question) -> Answer | Failure:
        asked = question.messages[-1].content
        system = question.messages[0].content
        rule = next(
            rule for text, rule in rules.items() if text in asked.rpartition("</response-")[2] or text in system
        )
        return rule if isinstance(rule, Failure) else yes_no(rule(shown_first(question)))

    return answer


def shown_text(question: Question) -> str:
    """The response that a question is about."""
    return shown_first(question)


def rubric_of(*criteria: Mapping[str, object], **fields: object) -> Rubric:
    """A rubric of these criteria."""
    return Rubric.model_validate({"id": "test", "license": "CC0-1.0", "criteria": list(criteria), **fields})


def model_of(
    rubric: Rubric, rules: Mapping[str, Rule | Failure], *, log_probs: bool = True, **options: object
) -> RubricModel:
    """A rubric judged by rules."""
    chosen = JudgeOptions.model_validate({"model": "script", "url": "http://localhost", **options})
    return RubricModel(scripted(script_of(rules), log_probs=log_probs), rubric, chosen)
