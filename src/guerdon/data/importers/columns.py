"""What the formats share: prompts, responses, numbers and names from the columns of a row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Message,
    Preference,
    Prompt,
    Response,
    Role,
    as_message,
    response_identity,
)
from guerdon.conversation import check_tool_turns
from guerdon.errors import field_error
from guerdon.io.fields import as_list, as_name, as_text, is_absent, to_number
from guerdon.io.schema import tools_from_row

COLUMNS = (
    "prompt", "tools", "chosen", "rejected", "margin", "first", "second", "label", "responses", "scores", "response_a",
    "response_b", "votes", "preference", "id", "group", "annotator", "source", "weight",
)  # fmt: skip
MEDIA = ("images", "image", "audio", "audios", "video", "videos")
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system"}
Row = Mapping[str, Any]


def to_comparison(row: Row, prompt: Prompt, responses: tuple[Response, ...], preference: Preference) -> Comparison:
    """The comparison, with the row's own id, group, annotator, source and weight; other columns are not kept.

    A row with images, audio or video is refused: only its text would be scored.
    """
    for key in MEDIA:
        if row.get(key):
            raise field_error(key, "empty", row[key], "Only text is scored: drop the row.")
    names = ("id", "group", "annotator", "source")
    known: dict[str, Any] = {key: as_name(row[key], key) for key in names if not is_absent(row.get(key))}
    if not is_absent(row.get("weight")):
        known["weight"] = to_number(row["weight"], "weight", "a number > 0", above=0)
    return Comparison(prompt=prompt, responses=responses, preference=preference, **known)


def required(row: Row, key: str) -> Any:
    """The column's value; an error where it is absent or null."""
    if row.get(key) is None:
        raise GuerdonError(f"{key} is missing. Add it, or say with columns which column holds it.")
    return row[key]


def required_list(row: Row, key: str) -> list[Any]:
    """The column's value, a list."""
    return list(as_list(required(row, key), key, "a list"))


# ---- Prompts and responses -----------------------------------------------------------------------------------------


def required_prompt(row: Row) -> Prompt:
    """The prompt of the row, with its tools."""
    return with_tools(row, to_prompt(required(row, "prompt")))


def with_tools(row: Row, turns: tuple[Message, ...]) -> Prompt:
    """These turns as a prompt, with the tools of the row: a list of objects or JSON texts, or such a list as JSON text."""
    prompt = Prompt(turns, tools_from_row(row.get("tools")))
    check_tool_turns(prompt)
    return prompt


def to_prompt(value: object) -> Prompt:
    """A prompt from text, a transcript, or messages."""
    if not isinstance(value, str):
        return to_messages(value, "prompt")
    if not value.strip():
        raise field_error("prompt", "text that is not empty", value)
    if value.startswith(HUMAN) and value.rstrip().endswith(ASSISTANT):
        return transcript_turns(value.rstrip().removesuffix(ASSISTANT))
    return Prompt([Message("user", value)])


def transcript_turns(transcript: str) -> Prompt:
    """The messages of a transcript that starts with a "\\n\\nHuman:" or "\\n\\nAssistant:" mark."""
    _, *parts = re.split(r"\n\n(Human|Assistant):", transcript)
    roles = ("user" if mark == "Human" else "assistant" for mark in parts[::2])
    return Prompt(Message(role, content.strip()) for role, content in zip(roles, parts[1::2], strict=True))


def to_response(value: object, field: str) -> Response:
    """A response from text, {text}, a message or a list of messages; an error where it is empty."""
    if isinstance(value, list | tuple) or (isinstance(value, Mapping) and {"role", "from"} & set(value)):
        response = Response(messages=tuple(to_messages(value, field)))
    else:
        response = Response(as_text(value.get("text") if isinstance(value, Mapping) else value, field))
    if response.is_empty:
        raise field_error(field, "a response that is not empty", response.text, "Drop the row.")
    return response


def two_responses(row: Row, first: str, second: str) -> tuple[Response, Response]:
    """The responses in these two columns; an error where they are the same."""
    a, b = to_response(required(row, first), first), to_response(required(row, second), second)
    if are_identical(a, b):
        raise GuerdonError(f"{first} and {second} must differ, got identical responses. Drop the row.")
    return a, b


def are_identical(first: Response, second: Response) -> bool:
    """Whether nothing but white space at the ends of plain text tells the responses apart."""
    a, b = response_identity(first), response_identity(second)
    return a.strip() == b.strip() if isinstance(a, str) and isinstance(b, str) else a == b


def to_messages(value: object, field: str) -> Prompt:
    """Messages from [{role, content}] or [{from, value}], or from one such message alone."""
    turns = [value] if isinstance(value, Mapping) else value
    if not isinstance(turns, list | tuple) or not turns:
        raise field_error(field, "text or a list of messages", value)
    return Prompt(_to_message(turn, f"{field}[{i}]") for i, turn in enumerate(turns))


def _to_message(turn: object, field: str) -> Message:
    if not isinstance(turn, Mapping):
        raise field_error(field, "a message with role and content", turn)
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    role = ROLES.get(role, role) if isinstance(role, str) else role
    if role not in get_args(Role):
        raise field_error(f"{field}.role", "system, user, assistant or tool", role)
    return as_message({**turn, "role": role, "content": content}, field)
