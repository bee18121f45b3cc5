"""The rewards of a plan's texts as a table, and the effects of edits in the model's own unit.

Axis: n sampled pairs, one per row. The unit is the spread of rewards between two answers to one prompt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guerdon.auditing.measures.cues.keys import BETTER, FILLER_LEVELS, WORSE, TextKey
from guerdon.auditing.measures.cues.plan import Plan
from guerdon.auditing.probes.operators import CUES
from guerdon.contracts import Response
from guerdon.formulas.cues import effects, within_spread
from guerdon.models.estimates import estimate_share

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped

    from guerdon.config import AuditOptions
    from guerdon.contracts import Estimate, Judge, Prompt
    from guerdon.formulas.estimation import Interval
    from guerdon.progress import Progress

__all__ = ["RewardTable", "judge_plan", "mean_of_known", "tabulate_rewards"]


@dataclass(frozen=True, slots=True)
class RewardTable:
    """A plan's rewards: one column per text key, NaN where a row has no such text or the model refused the row."""

    plan: Plan
    columns: Mapping[TextKey, np.ndarray]

    def __getitem__(self, key: TextKey) -> Float[np.ndarray, " n"]:
        """A column; all NaN for a key that no row has."""
        return self.columns.get(key, np.full(len(self.plan.pairs), np.nan))

    def gain(self, after: TextKey, before: TextKey) -> Float[np.ndarray, " n"]:
        """What the one text is rewarded above the other, nats."""
        gain: np.ndarray = self[after] - self[before]
        return gain

    @property
    def groups(self) -> Shaped[np.ndarray, " n"]:
        """The group of each row."""
        return np.array([pair.group for pair in self.plan.pairs], dtype=np.str_)

    @property
    def is_scored(self) -> Bool[np.ndarray, " n"]:
        """Whether the model scored the row."""
        scored: np.ndarray = ~np.isnan(self[BETTER])
        return scored

    @property
    def unit_margins(self) -> Float[np.ndarray, " n"]:
        """Margins whose spread is the unit of every effect; if all answers get equal rewards, that of the edited answers."""
        margin = self.gain(BETTER, WORSE)
        if within_spread(margin[~np.isnan(margin)]) > 0:
            return margin
        moved = [self.gain(key, WORSE) for key in self.columns if _is_cue_or_filler(key)]
        spread = math.sqrt(float(np.nanmean(np.square(moved)))) if moved else 0.0
        return np.where(np.isnan(margin), np.nan, math.sqrt(2.0) * (spread or 1.0))

    @property
    def unit(self) -> float:
        """Standard deviation of rewards between two answers to one prompt, nats."""
        return within_spread(self.unit_margins[self.is_scored])

    def lengths(self) -> dict[TextKey, Float[np.ndarray, " n"]]:
        """Characters of every text; NaN where a row has no such text."""
        keys = {key for texts in self.plan.texts for key in texts}
        return {
            key: np.array([float(len(texts[key][1])) if key in texts else math.nan for texts in self.plan.texts])
            for key in keys
        }

    def effects(self, gains: Sequence[Float[np.ndarray, " n"]], options: AuditOptions) -> list[Interval]:
        """Mean of each gain in units of the spread, resampled by group."""
        rows = self.is_scored
        columns = np.column_stack([gain[rows] for gain in gains])
        return effects(columns, self.unit_margins[rows], self.groups[rows], options.draws, options.seed)

    def share(self, values: Float[np.ndarray, " n"]) -> Estimate:
        """The mean of the values that are not NaN, in [0, 1]."""
        known = ~np.isnan(values)
        return estimate_share(values[known], self.groups[known], np.ones(int(known.sum())))

    def with_columns(self, other: RewardTable) -> RewardTable:
        """This table and another one of the same pairs."""
        texts = tuple({**mine, **others} for mine, others in zip(self.plan.texts, other.plan.texts, strict=True))
        return RewardTable(Plan(self.plan.pairs, texts), {**self.columns, **other.columns})


def tabulate_rewards(plan: Plan, rewards: Sequence[Float[np.ndarray, " t"] | None]) -> RewardTable:
    """The rewards of a plan's rows (None for a refused row) as columns."""
    keys = dict.fromkeys(key for texts in plan.texts for key in texts)
    columns = {key: np.full(len(plan.pairs), np.nan) for key in keys}
    for row, (texts, values) in enumerate(zip(plan.texts, rewards, strict=True)):
        if values is not None:
            for key, value in zip(texts, values, strict=True):
                columns[key][row] = value
    return RewardTable(plan, columns)


CHUNK = 8  # rows whose texts a judge compares in one call: those of a prompt share its beginning


def judge_plan(judge: Judge, plan: Plan, progress: Progress | None = None) -> list[Float[np.ndarray, " t"] | None]:
    """A judge's log-odds as rewards of a plan's texts: each edited text against the answer that it is made from.

    The worse answer is worth 0, the better what it beats the worse by, and an edited text what its answer is worth plus the
    log-odds of the two. So the effect of every edit is one comparison of it with its own answer; an edit against another answer
    adds two of them. NaN where the judge has no verdict.
    """
    rewards: list[Float[np.ndarray, " t"] | None] = []
    for start in range(0, len(plan.pairs), CHUNK):
        rows = range(start, min(start + CHUNK, len(plan.pairs)))
        games = [(row, key, hub) for row in rows for key in _keys(plan, row) if (hub := _hub(key)) is not None]
        first, second = (
            [_text_of(plan, row, key) for row, key, _ in games],
            [_text_of(plan, row, hub) for row, _, hub in games],
        )
        odds = judge.log_odds(
            [prompt for prompt, _ in first],
            [Response(text) for _, text in first],
            [Response(text) for _, text in second],
        )
        worth: dict[tuple[int, TextKey], float] = {(row, key): 0.0 for row in rows for key in _keys(plan, row)}
        for (row, key, hub), value in zip(games, odds, strict=True):  # an answer comes before the texts made from it
            worth[row, key] = float(value) + worth[row, hub]
        rewards += [np.array([worth[row, key] for key in plan.texts[row]]) for row in rows]
        if progress is not None:
            progress(rows.stop, len(plan.pairs))
    return rewards


def _keys(plan: Plan, row: int) -> list[TextKey]:
    """The texts of a row, its two answers first, and the better one to a prompt that states a belief before what it is made to."""
    return list(dict.fromkeys((WORSE, BETTER, *sorted(plan.texts[row], key=lambda key: bool(key.edit)))))


def _hub(key: TextKey) -> TextKey | None:
    """The answer that a text is compared with; None for those that others are compared with."""
    if key.is_believed:
        return TextKey(key.answer, is_believed=True) if key.edit else None
    if key == WORSE:
        return None
    return BETTER if key.answer == BETTER.answer and key != BETTER else WORSE


def _text_of(plan: Plan, row: int, key: TextKey) -> tuple[Prompt, str]:
    """A text of a row, with its prompt; the answers of the pair are known where the plan has only edited ones."""
    if key in plan.texts[row]:
        return plan.texts[row][key]
    pair = plan.pairs[row]
    return pair.prompt, pair.better if key == BETTER else pair.worse


def mean_of_known(columns: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """The mean of each row over the entries that are not NaN; NaN where all are."""
    known = ~np.isnan(columns)
    num = known.sum(axis=1)
    mean: np.ndarray = np.where(num > 0, np.where(known, columns, 0.0).sum(axis=1) / np.maximum(num, 1), np.nan)
    return mean


def _is_cue_or_filler(key: TextKey) -> bool:
    return (key.answer == "worse" and key.edit in CUES and not key.is_baseline) or key in FILLER_LEVELS
