"""What a status other than 200 means: whether another try helps, how long to wait first, and the code of the failure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from guerdon.models.completions_api import retry_after
from guerdon.models.judges.failures import FATAL, TRANSPORT, Failure, FailureCode

LONGEST_WAIT: Final = 600.0  # seconds that a server may make a run wait; for more, the run stops
CONTEXT: Final = re.compile(
    r"context[ _-]?(length|size|window)|maximum (context|model) length|max_model_len|too many (input )?tokens"
    r"|(prompt|input|request)[^.]{0,40}(is )?too (long|large)|longer than the maximum",
    re.IGNORECASE,
)
FILTER: Final = re.compile(
    r"content[ _-]?(filter|management policy|policy)|ResponsibleAI|safety (system|filter|policy)|flagged|moderation",
    re.IGNORECASE,
)
QUOTA: Final = re.compile(r"insufficient_quota|exceeded your current quota|billing|out of credits", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A try without an answer. wait: seconds that the server asks for, 0.0 where it does not say."""

    failure: Failure
    wait: float = 0.0
    is_fatal: bool = False

    @property
    def is_worth_another_try(self) -> bool:
        """Whether the same call may get an answer."""
        return self.failure.code in TRANSPORT and not self.is_fatal


def trouble_of(status: int, headers: Mapping[str, str], body: str, message: str) -> Trouble:
    """What a status means. body: as it came; message: what it says, on one line and without the key."""
    wait = seconds_to_wait(headers) if status in (425, 429) or status >= 500 else 0.0
    code, is_fatal = _code_of(status, body)
    reason = f"HTTP {status}: {message or 'no message'}"
    if wait > LONGEST_WAIT:
        return Trouble(Failure(code, f"{reason}; the server asks to wait {wait:.0f} s"), 0.0, is_fatal=True)
    return Trouble(Failure(code, reason), wait, is_fatal or code in FATAL)


def _code_of(status: int, body: str) -> tuple[FailureCode, bool]:
    """The code, and whether the run must stop whatever the code is."""
    if 400 <= status < 500 and status not in (401, 404, 408, 425):
        if status == 413 or (status != 429 and CONTEXT.search(body)):
            return "context_too_long", False
        if status != 429 and FILTER.search(body):
            return "content_filter", False
    if status in (401, 403):
        return "auth", True
    if status == 429:
        return "rate_429", bool(QUOTA.search(body))
    if status == 408:
        return "timeout", False
    if status >= 500 and CONTEXT.search(body):  # llama.cpp
        return "context_too_long", False
    return ("http_5xx", False) if status >= 500 or status in (200, 425) else ("config_4xx", True)


def seconds_to_wait(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait: Retry-After, or when a used-up limit is reset. 0.0 where it does not say."""
    milliseconds = headers.get("retry-after-ms", "")
    if re.fullmatch(r"\d{1,12}(\.\d*)?", milliseconds):
        return float(milliseconds) / 1000
    if wait := retry_after(headers):
        return wait
    waits = [
        _seconds(headers.get(form.format(part="reset", kind=kind), ""))
        for form in ("x-ratelimit-{part}-{kind}", "anthropic-ratelimit-{kind}-{part}")
        for kind in ("requests", "tokens", "input-tokens", "output-tokens")
        if headers.get(form.format(part="remaining", kind=kind), "").strip() == "0"
    ]
    return max([*waits, _seconds(headers.get("ratelimit-reset", ""))])


def _seconds(value: str) -> float:
    """Seconds in "12", "1.5s", "6m0s", "20ms", or until an ISO 8601 time; 0.0 for anything else."""
    value = value.strip()[:64]
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    if re.fullmatch(r"(\d+(\.\d+)?(ms|[dhms]))+", value):
        units = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}
        return sum(float(number) * units[unit] for number, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|[dhms])", value))
    try:
        until = datetime.fromisoformat(value)
    except ValueError:
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def rejects_log_probs(failure: Failure) -> bool:
    """Whether a server refuses a request because it asks for log-probabilities."""
    return failure.code == "config_4xx" and re.search(r"log[ _-]?prob", failure.reason, re.IGNORECASE) is not None
