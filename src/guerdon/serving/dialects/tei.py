"""text-embeddings-inference: POST /predict, and its part of /rerank. Scores are probabilities unless raw_scores asks for rewards."""

from __future__ import annotations

from typing import Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from guerdon.errors import field_error
from guerdon.runtime.web.json_response import json_response
from guerdon.serving.dialects.common import Body, conversation, service_of
from guerdon.serving.dialects.own import probability
from guerdon.serving.errors import ServingError
from guerdon.serving.reading import Item
from guerdon.serving.service import Service

router = APIRouter()
ERROR_TYPES: Final = {413: "Validation", 422: "Validation", 400: "Validation", 404: "Validation", 503: "Overloaded"}


class Truncation(Body):
    """What becomes of long texts."""

    truncate: bool | None = False
    truncation_direction: Literal["left", "right", "Left", "Right"] = "left"
    raw_scores: bool = False


class PredictRequest(Truncation):
    """A request to /predict: a text, a pair of prompt and reply, or a batch of them, each in a list of its own."""

    inputs: str | list[str] | list[list[str]]


class RerankRequest(Truncation):
    """A request to /rerank: replies to one prompt, to be sorted."""

    query: str
    texts: list[str] = Field(min_length=1)
    return_text: bool = False


@router.post("/predict")
async def predict(request: Request, body: PredictRequest) -> Response:
    """The score of each input, as a list of one label."""
    service = service_of(request)
    max_length = _cut(service, body)
    is_batch = not isinstance(body.inputs, str) and bool(body.inputs) and isinstance(body.inputs[0], list)
    inputs: list[Any] = list(body.inputs) if is_batch else [body.inputs]
    items = [_item(f"inputs[{i}]" if is_batch else "inputs", value, max_length) for i, value in enumerate(inputs)]
    answer = await service.score(request, items)
    rows = [[{"score": _scaled(score, body), "label": "LABEL_0"}] for score in answer.scores()]
    return json_response(rows if is_batch else rows[0])


async def rerank(request: Request, body: RerankRequest) -> Response:
    """Texts by their scores as replies to the query, best first."""
    service = service_of(request)
    max_length = _cut(service, body)
    items = [
        conversation(f"texts[{i}]", {"prompt": body.query, "response": text}, max_length)
        for i, text in enumerate(body.texts)
    ]
    answer = await service.score(request, items)
    ranked = sorted(enumerate(answer.scores()), key=lambda pair: -pair[1])
    rows = [
        {"index": i, "score": _scaled(score, body)} | ({"text": body.texts[i]} if body.return_text else {})
        for i, score in ranked
    ]
    return json_response(rows)


def error(status: int, line: str) -> dict[str, Any]:
    """An error in its form."""
    return {"error": line, "error_type": ERROR_TYPES.get(status, "Backend" if status >= 500 else "Validation")}


def _item(place: str, value: str | list[str], max_length: int | None) -> Item:
    texts = [value] if isinstance(value, str) else value
    if len(texts) == 1:
        return Item(place, text=texts[0], max_length=max_length)
    if len(texts) != 2:
        raise ServingError(
            f"{place} must be a text, or a prompt and its reply, got {len(texts)} texts. Send one or two."
        )
    return conversation(place, {"prompt": texts[0], "response": texts[1]}, max_length)


def _cut(service: Service, body: Truncation) -> int | None:
    if not body.truncate:
        return None
    if body.truncation_direction.lower() == "right":
        raise field_error("truncation_direction", "left, so that the reply is read", "right", "Leave it out.")
    return service.queue(None).model.max_length


def _scaled(score: float, body: Truncation) -> float:
    return score if body.raw_scores else probability(score)
