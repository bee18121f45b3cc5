"""Replies that come with their ranks: Nectar and NeMo-RL."""

from __future__ import annotations

import re
from collections.abc import Mapping

from guerdon.contracts import Comparison, Response
from guerdon.data.importers.columns import (
    Row,
    required,
    required_list,
    to_comparison,
    to_prompt,
    to_response,
    whole_prompt,
)
from guerdon.data.importers.judged_columns import preference_of, strength_of
from guerdon.data.importers.rankings import drawn_order, kept, ranked
from guerdon.data.importers.reading import Reading
from guerdon.errors import field_error
from guerdon.io.fields import as_name, as_text, is_absent, to_number

MARKED = "replies left out because they hold a role mark such as Human"
_ROLE_MARK = re.compile(r"^\s*(?:Human|Assistant):", re.MULTILINE)


def from_nectar(row: Row, reading: Reading) -> Comparison:
    """{prompt: transcript, answers: [{answer, model, rank}]}: rank 1 is best; equal ranks tie.

    Replies in which the model went on to write the user's turn are left out. The file lists replies from the best to the
    worst; the order here is drawn.
    """
    prompt = to_prompt(as_text(required(row, "prompt"), "prompt"))
    values = required_list(row, "answers")
    given = kept([_answer(value, f"answers[{i}]") for i, value in enumerate(values)], reading)
    replies = [reply for reply in given if not _ROLE_MARK.search(reply[0].text)]
    for _ in range(len(given) - len(replies)):
        reading.note(MARKED)
    if len(replies) < 2:
        claim = "a list of two or more that are not empty and hold no role mark"
        raise field_error("answers", claim, f"{len(replies)} of {len(values)}", "Drop the row.")
    responses, scores = zip(*drawn_order(prompt, replies), strict=True)
    sources = row.get("source")
    source = sources[0] if isinstance(sources, list | tuple) and len(sources) == 1 else sources
    return ranked({"annotator": "gpt-4", **row, "source": source}, prompt, responses, scores)


def have_ranks(row: Row) -> bool:
    """Whether the answers of a row have ranks."""
    return _have(row.get("answers"), "rank")


def _answer(value: object, field: str) -> tuple[Response, float]:
    if not isinstance(value, Mapping):
        raise field_error(field, "an object with answer and rank", value)
    rank = to_number(value.get("rank"), f"{field}.rank", "a number")
    author = None if is_absent(value.get("model")) else as_name(value["model"], f"{field}.model")
    return Response(as_text(value.get("answer"), f"{field}.answer"), author=author), -rank


def from_nemo_rl(row: Row) -> Comparison:
    """{context: [messages], completions: [{rank, completion: [messages]}], tools?, p_chosen?}: rank 0 is best; equal ranks tie.

    p_chosen, which our exports write, is P(the completion of the lower rank is better) of two.
    """
    prompt = whole_prompt(row, to_prompt(required(row, "context")))
    values = required_list(row, "completions")
    replies = [_reply(value, f"completions[{i}]") for i, value in enumerate(values)]
    responses, scores = [response for response, _ in replies], [-rank for _, rank in replies]
    comparison = ranked(row, prompt, responses, scores, strength_of(row))
    if len(replies) != 2 or is_absent(row.get("p_chosen")):
        return comparison
    return to_comparison(row, prompt, comparison.responses, preference_of(row, scores[0] >= scores[1]))


def are_ranked(row: Row) -> bool:
    """Whether the completions of a row have ranks."""
    return _have(row.get("completions"), "rank")


def _have(values: object, key: str) -> bool:
    objects = values if isinstance(values, list | tuple) else ()
    return bool(objects) and all(isinstance(value, Mapping) and key in value for value in objects)


def _reply(value: object, field: str) -> tuple[Response, float]:
    if not isinstance(value, Mapping) or value.get("completion") is None:
        raise field_error(field, "an object with rank and completion", value)
    return to_response(value["completion"], f"{field}.completion"), to_number(
        value.get("rank"), f"{field}.rank", "a number"
    )
