"""Prodigy: choices among options, as `db-out` writes them."""

from __future__ import annotations

from collections.abc import Mapping

from guerdon.contracts import Comparison, GuerdonError, Preference, response_identity
from guerdon.data.importers.columns import (
    Row,
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
from guerdon.io.fields import is_absent
from guerdon.io.messages import messages_in

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
    annotator = next((str(row[key]) for key in ANNOTATORS if not is_absent(row.get(key))), None)
    names = {
        "annotator": annotator,
        "id": "/".join(str(v) for v in (row.get("_task_hash"), annotator) if v is not None) or None,
        **row,
    }
    return to_comparison(names, prompt, tuple(responses), Preference(groups=groups))


def is_prodigy(row: Row) -> bool:
    """Whether a row is an answered task with options."""
    return isinstance(row.get("options"), list) and "answer" in row
