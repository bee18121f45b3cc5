"""Fields of a published row, checked and named in errors; and the item that is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from guerdon.benchmarks.items import Item
from guerdon.contracts import Prompt, ResponseLike, as_prompt, as_response, prompt_digest
from guerdon.errors import field_error
from guerdon.io.fields import as_name, as_text, is_absent
from guerdon.io.messages import messages_in, to_messages
from guerdon.io.schema import tools_from_row

__all__ = [
    "Row",
    "field",
    "file_name",
    "has_value",
    "new_item",
    "one_of",
    "prompt",
    "row_id",
    "text",
    "texts",
    "with_tools",
]

Row = Mapping[str, Any]


def new_item(
    row: Row, number: int, question: Prompt, responses: Sequence[ResponseLike], correct: Iterable[int], subset: str
) -> Item:
    """An item named by the row's id, else by its number; its group is the prompt."""
    return Item(
        id=row_id(row, "id") if has_value(row, "id") else f"{subset}/{number}",
        prompt=question,
        responses=tuple(map(as_response, responses)),
        correct=tuple(correct),
        subset=subset,
        group=prompt_digest(question),
    )


def has_value(row: Row, key: str) -> bool:
    """Whether the field is there and holds anything; a table's empty cell and NaN hold nothing."""
    return not is_absent(row.get(key))


def row_id(row: Row, key: str) -> str:
    """The id in the field, without the spaces around it."""
    return as_name(row[key], key).strip()


def field(row: Row, key: str) -> Any:
    """The field's value, which may be empty text; an error where it is absent or null."""
    if row.get(key) is None:
        raise field_error(key, "present", None, "Add it, or name the benchmark that this row belongs to.")
    return row[key]


def text(row: Row, key: str) -> str:
    """The text in the field."""
    return as_text(field(row, key), key)


def texts(row: Row, key: str) -> list[str]:
    """The texts in the field's list, at least one."""
    value = field(row, key)
    if not isinstance(value, list | tuple) or not value:
        raise field_error(key, "a list of texts", value)
    return [as_text(item, f"{key}[{i}]") for i, item in enumerate(value)]


def prompt(row: Row, key: str) -> Prompt:
    """A prompt from text or messages, which may be written as text, with the tools of the row."""
    value = messages_in(field(row, key), key)
    turns = as_prompt(value) if isinstance(value, str) else to_messages(value, key)
    return with_tools(row, turns)


def with_tools(row: Row, turns: Prompt) -> Prompt:
    """These turns with the tools of the row."""
    return as_prompt(Prompt(turns, tools_from_row(row.get("tools"))))


def one_of(row: Row, key: str, answers: Mapping[object, int]) -> int:
    """What the field's value stands for; a table's text and a whole float are the number that they write."""
    value = field(row, key)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        by_name = {str(answer): meaning for answer, meaning in answers.items()}
        if str(number).strip() in by_name:
            return by_name[str(number).strip()]
    raise field_error(key, f"one of {', '.join(map(str, answers))}", value)


def file_name(place: str) -> str:
    """The file and its folder, in lower case: they may name the benchmark or a part of it."""
    return "/".join(place.lower().split("/")[-2:])
