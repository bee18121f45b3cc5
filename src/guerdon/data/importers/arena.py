"""Chatbot Arena and MT-Bench: two models answer a person, who votes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from guerdon.contracts import Comparison, GuerdonError, Preference
from guerdon.data.importers.columns import Row, required, to_comparison
from guerdon.data.importers.pairs import prompt_and_responses
from guerdon.data.importers.reading import Reading
from guerdon.errors import LabelError, field_error
from guerdon.io.fields import as_name, as_text, is_absent, is_count, to_number
from guerdon.io.messages import messages_in

CONVERSATIONS = ("conversation_a", "conversation_b")
WINNERS = {"winner_model_a": ((0,), (1,)), "winner_model_b": ((1,), (0,)), "winner_tie": ((0, 1),)}
BOTH_BAD = "votes that both responses are bad, read as ties"


def from_arena(row: Row, reading: Reading) -> Comparison:
    """{model_a, model_b, winner, conversation_a: [messages], conversation_b, judge?, turn?}: the 33k and the 140k of Chatbot
    Arena, and MT-Bench's judgments, in which `turn` names the turn that was judged, where later ones follow.

    A conversation in which the models answered an earlier question differently has no common prompt and is refused.
    """
    turns = {key: _until(messages_in(required(row, key), key), row.get("turn")) for key in CONVERSATIONS}
    winner = required(row, "winner")
    preference = reading.label(winner, "winner")
    if isinstance(winner, str) and "bad" in winner.casefold():
        reading.note(BOTH_BAD)
    return _compared(row, turns, preference)


def labels_of_arena(row: Row) -> list[object]:
    """The vote of a row."""
    return [row.get("winner")]


def from_arena_lists(row: Row) -> Comparison:
    """{model_a, model_b, prompt: JSON list of questions, response_a: JSON list of answers, response_b, winner_model_a,
    winner_model_b, winner_tie}: the 55k of Chatbot Arena. An answer may be null; its row is refused.
    """
    questions = _texts(row, "prompt")
    turns = {}
    for key, column in zip(CONVERSATIONS, ("response_a", "response_b"), strict=True):
        answers = _texts(row, column)
        if len(answers) != len(questions):
            raise field_error(column, f"a list of {len(questions)} answers, one for each question", answers)
        both = zip(questions, answers, strict=True)
        turns[key] = [
            {"role": role, "content": text}
            for pair in both
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
    return _compared(row, turns, _winner(row))


def _compared(row: Row, turns: dict[str, Any], preference: Preference) -> Comparison:
    context = {key: row.get(key) for key in ("system", "tools")}
    prompt, *responses = prompt_and_responses({**context, **turns}, *CONVERSATIONS)
    signed = tuple(
        response if is_absent(row.get(key)) else replace(response, author=as_name(row[key], key))
        for response, key in zip(responses, ("model_a", "model_b"), strict=True)
    )
    names = {} if is_absent(row.get("judge")) else {"annotator": as_name(row["judge"], "judge")}
    return to_comparison({**names, **row}, prompt, signed, preference)


def _until(turns: Any, turn: object) -> Any:
    """The conversation up to the answer to the question of this number; all of it where there is none."""
    if not isinstance(turns, list | tuple) or not is_count(turn) or not turn:
        return turns
    ends = [i for i, message in enumerate(turns) if isinstance(message, dict) and message.get("role") == "assistant"]
    return turns[: ends[int(str(turn)) - 1] + 1] if int(str(turn)) < len(ends) else turns


def _texts(row: Row, key: str) -> list[str]:
    value = required(row, key)
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise field_error(key, "a list of texts as JSON", value) from None
    if not isinstance(value, list | tuple) or not value:
        raise field_error(key, "a list of at least one text", value)
    return [as_text(text, f"{key}[{i}]") for i, text in enumerate(value)]


def _winner(row: Row) -> Preference:
    """The preference; marks that do not name one winner are an error of the file."""
    try:
        marks = {key: to_number(required(row, key), key, "0 or 1") for key in WINNERS}
    except GuerdonError as error:
        raise LabelError(str(error)) from None
    if sorted(marks.values()) != [0, 0, 1]:
        values = tuple(f"{value:g}" for value in marks.values())
        advice = "Correct the row: if only it were left out, the others could favor one side."
        raise LabelError(str(field_error(", ".join(WINNERS), "one 1 and two 0", ", ".join(values), advice)))
    return Preference(groups=next(groups for key, groups in WINNERS.items() if marks[key] == 1))
