"""Rows of score files: which fields hold scores, whose they are, and how rows of scores alone find their comparisons."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from guerdon.contracts import Comparison, GuerdonError
from guerdon.errors import did_you_mean, field_error, show_value
from guerdon.io.fields import as_name, is_absent, to_number

__all__ = [
    "SCORE_FIELDS",
    "ScoredRow",
    "has_texts",
    "join_scores",
    "rename_scores",
    "row_margin",
    "row_rewards",
    "unscored",
]

Row = Mapping[str, Any]

PAIRS_OF_FIELDS: Final = (("scores_chosen", "scores_rejected"), ("scores_first", "scores_second"))
SCORE_FIELDS: Final = ("rewards", *(field for pair in PAIRS_OF_FIELDS for field in pair), "log_odds")
TEXT_FIELDS: Final = ("prompt", "responses", "messages", "chosen", "rejected", "first", "second")
UNUSED_FIELDS: Final = ("truncated",)  # what `guerdon score` adds besides
NUM_SHOWN: Final = 5  # ids listed in one line
ROUNDING: Final = 1e-5  # between two fields of one row that hold the same rewards, written with fewer digits


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A row of texts, and the scores of its responses: fields of the same row, or of the row with its id in a score file."""

    place: str
    texts: Any
    scores: Row

    @property
    def is_chosen_first(self) -> bool:
        """Whether a list of two scores is of the chosen response, then of the rejected one."""
        return isinstance(self.texts, Mapping) and "chosen" in self.texts

    @property
    def kind(self) -> str:
        """ "rewards", or "margins" where the row says by how much one response is better."""
        return "margins" if _field(self) in ("log_odds", "margin") else "rewards"


def unscored(row: Any) -> Any:
    """The row without its scores; a margin next to chosen and rejected is the annotator's, and stays."""
    if not isinstance(row, Mapping):
        return row
    added = {*SCORE_FIELDS, *UNUSED_FIELDS, *(("margin",) if "responses" in row else ())}
    return {key: value for key, value in row.items() if key not in added}


def has_texts(row: Any) -> bool:
    """Whether the row holds what was scored, not the scores alone."""
    return isinstance(row, Mapping) and any(
        isinstance(row.get(key), str | list | tuple | Mapping) and not _is_number(row[key]) for key in TEXT_FIELDS
    )


def rename_scores(rows: Iterable[tuple[str, Any]], columns: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """The rows with our names of the score fields, from `columns`: ours -> the file's."""
    ours = {name: theirs for name, theirs in columns.items() if name in SCORE_FIELDS}
    for place, row in rows:
        if isinstance(row, Mapping) and ours:
            if missing := [theirs for theirs in ours.values() if theirs not in row]:
                name = next(name for name, theirs in ours.items() if theirs == missing[0])
                claim, given = "a field of the file", f"{name}={missing[0]}"
                raise field_error(f"{place}: --column", claim, given, did_you_mean(missing[0], row))
            others = {key: value for key, value in row.items() if key not in ours.values()}
            row = others | {name: row[theirs] for name, theirs in ours.items()}
        yield place, row


# ---- Scores of a row ---------------------------------------------------------------------------------------------


def _field(row: ScoredRow) -> str:
    """The field, or the first of the two fields, that holds the row's scores."""
    if not is_absent(row.scores.get("rewards")):
        return "rewards"
    for pair in PAIRS_OF_FIELDS:
        if not any(is_absent(row.scores.get(field)) for field in pair):
            return pair[0]
    if not is_absent(row.scores.get("log_odds")):
        return "log_odds"
    if not is_absent(row.scores.get("margin")):
        if not row.is_chosen_first:
            return "margin"
        raise GuerdonError(
            "margin must be an annotator's strength next to chosen and rejected, as TRL writes it, got no other scores. "
            "If it is the model's log-odds, pass --column log_odds=margin."
        )
    raise GuerdonError(
        f"row must hold scores, got fields {', '.join(map(str, row.scores))}. "
        "Add rewards, scores_chosen and scores_rejected, or log_odds, or name them with --column."
    )


def row_rewards(row: ScoredRow, comparison: Comparison) -> list[float]:
    """The rewards of the comparison's responses, in their order; an error where two fields hold different ones."""
    field = _field(row)
    rewards = _rewards_in(field, row, comparison)
    for other, partner in PAIRS_OF_FIELDS:
        if other == field or any(is_absent(row.scores.get(name)) for name in (other, partner)):
            continue
        values = _rewards_in(other, row, comparison)
        if not all(
            math.isclose(a, b, rel_tol=ROUNDING, abs_tol=ROUNDING) for a, b in zip(rewards, values, strict=True)
        ):
            given = " and ".join(show_value(row.scores[name]) for name in (other, partner))
            claim = f"the rewards that {field} holds for the same responses"
            raise GuerdonError(f"{other} and {partner} must be {claim}, got {given}. Keep the fields of one model.")
    return rewards


def _rewards_in(field: str, row: ScoredRow, comparison: Comparison) -> list[float]:
    """The rewards that a field, or the pair of fields that starts with it, holds."""
    if field == "rewards":
        values = _list(row.scores["rewards"])
        if not isinstance(values, list | tuple) or len(values) != len(comparison.responses):
            raise field_error(field, f"a list of {len(comparison.responses)} numbers, one per response", values)
        names = [f"rewards[{i}]" for i in range(len(values))]
    else:
        names = next(list(pair) for pair in PAIRS_OF_FIELDS if pair[0] == field)
        values = [row.scores[name] for name in names]
        if len(comparison.responses) != 2:
            raise field_error(
                "the number of responses", f"2 for {names[0]}", len(comparison.responses), "Give rewards."
            )
    rewards = [to_number(_unwrap(value), name, "a finite number") for value, name in zip(values, names, strict=True)]
    is_by_preference = field == "scores_chosen" or (field == "rewards" and row.is_chosen_first)
    if field == "scores_first" and row.is_chosen_first:
        raise GuerdonError(
            f"{field}: rows of chosen and rejected have no first response. Give scores_chosen and scores_rejected."
        )
    return rewards[::-1] if is_by_preference and not _prefers_first(comparison) else rewards


def row_margin(row: ScoredRow, comparison: Comparison) -> float:
    """By how many nats the first response of the pair is better."""
    field = _field(row)
    if len(comparison.responses) != 2:
        raise field_error(
            f"the number of responses of {field}", "2", len(comparison.responses), "Give rewards, one per response."
        )
    margin = to_number(_unwrap(row.scores[field]), field, "a finite number")
    return -margin if row.is_chosen_first and not _prefers_first(comparison) else margin


def _prefers_first(comparison: Comparison) -> bool:
    """Whether the preferred response, which the row called chosen, is the first."""
    q = comparison.q
    if q is None or q == 0.5:
        raise GuerdonError(
            "scores_chosen must be of a comparison with one preferred response, got a tie. Give rewards."
        )
    return q > 0.5


def _unwrap(value: Any) -> Any:
    """The score itself: RewardBench writes it as a list of one."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _list(value: Any) -> Any:
    """A list, which a table writes as JSON text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _is_number(value: object) -> bool:
    try:
        to_number(value, "", "")
    except GuerdonError:
        return False
    return True


# ---- Rows of scores alone ----------------------------------------------------------------------------------------


def join_scores(
    texts: Sequence[tuple[str, Any]], scores: Sequence[tuple[str, Any]], id_column: str = "id"
) -> Iterator[ScoredRow]:
    """Rows of texts and rows of scores in; each row of texts with the scores of its id, at the place of the scores, out.

    Where no row of either has an id they are matched by order. A missing, unknown or repeated id is an error that names it.
    id_column: the field that holds the id, in whichever of the two has it.
    """
    named_texts, named_scores = (_names(rows, id_column) for rows in (texts, scores))
    if not named_texts and not named_scores:
        if len(texts) != len(scores):
            raise GuerdonError(
                f"scores: rows without ids must be as many as the comparisons, got {len(scores)} for {len(texts)}. Add ids."
            )
        yield from (ScoredRow(place, row, own) for (_, row), (place, own) in zip(texts, scores, strict=True))
        return
    _refuse_mismatch(named_texts, named_scores)
    for name, (_, row) in named_texts.items():
        place, own = named_scores[name]
        yield ScoredRow(place, row, own)


def _names(rows: Sequence[tuple[str, Any]], id_column: str) -> dict[str, tuple[str, Any]]:
    """The rows by their id; empty where no row has one."""
    named: dict[str, tuple[str, Any]] = {}
    nameless = ""
    for place, row in rows:
        value = _id(row, id_column)
        if is_absent(value):
            nameless = nameless or place
            continue
        name = as_name(value, "id").strip()
        if name in named:
            raise GuerdonError(f"{place}: id must be unique, got {name} here and at {named[name][0]}. Keep one row.")
        named[name] = (place, row)
    if named and nameless:
        raise GuerdonError(f"{nameless}: id is missing, and other rows have one. Add it.")
    return named


def _id(row: Any, id_column: str) -> Any:
    if not isinstance(row, Mapping):
        return None
    return row[id_column] if id_column in row else row.get("id")


def _refuse_mismatch(texts: Mapping[str, tuple[str, Any]], scores: Mapping[str, tuple[str, Any]]) -> None:
    if not texts or not scores:
        which = "the scores" if texts else "the data"
        raise GuerdonError(
            f"scores: both files must have ids, got none in {which}. Name the field with --column id=NAME."
        )
    for claim, names, others, advice in (
        ("every comparison must have scores, got none for", texts, scores, "Score these too."),
        ("every id must be a comparison's, got no comparison of", scores, texts, "Give the data that was scored."),
    ):
        if missing := [name for name in names if name not in others]:
            more = f" and {len(missing) - NUM_SHOWN} more" if len(missing) > NUM_SHOWN else ""
            raise GuerdonError(f"scores: {claim} {', '.join(missing[:NUM_SHOWN])}{more}. {advice}")
