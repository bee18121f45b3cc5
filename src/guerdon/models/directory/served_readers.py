"""Scores of conversations from servers of a saved model: vLLM, SGLang and `guerdon serve`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from guerdon.contracts import GuerdonError
from guerdon.io.server_url import normalize_url
from guerdon.models.http_connection import AnswerTooLarge, Connection

NAMES: Final = {"vllm": "vLLM", "sglang": "SGLang", "guerdon": "guerdon serve"}
TOKEN_VARIABLE: Final = "GUERDON_REWARD_TOKEN"
SECONDS: Final = 120.0
MOST_BYTES: Final = 2**22


def served_scores(url: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """A result as `reader_program.results` gives them: what the server makes of the conversations, or its error."""
    base = normalize_url(url).removesuffix("/v1")
    name = base
    try:
        models = _ask("GET", f"{base}/v1/models", None)["data"]
        kind, model = str(models[0].get("owned_by")), models[0]["id"]
        if kind not in NAMES:
            raise GuerdonError(f"{base}: must be vLLM, SGLang or guerdon serve, got {kind!r}. Correct the address.")
        name = f"{NAMES[kind]} at {base}"
        scores = [
            _score(kind, base, model, turns, text)
            for turns, text in zip(request["conversations"], request["texts"], strict=True)
        ]
    except (GuerdonError, KeyError, IndexError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, GuerdonError) else f"unexpected answer: {error!r}"
        return {"reader": name, "error": reason}
    return {"reader": name, "scores": scores, "is_calibrated": kind == "guerdon"}


def _score(kind: str, base: str, model: str, turns: Any, text: str) -> float:
    if kind == "vllm":
        body = {"model": model, "messages": turns, "use_activation": False}
        (row,) = _ask("POST", f"{base}/classify", body)["data"]
        (value,) = row["probs"]
    elif kind == "sglang":
        (value,) = _ask("POST", f"{base}/classify", {"text": text})["embedding"]
    else:
        body = {"model": model, "items": [{"messages": turns}]}
        value = _ask("POST", f"{base}/v1/reward", body)["results"][0]["score"]
    return float(value)


def _ask(method: str, address: str, body: Any) -> Any:
    """The JSON of an answer; GuerdonError for any other status than 200."""
    import httpx2

    token = os.environ.get(TOKEN_VARIABLE)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    content = None if body is None else json.dumps(body).encode()
    try:
        with Connection(headers, SECONDS) as connection:
            status, _, answer = connection.fetch(method, address, content, SECONDS, MOST_BYTES)
    except (httpx2.HTTPError, AnswerTooLarge) as error:
        reason = error or type(error).__name__
        raise GuerdonError(
            f"{address}: the server must answer, got {reason}. Start it, or correct the address."
        ) from None
    if status != 200:
        shown = answer.decode("utf-8", "replace")[:200]
        raise GuerdonError(f"{address}: status must be 200, got {status}: {shown}. Look at the server.")
    return json.loads(answer)
