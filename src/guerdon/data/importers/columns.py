"""What the formats share: prompts, responses, numbers and names from the columns of a row."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from guerdon.contracts import (
    WEIGHT_CLAIM,
    WEIGHTS,
    Comparison,
    GuerdonError,
    Message,
    Preference,
    Prompt,
    Response,
    response_identity,
)
from guerdon.conversation import check_tool_turns
from guerdon.data.importers.plain_text import has_several_words, transcript_prompt
from guerdon.errors import field_error
from guerdon.io.fields import as_list, as_name, as_text, is_absent, to_number
from guerdon.io.messages import to_messages
from guerdon.io.schema import in_context, tools_from_row

COLUMNS = (
    "prompt", "chosen", "rejected", "first", "second", "label", "responses", "scores", "response_a", "response_b", "votes",
    "margin", "system", "history", "tools", "preference", "id", "group", "annotator", "source", "weight",
    "rationale", "completion",
)  # fmt: skip
OWN = ("id", "group", "annotator", "source", "weight", "rationale")  # of a comparison, whatever its format
SHARED = ("prompt", "system", "history", "tools", *OWN)  # of every format
MEDIA = ("images", "image", "audio", "audios", "video", "videos")
Row = Mapping[str, Any]
Note = Callable[[str], None]
REPEATED = "responses without the prompt that they repeated"


def to_comparison(row: Row, prompt: Prompt, responses: tuple[Response, ...], preference: Preference) -> Comparison:
    """The comparison, with the row's own id, group, annotator, source, weight and rationale; other columns are not kept.

    A row with images, audio or video is refused: only its text would be scored.
    """
    for key in MEDIA:
        if row.get(key):
            raise field_error(key, "empty", row[key], "Only text is scored: drop the row.")
    names = ("id", "group", "annotator", "source")
    known: dict[str, Any] = {key: as_name(row[key], key) for key in names if not is_absent(row.get(key))}
    if not is_absent(row.get("rationale")):
        known["rationale"] = as_text(row["rationale"], "rationale")
    if not is_absent(row.get("weight")):
        known["weight"] = to_number(row["weight"], "weight", WEIGHT_CLAIM, low=WEIGHTS[0], high=WEIGHTS[1])
    return Comparison(prompt=prompt, responses=responses, preference=preference, **known)


def required(row: Row, key: str) -> Any:
    """The column's value; an error where it is absent or null."""
    if row.get(key) is None:
        advice = (
            f"Add it, or say which column holds it: --column {key}=NAME" if key in COLUMNS else "Add it or drop the row"
        )
        raise GuerdonError(f"{key} is missing. {advice}.")
    return row[key]


def required_list(row: Row, key: str) -> list[Any]:
    """The column's value, a list."""
    return list(as_list(required(row, key), key, "a list"))


def list_in(value: object) -> Any:
    """The list or object that a cell of a table holds, as JSON or as Python prints it; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
        return parsed if isinstance(parsed, list | dict) else value
    return value


# ---- Prompts and responses -----------------------------------------------------------------------------------------


def required_prompt(row: Row) -> Prompt:
    """The prompt of the row, with its system message, history and tools."""
    return whole_prompt(row, to_prompt(required(row, "prompt")))


def whole_prompt(row: Row, turns: tuple[Message, ...]) -> Prompt:
    """These turns behind the columns system and history, with the column tools: a list of objects, or one as JSON text."""
    prompt = in_context(row, Prompt(turns, tools_from_row(row.get("tools"))))
    check_tool_turns(prompt)
    return prompt


def to_prompt(value: object) -> Prompt:
    """A prompt from text, a transcript, or messages."""
    if not isinstance(value, str):
        return to_messages(value, "prompt")
    if not value.strip():
        raise field_error("prompt", "text that is not empty", value)
    return transcript_prompt(value) or Prompt([Message("user", value)])


def to_response(value: object, field: str) -> Response:
    """A response from text, {text}, a message or a list of messages."""
    if isinstance(value, list | tuple) or (isinstance(value, Mapping) and {"role", "from"} & set(value)):
        return Response(messages=tuple(to_messages(value, field)))
    return Response(as_text(value.get("text") if isinstance(value, Mapping) else value, field))


def refuse_empty(responses: Mapping[str, Response]) -> None:
    """An error where a response holds neither a visible character nor a tool call; the keys are their columns."""
    empty = [key for key, response in responses.items() if response.is_empty]
    if len(empty) == len(responses) == 2:
        raise GuerdonError(
            f"{' and '.join(empty)} must be responses that are not empty, got two empty ones. Drop the row."
        )
    if empty:
        raise field_error(empty[0], "a response that is not empty", responses[empty[0]].text, "Drop the row.")


def are_identical(first: Response, second: Response) -> bool:
    """Whether nothing but white space at the ends of plain text tells the responses apart."""
    a, b = response_identity(first), response_identity(second)
    return a.strip() == b.strip() if isinstance(a, str) and isinstance(b, str) else a == b


# ---- Prompt and responses together ---------------------------------------------------------------------------------


def join_sides(
    prompt: Prompt, responses: Sequence[Response], text: object = None, note: Note = lambda line: None
) -> tuple[Prompt, list[Response]]:
    """The prompt without a beginning of the answer, and the responses with it and without a repetition of the prompt.

    text: the prompt as the row holds it. Responses that all start with it, or with the last message of the prompt, lose it;
    `note` is then called with a line for each.
    """
    given, responses = responses, _without_repetition(prompt, responses, text)
    for before, after in zip(given, responses, strict=True):
        if before != after:
            note(REPEATED)
    last = prompt[-1]
    if last.role != "assistant" or last.tool_calls or len(prompt) < 2 or prompt[-2].role == "assistant":
        return prompt, responses
    return prompt[:-1], [_continued(last.content, response) for response in responses]


def _without_repetition(prompt: Prompt, responses: Sequence[Response], text: object) -> list[Response]:
    if len(responses) < 2:  # one response alone may well begin with its prompt
        return list(responses)
    for repeated in (text if isinstance(text, str) else "", prompt[-1].content):
        start = repeated.strip()
        is_repeated = all(not r.messages and r.text.lstrip().startswith(start) for r in responses)
        if is_repeated and has_several_words(start):
            return [replace(r, text=r.text.lstrip()[len(start) :].lstrip()) for r in responses]
    return list(responses)


def _continued(beginning: str, response: Response) -> Response:
    """The response as one turn that starts with `beginning`; an empty one stays empty."""
    if response.is_empty:
        return response
    if not response.messages:
        return replace(response, text=beginning + response.text)
    first, *others = response.messages
    return replace(response, text="", messages=(replace(first, content=beginning + first.content), *others))
