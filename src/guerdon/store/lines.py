"""The lines of `prefs.v1.jsonl`, the store in one file: a header, then one item per line.

Header: {"format": "prefs", "version": 1, "items", "judgments", "labels", "content"}, the last the SHA-256 of all lines below
it. Item: {"id", "prompt", "tools"?, "responses", "project"?, "purpose"?, ..., "judgments": [...], "labels"?: [...]}. Items
are sorted by id, judgments and labels by their text, so the same content is the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from guerdon.contracts import GuerdonError, Preference
from guerdon.errors import did_you_mean, field_error
from guerdon.io.fields import as_list, as_number, as_text, is_count, optional_text, without_missing
from guerdon.io.schema import (
    preference_from_row,
    preference_to_row,
    prompt_from_row,
    prompt_to_row,
    response_from_row,
    response_to_row,
)
from guerdon.store.canonical import ID_LENGTH, canonical
from guerdon.store.items import ACCEPTED, ANONYMOUS, KINDS, Annotator, Item, Judgment, Label, contents_of, oriented

FORMAT: Final = "prefs"
VERSION: Final = 1
ID: Final = rf"[0-9A-Za-z-]{{1,{ID_LENGTH}}}"
DETAILS: Final = {  # what a judgment holds beyond a Comparison, and what it is where nothing is stored
    "all_bad": False, "acceptable_upto": None, "axes": None, "flags": None, "active_ms": None, "wall_ms": None,
    "late": False, "submitted_at": None, "idem_key": None, "payload_hash": None,
    "reasons": None,
}  # fmt: skip
FACTS: Final = {
    "project": "", "purpose": "task", "need": 1, "status": "open", "priority": 0, "ord": 0, "selection": None
}  # fmt: skip
CALL: Final = (
    "id", "cache_key", "run_id", "model", "purpose", "sample_ix", "request", "response_raw", "finish_reason", "attempts", "tokens_in",
    "tokens_cached", "tokens_out", "cost", "price_table", "latency_ms", "at",
)  # fmt: skip
_PREFERENCE: Final = ("groups", "q", "strength", "votes")
_JUDGMENT: Final = (
    "annotator", "shown", *_PREFERENCE, "rationale", "source", "group", "weight", "id", *DETAILS, "presentation", "call",
    "earlier",
)  # fmt: skip
_LABEL: Final = ("method", "params", *_PREFERENCE, "n_votes", "n_eff", "entropy", "status")
ITEM_KEYS: Final = ("id", "prompt", "tools", "responses", *FACTS, "judgments", "labels")


@dataclass(frozen=True, slots=True)
class Header:
    """How many of each the file holds, and the hash of its lines; None where nothing is known, in a file without a header."""

    items: int
    judgments: int
    labels: int
    content: str

    def to_row(self) -> dict[str, Any]:
        """The header's line."""
        counts = {"items": self.items, "judgments": self.judgments, "labels": self.labels}
        return {"format": FORMAT, "version": VERSION, **counts, "content": self.content}


def is_header(row: object) -> bool:
    """Whether a row is a header of any version."""
    return isinstance(row, Mapping) and row.get("format") == FORMAT and "version" in row


def header_of(row: Any) -> Header:
    """The header of a row; an error where a newer Guerdon wrote it."""
    if not isinstance(row, Mapping):
        raise field_error("header", "an object with a version", row, "Export the store again.")
    version: Any = row.get("version")
    if not is_count(version) or version < 1:
        raise field_error("version", "an integer >= 1", version, "Export the store again.")
    if version > VERSION:
        raise GuerdonError(
            f"version must be at most {VERSION}, got {version} of a newer Guerdon. Upgrade with `pip install -U guerdon`."
        )
    for name in ("items", "judgments", "labels"):
        if not is_count(row.get(name)):
            raise field_error(name, "a count", row.get(name), "Export the store again.")
    return Header(row["items"], row["judgments"], row["labels"], as_text(row.get("content"), "content"))


def is_item(row: Mapping[str, Any]) -> bool:
    """Whether a row is an item: it has responses, and judgments or labels of them. Labels by name are Potato's."""
    judged = (value for name in ("judgments", "labels") if (value := row.get(name)) is not None)
    return row.get("responses") is not None and any(not isinstance(value, Mapping) for value in judged)


def from_cells(row: Any) -> Any:
    """The row; of Parquet, whose cells hold JSON text, with the values in place of their text."""
    if not isinstance(row, Mapping) or not isinstance(row.get("responses"), str):
        return row
    try:
        return {name: json.loads(cell) for name, cell in row.items() if cell is not None}
    except (TypeError, ValueError, RecursionError):
        raise field_error("row", "an item whose cells are JSON text", row, "Export the store again.") from None


# ---- Items out -----------------------------------------------------------------------------------------------------


def item_to_row(item: Item, item_id: str) -> dict[str, Any]:
    """The item's line."""
    judgments = sorted((_judgment_to_row(judgment) for judgment in item.judgments), key=canonical)
    labels = sorted((_label_to_row(label) for label in item.labels), key=canonical)
    return {
        "id": item_id,
        **prompt_to_row(item.prompt),
        "responses": [response_to_row(response) for response in item.responses],
        **_not_default(item.facts, FACTS),
        "judgments": judgments,
        **({"labels": labels} if labels else {}),
    }


def _judgment_to_row(judgment: Judgment) -> dict[str, Any]:
    annotator = judgment.annotator
    named = {"kind": annotator.kind, "name": annotator.name, "fingerprint": annotator.fingerprint}
    row = {
        "annotator": without_missing(named),
        "shown": list(judgment.shown),
        **preference_to_row(judgment.preference),
        "rationale": judgment.rationale,
        "source": judgment.source,
        "group": judgment.group,
        "weight": None if judgment.weight == 1.0 else float(judgment.weight),
        "id": judgment.comparison_id,
        **_not_default(judgment.details, DETAILS),
        "presentation": judgment.presentation,
        "call": None if judgment.call is None else without_missing(judgment.call),
        "earlier": [_judgment_to_row(earlier) for earlier in judgment.earlier] or None,
    }
    return without_missing(row)


def _label_to_row(label: Label) -> dict[str, Any]:
    row = {
        "method": label.method,
        "params": dict(label.params) or None,
        **preference_to_row(label.preference),
        "n_votes": label.n_votes,
        "n_eff": label.n_eff,
        "entropy": label.entropy,
        "status": None if label.status == ACCEPTED else label.status,
    }
    return without_missing(row)


def _not_default(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in defaults if values.get(name, defaults[name]) != defaults[name]}


# ---- Items in ------------------------------------------------------------------------------------------------------


def item_from_row(row: object) -> Item:
    """The item of a line; an error names the field. Its id is computed anew, and its responses are brought into order."""
    fields = _fields(row, "", ITEM_KEYS, ("prompt", "responses"))
    responses = as_list(fields["responses"], "responses", "a list of two or more responses")
    if len(responses) < 2:
        raise field_error("responses", "a list of two or more responses", responses)
    size = len(responses)
    judgments = as_list(fields.get("judgments", ()), "judgments", "a list of judgments")
    labels = as_list(fields.get("labels", ()), "labels", "a list of labels")
    item = Item(
        prompt_from_row(fields["prompt"], fields.get("tools")),
        tuple(response_from_row(value, f"responses[{i}]") for i, value in enumerate(responses)),
        tuple(_judgment(value, f"judgments[{i}]", size) for i, value in enumerate(judgments)),
        tuple(_label(value, f"labels[{i}]", size) for i, value in enumerate(labels)),
        _facts(fields),
    )
    return _in_order(item)


def _facts(fields: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("project", "purpose", "status"):
        optional_text(fields, name)
    for name in ("need", "priority", "ord"):
        if name in fields and (isinstance(fields[name], bool) or not isinstance(fields[name], int)):
            raise field_error(name, "an integer", fields[name])
    return _not_default(fields, FACTS)


def _judgment(value: object, where: str, size: int) -> Judgment:
    fields = _fields(value, where, _JUDGMENT, ("annotator",))
    shown = fields.get("shown", list(range(size)))
    if not isinstance(shown, list | tuple) or sorted(map(str, shown)) != sorted(map(str, range(size))):
        raise field_error(f"{where}.shown", f"the numbers 0 to {size - 1} in the order shown", shown)
    call = fields.get("call")
    if call is not None:
        call = _fields(call, f"{where}.call", CALL, ("id", "cache_key", "request", "response_raw"))
    for name, key in (("presentation", fields.get("presentation")), ("call.id", call and call["id"])):
        if key is not None and not (isinstance(key, str) and re.fullmatch(ID, key)):
            raise field_error(f"{where}.{name}", f"an id of at most {ID_LENGTH} letters and digits", key)
    earlier = as_list(fields.get("earlier", ()), f"{where}.earlier", "a list of judgments")
    return Judgment(
        _annotator(fields["annotator"], f"{where}.annotator"),
        tuple(shown),
        _preference(fields, where, size),
        rationale=optional_text(fields, "rationale", where),
        source=optional_text(fields, "source", where),
        group=optional_text(fields, "group", where),
        weight=as_number(fields.get("weight", 1.0), f"{where}.weight", above=0),
        comparison_id=optional_text(fields, "id", where),
        details=_not_default(fields, DETAILS),
        presentation=optional_text(fields, "presentation", where),
        call=call,
        earlier=tuple(_judgment(each, f"{where}.earlier[{i}]", size) for i, each in enumerate(earlier)),
    )


def _annotator(value: object, where: str) -> Annotator:
    fields = _fields(value, where, ("kind", "name", "fingerprint"), ())
    kind = fields.get("kind", ANONYMOUS)
    if kind not in KINDS:
        raise field_error(f"{where}.kind", f"one of {', '.join(KINDS)}", kind)
    return Annotator(kind, optional_text(fields, "name", where), optional_text(fields, "fingerprint", where))


def _label(value: object, where: str, size: int) -> Label:
    fields = _fields(value, where, _LABEL, ("method", "n_votes"))
    params = fields.get("params", {})
    if not isinstance(params, Mapping):
        raise field_error(f"{where}.params", "an object", params)
    if not is_count(fields["n_votes"]) or fields["n_votes"] < 1:
        raise field_error(f"{where}.n_votes", "a count >= 1", fields["n_votes"])
    numbers = {
        name: as_number(fields[name], f"{where}.{name}") if name in fields else None for name in ("n_eff", "entropy")
    }
    return Label(
        as_text(fields["method"], f"{where}.method"),
        dict(params),
        _preference(fields, where, size),
        fields["n_votes"],
        **numbers,
        status=optional_text(fields, "status", where) or ACCEPTED,
    )


def _preference(fields: Mapping[str, Any], where: str, size: int) -> Preference:
    """The preference, which must be one of that many responses."""
    try:
        preference = preference_from_row({name: fields[name] for name in _PREFERENCE if name in fields})
    except GuerdonError as error:
        raise GuerdonError(f"{where}: {error}") from None
    if any(i >= size for group in preference.groups or () for i in group):
        raise field_error(f"{where}.groups", f"lists of the numbers 0 to {size - 1}", preference.groups)
    if size > 2 and (preference.q is not None or preference.votes is not None):
        raise field_error(where, "a ranking in groups, for more than two responses", dict(fields))
    return preference


def _in_order(item: Item) -> Item:
    """The item with its responses sorted by id, and everything that numbers them renumbered."""
    prompt, *responses = contents_of(item.prompt, item.responses)
    order = sorted(range(len(responses)), key=lambda i: responses[i].id)
    contents = (prompt, *(responses[i] for i in order))
    if order == list(range(len(order))):
        return replace(item, contents=contents)
    position = [order.index(i) for i in range(len(order))]

    def moved(judgment: Judgment) -> Judgment:
        shown = tuple(position[i] for i in judgment.shown)
        return replace(judgment, shown=shown, earlier=tuple(map(moved, judgment.earlier)))

    return replace(
        item,
        responses=tuple(item.responses[i] for i in order),
        judgments=tuple(map(moved, item.judgments)),
        labels=tuple(replace(label, preference=oriented(label.preference, position)) for label in item.labels),
        contents=contents,
    )


def _fields(value: object, where: str, known: Sequence[str], required: Sequence[str]) -> dict[str, Any]:
    """The fields that are not null, checked by name."""
    if not isinstance(value, Mapping):
        raise field_error(where or "row", f"an object with {', '.join(known[:6])}", value)
    dot = f"{where}." if where else ""
    for key in required:
        if value.get(key) is None:
            raise GuerdonError(f"{dot}{key} is missing. Add it, or export the store again.")
    for key in value:
        if key not in known:
            raise GuerdonError(f"{dot}{str(key)[:40]} is not a known field. {did_you_mean(str(key), known)}")
    return without_missing(value)
