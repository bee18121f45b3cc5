"""A model's scores of a benchmark's items.

Axes: n items, k responses per item in its own order, g games (1, or 2 where a judge saw a pair in both orders).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from guerdon.benchmarks.items import Item, ScoreTable
from guerdon.contracts import GuerdonError, Prompt, Response, RewardModel
from guerdon.models.judges.comparing import VerdictJudge
from guerdon.models.judges.rewards import JudgeReward

if TYPE_CHECKING:
    from guerdon.config import BenchmarkOptions
    from guerdon.contracts import Judge
    from guerdon.progress import Progress

__all__ = ["drop_undecided", "hygiene_rows", "plain_response", "score_items"]

CHUNK = 256  # items per call, within which prompts are shared


def score_items(
    model: RewardModel | Judge, items: Sequence[Item], *, chunk: int = CHUNK, progress: Progress | None = None
) -> ScoreTable:
    """Score every response of the items; a response that occurs in several items of a chunk is scored once.

    An item's responses are scored in one call. A judge sees each pair in both orders, by itself or here; of more than two
    responses it compares all pairs, and gives rewards that explain its verdicts. Items on which it has no verdict get NaN.
    """
    scores: list[np.ndarray] = []
    truncated: list[bool] = []
    for start in range(0, len(items), chunk):
        part = items[start : start + chunk]
        games, is_truncated = _score(model, part) if isinstance(model, RewardModel) else _compare(model, part)
        is_judge = not isinstance(model, RewardModel)
        for item, game in zip(part, games, strict=True):
            if not np.isfinite(game).all() and not (is_judge and np.isnan(game).any()):
                raise GuerdonError(
                    f"item {item.id}: scores must be finite, got {game.tolist()}. Score this item alone to find the cause."
                )
        scores += games
        truncated += is_truncated
        if progress is not None:
            progress(start + len(part), len(items))
    return ScoreTable(tuple(scores), np.array(truncated, dtype=bool))


def hygiene_rows(items: Sequence[Item], options: BenchmarkOptions) -> tuple[list[Prompt], list[Response]]:
    """Prompts and responses for the hygiene gate: a right and a wrong one, where there are, of items spread evenly over the benchmark."""
    chosen = items[:: max(1, 2 * len(items) // options.hygiene_rows)]
    rows = [(item.prompts[i], item.responses[i]) for item in chosen for i in (*item.correct[:1], *item.wrong[:1])]
    return [prompt for prompt, _ in rows], [response for _, response in rows]


def plain_response(response: Response) -> Response:
    """What a score may depend on: the response without its author, its ratings and how it ended."""
    return Response(response.text, messages=response.messages)


def _score(model: RewardModel, items: Sequence[Item]) -> tuple[list[np.ndarray], list[bool]]:
    """Each item's scores [1, k], and whether any of its texts was truncated."""
    row: dict[tuple[Prompt, Response], int] = {}
    rows = [
        [row.setdefault((p, plain_response(r)), len(row)) for p, r in zip(item.prompts, item.responses, strict=True)]
        for item in items
    ]
    scores = model.score([prompt for prompt, _ in row], [response for _, response in row])
    value, truncated = np.asarray(scores.value, dtype=np.float64), np.asarray(scores.truncated, dtype=bool)
    return [value[None, own] for own in rows], [bool(truncated[own].any()) for own in rows]


def _compare(judge: Judge, items: Sequence[Item]) -> tuple[list[np.ndarray], list[bool]]:
    """Each item's log-odds [2, 2], one row per order. Whether a judge truncates is unknown: False."""
    for item in items:
        if item.own_prompts:
            raise GuerdonError(
                f"item {item.id}: responses must answer one prompt for a judge, got trajectories with turns of the user. "
                "Give a reward model."
            )
        if len(item.responses) != 2 and not isinstance(judge, VerdictJudge):
            raise GuerdonError(
                f"item {item.id}: responses must be 2 for a judge, got {len(item.responses)}. Give a reward model."
            )
    if isinstance(judge, VerdictJudge):
        return _verdicts(judge, items), [False] * len(items)
    prompts = [item.prompt for item in items]
    first, second = ([item.responses[i] for item in items] for i in (0, 1))
    forward = np.asarray(judge.log_odds(prompts, first, second), dtype=np.float64)
    backward = -np.asarray(judge.log_odds(prompts, second, first), dtype=np.float64)
    return [np.array([[a, 0.0], [b, 0.0]]) for a, b in zip(forward, backward, strict=True)], [False] * len(items)


def _verdicts(judge: VerdictJudge, items: Sequence[Item]) -> list[np.ndarray]:
    """Each item's scores [1, k]: log-odds of a pair, else rewards from all pairs; NaN without a verdict."""
    games: list[np.ndarray] = [np.zeros((1, len(item.responses))) for item in items]
    pairs = [i for i, item in enumerate(items) if len(item.responses) == 2]
    first, second = ([items[i].responses[side] for i in pairs] for side in (0, 1))
    odds = judge.log_odds([items[i].prompt for i in pairs], first, second) if pairs else ()
    for i, value in zip(pairs, odds, strict=True):
        games[i] = np.array([[value, 0.0]]) if np.isfinite(value) else np.full((1, 2), np.nan)
    for i, item in enumerate(items):
        if len(item.responses) > 2:
            rewards = JudgeReward(judge, "tournament").score([item.prompt] * len(item.responses), item.responses)
            games[i] = rewards.value[None]
    return games


def drop_undecided(items: Sequence[Item], table: ScoreTable) -> tuple[list[Item], ScoreTable]:
    """The items that a judge has verdicts on, with their scores."""
    known = [i for i, scores in enumerate(table.scores) if not np.isnan(scores).any()]
    scores = tuple(table.scores[i] for i in known)
    return [items[i] for i in known], replace(table, scores=scores, truncated=table.truncated[known])
