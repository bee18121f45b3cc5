"""Label Studio: tasks as its JSON export has them, and one annotation per row as JSON_MIN and CSV have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.importers.answers import Answer, Answers, compare
from guerdon.data.importers.columns import Row, list_in
from guerdon.data.importers.reading import Reading
from guerdon.errors import field_error, show_value
from guerdon.io.fields import as_list, is_absent

ABOUT = (
    "annotator",
    "annotation_id",
    "created_at",
    "updated_at",
    "lead_time",
    "agreement",
    "history",
    "id",
)  # of JSON_MIN
UNRANKED = "_"  # the bucket of the items that were not moved


def from_label_studio(row: Row, reading: Reading) -> Comparison | Sequence[Comparison]:
    """{id, data: {name: text}, annotations: [{completed_by, was_cancelled, result: [{from_name, type, value}]}]} or a JSON_MIN row.

    Read are Pairwise (left, right), Ranker (one ranked list), Choices, a Rating of each text, and TextArea as the reason. The two
    texts of a Pairwise are found by their names in data. The annotator is who completed the annotation.
    """
    return compare(row, reading)


def is_label_studio(row: Row) -> bool:
    """Whether a row is a task with data and annotations, or an annotation of JSON_MIN."""
    if isinstance(row.get("data"), Mapping):
        return isinstance(row.get("annotations", row.get("completions")), list)
    return "annotation_id" in row and "lead_time" in row


def unfold_label_studio(row: Row) -> dict[str, Any]:
    """The data of a task as columns, and the answers under the names of the controls that asked for them."""
    if isinstance(row.get("data"), Mapping):
        return _unfold_task(row)
    return _unfold_annotation(row)


def _unfold_task(row: Row) -> dict[str, Any]:
    texts = {"id": row.get("id"), **row["data"]}
    answers: dict[str, list[Answer]] = {}
    about: dict[str, str] = {}
    given = as_list(row.get("annotations", row.get("completions")), "annotations", "a list of annotations")
    for i, annotation in enumerate(given):
        if not isinstance(annotation, Mapping):
            raise field_error(f"annotations[{i}]", "an object with result", annotation)
        is_submitted = not (annotation.get("was_cancelled") or annotation.get("skipped"))
        annotator = _annotator(annotation.get("completed_by"))
        results = list(_results(annotation.get("result"), f"annotations[{i}].result"))
        for name, target, value in results:
            answers.setdefault(name, []).append(Answer(value, annotator, is_submitted))
            about.setdefault(name, target)
        if not results:  # a skipped task, or one that was submitted without a choice
            answers.setdefault("annotations", []).append(Answer(None, annotator, is_submitted=False))
    return texts | {
        f"{name}.answers" if name in texts else name: Answers(tuple(of_control), about.get(name))
        for name, of_control in answers.items()
    }


def _results(value: object, field: str) -> Iterator[tuple[str, str, Any]]:
    """(name of the control, name of the text, answer) of each result of an annotation."""
    for i, result in enumerate(as_list(value or (), field, "a list of results")):
        if not isinstance(result, Mapping) or not isinstance(result.get("value"), Mapping):
            raise field_error(f"{field}[{i}]", "an object with from_name, type and value", result)
        yield str(result.get("from_name")), str(result.get("to_name")), _answer(result["value"], f"{field}[{i}].value")


def _answer(value: Mapping[str, Any], field: str) -> Any:
    """The answer in a result's value: {"selected"}, {"ranker"}, {"choices"}, {"rating"}, {"number"} or {"text"}; else None."""
    if "ranker" in value:
        return _ranking(value["ranker"], f"{field}.ranker")
    for key in ("selected", "rating", "number"):
        if key in value:
            return value[key]
    for key in ("choices", "text"):
        given = value.get(key)
        if isinstance(given, list) and len(given) == 1:
            return given[0]
        if isinstance(given, str):
            return given
        if key == "text" and isinstance(given, list) and all(isinstance(part, str) for part in given):
            return "\n".join(given)
    return None


def _ranking(value: object, field: str) -> list[str]:
    """The ids of the ranked items, best first; those that were not moved to the ranked list are below them."""
    buckets = {"": value} if isinstance(value, list) else value
    if not isinstance(buckets, Mapping):
        raise field_error(field, "a list of ids, or an object of such lists", value)
    ranked = {name: ids for name, ids in buckets.items() if name != UNRANKED and ids}
    if len(ranked) > 1:
        names = ", ".join(show_value(str(name), 20) for name in ranked)
        raise GuerdonError(
            f"{field} must be one ranked list, got the buckets {names}, whose order is not in the export. "
            "Drop the row, or rank within one list."
        )
    ids = next(iter(ranked.values()), ())
    return [str(name) for name in as_list(ids, field, "a list of ids")]


def _annotator(value: object) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("email") or value.get("id")
    return None if is_absent(value) else str(value)


# ---- JSON_MIN and CSV ------------------------------------------------------------------------------------------------


def _unfold_annotation(row: Row) -> dict[str, Any]:
    """JSON_MIN puts the answers next to the texts: what is no text of the item is recognized by its form."""
    annotator = _annotator(row.get("annotator"))
    is_annotated = not is_absent(row.get("annotation_id"))
    unfolded: dict[str, Any] = {"id": f"{row.get('id')}/{row['annotation_id']}" if is_annotated else row.get("id")}
    for name, cell in row.items():
        value = list_in(cell)
        results = value if isinstance(value, list) else [value]
        is_result = bool(results) and all(
            isinstance(r, Mapping) and set(r) & {"selected", "ranker", "rating"} for r in results
        )
        if is_result:
            answer = Answer(_answer(results[0], name), annotator, is_annotated)
            unfolded[name] = Answers((answer,))
        elif name not in ABOUT:
            unfolded[name.removeprefix("_data_")] = cell
    if not any(isinstance(value, Answers) for value in unfolded.values()):
        unfolded |= _choices(unfolded, annotator, is_annotated)
    return unfolded


def _choices(texts: Mapping[str, Any], annotator: str | None, is_annotated: bool) -> dict[str, Any]:
    """The columns that hold the answer to a Choices control, which JSON_MIN writes as a plain word."""
    names = [name for name in texts if _is_question(str(name)) and isinstance(texts[name], str | int | float)]
    return {name: Answers((Answer(texts[name], annotator, is_annotated),)) for name in names}


def _is_question(name: str) -> bool:
    words = ("label", "preference", "choice", "winner", "better", "best", "overall", "pairwise", "selection")
    return any(word in name.casefold() for word in words)
