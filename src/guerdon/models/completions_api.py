"""OpenAI's completions API, which vLLM, SGLang, llama.cpp and TGI also serve: addresses, keys, and what an answer says.

Whatever a server sends is untrusted text. Log-probabilities are nats.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from guerdon.contracts import GuerdonError
from guerdon.models.chat_template import replace_surrogates

RETRIED_STATUSES = frozenset({408, 425, 429})  # below 500: these ask the client to come back later
REQUEST_STATUSES = frozenset({400, 413, 422})  # these say what is wrong with this request
COUNT_COMPLAINT = re.compile(r"\bn\b|best_of|\bchoices?\b", re.IGNORECASE)  # an error about n > 1; llama.cpp's is a 500


@dataclass(frozen=True, slots=True)
class Completion:
    """One reply. finish_reason is the server's word, None where it gave none; log_prob is NaN unless requested."""

    text: str
    finish_reason: str | None
    log_prob: float


class BadAnswer(Exception):
    """An answer that is not a list of completions. Another try may help."""


class NoLogProbs(Exception):
    """An answer without log-probabilities. Another try will not help."""


def parse_completions(content: bytes, count: int, log_probs: bool) -> list[Completion]:
    """At most `count` completions of an answer, ordered by their index. Raises BadAnswer or NoLogProbs."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"not JSON ({error})") from None
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise BadAnswer(f"no choices in the answer: {error_message(content)[:200]}")
    if all(type(choice.get("index")) is int for choice in choices):
        choices = sorted(choices, key=lambda choice: choice["index"])
    return [_parse_completion(choice, log_probs) for choice in choices[:count]]


def _parse_completion(choice: Mapping[str, Any], log_probs: bool) -> Completion:
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text", 0)
    if text is None:  # a tool call, or reasoning that the server keeps to itself
        text = ""
    if not isinstance(text, str):
        raise BadAnswer("a choice without text")
    reason = choice.get("finish_reason")
    log_prob = _sum_log_probs(choice.get("logprobs")) if log_probs else math.nan
    return Completion(replace_surrogates(text), reason if isinstance(reason, str) else None, log_prob)


def _sum_log_probs(log_probs: Any) -> float:
    """The log-probability of a whole reply, from either form: chat completions or completions."""
    try:
        if "content" in log_probs:
            total = math.fsum(token["logprob"] for token in log_probs["content"])
        else:
            total = math.fsum(log_probs["token_logprobs"])
    except (TypeError, KeyError, ValueError, OverflowError):
        total = math.nan
    if not math.isfinite(total):
        raise NoLogProbs("a choice without finite log-probabilities")
    return total


def error_message(content: bytes) -> str:
    """What an answer says is wrong, wherever the server puts it; the text itself if it is not JSON."""
    text = content[:100_000].decode("utf-8", "replace")
    try:
        message = json.loads(content)
    except (ValueError, RecursionError):
        return text
    for key in ("error", "message", "detail"):
        if isinstance(message, dict) and message.get(key):
            message = message[key]
    return message if isinstance(message, str) else text


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that Retry-After asks the client to wait, given as a number or a date; 0.0 where there is none."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d*)?", value):
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def advice_for(status: int) -> str:
    """What to do about an HTTP status, as a sentence; 0 means no answer at all."""
    if 300 <= status < 400:
        return "Give that address as url if it is the server's."
    advice = {
        0: "Check that the server runs at this url and what its log says, or raise timeout or retries.",
        401: "Give the server's api_key.",
        403: "Give an api_key that may use this model.",
        404: "Check url and model; RemotePolicy.check lists what the server has.",
        429: "Use fewer workers, or more retries.",
    }
    if status in advice:
        return advice[status]
    return "Check the server's log." if status >= 500 or status == 200 else "Change what the server refuses."


def choose_key(api_key: str | None, from_env: bool) -> str | None:
    """The bearer token: as given, or OPENAI_API_KEY. Raises GuerdonError, and never shows the key."""
    if api_key is not None and from_env:
        raise GuerdonError("api_key must be given or read by key_from_env, got both. Give one of them.")
    key = os.environ.get("OPENAI_API_KEY") if from_env else api_key
    if from_env and not key:
        raise GuerdonError(
            "OPENAI_API_KEY must be set for key_from_env (policy.server_key_from_env, optimize.rollout_key_from_env). "
            "Export it, or leave the option out."
        )
    if key is not None and not re.fullmatch(r"[!-~]+", key):
        raise GuerdonError(
            "api_key must be printable ASCII without spaces. Strip the line end of a key that was read from a file."
        )
    return key
