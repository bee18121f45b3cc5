"""Argilla 2: records as `to_json`, `to_list` or `to_datasets` export them, with the answers of each user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.importers.answers import Answer, Answers, compare
from guerdon.data.importers.columns import Row, list_in
from guerdon.data.importers.reading import Reading
from guerdon.errors import field_error
from guerdon.io.fields import as_list

END = ".responses"  # of the column that holds a question's answers in the flat form
OTHER = ("status", "_server_id", "vectors", "metadata", "suggestions", "responses", "fields")


def from_argilla(row: Row, reading: Reading) -> Comparison | Sequence[Comparison]:
    """{id, fields: {name: text}, responses: {question: [{value, user_id}]}} or the flat form with {question}.responses.

    A ranking names fields; ratings are of the fields in the names of their questions; a label names a field or is a word of
    from_labeled. Users are the annotators. The suggestions of models are not read.
    """
    return compare(row, reading)


def is_argilla(row: Row) -> bool:
    """Whether a row is a record: fields and responses, or columns of responses and of their users."""
    if isinstance(row.get("fields"), Mapping):
        return isinstance(row.get("responses"), Mapping | list)
    return any(isinstance(name, str) and name.endswith(END) and f"{name}.users" in row for name in row)


def unfold_argilla(row: Row) -> dict[str, Any]:
    """The fields of a record as columns, and the answers to each question under its name."""
    if isinstance(row.get("fields"), Mapping):
        texts = {"id": row.get("id"), **row["fields"]}
        answers = _nested(row.get("responses"))
    else:
        questions = [name.removesuffix(END) for name in row if isinstance(name, str) and name.endswith(END)]
        answers = {name: _flat(row, name) for name in questions}
        texts = {k: v for k, v in row.items() if not _belongs(k, questions) and k not in OTHER}
    return texts | {
        f"{name}.answers" if name in texts else name: Answers(tuple(given)) for name, given in answers.items()
    }


def _belongs(name: object, questions: Sequence[str]) -> bool:
    """Whether a column belongs to a question: its answers, or a model's suggestion."""
    return any(str(name).startswith((f"{question}{END}", f"{question}.suggestion")) for question in questions)


def _nested(responses: Any) -> dict[str, list[Answer]]:
    answers: dict[str, list[Answer]] = {}
    if isinstance(responses, Mapping):
        for question, given in responses.items():
            for i, answer in enumerate(as_list(given or (), f"responses.{question}", "a list of answers")):
                if not isinstance(answer, Mapping):
                    raise field_error(f"responses.{question}[{i}]", "an object with value and user_id", answer)
                answers.setdefault(str(question), []).append(
                    _answer(answer.get("value"), answer.get("user_id"), answer.get("status"))
                )
        return answers
    for i, of_user in enumerate(as_list(responses or (), "responses", "a list of the users' answers")):
        if not isinstance(of_user, Mapping):
            raise field_error(f"responses[{i}]", "an object with values and user_id", of_user)
        values = of_user.get("values")
        for question, value in (values if isinstance(values, Mapping) else {"responses": {"value": None}}).items():
            given = value.get("value") if isinstance(value, Mapping) else value
            answers.setdefault(str(question), []).append(_answer(given, of_user.get("user_id"), of_user.get("status")))
    return answers


def _flat(row: Row, question: str) -> list[Answer]:
    columns = [_cells(row, f"{question}{END}{end}") for end in ("", ".users", ".status")]
    values, users, states = columns
    if not len(values) == len(users) == (len(states) or len(values)):
        raise GuerdonError(
            f"{question}{END} and {question}{END}.users must be lists of one length, got {len(values)} and {len(users)}. "
            "Export the records again."
        )
    states = states or [None] * len(values)
    return [_answer(value, user, state) for value, user, state in zip(values, users, states, strict=True)]


def _cells(row: Row, name: str) -> Sequence[Any]:
    value = list_in(row.get(name))
    return as_list(() if value is None or value == "" else value, name, "a list")


def _answer(value: Any, user: object, status: object) -> Answer:
    """status: None where the export leaves it out, as to_json does."""
    if isinstance(value, list | tuple) and value and all(isinstance(entry, Mapping) for entry in value):
        value = _by_rank(value)
    return Answer(value, None if user is None else str(user), status in (None, "submitted"))


def _by_rank(entries: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """[{value, rank}], as the server keeps a ranking, as names in groups, best first."""
    ranks = [entry.get("rank") for entry in entries]
    if not all(isinstance(rank, int | float) for rank in ranks):
        raise field_error("the ranks of a ranking", "numbers, 1 for the best", ranks)
    levels = sorted({rank for rank in ranks if rank is not None})
    return [[e.get("value") for e, rank in zip(entries, ranks, strict=True) if rank == level] for level in levels]
