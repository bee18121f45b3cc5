"""Contracts as plain dicts and back: the rows of comparisons, prompts and responses. No other file knows their keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, cast, get_args

from guerdon.contracts import (
    WEIGHT_CLAIM,
    WEIGHTS,
    Comparison,
    FinishReason,
    GuerdonError,
    Message,
    Preference,
    Prompt,
    Response,
    Role,
    as_message,
    digest,
    digest_all,
)
from guerdon.conversation import check_tool_turns, message_dict
from guerdon.errors import did_you_mean, field_error, show_value
from guerdon.io.fields import as_list, as_number, as_text, is_count, optional_text, without_missing
from guerdon.io.messages import messages_in, to_messages

Parsed = TypeVar("Parsed")

KEYS: Mapping[str, tuple[str, ...]] = {
    "row": ("id", "group", "prompt", "tools", "responses", "preference", "annotator", "source", "weight", "rationale"),
    "message": ("role", "content", "tool_calls", "tool_call_id", "name"),
    "response": ("text", "finish", "author", "ratings", "messages"),
    "preference": ("groups", "q", "strength", "votes"),
}


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that could not be used: its location, the reason with advice, and the row as it was."""

    place: str
    reason: str
    row: object


def parse_row(place: str, row: Any, parse: Callable[[Any], Parsed]) -> Parsed:
    """parse(row); its error, or the reason of a row that could not be read, names the place."""
    if isinstance(row, Rejected):
        raise GuerdonError(f"{row.place}: {row.reason}")
    try:
        return parse(row)
    except GuerdonError as error:
        raise GuerdonError(f"{place}: {error}") from None


# ---- Comparisons ---------------------------------------------------------------------------------------------------


def at_location(location: str, comparison: Comparison) -> Comparison:
    """The comparison, whose prompt has the location of its row: errors about its texts name it."""
    return replace(comparison, prompt=comparison.prompt.at(location))


def comparison_to_row(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values, absent fields left out; `comparison_from_row` gives it back exactly."""
    row = {
        "id": comparison.id,
        "group": comparison.group,
        **prompt_to_row(comparison.prompt),
        "responses": [response_to_row(response) for response in comparison.responses],
        "preference": preference_to_row(comparison.preference),
        "annotator": comparison.annotator,
        "source": comparison.source,
        "weight": None if comparison.weight == 1.0 else float(comparison.weight),
        "rationale": comparison.rationale,
    }
    return without_missing(row)


def preference_to_row(preference: Preference) -> dict[str, Any]:
    """The preference as plain values, absent fields left out."""
    judged = {
        "groups": None if preference.groups is None else [list(group) for group in preference.groups],
        "q": None if preference.q is None else float(preference.q),
        "strength": None if preference.strength is None else float(preference.strength),
        "votes": None if preference.votes is None else [int(count) for count in preference.votes],
    }
    return without_missing(judged)


def comparisons_digest(comparisons: Iterable[Comparison]) -> str:
    """A hash of the comparisons, in order, by everything that their rows hold."""
    return digest_all(digest(comparison_to_row(comparison)) for comparison in comparisons)


def comparison_from_row(row: object) -> Comparison:
    """A Comparison from its native row. A key marked ? may be missing or null; any other key is an error.

    {id?, group?, prompt: [message], tools?: [JSON text],
     responses: [{text, finish?, author?, ratings?: {name: number}} or {messages: [message], finish?, ...}],
     preference: {groups: [[index, ...], ...] best first | q: P(first is better), strength?, votes?: [first, tie, second]},
     annotator?, source?, weight?, rationale?}
    message: {role, content, tool_calls?: [{id?, type, function: {name, arguments: JSON text}}], tool_call_id?, name?}

    A prompt may be text (one user turn), and a response may be text or a list of messages. Missing id and group are
    computed from the content. The key `verdict`, as 0.1 wrote it, is read as `preference`.
    """
    if isinstance(row, Mapping) and "verdict" in row and "preference" not in row:
        row = {"preference" if key == "verdict" else key: value for key, value in row.items()}
    fields = _object(row, "row", ("prompt", "responses", "preference"))
    responses = as_list(fields["responses"], "responses", "a list of two or more responses")
    return Comparison(
        prompt=prompt_from_row(fields["prompt"], fields.get("tools")),
        responses=tuple(response_from_row(value, f"responses[{i}]") for i, value in enumerate(responses)),
        preference=preference_from_row(fields["preference"]),
        annotator=optional_text(fields, "annotator"),
        source=optional_text(fields, "source"),
        weight=as_number(fields.get("weight", 1.0), "weight", WEIGHT_CLAIM, low=WEIGHTS[0], high=WEIGHTS[1]),
        group=optional_text(fields, "group") or "",
        id=optional_text(fields, "id") or "",
        rationale=optional_text(fields, "rationale"),
    )


def preference_from_row(value: object) -> Preference:
    """A preference from what `preference_to_row` gives."""
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


# ---- Prompts and responses -----------------------------------------------------------------------------------------


def conversation_from_row(place: str, row: Any) -> tuple[Prompt, list[Response], bool]:
    """The prompt of a row to be scored, its responses, and whether the row has a single one; errors name the place.

    Messages may have keys that ours have not, as in an import; a field that is null is absent.
    """
    prompt, responses, is_single = parse_row(place, row, _conversation)
    return prompt.at(place), responses, is_single


def _conversation(row: Any) -> tuple[Prompt, list[Response], bool]:
    advice = "Give prompt and response, prompt and responses, or messages that end with an assistant turn."
    row = without_missing(row) if isinstance(row, Mapping) else row
    if isinstance(row, Mapping) and "messages" in row:
        turns = in_context(row, _imported_prompt(row["messages"], row.get("tools")))
        if turns[-1].role != "assistant" or len(turns) < 2:
            raise field_error("messages", "at least two turns, the last an assistant's", turns[-1].role, advice)
        return turns[:-1], [Response(messages=turns[-1:])], True
    if not isinstance(row, Mapping) or "prompt" not in row or not {"response", "responses"} & set(row):
        raise field_error("row", "an object with prompt and response", row, advice)
    if {"response", "responses"} <= set(row):
        raise field_error("row", "an object with response or responses, not both", row, "Leave one out.")
    prompt = in_context(row, _imported_prompt(row["prompt"], row.get("tools")))
    if "response" in row:
        return prompt, [_imported_response(row["response"], "response")], True
    values = as_list(row["responses"], "responses", "a list of texts")
    responses = [_imported_response(value, f"responses[{i}]") for i, value in enumerate(values)]
    return prompt, responses, False


def _imported_prompt(value: object, tools: object) -> Prompt:
    """A prompt in any form that an import reads: text, messages of other programs, or such messages as text."""
    value = messages_in(value, "prompt")
    if isinstance(value, str):
        return prompt_from_row(value, tools)
    prompt = Prompt(to_messages(value, "prompt"), tools_from_row(tools))
    check_tool_turns(prompt)
    return prompt


def _imported_response(value: object, where: str) -> Response:
    if isinstance(value, list | tuple):
        return Response(messages=tuple(to_messages(value, where)))
    return response_from_row(value, where)


def prompt_to_row(prompt: Prompt) -> dict[str, Any]:
    """The fields `prompt` and, where it has any, `tools` of a row."""
    row: dict[str, Any] = {"prompt": [_message_to_row(message) for message in prompt]}
    return row | ({"tools": list(prompt.tools)} if prompt.tools else {})


def prompt_from_row(value: object, tools: object = None) -> Prompt:
    """A prompt from text (one user turn) or a list of messages, and its tools."""
    if isinstance(value, str):
        return Prompt([Message("user", value)], tools_from_row(tools))
    turns = as_list(value, "prompt", "text or a list of messages")
    if not turns:
        raise field_error("prompt", "text or a list of at least one message", value)
    prompt = Prompt((_message(turn, f"prompt[{i}]") for i, turn in enumerate(turns)), tools_from_row(tools))
    check_tool_turns(prompt)
    return prompt


def in_context(row: Mapping[str, Any], prompt: Prompt) -> Prompt:
    """The prompt behind the columns `system` and `history` of its row, where the row has them.

    history: messages, or pairs of what the user and the assistant said. Two different system messages are an error.
    """
    system = row.get("system")
    if system is not None and not isinstance(system, str):
        raise field_error("system", "text", system)
    whole = Prompt(_history(row.get("history")), prompt.tools) + prompt
    if not system or not system.strip():
        return whole
    if not whole or whole[0].role != "system":
        return Prompt((Message("system", system), *whole), prompt.tools)
    if whole[0].content.strip() != system.strip():
        raise field_error(
            "system", "the system message of the prompt, which has one", system, "Leave one of the two out."
        )
    return whole


def _history(value: object) -> Prompt:
    if value is None or value in ("", [], ()):
        return Prompt()
    turns = as_list(value, "history", _HISTORY)
    if all(isinstance(turn, Mapping) for turn in turns):
        return to_messages(turns, "history")
    if not all(_is_pair_of_texts(turn) for turn in turns):
        raise field_error("history", _HISTORY, value)
    return Prompt(Message(role, text) for pair in turns for role, text in zip(("user", "assistant"), pair, strict=True))


_HISTORY = "a list of messages, or of pairs of a question and its answer"


def _is_pair_of_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(text, str) for text in value)


def tools_from_row(value: object) -> Sequence[Any]:
    """The definitions in a `tools` field: a list of objects or JSON texts, or such a list as JSON text; empty where null."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError:
            raise field_error("tools", "a list of tools, or one as JSON text", value) from None
    return as_list(value or (), "tools", "a list of tools, or one as JSON text")


def response_to_row(response: Response) -> dict[str, Any]:
    """The response as plain values, absent fields left out; several messages stand in place of their text."""
    row = {
        "text": None if response.messages else response.text,
        "finish": response.finish,
        "author": response.author,
        "ratings": {name: float(value) for name, value in response.ratings.items()} or None,
        "messages": [_message_to_row(message) for message in response.messages] or None,
    }
    return without_missing(row)


def response_from_row(value: object, where: str) -> Response:
    """A response from text, from a list of messages, or from what `response_to_row` gives."""
    if isinstance(value, str):
        return Response(value)
    if isinstance(value, dict) and value.keys() == {"text"} and isinstance(value["text"], str):
        return Response(value["text"])  # as nearly all are: what follows takes ten times as long
    fields = _object({"messages": value} if isinstance(value, list | tuple) else value, "response", (), where)
    if "text" not in fields and "messages" not in fields:
        raise GuerdonError(f"{where}.text is missing. Add it.")
    if fields.get("finish") not in (None, *get_args(FinishReason)):
        raise field_error(f"{where}.finish", f"{' or '.join(get_args(FinishReason))}", fields["finish"])
    ratings = fields.get("ratings", {})
    if not isinstance(ratings, Mapping):
        raise field_error(f"{where}.ratings", "an object of names and numbers", ratings)
    turns = as_list(fields.get("messages", ()), f"{where}.messages", "a list of messages")
    messages = tuple(_message(turn, f"{where}.messages[{i}]") for i, turn in enumerate(turns))
    try:
        return Response(
            as_text(fields.get("text", ""), f"{where}.text"),
            finish=fields.get("finish"),
            author=optional_text(fields, "author", where),
            ratings={str(name): as_number(value, f"{where}.ratings.{name}") for name, value in ratings.items()},
            messages=messages,
        )
    except GuerdonError as error:
        raise error if str(error).startswith(where) else GuerdonError(f"{where}: {error}") from None


def _message_to_row(message: Message) -> dict[str, Any]:
    """OpenAI's shape, the arguments of calls as JSON text, so that a column has one type in Parquet."""
    row = message_dict(message)
    for call, written in zip(message.tool_calls, row.get("tool_calls", ()), strict=True):
        written["function"]["arguments"] = call.arguments
    return row


_ROLES: Final = get_args(Role)


def _message(value: object, where: str) -> Message:
    if isinstance(value, dict) and value.keys() == {"role", "content"} and isinstance(value["content"], str):
        if value["role"] in _ROLES:
            return Message(value["role"], value["content"])  # as nearly all are: what follows takes three times as long
    fields = _object(value, "message", ("role",), where)
    if fields["role"] not in _ROLES:
        raise field_error(f"{where}.role", f"one of {', '.join(_ROLES)}", fields["role"])
    return as_message(fields, where)


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
