"""Score files of others, matched to a benchmark's items.

Axes: n items, k responses per item in its own order, g games (1, or 2 where a judge saw a pair in both orders).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from guerdon.benchmarks.items import Item, ScoreTable, first_few
from guerdon.benchmarks.readers import Row, domain_of_file
from guerdon.benchmarks.readers.fields import has_value, row_id
from guerdon.contracts import Finding, GuerdonError
from guerdon.errors import field_error, verb
from guerdon.io.fields import to_number
from guerdon.io.schema import parse_row

__all__ = ["match_scores"]


def match_scores(rows: Iterable[tuple[str, Any]], items: Sequence[Item]) -> ScoreTable:
    """(place, row) pairs of a score file in; the scores of the items, matched by id, out.

    Rows may have further fields next to one of these forms: {id, scores: [one per response]} in the item's order
    (RewardBench 2; `guerdon score` calls them rewards); {id, scores_chosen, scores_rejected} (RewardBench),
    score_chosen and score_rejected (RM-Bench, with the domain in the row or in the file's name), chosen_reward and
    reject_reward (RMB), each a number or a list; {pair_id, judgments} (JudgeBench); {problem, solution_reference, score:
    [one per solution]} (RewardMATH); {id, results: 1 or 0} for pairs. Numbers may be text, as in a table. If no row has an
    id, rows are matched to items by their order, and a note says so.
    """
    index = _ItemIndex(items)
    checked = [(place, parse_row(place, row, _object)) for place, row in rows]
    names = [parse_row(place, row, partial(index.name_of, place)) for place, row in checked]
    is_ordered = all(name is None for name in names)
    if is_ordered:
        if len(checked) != len(items):
            raise GuerdonError(
                f"scores: rows without ids must be as many as the items, got {len(checked)} for {len(items)} items. Add ids."
            )
        names = [item.id for item in items]
    scores: dict[str, np.ndarray] = {}
    foreign: list[str] = []
    for (place, row), name in zip(checked, names, strict=True):
        if name is None:
            raise GuerdonError(f"{place}: id is missing, and other rows have one. Add it.")
        if name in scores:
            raise GuerdonError(f"{place}: id must be unique, got {name} twice. Keep one of the two rows.")
        if name not in index.items:
            foreign.append(name)
            continue
        scores[name] = parse_row(f"{place}: item {name}", row, partial(_row_scores, index.items[name]))
    _refuse_mismatch(items, scores, foreign)
    notes = (_matched_by_order(len(items)),) if is_ordered else ()
    return ScoreTable(tuple(scores[item.id] for item in items), np.zeros(len(items), dtype=bool), notes)


def _refuse_mismatch(items: Sequence[Item], scores: Mapping[str, np.ndarray], foreign: Sequence[str]) -> None:
    if missing := [item.id for item in items if item.id not in scores]:
        raise GuerdonError(
            f"scores: every item must have scores, got none for {len(missing)} of {len(items)}: {first_few(missing)}. "
            "Score these items too."
        )
    if foreign:
        raise GuerdonError(
            f"scores: every id must be an item's, got {len(foreign)} that {verb(len(foreign), 'are')} not: {first_few(foreign)}. "
            "Give the data that was scored."
        )


def _object(row: object) -> Row:
    if not isinstance(row, Mapping):
        raise field_error("row", "an object with named fields", row, "Write JSONL.")
    return row


class _ItemIndex:
    """Items by their ids, and the ids by what else names an item."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = {item.id: item for item in items}
        self.id_of_problem = {item.prompt[-1].content: item.id for item in items}

    def name_of(self, place: str, row: Row) -> str | None:
        """The id in a score row, in the form that items have it; None where the row has none."""
        for key, form in (("pair_uid", "pair:{}"), ("bon_uid", "bon:{}"), ("id", "{}"), ("pair_id", "{}")):
            if has_value(row, key):
                name = form.format(row_id(row, key))
                parts = (row.get("subset"), row.get("domain"), domain_of_file(place))
                full_names = (f"{part}/{name}" for part in parts if part)
                return next((full for full in full_names if full in self.items and name not in self.items), name)
        problem = row.get("problem")
        return self.id_of_problem.get(problem, problem) if isinstance(problem, str) else None


def _matched_by_order(num_items: int) -> Finding:
    evidence = f"{num_items} rows without ids, taken as the items in their order"
    return Finding("note", "Scores were matched by order", evidence, "Write ids next to the scores.")


# ---- The scores of a row -----------------------------------------------------------------------------------------

_CHOSEN_REJECTED = (
    ("scores_chosen", "scores_rejected"), ("score_chosen", "score_rejected"), ("chosen_reward", "reject_reward"),
    ("chosen", "rejected"),
)  # fmt: skip


def _row_scores(item: Item, row: Row) -> np.ndarray:
    """The scores [g, k] of a row, in the order of the item's responses."""
    k = len(item.responses)
    if isinstance(row.get("judgments"), list | tuple) and row["judgments"]:
        return _judgment_games(row["judgments"], k)
    for key in ("scores", "rewards", "score"):
        if not has_value(row, key):
            continue
        scores = _numbers(row[key], key)
        if len(scores) != k:
            raise field_error(key, f"{k} numbers, one per response", scores)
        return np.array([_by_author(row, item, scores)])
    for chosen, rejected in _CHOSEN_REJECTED:
        if has_value(row, chosen) and has_value(row, rejected) and not _are_texts(row, chosen, rejected):
            scores_of_pair = _in_item_order(item, _numbers(row[chosen], chosen), _numbers(row[rejected], rejected))
            _refuse_contradiction(row, item, scores_of_pair)
            return scores_of_pair
    if has_value(row, "results") and k == 2:
        return _in_item_order(item, [2 * _result(row) - 1], [0.0])
    raise GuerdonError(
        f"row must hold scores, got fields {', '.join(map(str, row))}. "
        "Add scores, a list in the order of the responses, or scores_chosen and scores_rejected."
    )


def _in_item_order(item: Item, right: Sequence[float], wrong: Sequence[float]) -> np.ndarray:
    """Scores [1, k] from those of the right responses and those of the wrong ones."""
    if (len(right), len(wrong)) != (len(item.correct), len(item.wrong)):
        raise GuerdonError(
            f"scores must be of {len(item.correct)} right and {len(item.wrong)} wrong responses, "
            f"got {len(right)} and {len(wrong)}. Write one score per response."
        )
    scores = np.empty((1, len(item.responses)))
    scores[0, list(item.correct)], scores[0, list(item.wrong)] = right, wrong
    return scores


def _by_author(row: Row, item: Item, scores: list[float]) -> list[float]:
    """The scores in the item's order, where the row says whose response each one is of (RewardMATH)."""
    if not isinstance(row.get("solution_reference"), list | tuple):
        return scores
    authors = [str(author or "") for author in row["solution_reference"]]
    ours = [response.author or "" for response in item.responses]
    if authors == ours:
        return scores
    if sorted(authors) != sorted(ours) or len(set(ours)) < len(ours):  # an author of two solutions does not say which
        raise field_error("solution_reference", f"the authors in the data's order, {first_few(ours)}", authors)
    by_author = dict(zip(authors, scores, strict=True))
    return [by_author[author] for author in ours]


def _result(row: Row) -> float:
    """Who won: 1 or true the right response, 0 or false the wrong one, 0.5 nobody."""
    value = float(row["results"]) if isinstance(row["results"], bool) else row["results"]
    return to_number(value, "results", "1, 0 or 0.5", low=0, high=1)


def _refuse_contradiction(row: Row, item: Item, scores: np.ndarray) -> None:
    """The result of a pair next to its scores must be theirs; a tie may be written as 0."""
    if not has_value(row, "results") or len(item.responses) != 2:
        return
    margin = scores[0, item.correct[0]] - scores[0, item.wrong[0]]
    result = _result(row)
    if (margin > 0 and result < 0.5) or (margin < 0 and result > 0.5) or (margin == 0 and result > 0.5):
        advice = "Leave out the field that is wrong."
        raise field_error("results", f"what the scores say, a difference of {margin:g}", row["results"], advice)


_DECISIONS = {"A>B": (1.0, 0.0), "B>A": (0.0, 1.0)}


def _judgment_games(judgments: Sequence[Any], k: int) -> np.ndarray:
    """Scores [g, 2] from JudgeBench's outputs: one judgment, or two of which the second saw the responses swapped.

    A judgment without a decision is NaN, and so is a tie that a judge decided in a single game, which is nobody's; the tie of
    two scores is the second's there (see rules.py).
    """
    if k != 2 or len(judgments) > 2:
        raise field_error("judgments", "a list of one or two, about a pair", len(judgments))
    games = []
    for order, judgment in enumerate(judgments):
        outer = judgment if isinstance(judgment, Mapping) else {}
        inner = outer.get("judgment") if isinstance(outer.get("judgment"), Mapping) else {}
        assert isinstance(inner, Mapping)
        scores, decision = inner.get("scores"), outer.get("decision")
        tied = (0.0, 0.0) if decision and len(judgments) == 2 else (math.nan, math.nan)
        pair = _DECISIONS.get(str(decision), tied) if scores is None else _numbers(scores, "scores")
        if len(pair) != 2:
            raise field_error("scores", "2 numbers, one per response", pair)
        games.append(list(pair)[:: -1 if order else 1])
    return np.array(games, dtype=np.float64)


def _numbers(value: object, field: str) -> list[float]:
    """A number, or a list of numbers, each of which may be in a list of its own; a table writes a list as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise field_error(field, "a number or a list of numbers", value) from None
    values = value if isinstance(value, list | tuple) else [value]
    flat = [item[0] if isinstance(item, list | tuple) and len(item) == 1 else item for item in values]
    if any(isinstance(item, list | tuple) for item in flat):
        advice = "Write one score per response, such as the smallest of its steps."
        raise field_error(field, "a number or a list of numbers", flat, advice)
    return [to_number(item, field, "a finite number") for item in flat]


def _are_texts(row: Row, *keys: str) -> bool:
    """Whether the fields hold responses, not their scores: text, unless the row has no prompt and the text is a number."""
    values = [item for key in keys for item in (row[key] if isinstance(row[key], list | tuple) else [row[key]])]
    if not any(isinstance(value, str | Mapping) for value in values):
        return False
    return "prompt" in row or not all(_is_number(value) for value in values)


def _is_number(value: object) -> bool:
    try:
        to_number(value, "", "")
    except GuerdonError:
        return False
    return True
