"""Models that score no text twice.

Axes: n texts, each a prompt and a response; p pairs. A text is known by a hash of everything that its score may depend on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

import numpy as np

from guerdon.contracts import Scores, as_prompt, as_response, digest, prompt_identity, response_identity
from guerdon.models.fingerprint import fingerprint_of
from guerdon.models.judges.comparing import VerdictJudge, as_pairs
from guerdon.models.judges.verdicts import ORDERS
from guerdon.models.scored_pairs import PairScorer

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from guerdon.contracts import Judge, PromptLike, ResponseLike, RewardModel
    from guerdon.models.judges.verdicts import PairVerdict

__all__ = ["CachedJudge", "CachedRewardModel", "Score", "pair_key", "text_key"]

CHUNK: Final = 1024  # texts per call: as many as a killed run may lose, and enough for full batches

OnScored = Callable[[int], None]


class Score(NamedTuple):
    """One row of Scores. Of a reward model's pair, only `std` is used; of a judge's, see CachedJudge."""

    value: float
    truncated: bool
    std: float | None = None
    shift_p: float | None = None
    members: Sequence[float] | None = None


def text_key(prompt: PromptLike, response: ResponseLike) -> str:
    """A hash of the prompt and the response."""
    return digest([prompt_identity(as_prompt(prompt)), response_identity(as_response(response))])


def pair_key(prompt: PromptLike, first: ResponseLike, second: ResponseLike) -> str:
    """A hash of the prompt and two responses, in this order."""
    return digest([text_key(prompt, first), text_key(prompt, second)])


@final
class CachedRewardModel:
    """A reward model that scores each text once. Attributes are not cached.

    `cache` holds known scores by a hash of the text and receives new ones a chunk at a time; `on_scored(n)` is called after
    each chunk of n new texts.
    """

    def __init__(
        self, model: RewardModel, cache: MutableMapping[str, Score], on_scored: OnScored = lambda num: None
    ) -> None:
        self.model, self.cache, self.on_scored = model, cache, on_scored

    @property
    def fingerprint(self) -> str:
        """The model's own."""
        return fingerprint_of(self.model)

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Scores of the model."""
        keys = [_cache_key(p, r) for p, r in zip(prompts, responses, strict=True)]
        missing = _missing_rows(keys, self.cache)
        for start in range(0, len(missing), CHUNK):
            rows = missing[start : start + CHUNK]
            scores = self.model.score([prompts[i] for i in rows], [responses[i] for i in rows])
            self.cache.update(_by_key([keys[i] for i in rows], scores))
            self.on_scored(len(rows))
        return self._read(keys)

    def score_pairs(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[ResponseLike],
        first: Int[np.ndarray, " p"],
        second: Int[np.ndarray, " p"],
    ) -> tuple[Scores, Float[np.ndarray, " p"] | None]:
        """Scores, and the spread of each margin; None for the spreads of a model that does not know them."""
        if not isinstance(self.model, PairScorer):
            return self.score(prompts, responses), None
        keys = [_cache_key(p, r) for p, r in zip(prompts, responses, strict=True)]
        pair_keys = [digest([keys[i], keys[j]]) for i, j in zip(first, second, strict=True)]
        if not all(key in self.cache for key in (*keys, *pair_keys)):
            scores, spreads = self.model.score_pairs(prompts, responses, first, second)
            pairs = zip(pair_keys, _as_list(spreads, len(pair_keys)), strict=True)
            self.cache.update({**_by_key(keys, scores), **{key: Score(0.0, False, std) for key, std in pairs}})
            self.on_scored(len(keys))
        return self._read(keys), _as_column([self.cache[key].std for key in pair_keys])

    def _read(self, keys: Sequence[str]) -> Scores:
        scores = [self.cache[key] for key in keys]
        members = [score.members for score in scores]
        all_have_members = bool(scores) and all(row is not None for row in members)
        return Scores(
            np.array([score.value for score in scores], dtype=np.float64),
            np.array([score.truncated for score in scores], dtype=bool),
            std=_as_column([score.std for score in scores]),
            members=np.array(members, dtype=np.float64).T if all_have_members else None,
            shift_p=_as_column([score.shift_p for score in scores]),
        )


@final
class CachedJudge:
    """A judge that compares each pair, in each order, once. A pair without a verdict is not cached, so a later run asks again.

    The cached score of a pair is its log-odds; `members` holds P(the response shown first is better) in both orders, for a judge
    that asks in both.
    """

    def __init__(self, judge: Judge, cache: MutableMapping[str, Score], on_scored: OnScored = lambda num: None) -> None:
        self.judge, self.cache, self.on_scored = judge, cache, on_scored
        self._unresolved: dict[str, Score] = {}

    def log_odds(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Log-odds of the judge, nats; NaN where it has no verdict."""
        return np.array([score.value for score in self._scores(prompts, first, second)], dtype=np.float64)

    def first_picks(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, "n 2"] | None:
        """P(the response shown first is better) in both orders, NaN without a verdict; None for a judge of one order."""
        scores = self._scores(prompts, first, second)
        if not any(score.members for score in scores):
            return None
        return np.array([score.members or (math.nan, math.nan) for score in scores], dtype=np.float64)

    def _scores(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> list[Score]:
        keys = [pair_key(*pair) for pair in zip(prompts, first, second, strict=True)]
        missing = [i for i in _missing_rows(keys, self.cache) if keys[i] not in self._unresolved]
        for start in range(0, len(missing), CHUNK):
            rows = missing[start : start + CHUNK]
            columns = ([prompts[i] for i in rows], [first[i] for i in rows], [second[i] for i in rows])
            scores = dict(zip((keys[i] for i in rows), self._ask(*columns), strict=True))
            self._unresolved.update((key, score) for key, score in scores.items() if math.isnan(score.value))
            self.cache.update({key: score for key, score in scores.items() if not math.isnan(score.value)})
            self.on_scored(len(rows))
        return [self.cache[key] if key in self.cache else self._unresolved[key] for key in keys]

    def _ask(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> list[Score]:
        if not isinstance(self.judge, VerdictJudge):
            return [Score(float(value), False) for value in np.asarray(self.judge.log_odds(prompts, first, second))]
        scores = [Score(math.nan, False)] * len(prompts)
        for position, verdict in self.judge.compare(as_pairs(prompts, first, second)):
            scores[position] = Score(verdict.log_odds, False, members=_by_order(verdict))
        return scores


def _by_order(verdict: PairVerdict) -> tuple[float, float] | None:
    """P(the response shown first is better), averaged over the samples of each order; None without both orders."""
    q = [[order.q for order in verdict.orders if order.shown == shown] for shown in ORDERS]
    if not verdict.is_resolved or not all(q):
        return None
    return sum(q[0]) / len(q[0]), sum(q[1]) / len(q[1])


def _cache_key(prompt: PromptLike, response: ResponseLike) -> str:
    """As text_key, and whether the response was cut off, which a model may read too."""
    key, finish = text_key(prompt, response), as_response(response).finish
    return digest([key, finish]) if finish else key


def _missing_rows(keys: Sequence[str], cache: Mapping[str, Score]) -> list[int]:
    """The first row of each key that is not cached."""
    rows: dict[str, int] = {}
    for i, key in enumerate(keys):
        if key not in cache:
            rows.setdefault(key, i)
    return list(rows.values())


def _by_key(keys: Sequence[str], scores: Scores) -> dict[str, Score]:
    members = None if scores.members is None else np.asarray(scores.members).T
    columns = (scores.value, scores.truncated, scores.std, scores.shift_p, members)
    rows = zip(*(_as_list(column, len(keys)) for column in columns), strict=True)
    return {key: Score(*row) for key, row in zip(keys, rows, strict=True)}


def _as_list(column: np.ndarray | None, n: int) -> list[Any]:
    """The column as plain values; n times None without a column."""
    return [None] * n if column is None else list(np.asarray(column).tolist())


def _as_column(values: Sequence[float | None]) -> Float[np.ndarray, " n"] | None:
    """The values as a column if every text has one, else None."""
    known = [value for value in values if value is not None]
    return np.array(known, dtype=np.float64) if known and len(known) == len(values) else None
