"""Potato: pairwise annotations as its exporters or its server write them, with the texts of the item in the same row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guerdon.contracts import Comparison, GuerdonError, Preference
from guerdon.data.importers.answers import Answer, Answers, compare
from guerdon.data.importers.columns import Row, list_in
from guerdon.data.importers.reading import Reading
from guerdon.errors import field_error, show_value
from guerdon.io.fields import to_number
from guerdon.io.schema import Rejected

ENDS = ("selection", "scale_value", "justification")
LABELS_OF_ITEMS = "instance_id_to_label_to_value"
CHECKED = ("true", "on")  # what a browser sends for a radio button or a box


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


# ---- user_state.json ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RowsOfStates:
    """(location, row) pairs in which each user_state.json is a row for each of its items, as the exporters write them.

    The server writes such a file for each user: {user_id, instance_id_to_label_to_value: {id: [[{schema, name}, value], ...]}}.
    """

    rows: Iterable[tuple[str, Any]]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        for place, row in self.rows:
            if isinstance(row, Mapping) and LABELS_OF_ITEMS in row:
                yield from _items_of(place, row)
            else:
                yield place, row


def _items_of(place: str, state: Row) -> Iterator[tuple[str, Any]]:
    items = state[LABELS_OF_ITEMS]
    if not isinstance(items, Mapping) or not items:
        error = field_error(LABELS_OF_ITEMS, "an object with the answers to an item", items)
        yield place, Rejected(place, str(error), state)
        return
    for item, answers in items.items():
        where = f"{place}: item {show_value(item, 40)}"
        try:
            labels = _labels_of(answers)
        except GuerdonError as error:
            yield where, Rejected(where, str(error), answers)
        else:
            yield where, {"instance_id": item, "user_id": state.get("user_id"), "labels": labels}


def _labels_of(answers: Any) -> dict[str, dict[str, Any]]:
    """{scheme: {name: value}} from a log of answers, of which the last one holds, or from older states, which have this form."""
    given: list[tuple[Mapping[str, Any], Any]]
    if isinstance(answers, Mapping):
        given = [
            ({"schema": scheme, "name": name}, value)
            for scheme, values in answers.items()
            for name, value in (values.items() if isinstance(values, Mapping) else [("selection", values)])
        ]
    else:
        given = [_answer_in_log(answer) for answer in list_in(answers) or ()]
    labels: dict[str, dict[str, Any]] = {}
    for about, value in given:
        scheme, name = str(about.get("schema")), str(about.get("name"))
        is_checked = value is True or str(value).casefold() in (*CHECKED, name.casefold())
        if name not in ENDS and is_checked:  # a choice among buttons: the name is the answer
            labels.setdefault(scheme, {})["selection"] = name
        else:
            labels.setdefault(scheme, {})[name] = value
    return labels


def _answer_in_log(answer: Any) -> tuple[Mapping[str, Any], Any]:
    if isinstance(answer, list | tuple) and len(answer) == 2 and isinstance(answer[0], Mapping):
        return answer[0], answer[1]
    raise field_error("an answer", "a pair [{schema, name}, value]", answer)
