"""One response per row, labeled good or bad, as KTO trainers take them: the rows of a prompt are one comparison."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Preference,
    Prompt,
    Response,
    digest,
    prompt_identity,
    response_digest,
)
from guerdon.conversation import prompt_digest
from guerdon.data.importers.columns import (
    OWN,
    Row,
    join_sides,
    refuse_empty,
    required,
    to_comparison,
    to_prompt,
    to_response,
    whole_prompt,
)
from guerdon.data.importers.pairs import to_pair
from guerdon.errors import counted, field_error
from guerdon.io.messages import messages_in, to_messages

PROMPTS = ("prompt", "instruction", "query", "question")
RESPONSES = ("completion", "output", "response")
CONVERSATIONS = ("messages", "conversations")
LABELS = ("label", "kto_tag")
UNPAIRED_COLUMNS = (*PROMPTS, *RESPONSES, *CONVERSATIONS, *LABELS, "input")
WORDS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True, slots=True)
class _Labeled:
    """One row: its prompt, its response and whether that is good."""

    prompt: Prompt
    response: Response
    is_good: bool


def from_unpaired(row: Row) -> Comparison:
    """{prompt, completion, label: true or false} per row, or messages, or instruction, input, output and kto_tag.

    The responses of a prompt are ranked by the share of their labels that are true; those with the same share tie. A prompt
    whose responses all have one label has no comparison. With one response of each kind, the order is drawn as in from_trl.
    """
    rows: Sequence[Row] = row["rows"]
    labeled = [_labeled(each) for each in rows]
    labels: dict[str, list[bool]] = {}
    responses: dict[str, Response] = {}
    for each in labeled:
        key = response_digest(each.response)
        responses.setdefault(key, each.response)
        labels.setdefault(key, []).append(each.is_good)
    prompt = labeled[0].prompt
    shares = {key: sum(given) / len(given) for key, given in labels.items()}
    if len(set(shares.values())) == 1:
        raise _one_kind(len(responses), labeled[0].is_good if set(shares.values()) <= {0.0, 1.0} else None)
    names = {key: rows[0][key] for key in OWN if key in rows[0] and all(each.get(key) == rows[0][key] for each in rows)}
    if len(responses) == 2:
        best, worst = sorted(shares, key=shares.__getitem__, reverse=True)
        return to_pair(names, prompt, responses[best], responses[worst])
    order = sorted(responses, key=lambda key: digest([prompt_digest(prompt), key]))
    levels = sorted(set(shares.values()), reverse=True)
    groups = tuple(tuple(i for i, key in enumerate(order) if shares[key] == level) for level in levels)
    return to_comparison(names, prompt, tuple(responses[key] for key in order), Preference(groups=groups))


def is_unpaired(row: Row) -> bool:
    """Whether a row has a single response and a label that is true or false."""
    label = _first(row, LABELS)
    if label is None or any(name in row for name in ("chosen", "first", "responses", "rejected", "rejected_response")):
        return False
    if _first(row, CONVERSATIONS) is not None and _first(row, ("completion",)) is None:
        return isinstance(label, bool) or "kto_tag" in row or str(label).strip().casefold() in ("true", "false")
    is_flag = isinstance(label, bool) or str(label).strip().casefold() in WORDS
    has_tag = "kto_tag" in row or _first(row, ("completion",)) is not None or isinstance(label, bool)
    return is_flag and has_tag and _first(row, RESPONSES) is not None


def prompt_of_unpaired(row: Row) -> Hashable:
    """What the rows of a prompt share."""
    return prompt_identity(_labeled(row).prompt)


def _one_kind(count: int, is_good: bool | None) -> GuerdonError:
    kind = "both for each" if is_good is None else f"only {str(is_good).lower()}"
    responses = f"{counted(count, 'response')} of the prompt"
    return GuerdonError(
        f"label must be true for one response of a prompt and false for another, got {kind} ({responses}). "
        "Add a response of the other kind, or drop the row."
    )


def _labeled(row: Row) -> _Labeled:
    labeled = _of_row(row)
    refuse_empty({"completion": labeled.response})
    return labeled


def _of_row(row: Row) -> _Labeled:
    is_good = _is_good(row)
    whole = _first(row, CONVERSATIONS)
    completion = messages_in(_first(row, RESPONSES), "completion")
    if completion is None and whole is not None:
        turns = to_messages(messages_in(whole, "messages"), "messages")
        start = max((i + 1 for i, turn in enumerate(turns) if turn.role == "user"), default=0)
        if not 0 < start < len(turns):
            raise field_error("messages", "a conversation that ends with the assistant's turn", whole)
        return _Labeled(whole_prompt(row, turns[:start]), Response(messages=tuple(turns[start:])), is_good)
    if completion is None:
        required(row, "completion")
    value = messages_in(_prompt_value(row, whole), "prompt")
    if value is None:
        return _implicit(row, completion, is_good)
    prompt, (response,) = join_sides(whole_prompt(row, to_prompt(value)), [to_response(completion, "completion")])
    return _Labeled(prompt, response, is_good)


def _implicit(row: Row, completion: Any, is_good: bool) -> _Labeled:
    """A completion that is the whole conversation."""
    if not isinstance(completion, list) or len(completion) < 2:
        required(row, "prompt")
    return _labeled({**{k: v for k, v in row.items() if k not in RESPONSES}, "messages": completion, "label": is_good})


def _prompt_value(row: Row, whole: Any) -> Any:
    value = _first(row, PROMPTS)
    extra = row.get("input")
    if row.get("prompt") is None and isinstance(value, str) and isinstance(extra, str) and extra.strip():
        return f"{value}\n{extra}" if value.strip() else extra
    return whole if value is None else value


def _is_good(row: Row) -> bool:
    name = next((name for name in LABELS if row.get(name) is not None), "label")
    label = required(row, name)
    if isinstance(label, bool):
        return label
    good = WORDS.get(str(label).strip().casefold())
    if good is None:
        raise field_error(name, "true or false", label)
    return good


def _first(row: Row, names: Sequence[str]) -> Any:
    """The value of the first of these columns that has one; "" where all are empty or absent, of which one is empty."""
    values = [row[name] for name in names if row.get(name) is not None]
    return next((value for value in values if value != ""), values[0] if values else None)
