"""Two paths that two servers share: /classify of vLLM and SGLang, /rerank of vLLM and text-embeddings-inference. Fields tell which."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from guerdon.serving.dialects import sglang, tei, vllm
from guerdon.serving.dialects.common import require_one

router = APIRouter()


class ClassifyRequest(vllm.Inputs, sglang.ClassifyRequest):
    """vLLM's input or messages, or SGLang's text or input_ids."""


class RerankRequest(tei.Truncation):
    """vLLM's documents or text-embeddings-inference's texts, to one query."""

    query: str
    texts: list[str] | None = Field(None, min_length=1)
    documents: list[str] | None = Field(None, min_length=1)
    return_text: bool = False
    model: str | None = None
    top_n: int = Field(0, ge=0)
    truncate_prompt_tokens: int | None = Field(None, ge=-1, le=2**31)


@router.post("/classify")
async def classify(request: Request, body: ClassifyRequest) -> Response:
    """Rewards, in the form of the server that the request is for."""
    if body.text is not None or body.input_ids is not None:
        return await sglang.classify(request, body)
    return await vllm.classify(request, body)


@router.post("/rerank")
@router.post("/v1/rerank")
@router.post("/v2/rerank")
async def rerank(request: Request, body: RerankRequest) -> Response:
    """Replies by their rewards, in the form of the server that the request is for."""
    require_one(body, "texts", "documents")
    fields = body.model_dump(exclude_none=True)
    if body.texts is not None:
        request.state.error = tei.error
        return await tei.rerank(request, tei.RerankRequest.model_validate(fields))
    return await vllm.rerank(request, vllm.RerankRequest.model_validate(fields))
