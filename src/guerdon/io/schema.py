"""Contracts as plain dicts and back: the native row of a comparison, a row to be scored, and nothing else knows their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from guerdon.contracts import (
    Comparison,
    FinishReason,
    GuerdonError,
    Message,
    Preference,
    Prompt,
    Response,
    Role,
)
from guerdon.io.fields import (
    as_list,
    as_number,
    as_text,
    did_you_mean,
    field_error,
    is_count,
    optional_text,
    show_value,
    without_missing,
)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that could not be used: where it stands, the reason with its remedy, and the row as it was."""

    place: str
    reason: str
    row: object


def asked_row(place: str, row: Any) -> tuple[Prompt, list[Response], bool]:
    """The prompt of a row to be scored, its responses, and whether it has a single one; errors name the place."""
    if isinstance(row, Rejected):
        raise GuerdonError(f"{row.place}: {row.reason}")
    advice = "Give prompt and response, prompt and responses, or messages that end with an assistant turn."
    try:
        if isinstance(row, Mapping) and "messages" in row:
            *before, last = prompt_from_row(row["messages"])
            if last.role != "assistant" or not before:
                raise field_error("messages", "at least two turns, the last an assistant's", last.role, advice)
            return Prompt(before), [Response(last.content)], True
        if not isinstance(row, Mapping) or "prompt" not in row or not {"response", "responses"} & set(row):
            raise field_error("row", "an object with prompt and response", row, advice)
        if {"response", "responses"} <= set(row):
            raise field_error("row", "an object with response or responses, not both", row, "Leave one out.")
        if "responses" in row:
            values = as_list(row["responses"], "responses", "a list of texts")
            return (
                prompt_from_row(row["prompt"]),
                [_response(value, f"responses[{i}]") for i, value in enumerate(values)],
                False,
            )
        return prompt_from_row(row["prompt"]), [_response(row["response"], "response")], True
    except GuerdonError as error:
        raise GuerdonError(f"{place}: {error}") from None


KEYS: Mapping[str, tuple[str, ...]] = {
    "row": ("id", "group", "prompt", "responses", "preference", "annotator", "source", "weight"),
    "message": ("role", "content"),
    "response": ("text", "finish", "author", "ratings"),
    "preference": ("groups", "q", "strength", "votes"),
}


def to_row(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values; from_row gives it back exactly. See from_row for the schema."""
    v = comparison.preference
    preference = {
        "groups": None if v.groups is None else [list(group) for group in v.groups],
        "q": None if v.q is None else float(v.q),
        "strength": None if v.strength is None else float(v.strength),
        "votes": None if v.votes is None else [int(count) for count in v.votes],
    }
    row = {
        "id": comparison.id,
        "group": comparison.group,
        "prompt": [{"role": m.role, "content": m.content} for m in comparison.prompt],
        "responses": [response_to_row(response) for response in comparison.responses],
        "preference": without_missing(preference),
        "annotator": comparison.annotator,
        "source": comparison.source,
        "weight": None if comparison.weight == 1.0 else float(comparison.weight),
    }
    return without_missing(row)


def from_row(row: object) -> Comparison:
    """The native row in, a Comparison out. A key marked ? may be missing or null; any other key is an error.

    {id?, group?, prompt: [{role, content}], responses: [{text, finish?, author?, ratings?: {name: number}}],
     preference: {groups: [[index, ...], ...] best first | q: P(first is better), strength?, votes?: [first, tie, second]},
     annotator?, source?, weight?}

    A prompt may be text (one user turn) and a response too. Missing id and group are computed from the content.
    """
    if isinstance(row, Mapping) and "verdict" in row and "preference" not in row:  # as 0.1 wrote it
        row = {"preference" if key == "verdict" else key: value for key, value in row.items()}
    fields = _object(row, "row", ("prompt", "responses", "preference"))
    responses = as_list(fields["responses"], "responses", "a list of two or more responses")
    return Comparison(
        prompt=prompt_from_row(fields["prompt"]),
        responses=tuple(_response(value, f"responses[{i}]") for i, value in enumerate(responses)),
        preference=_preference(fields["preference"]),
        annotator=optional_text(fields, "annotator"),
        source=optional_text(fields, "source"),
        weight=as_number(fields["weight"], "weight", "a number > 0", above=0) if "weight" in fields else 1.0,
        group=optional_text(fields, "group") or "",
        id=optional_text(fields, "id") or "",
    )


def prompt_from_row(value: object) -> Prompt:
    """A prompt from text (one user turn) or a list of messages."""
    if isinstance(value, str):
        return Prompt([Message("user", value)])
    turns = as_list(value, "prompt", "text or a list of messages")
    if not turns:
        raise field_error("prompt", "text or a list of at least one message", value)
    return Prompt(_message(turn, f"prompt[{i}]") for i, turn in enumerate(turns))


def _message(value: object, where: str) -> Message:
    fields = _object(value, "message", ("role", "content"), where)
    if fields["role"] not in get_args(Role):
        raise field_error(f"{where}.role", f"one of {', '.join(get_args(Role))}", fields["role"])
    return Message(fields["role"], as_text(fields["content"], f"{where}.content"))


def _response(value: object, where: str) -> Response:
    if isinstance(value, str):
        return Response(value)
    fields = _object(value, "response", ("text",), where)
    if fields.get("finish") not in (None, *get_args(FinishReason)):
        raise field_error(f"{where}.finish", f"{' or '.join(get_args(FinishReason))}", fields["finish"])
    ratings = fields.get("ratings", {})
    if not isinstance(ratings, Mapping):
        raise field_error(f"{where}.ratings", "an object of names and numbers", ratings)
    return Response(
        as_text(fields["text"], f"{where}.text"),
        finish=fields.get("finish"),
        author=optional_text(fields, "author", where),
        ratings={str(name): as_number(value, f"{where}.ratings.{name}") for name, value in ratings.items()},
    )


def _preference(value: object) -> Preference:
    fields = _object(value, "preference", (), "preference")
    votes = fields.get("votes")
    return Preference(
        groups=None if "groups" not in fields else _groups(fields["groups"]),
        q=as_number(fields["q"], "q", "a probability in [0, 1]", low=0, high=1) if "q" in fields else None,
        strength=as_number(fields["strength"], "strength", "a number >= 0", low=0) if "strength" in fields else None,
        votes=None if votes is None else _votes(votes),
    )


def _groups(value: object) -> tuple[tuple[int, ...], ...]:
    groups = as_list(value, "groups", "a list of lists of response numbers, best first")
    if not all(isinstance(group, list | tuple) and all(is_count(i) for i in group) for group in groups):
        raise field_error("groups", "a list of lists of response numbers, best first", value)
    return tuple(tuple(group) for group in groups)


def _votes(value: object) -> tuple[int, int, int]:
    if not (isinstance(value, list | tuple) and len(value) == 3 and all(is_count(count) for count in value)):
        raise field_error("votes", "three counts (first better, tie, second better)", value)
    return cast("tuple[int, int, int]", tuple(value))


def response_to_row(response: Response) -> dict[str, Any]:
    """The response as plain values, absent fields left out."""
    ratings = {name: float(value) for name, value in response.ratings.items()}
    row = {"text": response.text, "finish": response.finish, "author": response.author, "ratings": ratings or None}
    return without_missing(row)


def _object(value: object, kind: str, required: Sequence[str], where: str = "") -> dict[str, Any]:
    """The fields that are present and not null, checked by name."""
    if not isinstance(value, Mapping):
        raise field_error(where or "row", f"an object with {', '.join(KEYS[kind])}", value)
    dot = f"{where}." if where else ""
    for key in required:
        if value.get(key) is None:
            advice = "Import the file first." if kind == "row" else "Add it."
            raise GuerdonError(f"{dot}{key} is missing. {advice}")
    for key in value:
        if key not in KEYS[kind]:
            name = show_value(str(key), 40).strip("'")
            raise GuerdonError(f"{dot}{name} is not a known field. {did_you_mean(key, KEYS[kind])}")
    return without_missing(value)
