"""Comparisons as a table of scored pairs, for every stage that fits or measures odds.

Axes: n counts pairs, k ensemble members; a comparison of K responses gives each of its comparable pairs, which share its weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from guerdon.contracts import Comparison, GuerdonError, RewardModel

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Shaped

    from guerdon.contracts import Judge, PromptLike, ResponseLike, Scores
    from guerdon.progress import Progress

NO_VOTES = (-1, -1, -1)


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """Pairs in the order shown, with the model's scores and people's preferences.

    margin: nats that the first is better. q: P(first is better) by the preference, 0.5 for a tie. weight: sums to the
    comparison's weight over its pairs. first_reward, second_reward: nats, NaN for a judge. first_length, second_length:
    characters. votes: (first, tie, second) counts, -1 if there are none. index, first, second: which comparison and
    which of its responses. truncated: True if the model read only part of either; False for a judge.

    If the model has an uncertainty: margin_std, nats; first_shift_p and second_shift_p, p-values of being in-distribution;
    members: margin by each ensemble member [k, n], nats. None if it has none.
    """

    margin: Float[np.ndarray, " n"]
    q: Float[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]
    group: Shaped[np.ndarray, " n"]
    source: Shaped[np.ndarray, " n"]
    first_reward: Float[np.ndarray, " n"]
    second_reward: Float[np.ndarray, " n"]
    first_length: Int[np.ndarray, " n"]
    second_length: Int[np.ndarray, " n"]
    votes: Int[np.ndarray, "n 3"]
    index: Int[np.ndarray, " n"]
    first: Int[np.ndarray, " n"]
    second: Int[np.ndarray, " n"]
    truncated: Bool[np.ndarray, " n"]
    margin_std: Float[np.ndarray, " n"] | None = None
    first_shift_p: Float[np.ndarray, " n"] | None = None
    second_shift_p: Float[np.ndarray, " n"] | None = None
    members: Float[np.ndarray, "k n"] | None = None

    @property
    def is_tie(self) -> Bool[np.ndarray, " n"]:
        """True where the preference is a tie."""
        return self.q == 0.5  # type: ignore[no-any-return]

    @property
    def num_groups(self) -> int:
        """Number of independent units among the pairs."""
        return len(np.unique(self.group))

    def each_response(self) -> tuple[Int[np.ndarray, "m 2"], Int[np.ndarray, " m"]]:
        """Every response of the pairs once: [comparison, response], and the row where it comes first in [firsts, seconds]."""
        both = np.concatenate([np.stack([self.index, side], axis=1) for side in (self.first, self.second)])
        responses, rows = np.unique(both, axis=0, return_index=True)
        return responses, rows

    @property
    def is_resolved(self) -> Bool[np.ndarray, " n"]:
        """False where a judge has no verdict."""
        resolved: np.ndarray = np.isfinite(self.margin)
        return resolved

    def select(self, rows: Bool[np.ndarray, " n"]) -> ScoredPairs:
        """The pairs where `rows` is True."""
        columns: dict[str, Any] = {column.name: getattr(self, column.name) for column in fields(self)}
        per_member = {"members"}  # [k, n]; all others have a row per pair
        selected: dict[str, Any] = {
            name: None if own is None else own[:, rows] if name in per_member else own[rows]
            for name, own in columns.items()
        }
        return ScoredPairs(**selected)

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.margin)


UNCERTAINTY_FIELDS = ("margin_std", "first_shift_p", "second_shift_p", "members")


@runtime_checkable
class PairScorer(Protocol):
    """A reward model that may know the uncertainty of a margin, which does not follow from that of the two rewards."""

    def score_pairs(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[ResponseLike],
        first: Int[np.ndarray, " p"],
        second: Int[np.ndarray, " p"],
    ) -> tuple[Scores, Float[np.ndarray, " p"] | None]:
        """Scores of all responses, and the standard deviation of the margins of responses first[i] and second[i], in one pass."""
        ...


def score_comparisons(
    model: RewardModel | Judge,
    comparisons: Sequence[Comparison],
    *,
    chunk: int = 256,
    keep_unresolved: bool = False,
    progress: Progress | None = None,
) -> ScoredPairs:
    """Score every response once; a judge is asked about every pair once.

    `progress(done, total)` is called after each chunk of comparisons. A margin that is not finite is refused, with the
    comparison's id. With `keep_unresolved`, the pairs on which a judge has no verdict stay, with a margin of NaN.
    """
    if not comparisons:
        raise GuerdonError("score: there must be at least one comparison, got none. Check the file or the filter.")
    columns: list[_Columns] = []
    for start in range(0, len(comparisons), chunk):
        part = comparisons[start : start + chunk]
        columns.append(_score_responses(model, part) if isinstance(model, RewardModel) else _judge_pairs(model, part))
        if progress is not None:
            progress(min(start + chunk, len(comparisons)), len(comparisons))
    margin, first_reward, second_reward, truncated = (
        np.concatenate([getattr(part, name) for part in columns])
        for name in ("margin", "first_reward", "second_reward", "truncated")
    )
    pairs = [(c, *pair) for c, comparison in enumerate(comparisons) for pair in comparable_pairs(comparison)]
    may_be_nan = keep_unresolved and not isinstance(model, RewardModel)
    for bad in np.flatnonzero(~np.isfinite(margin) & ~(np.isnan(margin) & may_be_nan))[:1]:
        comparison_id = comparisons[pairs[bad][0]].id
        raise GuerdonError(
            f"comparison {comparison_id}: the margin must be finite, got {margin[bad]}. Score it alone with the model."
        )
    pairs_of = np.bincount(np.array([c for c, *_ in pairs], dtype=np.int64), minlength=len(comparisons))
    texts = [[response.text for response in comparison.responses] for comparison in comparisons]
    return ScoredPairs(
        margin=margin,
        q=np.array([q for *_, q in pairs], dtype=np.float64),
        weight=np.array([comparisons[c].weight / pairs_of[c] for c, *_ in pairs], dtype=np.float64),
        group=np.array([comparisons[c].group for c, *_ in pairs], dtype=np.str_),
        source=np.array([comparisons[c].source or "" for c, *_ in pairs], dtype=np.str_),
        first_reward=first_reward,
        second_reward=second_reward,
        first_length=np.array([len(texts[c][i]) for c, i, _, _ in pairs], dtype=np.int64),
        second_length=np.array([len(texts[c][j]) for c, _, j, _ in pairs], dtype=np.int64),
        votes=np.array([comparisons[c].preference.votes or NO_VOTES for c, *_ in pairs], dtype=np.int64).reshape(-1, 3),
        index=np.array([c for c, *_ in pairs], dtype=np.int64),
        first=np.array([i for _, i, _, _ in pairs], dtype=np.int64),
        second=np.array([j for _, _, j, _ in pairs], dtype=np.int64),
        truncated=truncated,
        **{name: _concatenate([getattr(part, name) for part in columns]) for name in UNCERTAINTY_FIELDS},
    )


def comparable_pairs(comparison: Comparison) -> Iterator[tuple[int, int, float]]:
    """(i, j, P(i is better)) for each pair that the preference orders or ties, i < j. Two unranked responses are not comparable."""
    if comparison.q is not None and len(comparison.responses) == 2:
        yield 0, 1, comparison.q
        return
    ranks = [rank if rank >= 0 else len(comparison.responses) for rank in comparison.ranks]
    for i, j in combinations(range(len(ranks)), 2):
        if ranks[i] == ranks[j] == len(comparison.responses):
            continue
        yield i, j, 0.5 if ranks[i] == ranks[j] else float(ranks[i] < ranks[j])


def reward_margins(
    model: RewardModel, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
) -> Float[np.ndarray, " n"]:
    """Reward of the first response less that of the second, from one pass: how a reward model judges."""
    scores = model.score([*prompts, *prompts], [*first, *second]).value
    margins: np.ndarray = np.asarray(scores[: len(prompts)] - scores[len(prompts) :], dtype=np.float64)
    return margins


class ComparesByReward:
    """What every reward model of ours also is: a judge, by the difference of two rewards."""

    def log_odds(
        self: RewardModel, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Log-odds that the first response is the better one: the margin of its reward, nats where rewards are in nats."""
        return reward_margins(self, prompts, first, second)

    def margin_std(
        self: PairScorer, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Standard deviation of each margin, in the units of the rewards. An error if no uncertainty was measured."""
        rows = np.arange(len(prompts))
        _, spread = self.score_pairs([*prompts, *prompts], [*first, *second], rows, rows + len(rows))
        if spread is None:
            raise GuerdonError(
                "margin_std: no uncertainty is stored with this model. "
                "Measure it with `guerdon uncertainty MODEL --data train.jsonl --held-out calibrate.jsonl`."
            )
        return spread


@dataclass(frozen=True, slots=True)
class _Columns:
    """What a chunk of comparisons gives; fields as in ScoredPairs."""

    margin: np.ndarray
    first_reward: np.ndarray
    second_reward: np.ndarray
    truncated: np.ndarray
    margin_std: np.ndarray | None = None
    first_shift_p: np.ndarray | None = None
    second_shift_p: np.ndarray | None = None
    members: np.ndarray | None = None


def _score_responses(model: RewardModel, comparisons: Sequence[Comparison]) -> _Columns:
    prompts = [comparison.prompt for comparison in comparisons for _ in comparison.responses]
    responses = [response for comparison in comparisons for response in comparison.responses]
    first, second = _pair_positions(comparisons)
    spread = None
    if isinstance(model, PairScorer):
        scores, spread = model.score_pairs(prompts, responses, first, second)
    else:
        scores = model.score(prompts, responses)
    value = np.asarray(scores.value, dtype=np.float64)
    truncated = np.asarray(scores.truncated, dtype=bool)
    shift_p, members = scores.shift_p, scores.members
    return _Columns(
        value[first] - value[second],
        value[first],
        value[second],
        truncated[first] | truncated[second],
        spread,
        None if shift_p is None else shift_p[first],
        None if shift_p is None else shift_p[second],
        None if members is None else members[:, first] - members[:, second],
    )


def _judge_pairs(judge: Judge, comparisons: Sequence[Comparison]) -> _Columns:
    pairs = [(comparison, i, j) for comparison in comparisons for i, j, _ in comparable_pairs(comparison)]
    margin = judge.log_odds(
        [comparison.prompt for comparison, _, _ in pairs],
        [comparison.responses[i] for comparison, i, _ in pairs],
        [comparison.responses[j] for comparison, _, j in pairs],
    )
    unknown = np.full(len(pairs), np.nan)
    return _Columns(np.asarray(margin, dtype=np.float64), unknown, unknown, np.zeros(len(pairs), dtype=bool))


def _concatenate(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """The chunks side by side; None if any is None."""
    known = [part for part in parts if part is not None]
    return np.concatenate(known, axis=-1) if len(known) == len(parts) else None


def _pair_positions(comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of each pair's two responses among all responses of the comparisons."""
    starts = np.cumsum([0, *(len(comparison.responses) for comparison in comparisons)])
    pairs = [
        (start + i, start + j) for start, c in zip(starts, comparisons, strict=False) for i, j, _ in comparable_pairs(c)
    ]
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
