"""Scores of conversations from servers of a saved model: vLLM, SGLang and `guerdon serve`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from guerdon.config.serving import TOKEN_VARIABLE
from guerdon.contracts import GuerdonError
from guerdon.models.engine_server import NAMES, EngineServer
from guerdon.models.server_key import key_from_env


def served_scores(url: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """A result as `reader_program.results` gives them: what the server makes of the conversations, or its error."""
    name = url
    try:
        with closing(EngineServer(url, key_from_env(TOKEN_VARIABLE))) as server:
            name = f"{NAMES[server.kind]} at {server.url}"
            scores = [
                _score(server, turns, text)
                for turns, text in zip(request["conversations"], request["texts"], strict=True)
            ]
    except (GuerdonError, KeyError, IndexError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, GuerdonError) else f"unexpected answer: {error!r}"
        return {"reader": name, "error": reason}
    return {"reader": name, "scores": scores, "is_calibrated": server.kind == "guerdon"}


def _score(server: EngineServer, turns: Any, text: str) -> float:
    """By the path on which the server renders the conversation itself, where it has one."""
    if server.kind == "vllm":
        body = {"model": server.model, "messages": turns, "use_activation": False}
        (row,) = server.ask("POST", "/classify", body)["data"]
        (value,) = row["probs"]
    elif server.kind == "sglang":
        (value,) = server.ask("POST", "/classify", {"text": text})["embedding"]
    else:
        body = {"model": server.model, "items": [{"messages": turns}]}
        value = server.ask("POST", "/v1/reward", body)["results"][0]["score"]
    return float(value)
