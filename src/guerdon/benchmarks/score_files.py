"""Score files of others, matched to a benchmark's items.

Axes: n items, k responses per item in its own order, g games (1, or 2 where a judge saw a pair in both orders).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from guerdon.benchmarks.items import Item, ScoreTable, first_few
from guerdon.benchmarks.readers import Row
from guerdon.contracts import Finding, GuerdonError
from guerdon.errors import field_error
from guerdon.io.fields import as_number
from guerdon.io.schema import Rejected

__all__ = ["match_scores"]


def match_scores(rows: Iterable[tuple[str, Any]], items: Sequence[Item]) -> ScoreTable:
    """(place, row) pairs of a score file in; the scores of the items, matched by id, out.

    Rows may have further fields beside one of these forms: {id, scores: [one per response]} in the item's order
    (RewardBench 2; `guerdon score` calls them rewards); {id, scores_chosen, scores_rejected} (RewardBench),
    score_chosen and score_rejected (RM-Bench), chosen_reward and reject_reward (RMB), each a number or a list;
    {pair_id, judgments} (JudgeBench); {id, results: 1 or 0} for pairs. If no row has an id, rows are matched to items by
    their order, and a note says so.
    """
    known = {item.id: item for item in items}
    checked = [(place, _checked_row(place, row)) for place, row in rows]
    is_ordered = all(_score_id(row, known) is None for _, row in checked)
    if is_ordered and len(checked) != len(items):
        raise GuerdonError(
            f"scores: rows without ids must be as many as the items, got {len(checked)} for {len(items)} items. Add ids."
        )
    scores: dict[str, np.ndarray] = {}
    foreign: list[str] = []
    for (place, row), item in zip(checked, items if is_ordered else [None] * len(checked), strict=True):
        name = item.id if item else str(_score_id(row, known))
        if name in scores:
            raise GuerdonError(f"{place}: id must be unique, got {name} twice. Keep one of the two rows.")
        if name not in known:
            foreign.append(name)
            continue
        try:
            scores[name] = _row_scores(row, known[name])
        except GuerdonError as error:
            raise GuerdonError(f"{place}: item {name}: {error}") from None
    if missing := [name for name in known if name not in scores]:
        raise GuerdonError(
            f"scores: every item must have scores, got none for {len(missing)} of {len(items)}: {first_few(missing)}. "
            "Score these items too."
        )
    if foreign:
        raise GuerdonError(
            f"scores: every id must be an item's, got {len(foreign)} that are not: {first_few(foreign)}. "
            "Give the data that was scored."
        )
    notes = (_matched_by_order(len(items)),) if is_ordered else ()
    return ScoreTable(tuple(scores[item.id] for item in items), np.zeros(len(items), dtype=bool), notes)


def _checked_row(place: str, row: object) -> Row:
    if isinstance(row, Rejected):
        raise GuerdonError(f"{place}: {row.reason}")
    if not isinstance(row, Mapping):
        raise GuerdonError(f"{place}: {field_error('row', 'an object with named fields', row, 'Write JSONL.')}")
    return row


def _score_id(row: Row, known: Mapping[str, Item]) -> str | None:
    """The id in a score row, in the form that items have it."""
    for key, form in (("pair_uid", "pair:{}"), ("bon_uid", "bon:{}"), ("id", "{}"), ("pair_id", "{}")):
        if row.get(key) is not None:
            name = form.format(row[key])
            return name if name in known or "subset" not in row else f"{row['subset']}/{name}"
    return None


def _matched_by_order(num_items: int) -> Finding:
    evidence = f"{num_items} rows without ids, taken as the items in their order"
    return Finding("note", "Scores were matched by order", evidence, "Write ids beside the scores.")


# ---- The scores of a row -----------------------------------------------------------------------------------------

_CHOSEN_REJECTED = (
    ("scores_chosen", "scores_rejected"), ("score_chosen", "score_rejected"), ("chosen_reward", "reject_reward"),
    ("chosen", "rejected"),
)  # fmt: skip


def _row_scores(row: Row, item: Item) -> np.ndarray:
    """The scores [g, k] of a row, in the order of the item's responses."""
    k = len(item.responses)
    if isinstance(row.get("judgments"), list | tuple) and row["judgments"]:
        return _judgment_games(row["judgments"], k)
    for key in ("scores", "rewards"):
        if row.get(key) is None:
            continue
        scores = _numbers(row[key], key)
        if len(scores) != k:
            raise field_error(key, f"{k} numbers, one per response", scores)
        return np.array([scores])
    for chosen, rejected in _CHOSEN_REJECTED:
        if all(row.get(key) is not None and not _is_text(row[key]) for key in (chosen, rejected)):
            return _in_item_order(item, _numbers(row[chosen], chosen), _numbers(row[rejected], rejected))
    if row.get("results") is not None and k == 2:
        result = as_number(row["results"], "results", "1, 0 or 0.5", low=0, high=1)
        return _in_item_order(item, [2 * result - 1], [0.0])
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


_DECISIONS = {"A>B": (1.0, 0.0), "B>A": (0.0, 1.0)}


def _judgment_games(judgments: Sequence[Any], k: int) -> np.ndarray:
    """Scores [g, 2] from JudgeBench's outputs: one judgment, or two of which the second saw the responses swapped.

    A judgment without a decision is a tie.
    """
    if k != 2 or len(judgments) > 2:
        raise field_error("judgments", "a list of one or two, about a pair", len(judgments))
    games = []
    for order, judgment in enumerate(judgments):
        outer = judgment if isinstance(judgment, Mapping) else {}
        inner = outer.get("judgment") if isinstance(outer.get("judgment"), Mapping) else {}
        assert isinstance(inner, Mapping)
        scores = inner.get("scores")
        pair = _DECISIONS.get(str(outer.get("decision")), (0.0, 0.0)) if scores is None else _numbers(scores, "scores")
        if len(pair) != 2:
            raise field_error("scores", "2 numbers, one per response", pair)
        games.append(list(pair)[:: -1 if order else 1])
    return np.array(games, dtype=np.float64)


def _numbers(value: object, field: str) -> list[float]:
    """A number, or a list of numbers, each of which may be in a list of its own."""
    values = value if isinstance(value, list | tuple) else [value]
    flat = [item[0] if isinstance(item, list | tuple) and len(item) == 1 else item for item in values]
    return [as_number(item, field) for item in flat]


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and any(isinstance(item, str | Mapping) for item in value)
    )
