"""Potato: pairwise annotations as its exporters write them, with the texts of the item in the same row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guerdon.contracts import Comparison, Preference
from guerdon.data.importers.answers import Answer, Answers, compare
from guerdon.data.importers.columns import Row, list_in
from guerdon.data.importers.reading import Reading
from guerdon.io.fields import to_number

ENDS = ("selection", "scale_value", "justification")


def from_potato(row: Row, reading: Reading) -> Comparison | Sequence[Comparison]:
    """{instance_id, user_id, labels: {scheme: {selection: "A"}}} with the item's texts, the flat form, or {chosen: "A", prompt}.

    selection is A, B or tie; scale_value is negative where the first is better, and its size is the strength; of several dimensions
    one is taken with --column label=scheme.dimension. The exports hold no texts: --items names the file that has them.
    """
    return compare(row, reading)


def is_potato(row: Row) -> bool:
    """Whether a row is an annotation of Potato: labels by scheme, columns such as preference.selection, or a letter as chosen."""
    if "instance_id" not in row:
        return False
    if isinstance(row.get("labels"), Mapping) or row.get("chosen") in ("A", "B"):
        return True
    return "user_id" in row


def unfold_potato(row: Row) -> dict[str, Any]:
    """The texts of the item as columns, and the answers as {scheme} or {scheme}.{dimension}."""
    annotator = row.get("user_id", row.get("annotator"))
    labels = row.get("labels")
    flat = _of_labels(labels) if isinstance(labels, Mapping) else _of_columns(row)
    if row.get("chosen") in ("A", "B"):
        flat["chosen"] = row["chosen"]
    texts = {
        name: value
        for name, value in row.items()
        if name not in ("labels", "spans", "links", "user_id", "annotator", "instance_id", "chosen")
        and name not in flat
    }
    item = row.get("instance_id")
    unfolded = {**texts, "id": item if annotator is None else f"{item}/{annotator}", "annotator": annotator}
    for name, value in flat.items():
        scheme, _, end = name.rpartition(".")
        short = scheme if end in ("selection", "scale_value") else name
        answer = Answer(_answer(value, end, name), None if annotator is None else str(annotator))
        unfolded[f"{short}.answers" if short in texts else short] = Answers((answer,))
    return unfolded


def _of_labels(labels: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{scheme}.{name}": value
        for scheme, given in labels.items()
        if isinstance(given, Mapping)
        for name, value in given.items()
    }


def _of_columns(row: Row) -> dict[str, Any]:
    """The columns of the flat exports; those of other schemes than pairwise ones stay texts."""
    columns = {name: row[name] for name in row if isinstance(name, str) and name.rpartition(".")[2] in ENDS}
    schemes = {name.rpartition(".")[0] for name in columns}
    return {n: row[n] for n in row if isinstance(n, str) and (n in columns or n.rpartition(".")[0] in schemes - {""})}


def _answer(value: Any, end: str, name: str) -> Any:
    if end == "scale_value" and value not in (None, ""):
        lead = -to_number(value, name, "a number of the scale")
        return _scaled(lead)
    if end == "justification":
        return _justification(value)
    return value


def _scaled(lead: float) -> Preference:
    if lead == 0:
        return Preference(groups=((0, 1),))
    return Preference(groups=((0,), (1,)) if lead > 0 else ((1,), (0,)), strength=abs(lead))


def _justification(value: Any) -> Any:
    """The reason as text: Potato keeps {"reasons": [...], "rationale": "..."} as JSON text."""
    held = list_in(value)
    return held.get("rationale") if isinstance(held, Mapping) else value
