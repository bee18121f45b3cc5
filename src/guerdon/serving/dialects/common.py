"""What dialects share: items from the forms in which texts come, and errors as OpenAI's API words them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from guerdon.io.schema import conversation_from_row
from guerdon.serving.errors import ServingError
from guerdon.serving.reading import Item
from guerdon.serving.service import Service

TokenIds = list[Annotated[int, Field(ge=0, lt=2**31)]]
ERROR_TYPES: Final = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    413: "RequestTooLargeError",
}


class Body(BaseModel):
    """A request of another program. Fields that are not listed are ignored, as its own server ignores them."""

    model_config = ConfigDict(extra="ignore")


def require_one(body: BaseModel, first: str, second: str) -> None:
    """Raise ServingError unless a request has exactly one of two fields."""
    has = [getattr(body, name) is not None for name in (first, second)]
    if sum(has) != 1:
        raise ServingError(
            f"a request must have {first} or {second}, got {'both' if all(has) else 'neither'}. Send one of them."
        )


def service_of(request: Request) -> Service:
    """What the request came to."""
    service: Service = request.app.state.service
    return service


def rendered_items(value: str | Sequence[Any], max_length: int | None = None) -> list[Item]:
    """Items of a text, texts, token ids, or lists of them."""
    if isinstance(value, str):
        return [Item("input", text=value, max_length=max_length)]
    value = list(value)
    if not value:
        raise ServingError("input must hold at least one text, got none. Send a text or token ids.")
    if isinstance(value[0], int):
        return [Item("input", ids=tuple(value), max_length=max_length)]
    places = [f"input[{i}]" for i in range(len(value))]
    if isinstance(value[0], str):
        return [Item(place, text=text, max_length=max_length) for place, text in zip(places, value, strict=True)]
    return [Item(place, ids=tuple(ids), max_length=max_length) for place, ids in zip(places, value, strict=True)]


def conversation(
    place: str, row: Mapping[str, Any], max_length: int | None = None, template: str | None = None
) -> Item:
    """An item of a row as `guerdon score` reads it: prompt and response, or messages."""
    prompt, responses, _ = conversation_from_row(place, row)
    if len(responses) != 1:
        raise ServingError(f"{place}: an item must have one response, got {len(responses)}. Send an item for each.")
    return Item(place, prompt, responses[0], template=template, max_length=max_length)


def openai_error(status: int, line: str) -> dict[str, Any]:
    """An error as vLLM, SGLang and OpenAI's API give it."""
    kind = ERROR_TYPES.get(status, "ServiceUnavailableError" if status == 503 else "InternalServerError")
    kind = "BadRequestError" if kind == "InternalServerError" and status < 500 else kind
    return {"error": {"message": line, "type": kind, "param": None, "code": status}}
