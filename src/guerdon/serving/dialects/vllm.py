"""vLLM's /pooling and /score, and its part of /classify and /rerank. Numbers are rewards: the models have no activation.

A saved reward model has problem_type "regression", for which vLLM applies none, so that use_activation changes nothing there
and here. verl's vllm path is /classify.
"""

from __future__ import annotations

import base64
import struct
import time
import uuid
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field
from starlette.responses import Response

from guerdon.errors import field_error
from guerdon.runtime.web.json_response import json_response
from guerdon.serving.dialects.common import Body, TokenIds, conversation, rendered_items, require_one, service_of
from guerdon.serving.errors import ServingError
from guerdon.serving.reading import Item
from guerdon.serving.service import Answer, Service

router = APIRouter()


class Inputs(Body):
    """What vLLM's pooling endpoints take: texts or token ids, or one conversation."""

    model: str | None = None
    input: str | list[str] | TokenIds | list[TokenIds] | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[Any] | None = None
    add_generation_prompt: bool = False
    continue_final_message: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    truncate_prompt_tokens: int | None = Field(None, ge=-1, le=2**31)
    truncation_side: Literal["left", "right"] | None = None
    use_activation: bool | None = None


class PoolingRequest(Inputs):
    """A request to /pooling."""

    task: str | None = None
    encoding_format: Literal["float", "base64", "bytes"] = "float"


class ScoreRequest(Body):
    """A request to /score: prompts and replies, one of the first for all or for each of the second."""

    model: str | None = None
    queries: str | list[str] = Field(validation_alias=AliasChoices("queries", "text_1", "data_1"))
    documents: str | list[str] = Field(validation_alias=AliasChoices("documents", "text_2", "data_2", "items"))
    truncate_prompt_tokens: int | None = Field(None, ge=-1, le=2**31)


class RerankRequest(Body):
    """A request to /rerank: replies to one prompt, to be sorted."""

    model: str | None = None
    query: str
    documents: list[str] = Field(min_length=1)
    top_n: int = Field(0, ge=0)
    truncate_prompt_tokens: int | None = Field(None, ge=-1, le=2**31)


async def classify(request: Request, body: Inputs) -> Response:
    """Rewards as `probs`."""
    answer = await _answer(request, body)
    data = [
        {"index": i, "label": "LABEL_0", "probs": [score], "num_classes": 1} for i, score in enumerate(answer.scores())
    ]
    return json_response(_envelope("classify", answer, data))


@router.post("/pooling")
async def pooling(request: Request, body: PoolingRequest) -> Response:
    """Rewards as vectors of one number."""
    if body.task not in (None, "classify"):
        raise field_error("task", "classify, which gives one number for each text", body.task, "Leave it out.")
    if body.encoding_format == "bytes":
        raise field_error("encoding_format", "float or base64", body.encoding_format, "Choose one of these.")
    answer = await _answer(request, body)
    is_text = body.encoding_format == "base64"
    data = [
        {"index": i, "object": "pooling", "data": _base64(score) if is_text else [score]}
        for i, score in enumerate(answer.scores())
    ]
    return json_response(_envelope("pool", answer, data))


@router.post("/score")
@router.post("/v1/score")
async def score(request: Request, body: ScoreRequest) -> Response:
    """Rewards of documents as replies to queries."""
    documents = [body.documents] if isinstance(body.documents, str) else body.documents
    queries = [body.queries] if isinstance(body.queries, str) else body.queries
    queries = queries * len(documents) if len(queries) == 1 else queries
    if not documents or len(queries) != len(documents):
        raise ServingError(
            f"queries must be one, or as many as documents, got {len(queries)} and {len(documents)}. Send a query for each."
        )
    service = service_of(request)
    max_length = _cut(service, body.model, body.truncate_prompt_tokens)
    items = [
        conversation(f"documents[{i}]", {"prompt": query, "response": document}, max_length)
        for i, (query, document) in enumerate(zip(queries, documents, strict=True))
    ]
    answer = await service.score(request, items, body.model)
    data = [{"index": i, "object": "score", "score": value} for i, value in enumerate(answer.scores())]
    return json_response(_envelope("score", answer, data))


async def rerank(request: Request, body: RerankRequest) -> Response:
    """Documents by their rewards as replies to the query, best first."""
    service = service_of(request)
    max_length = _cut(service, body.model, body.truncate_prompt_tokens)
    items = [
        conversation(f"documents[{i}]", {"prompt": body.query, "response": document}, max_length)
        for i, document in enumerate(body.documents)
    ]
    answer = await service.score(request, items, body.model)
    ranked = sorted(enumerate(answer.scores()), key=lambda pair: -pair[1])[: body.top_n or None]
    results = [{"index": i, "document": {"text": body.documents[i]}, "relevance_score": value} for i, value in ranked]
    usage = {"total_tokens": answer.tokens}
    return json_response(
        {"id": f"rerank-{uuid.uuid4().hex}", "model": answer.model.name, "usage": usage, "results": results}
    )


async def _answer(request: Request, body: Inputs) -> Answer:
    service = service_of(request)
    return await service.score(request, _items(service, body), body.model)


def _items(service: Service, body: Inputs) -> list[Item]:
    max_length = _cut(service, body.model, body.truncate_prompt_tokens)
    if body.truncation_side == "right" and max_length is not None:
        raise field_error("truncation_side", "left, so that the reply is read", "right", "Leave it out.")
    require_one(body, "input", "messages")
    if body.input is not None:
        return rendered_items(body.input, max_length)
    if body.add_generation_prompt or body.continue_final_message:
        name = "add_generation_prompt" if body.add_generation_prompt else "continue_final_message"
        raise field_error(name, "false: a reward is read after a finished reply", True, "Leave it out.")
    template = allowed_template(service, body.chat_template, body.chat_template_kwargs)
    row = {"messages": body.messages} | ({} if body.tools is None else {"tools": body.tools})
    return [conversation("messages", row, max_length, template)]


def allowed_template(service: Service, template: str | None, arguments: dict[str, Any] | None) -> str | None:
    """The chat template of a request, where the server takes them. Raises ServingError where it does not."""
    if template is not None and not service.options.allow_template:
        raise ServingError(
            "chat_template must be left out: this server reads every text by the model's own. Start it with --allow-template."
        )
    if arguments:
        raise ServingError(
            "chat_template_kwargs must be left out: every text is rendered as in training. Leave it out."
        )
    return template


def _cut(service: Service, model: str | None, tokens: int | None) -> int | None:
    """The length to which texts are cut; None refuses long ones."""
    most = service.queue(model).model.max_length
    if tokens is None or most is None:
        return None
    if tokens == 0:
        raise field_error("truncate_prompt_tokens", "-1 or at least 1", 0, "Leave it out to refuse long texts.")
    return most if tokens == -1 else min(tokens, most)


def _base64(score: float) -> str:
    return base64.b64encode(struct.pack("<f", score)).decode()


def _envelope(kind: str, answer: Answer, data: list[dict[str, Any]]) -> dict[str, Any]:
    tokens = answer.tokens
    return {
        "id": f"{kind}-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": answer.model.name,
        "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
    }
