"""Why a call to a judge gave no verdict. A failed call is never a label and never a reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from guerdon.errors import GuerdonError

FailureCode = Literal[
    "auth",
    "config_4xx",
    "rate_429",
    "http_5xx",
    "timeout",
    "network",
    "context_too_long",
    "content_filter",
    "refusal",
    "truncated",
    "empty",
    "unparsable",
    "schema_invalid",
    "verdict_mass_low",
    "budget_stop",
    "canceled",
    "judge_error",
    "no_quorum",
]

FAILURE_CODES: Final[tuple[FailureCode, ...]] = get_args(FailureCode)
FATAL: Final = frozenset({"auth", "config_4xx"})  # every later call would fail in the same way
TRANSPORT: Final = frozenset({"rate_429", "http_5xx", "timeout", "network"})  # worth another try
NOT_SENT: Final = frozenset({"budget_stop", "canceled"})  # nothing was sent, or nothing was waited for

MEANINGS: Final[dict[FailureCode, str]] = {
    "auth": "the server refused the key",
    "config_4xx": "the server refused the request",
    "rate_429": "the server was still limiting the rate after the last try",
    "http_5xx": "the server failed",
    "timeout": "no answer in time",
    "network": "no connection, or one that broke",
    "context_too_long": "the question does not fit the model's context",
    "content_filter": "the provider filtered the answer",
    "refusal": "the model declined to judge",
    "truncated": "the answer was cut at its token limit",
    "empty": "the answer was empty",
    "unparsable": "the answer holds no verdict",
    "schema_invalid": "the answer is not of the requested form",
    "verdict_mass_low": "the model gave the verdicts too little probability",
    "budget_stop": "the budget was used up",
    "canceled": "the run was stopped",
    "judge_error": "the judge raised an error",
    "no_quorum": "too few judges of the jury decided",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A call without a verdict: its code, and what the server or the reader of the answer said."""

    code: FailureCode
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.code}: {self.reason or MEANINGS[self.code]}"


class JudgeStopped(GuerdonError):
    """A judge that gave up on a run, because its calls fail. What was answered is kept, and the same run resumes from there."""

    exit_code = 3
