"""A reward model that runs in another server: vLLM or SGLang, asked for raw scores of token ids. A failed call is never a number."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Final

from guerdon.contracts import GuerdonError
from guerdon.errors import counted
from guerdon.io.server_url import normalize_url
from guerdon.models.completions_api import error_message
from guerdon.models.http_connection import AnswerTooLarge, Connection

NAMES: Final = {"vllm": "vLLM", "sglang": "SGLang", "guerdon": "guerdon serve"}
AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})  # that another try may change
MOST_BYTES: Final = 2**26


class EngineError(GuerdonError):
    """The server refused, or gave something else than scores."""


class EngineAway(EngineError):
    """The server does not answer, is overloaded, or fails: another try may succeed."""


class EngineServer:
    """A server that is asked over one kept connection, of one thread at a time. url: without a path. token: a bearer token.

    kind: vllm, sglang or guerdon. model: the first that it serves. max_length: tokens of a text, where it says so.
    """

    def __init__(self, url: str, token: str | None = None, seconds: float = 120.0) -> None:
        self.url = normalize_url(url).removesuffix("/v1")
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self.seconds = seconds
        self._connection = Connection(headers, seconds)
        try:
            (first, *_) = self.ask("GET", "/v1/models")["data"]
            self.kind, self.model = str(first.get("owned_by")), str(first["id"])
            self.max_length: int | None = first.get("max_model_len")
        except EngineError:
            self.close()
            raise
        except (KeyError, TypeError, ValueError, AttributeError):
            self.close()
            raise EngineError(f"{self.url}: /v1/models must list a model. Check the address.") from None
        if self.kind not in NAMES:
            self.close()
            kinds = ", ".join(NAMES.values())
            raise EngineError(f"{self.url}: the server must be one of {kinds}, got {self.kind!r}. Correct the address.")

    def close(self) -> None:
        """End the connection."""
        self._connection.__exit__(None, None, None)

    def classify(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """The raw score of each row of token ids."""
        ids = [list(map(int, row)) for row in rows]
        try:
            if self.kind == "sglang":
                vectors = [row["embedding"] for row in self.ask("POST", "/classify", {"input_ids": ids})]
            else:
                body = {"model": self.model, "input": ids, "use_activation": False}
                data = self.ask("POST", "/classify", body)["data"]
                vectors = [row["probs"] for row in sorted(data, key=lambda row: int(row["index"]))]
            scores = [float(value) for (value,) in vectors]
        except EngineError:
            raise
        except (KeyError, TypeError, ValueError):
            raise EngineError(
                f"{self.url}/classify: each text must get one number, got something else. Serve a model with one label."
            ) from None
        if len(scores) != len(ids) or not all(map(math.isfinite, scores)):
            raise EngineError(
                f"{self.url}/classify: each of {counted(len(ids), 'text')} must get a finite number, got {len(scores)} of them, or one "
                "that is not finite. Look at the server's log."
            )
        return scores

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer. Raises EngineAway and EngineError."""
        import httpx2

        address = self.url + path
        content = None if body is None else json.dumps(body).encode()
        try:
            try:
                status, _, answer = self._connection.fetch(method, address, content, self.seconds, MOST_BYTES)
            except (
                httpx2.RemoteProtocolError,
                httpx2.ReadError,
                httpx2.WriteError,
            ):  # a kept connection that it had closed
                status, _, answer = self._connection.fetch(method, address, content, self.seconds, MOST_BYTES)
        except (httpx2.HTTPError, AnswerTooLarge) as error:
            reason = str(error) or type(error).__name__
            raise EngineAway(
                f"{address}: the server must answer, got {reason}. Start it, or correct the address."
            ) from None
        if status != 200:
            reason = " ".join(error_message(answer).split())[:200]
            line = f"{address}: status must be 200, got {status}: {reason}. Look at the server's log."
            raise EngineAway(line) if status in AGAIN else EngineError(line)
        try:
            return json.loads(answer)
        except ValueError:
            raise EngineError(f"{address}: the answer must be JSON, got something else. Check the address.") from None
