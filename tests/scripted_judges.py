"""Judges that follow a script: what a test says a model answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from guerdon.config.judging import JudgeOptions
from guerdon.models.judges.calls import Answer, MemoryCallLog, Question
from guerdon.models.judges.driver import WaveRespondent
from guerdon.models.judges.failures import Failure
from guerdon.models.judges.prompted import PromptedJudge

Script = Callable[[Question], Answer | Failure]


def scripted(script: Script, *, log_probs: bool = True, width: int = 16) -> WaveRespondent:
    """A respondent whose answers a function gives; its log is `respondent.log`, and `respondent.asked` the questions."""

    def answer_all(questions: Sequence[Question]) -> list[Answer | Failure]:
        respondent.asked.extend(questions)  # type: ignore[attr-defined]
        return [script(question) for question in questions]

    respondent = WaveRespondent("script", "script-1", answer_all, MemoryCallLog(), log_probs=log_probs, width=width)
    respondent.asked = []  # type: ignore[attr-defined]
    return respondent


def judge_by(script: Script, *, log_probs: bool = True, **options: object) -> PromptedJudge:
    """A judge that asks a scripted model."""
    chosen = JudgeOptions.model_validate({"model": "script", "url": "http://localhost", **options})
    return PromptedJudge(scripted(script, log_probs=log_probs), chosen)


def shown_first(question: Question) -> str:
    """The text of the response that a question shows first."""
    return question.messages[1].content.split("<response-1-", 1)[1].split(">\n", 1)[1].split("\n</response", 1)[0]


def shown_second(question: Question) -> str:
    """The text of the response that a question shows second."""
    return question.messages[1].content.split("<response-2-", 1)[1].split(">\n", 1)[1].split("\n</response", 1)[0]


def tokens(first: float, mass: float = 1.0) -> Answer:
    """An answer whose first token is "1" with this share of `mass`, and "2" otherwise."""
    parts = {"1": first * mass, "2": (1 - first) * mass, "Well": 1 - mass}
    return Answer("1", "length", {text: math.log(p) for text, p in parts.items() if p > 0})
