"""SGLang's native /classify, and /v1/embeddings, by which verl asks an SGLang server. Its /v1/classify is always 1.0 and left out."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from guerdon.runtime.web.json_response import json_response
from guerdon.serving.dialects.common import Body, TokenIds, rendered_items, require_one, service_of
from guerdon.serving.models import Outcome

router = APIRouter()


class ClassifyRequest(Body):
    """A request to the native /classify. rid: names of the caller's."""

    text: str | list[str] | None = None
    input_ids: TokenIds | list[TokenIds] | None = None
    rid: str | list[str] | None = None


class EmbeddingRequest(Body):
    """A request to /v1/embeddings."""

    model: str | None = None
    input: str | list[str] | TokenIds | list[TokenIds]
    encoding_format: str = Field("float", pattern="^float$")


async def classify(request: Request, body: ClassifyRequest) -> Response:
    """Rewards as embeddings of one number; a list for a list."""
    require_one(body, "text", "input_ids")
    value = body.text if body.text is not None else body.input_ids
    assert value is not None
    answer = await service_of(request).score(request, rendered_items(value))
    scores = answer.scores()
    names = body.rid if isinstance(body.rid, list) and len(body.rid) == len(scores) else [body.rid] * len(scores)
    rows = [
        _row(score, outcome, name if isinstance(name, str) else uuid.uuid4().hex)
        for score, outcome, name in zip(scores, answer.outcomes, names, strict=True)
    ]
    is_single = isinstance(value, str) or isinstance(value[0], int)
    return json_response(rows[0] if is_single else rows)


@router.post("/v1/embeddings")
async def embeddings(request: Request, body: EmbeddingRequest) -> Response:
    """Rewards as embeddings of one number, in OpenAI's form."""
    answer = await service_of(request).score(request, rendered_items(body.input), body.model)
    data = [{"embedding": [score], "index": i, "object": "embedding"} for i, score in enumerate(answer.scores())]
    usage = {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens}
    return json_response({"object": "list", "data": data, "model": answer.model.name, "usage": usage})


def _row(score: float, outcome: Outcome, name: str) -> dict[str, Any]:
    facts = {"id": name, "finish_reason": None, "prompt_tokens": outcome.tokens, "completion_tokens": 0}
    return {"embedding": [score], "meta_info": facts}
