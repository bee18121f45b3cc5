"""Replies of a completions server as token ids, for a learner that trains on exactly what was sampled.

vLLM gives them on /v1/completions with `return_token_ids`. Whatever a server sends is untrusted. Log-probabilities are nats.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from guerdon.contracts import FinishReason
from guerdon.models.completions_api import BadAnswer, error_message

BYTES_PER_TOKEN = 1024  # at most, of one token in an answer, with its log-probability and its text


class OtherSampling(Exception):
    """A server that answers, but samples in another way than asked. Another try will not help."""


@dataclass(frozen=True, slots=True)
class PlainSampling:
    """How replies are drawn: by temperature alone, up to one of stop_ids, which is a reply's last token, or to max_tokens."""

    max_tokens: int
    temperature: float
    stop_ids: frozenset[int]
    vocabulary_size: int

    def fields(self) -> dict[str, Any]:
        """The fields of a request. All are given: vLLM takes what is left out from the model's generation_config.json."""
        return {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "stop_token_ids": sorted(self.stop_ids),
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "min_tokens": 0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "ignore_eos": False,
            "logprobs": 0,  # of the token that was drawn, and of no other
            "return_token_ids": True,
            "skip_special_tokens": False,
        }


@dataclass(frozen=True, slots=True)
class TokenReply:
    """One reply. log_prob: of each token by the server, None where it gives none."""

    ids: Int[np.ndarray, " t"]
    finish: FinishReason
    log_prob: Float[np.ndarray, " t"] | None


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """`count` replies to one prompt, from one seed."""

    prompt_ids: list[int]
    count: int
    seed: int

    def max_bytes(self, sampling: PlainSampling) -> int:
        """More than any honest answer has."""
        return (1 << 20) + self.count * (sampling.max_tokens * BYTES_PER_TOKEN + 32 * len(self.prompt_ids))


def parse_token_replies(content: bytes, request: TokenRequest, sampling: PlainSampling) -> list[TokenReply]:
    """All replies of an answer, in their order. Raises BadAnswer, or OtherSampling."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"not JSON ({error})") from None
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise BadAnswer(f"no choices in the answer: {error_message(content)[:200]}")
    if len(choices) != request.count:
        raise BadAnswer(f"{len(choices)} replies instead of {request.count}")
    if all(type(choice.get("index")) is int for choice in choices):
        choices = sorted(choices, key=lambda choice: choice["index"])
    return [_parse_reply(choice, request, sampling) for choice in choices]


def _parse_reply(choice: Mapping[str, Any], request: TokenRequest, sampling: PlainSampling) -> TokenReply:
    ids = choice.get("token_ids")
    if ids is None:
        raise OtherSampling("it must give token_ids with return_token_ids, got none")
    if not (isinstance(ids, list) and ids and all(type(token) is int for token in ids)):
        raise BadAnswer("token_ids that are not a list of integers")
    if choice.get("prompt_token_ids") not in (None, request.prompt_ids):
        raise OtherSampling("it must read the prompt's token ids as they are sent, got others")
    if not all(0 <= token < sampling.vocabulary_size for token in ids):
        raise OtherSampling(f"its tokens must be below {sampling.vocabulary_size}, got {max(ids)}: another model")
    if len(ids) > sampling.max_tokens:
        raise OtherSampling(f"a reply must have at most {sampling.max_tokens} tokens, got {len(ids)}")
    if not sampling.stop_ids.isdisjoint(ids[:-1]):
        raise OtherSampling("a reply must end at its first end token, got more after it")
    has_ended = ids[-1] in sampling.stop_ids
    if not has_ended and len(ids) < sampling.max_tokens:
        reason = choice.get("finish_reason")
        if reason == "stop":
            raise OtherSampling(f"a reply must end at one of the policy's end tokens, got one that ends at {ids[-1]}")
        raise BadAnswer(f"a reply of {len(ids)} tokens that was cut: {str(reason)[:80]}")
    return TokenReply(
        np.asarray(ids, np.int32), "stop" if has_ended else "length", _log_prob(choice.get("logprobs"), len(ids))
    )


def _log_prob(given: Any, num: int) -> Float[np.ndarray, " t"] | None:
    values = given.get("token_logprobs") if isinstance(given, Mapping) else None
    if not isinstance(values, list) or len(values) != num:
        return None
    if not all(type(value) in (int, float) for value in values):
        return None
    if not all(abs(value) <= sys.float_info.max for value in values):  # NaN is at most nothing
        raise OtherSampling("a token that was drawn must have a finite log-probability, got NaN or infinity")
    return np.asarray(values, np.float64)
