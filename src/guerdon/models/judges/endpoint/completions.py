"""Answers of OpenAI's chat completions: a kept text in, an answer out. Whatever a server sends is untrusted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from guerdon.models.chat_template import replace_surrogates
from guerdon.models.judges.calls import Answer, Usage


class NoCompletion(Exception):
    """A text that is not a chat completion; status: what the server says in it, where it does."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


def parse(raw: str) -> Answer:
    """The answer in a kept text. A text that is not a chat completion gives an empty answer, which no reader accepts."""
    try:
        return parse_completion(raw)
    except NoCompletion:
        return Answer("", "malformed")


def parse_completion(raw: str) -> Answer:
    """The answer of a chat completion's first choice. Raises NoCompletion."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise NoCompletion(f"the answer is not JSON ({error})") from None
    if not isinstance(body, dict):
        raise NoCompletion("the answer is not a JSON object")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _error_in(body.get("error")) or NoCompletion("the answer has no choices")
    choice = choices[0]
    if choice.get("finish_reason") == "error":
        raise _error_in(choice.get("error")) or NoCompletion("the answer ends with an error")
    message = choice.get("message")
    if not isinstance(message, dict):
        raise NoCompletion("the answer has no message")
    finish, refusal = choice.get("finish_reason"), message.get("refusal")
    return Answer(
        replace_surrogates(_text(message.get("content"))),
        finish if isinstance(finish, str) else None,
        first_alternatives(choice.get("logprobs")),
        replace_surrogates(refusal) if isinstance(refusal, str) and refusal else None,
        usage_of(body.get("usage")),
    )


def _error_in(error: object) -> NoCompletion | None:
    """The error that some servers send with status 200."""
    if not error:
        return None
    row = error if isinstance(error, dict) else {"message": error}
    code = row.get("code")
    status = code if isinstance(code, int) and 400 <= code <= 599 else None
    return NoCompletion(f"the answer is an error: {row.get('message')}", status)


def _text(content: object) -> str:
    """The text of a message: a string, or the text parts of a list. Nothing for a tool call."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def first_alternatives(log_probs: object) -> dict[str, float]:
    """Log-probabilities of the listed alternatives for the first token, nats; empty where there are none."""
    content = log_probs.get("content") if isinstance(log_probs, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    listed = first.get("top_logprobs") if isinstance(first, dict) else None
    alternatives: dict[str, float] = {}
    for entry in listed if isinstance(listed, list) else ():
        token, value = (entry.get("token"), entry.get("logprob")) if isinstance(entry, dict) else (None, None)
        if isinstance(token, str) and (log_prob := _log_prob(value)) is not None:
            text = replace_surrogates(token)
            known = alternatives.get(text)
            alternatives[text] = log_prob if known is None else _log_of_sum(known, log_prob)
    return alternatives


def _log_prob(value: object) -> float | None:
    """The value as a float if it can be a log-probability: finite, and not above 0 but for rounding."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value <= 1e-3:
        return None
    return float(value)


def _log_of_sum(first: float, second: float) -> float:
    """Two entries with one text are different tokens: their probabilities add up."""
    high, low = max(first, second), min(first, second)
    return high + math.log1p(math.exp(low - high))


def usage_of(usage: object) -> Usage:
    """The tokens that a server counted; None where it did not."""
    row: Mapping[str, Any] = usage if isinstance(usage, dict) else {}
    details = row.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(*(_count(value) for value in (row.get("prompt_tokens"), cached, row.get("completion_tokens"))))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None
