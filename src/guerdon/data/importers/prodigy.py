"""Prodigy: choices among options, and comparisons of two outputs, as `db-out` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from guerdon.contracts import Comparison, GuerdonError, Preference, response_identity
from guerdon.data.importers.columns import (
    Row,
    are_identical,
    join_sides,
    refuse_empty,
    required,
    required_list,
    to_comparison,
    to_prompt,
    to_response,
    whole_prompt,
)
from guerdon.errors import field_error, show_value
from guerdon.io.fields import as_name, is_absent
from guerdon.io.messages import messages_in

SIDES = ("accept", "reject")
ANNOTATORS = ("_annotator_id", "_session_id")


def from_prodigy(row: Row) -> Comparison:
    """{text, options: [{id, text}], accept: [id, ...], answer: "accept", _annotator_id}: accepted options are above the others.

    Several accepted options tie. A task that was rejected or ignored is no judgment.
    """
    if row.get("answer") != "accept":
        raise field_error("answer", "accept", row.get("answer"), "The task was not judged: drop the row.")
    options, accepted = required_list(row, "options"), required_list(row, "accept")
    if not all(isinstance(option, Mapping) and "id" in option for option in options) or len(options) < 2:
        raise field_error("options", "a list of two or more objects with id and text", options)
    ids = [str(option["id"]) for option in options]
    chosen = {str(name) for name in accepted}
    if not chosen or not chosen <= set(ids) or len(set(ids)) < len(ids):
        raise field_error(
            "accept", f"a list of ids of the options ({', '.join(show_value(name, 20) for name in ids[:8])})", accepted
        )
    value = messages_in(row["prompt"] if not is_absent(row.get("prompt")) else required(row, "text"), "text")
    given = [to_response(option.get("text"), f"options[{i}].text") for i, option in enumerate(options)]
    prompt, responses = join_sides(whole_prompt(row, to_prompt(value)), given, value)
    refuse_empty({f"options[{i}]": response for i, response in enumerate(responses)})
    if len({response_identity(response) for response in responses}) == 1:
        raise GuerdonError("options must differ, got identical ones only. Drop the row.")
    best = tuple(i for i, name in enumerate(ids) if name in chosen)
    rest = tuple(i for i, name in enumerate(ids) if name not in chosen)
    groups = (best, rest) if len(rest) == 1 else (best,)
    return to_comparison({**_names(row), **row}, prompt, tuple(responses), Preference(groups=groups))


def from_prodigy_compare(row: Row) -> Comparison:
    """{input, accept, reject: {text}, mapping: {A: "accept", B: "reject"}, answer}: `accept` is better where the answer is accept,
    and `reject` where it is reject.

    The recipe draws which output stands in which column; mapping says whose each is. A task that was ignored is no judgment.
    """
    answer = row.get("answer")
    if answer not in SIDES:
        raise field_error("answer", "accept or reject", answer, "The task was not judged: drop the row.")
    responses = {side: to_response(required(row, side), side) for side in SIDES}
    systems = row.get("mapping")
    for system, side in systems.items() if isinstance(systems, Mapping) else ():
        if isinstance(side, str) and side in responses:
            responses[side] = replace(responses[side], author=as_name(system, "mapping"))
    refuse_empty(responses)
    if are_identical(*responses.values()):
        raise GuerdonError("accept and reject must differ, got identical texts. Drop the row.")
    value = required(row, "input")
    text = messages_in(value.get("text") if isinstance(value, Mapping) else value, "input")
    prompt, sides = join_sides(whole_prompt(row, to_prompt(text)), list(responses.values()), text)
    groups = ((0,), (1,)) if answer == "accept" else ((1,), (0,))
    return to_comparison({**_names(row), **row}, prompt, tuple(sides), Preference(groups=groups))


def is_compared(row: Row) -> bool:
    """Whether a row is an answered task of two outputs."""
    return "answer" in row and not isinstance(row.get("accept"), list)


def _names(row: Row) -> dict[str, str | None]:
    """The annotator of a task, and an id of the task and the annotator."""
    annotator = next((str(row[key]) for key in ANNOTATORS if not is_absent(row.get(key))), None)
    return {
        "annotator": annotator,
        "id": "/".join(str(v) for v in (row.get("_task_hash"), annotator) if v is not None) or None,
    }


def is_prodigy(row: Row) -> bool:
    """Whether a row is an answered task with options."""
    return isinstance(row.get("options"), list) and "answer" in row
