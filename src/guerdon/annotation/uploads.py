"""Items as lines of JSON, read as they come in: {"prompt": ..., "responses": [...]} and what rows of scores may have besides."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from guerdon.annotation.answers import check_responses
from guerdon.annotation.errors import RequestError
from guerdon.annotation.project import Project, add_items
from guerdon.contracts import Prompt, Response
from guerdon.errors import GuerdonError, cause_of
from guerdon.io.schema import conversation_from_row
from guerdon.store.items import Item, unjudged_item

ROWS_AT_ONCE: Final = 500
CHARACTERS_AT_ONCE: Final = 2**22
LONGEST_LINE: Final = 2**24  # bytes

BODY: Final = {
    "requestBody": {
        "content": {"application/x-ndjson": {"schema": {"type": "string", "description": "One JSON object a line."}}},
        "required": True,
    }
}

Line = tuple[int, bytes]


class UploadError(RequestError):
    """A line that is no item."""

    status = 422


async def batches(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[Line]]:
    """The lines of a stream that are not blank, with their numbers, some at a time."""
    waiting: list[Line] = []
    size = number = 0
    async for line in _lines(chunks):
        number += 1
        if line.strip():
            waiting.append((number, line))
            size += len(line)
        if len(waiting) >= ROWS_AT_ONCE or size >= CHARACTERS_AT_ONCE:
            yield waiting
            waiting, size = [], 0
    if waiting:
        yield waiting


def add_rows(project: Project, lines: Sequence[Line]) -> tuple[int, int]:
    """Add the items of these lines in one go; returns how many were read, and how many of them are new."""
    items = [_item_in(project, number, line) for number, line in lines]
    return len(items), add_items(project, items)


def comparable_item(project: Project, prompt: Prompt, responses: Sequence[Response]) -> Item:
    """The item of these texts; GuerdonError where the project cannot ask people about it."""
    if len(responses) < 2:
        raise GuerdonError(f"responses must be two or more, got {len(responses)}. Add another, or leave the line out.")
    check_responses(project.options, len(responses))
    item = unjudged_item(prompt, responses)[0]
    if len({content.id for content in item.contents}) <= len(responses):
        raise GuerdonError("responses must differ, got the same one twice. Drop the row.")
    return item


def _item_in(project: Project, number: int, line: bytes) -> Item:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UploadError(f"line {number}: must be a JSON object, got {cause_of(error)}. Correct the line.") from None
    location = f"line {number}"
    try:
        prompt, responses, _ = conversation_from_row(location, row)
        return comparable_item(project, prompt, responses)
    except GuerdonError as error:
        raise UploadError(f"{location}: {str(error).removeprefix(f'{location}: ')}") from None


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for chunk in chunks:
        rest += chunk
        *whole, last = rest.split(b"\n")
        if len(last) > LONGEST_LINE:
            raise UploadError(f"a line must be at most {LONGEST_LINE:,} bytes. Shorten it.")
        for line in whole:
            yield bytes(line)
        rest = bytearray(last)
    if rest:
        yield bytes(rest)
