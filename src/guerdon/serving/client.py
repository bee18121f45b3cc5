"""A client of `guerdon serve` in one file, which imports nothing but the standard library.

Trainers pin versions of torch and transformers that Guerdon's environment may not share. `guerdon export` copies this file next to
a trainer's reward function, so that the trainer needs no more than it.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any

__all__ = ["RewardClient", "RewardError"]

Messages = Sequence[dict[str, Any]]
RETRIED = (408, 425, 429, 500, 502, 503, 504)
LONGEST_PAUSE = 30.0  # seconds


class RewardError(RuntimeError):
    """There is no reward: the server refused, failed for too long, or said why a text has none."""


class RewardClient:
    """Rewards of replies, from a server.

    It needs Python 3.10. url: of the server, without a path. model: a name that it serves; its first model by default. token: by
    default what the environment variable GUERDON_REWARD_TOKEN holds. timeout: seconds for one answer. patience: seconds for which an
    overloaded, failing or restarting server is asked again. batch: texts in one request. truncate: cut the beginning of texts that
    are too long, instead of an error. Raises RewardError for an address or a token that cannot be sent.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        token: str | None = None,
        timeout: float = 180.0,
        patience: float = 600.0,
        batch: int = 256,
        truncate: bool = False,
    ) -> None:
        self.server = _address(url)
        self.url, self.model, self.truncate = self.server + "/v1/reward", model, truncate
        self.token = (token if token is not None else os.environ.get("GUERDON_REWARD_TOKEN", "")).strip()
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise RewardError("the token must be printable ASCII. Correct GUERDON_REWARD_TOKEN.")
        self.timeout, self.patience, self.batch = timeout, patience, batch

    def score(
        self,
        prompts: Sequence[str | Messages],
        responses: Sequence[str | Messages],
        cut: Sequence[bool] | None = None,
        step: int | None = None,
    ) -> list[float]:
        """The reward of response i to prompt i, in nats. cut: which responses were cut at the length limit.

        step: of the training, by which `guerdon watch` shows how rewards change. A prompt is text or chat messages, a response
        text or one assistant message. Raises RewardError if any has none.
        """
        if len(prompts) != len(responses):
            raise ValueError(f"prompts and responses must be as many, got {len(prompts)} and {len(responses)}.")
        limits = cut if cut is not None else [False] * len(responses)
        items = [
            {
                "prompt": _prompt(prompt),
                "response": {"text": _text(response), "finish": "length" if was_cut else "stop"},
            }
            for prompt, response, was_cut in zip(prompts, responses, limits, strict=True)
        ]
        return [float(result["score"]) for result in self.results(items, step)]

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        """The rewards of conversations that a chat template has rendered already."""
        return [float(result["score"]) for result in self.results([{"text": text} for text in texts])]

    async def score_async(
        self,
        prompts: Sequence[str | Messages],
        responses: Sequence[str | Messages],
        cut: Sequence[bool] | None = None,
        step: int | None = None,
    ) -> list[float]:
        """As `score`, in a thread."""
        return await asyncio.to_thread(self.score, prompts, responses, cut, step)

    def results(self, items: Sequence[dict[str, Any]], step: int | None = None) -> list[dict[str, Any]]:
        """All that the server says of items in the form of its /v1/reward: score, std, shift_p, abstain and the rest."""
        results: list[dict[str, Any]] = []
        for start in range(0, len(items), self.batch):
            some = list(items[start : start + self.batch])
            body: dict[str, Any] = {"items": some}
            if self.model is not None:
                body["model"] = self.model
            if step is not None:
                body["step"] = step
            if self.truncate:
                body["truncate"] = True
            answer = self._ask(self.url, body, self.patience).get("results")
            if not isinstance(answer, list) or len(answer) != len(some):
                raise RewardError(f"{self.url}: the answer must have {len(some)} results. Is this a guerdon server?")
            for i, result in enumerate(answer):
                if not isinstance(result, dict) or result.get("index", i) != i:
                    raise RewardError(f"{self.url}: result {i} must be that of text {i}. Is this a guerdon server?")
                if not _is_number(result.get("score")):
                    reason = result.get("error") or f"its score is {result.get('score')!r:.80}"
                    raise RewardError(f"{self.url}: text {start + i} has no reward: {reason}")
            results += answer
        return results

    def info(self, patience: float | None = None) -> dict[str, Any]:
        """What the server says of its models: names, kinds and fingerprints. patience: in place of the client's."""
        return self._ask(f"{self.server}/info", None, self.patience if patience is None else patience)

    def _ask(self, url: str, body: dict[str, Any] | None, patience: float) -> dict[str, Any]:
        """The answer to a request, which is sent again while the server is overloaded, failing or away."""
        headers = {"Content-Type": "application/json", "User-Agent": "guerdon-client"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode("utf-8")
        end, pause = time.monotonic() + patience, 0.5
        while True:
            wait: float | None = None
            try:
                request = urllib.request.Request(url, data, headers, method="GET" if data is None else "POST")
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    answer = json.load(response)
                if not isinstance(answer, dict):
                    raise RewardError(f"{url}: the answer must be a JSON object. Is this a guerdon server?")
                return answer
            except urllib.error.HTTPError as error:
                reason = f"{error.code}: {_reason(error)}"
                if error.code == 401:
                    reason += " The token is read from GUERDON_REWARD_TOKEN."
                if error.code not in RETRIED:
                    raise RewardError(f"{url}: {reason}") from None
                wait = _seconds(error.headers.get("Retry-After"))
            except (ValueError, RecursionError):
                reason = "an answer that is not JSON"
            except (OSError, http.client.HTTPException) as error:
                reason = str(error) or type(error).__name__
            pause = min(2 * pause, LONGEST_PAUSE)
            wait = min(wait if wait is not None else pause, LONGEST_PAUSE)
            if time.monotonic() + wait > end:
                raise RewardError(f"{url}: no answer for {patience:g} seconds, last {reason}")
            time.sleep(wait)


def _address(url: str) -> str:
    """The URL without a slash at its end. An error does not show it: it may hold a password."""
    try:
        parts = urllib.parse.urlsplit(url)
        is_known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port, or of an address in brackets
        is_known = False
    if not is_known or "@" in parts.netloc or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise RewardError("the server's address must be http://HOST:PORT, with no user, query or fragment. Correct it.")
    return url.rstrip("/")


def _is_number(value: Any) -> bool:
    """Whether it is a finite number. JSON as Python reads it has NaN, infinities, and integers that no float holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _prompt(prompt: str | Messages) -> Any:
    return prompt if isinstance(prompt, str) else [dict(message) for message in prompt]


def _text(response: str | Messages) -> str:
    """The text of a response, which trainers give as a string or as a list with one assistant message."""
    return response if isinstance(response, str) else "".join(str(message["content"]) for message in response)


def _reason(error: urllib.error.HTTPError) -> str:
    """What the server says is wrong, in at most 500 characters."""
    try:
        text = error.read(4096).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return str(error.reason)
    try:
        detail = json.loads(text)["error"]
        text = detail["message"] if isinstance(detail, dict) else str(detail)
    except (ValueError, KeyError, TypeError):
        pass
    return text[:500] or str(error.reason)


def _seconds(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return None
