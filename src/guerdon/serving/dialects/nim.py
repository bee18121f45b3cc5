"""NVIDIA NIM's form of a reward model: a chat completion whose content is `reward:NUMBER`."""

from __future__ import annotations

import time
import uuid
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from guerdon.errors import field_error
from guerdon.runtime.web.json_response import json_response
from guerdon.serving.dialects.common import Body, conversation, service_of

router = APIRouter()


class ChatRequest(Body):
    """A conversation whose last message is the assistant's."""

    model: str | None = None
    messages: list[dict[str, Any]]
    tools: list[Any] | None = None
    stream: bool | None = False


@router.post("/v1/chat/completions")
async def chat(request: Request, body: ChatRequest) -> Response:
    """The reward as the content of a message; attributes are further pairs of name and number."""
    if body.stream:
        raise field_error("stream", "false: a reward is one number", True, "Leave it out.")
    row = {"messages": body.messages} | ({} if body.tools is None else {"tools": body.tools})
    answer = await service_of(request).score(request, [conversation("messages", row)], body.model)
    (score,), (outcome,) = answer.scores(), answer.outcomes
    numbers = {"reward": score, **outcome.attributes}
    content = ",".join(f"{name}:{value!r}" for name, value in numbers.items())
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content},
        "finish_reason": "stop",
        "logprobs": None,
    }
    usage = {"prompt_tokens": outcome.tokens, "completion_tokens": 0, "total_tokens": outcome.tokens}
    envelope = {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion", "created": int(time.time())}
    return json_response({**envelope, "model": answer.model.name, "choices": [choice], "usage": usage})
