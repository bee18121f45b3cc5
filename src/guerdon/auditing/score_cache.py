"""Scores that are known already: read from a file in place of a model, or kept so that no text is scored twice.

Axes: n texts, each a prompt and a response. What stands for a text is a hash of all that a score may depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

import numpy as np

from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Scores,
    as_prompt,
    as_response,
    digest,
    digest_all,
    prompt_identity,
    response_identity,
)
from guerdon.io.fields import as_number, field_error
from guerdon.models.scored_pairs import PairScorer

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from guerdon.contracts import (
        Judge,
        PromptLike,
        ResponseLike,
        RewardModel,
    )

__all__ = ["Recorded", "RecordedJudge", "Remembered", "RememberedJudge", "Score", "from_rows", "text_key"]

CHUNK: Final = 1024  # texts asked at once: what a kill may lose, and still a batch worth having
SCORE_KEYS: Final = ("rewards", "scores_chosen", "scores_rejected", "margin")


class Score(NamedTuple):
    """What is known of a text, as one row of Scores; of a pair, `std` alone."""

    value: float
    truncated: bool
    std: float | None = None
    shift_p: float | None = None
    members: Sequence[float] | None = None


Told = Callable[[int], None]


def text_key(prompt: PromptLike, response: ResponseLike) -> str:
    """What tells a text from others: the prompt's turns and the response."""
    return digest([prompt_identity(as_prompt(prompt)), response_identity(as_response(response))])


def _asked_key(prompt: PromptLike, response: ResponseLike) -> str:
    """As text_key, and whether the response was cut: a model may read that too."""
    key, finish = text_key(prompt, response), as_response(response).finish
    return digest([key, finish]) if finish else key


@final
class Remembered:
    """A reward model that is asked for each text once. Attributes are not kept.

    `known` holds what is known by a hash of the text, and gets what is new a chunk at a time; `told` hears of how many texts.
    """

    def __init__(self, model: RewardModel, known: MutableMapping[str, Score], told: Told = lambda num: None) -> None:
        self.model, self.known, self.told = model, known, told

    @property
    def fingerprint(self) -> str:
        """The model's own."""
        return str(getattr(self.model, "fingerprint", type(self.model).__name__))

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Scores of the model."""
        keys = [_asked_key(p, r) for p, r in zip(prompts, responses, strict=True)]
        missing = _first_places(keys, self.known)
        for start in range(0, len(missing), CHUNK):
            rows = missing[start : start + CHUNK]
            fresh = self.model.score([prompts[i] for i in rows], [responses[i] for i in rows])
            self._keep([keys[i] for i in rows], fresh)
            self.told(len(rows))
        return self._recall(keys)

    def score_pairs(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[ResponseLike],
        first: Int[np.ndarray, " p"],
        second: Int[np.ndarray, " p"],
    ) -> tuple[Scores, Float[np.ndarray, " p"] | None]:
        """Scores, and the spread of each margin where the model knows it; one that does not is asked as by `score`."""
        if not isinstance(self.model, PairScorer):
            return self.score(prompts, responses), None
        keys = [_asked_key(p, r) for p, r in zip(prompts, responses, strict=True)]
        pairs = [digest([keys[i], keys[j]]) for i, j in zip(first, second, strict=True)]
        if not all(key in self.known for key in (*keys, *pairs)):
            scores, spread = self.model.score_pairs(prompts, responses, first, second)
            self._keep(
                keys,
                scores,
                {key: Score(0.0, False, *each) for key, each in zip(pairs, _each(spread, len(pairs)), strict=True)},
            )
            self.told(len(keys))
        doubts = [self.known[key].std for key in pairs]
        return self._recall(keys), _column(doubts)

    def _keep(self, keys: Sequence[str], scores: Scores, more: Mapping[str, Score] | None = None) -> None:
        n = len(keys)
        members = None if scores.members is None else np.asarray(scores.members).T
        columns = (scores.value, scores.truncated, scores.std, scores.shift_p, members)
        rows = zip(*(_each(column, n) for column in columns), strict=True)
        found = {key: Score(*(each[0] for each in row)) for key, row in zip(keys, rows, strict=True)}
        self.known.update({**found, **(more or {})})

    def _recall(self, keys: Sequence[str]) -> Scores:
        found = [self.known[key] for key in keys]
        members = [each.members for each in found]
        whole = bool(found) and all(each is not None for each in members)
        return Scores(
            np.array([each.value for each in found], dtype=np.float64),
            np.array([each.truncated for each in found], dtype=bool),
            std=_column([each.std for each in found]),
            members=np.array(members, dtype=np.float64).T if whole else None,
            shift_p=_column([each.shift_p for each in found]),
        )


def _each(column: np.ndarray | None, n: int) -> list[tuple[Any]]:
    """The column's values as plain ones, each in a tuple; None n times where there is none."""
    return [(None,)] * n if column is None else [(value,) for value in np.asarray(column).tolist()]


def _column(values: Sequence[float | None]) -> Float[np.ndarray, " n"] | None:
    """The values, where every text has one."""
    known = [value for value in values if value is not None]
    return np.array(known, dtype=np.float64) if known and len(known) == len(values) else None


@final
class RememberedJudge:
    """A judge that is asked for each pair in each order once."""

    def __init__(self, judge: Judge, known: MutableMapping[str, Score], told: Told = lambda num: None) -> None:
        self.judge, self.known, self.told = judge, known, told

    def log_odds(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Log-odds of the judge, nats."""
        keys = [_pair_key(*each) for each in zip(prompts, first, second, strict=True)]
        missing = _first_places(keys, self.known)
        for start in range(0, len(missing), CHUNK):
            rows = missing[start : start + CHUNK]
            fresh = self.judge.log_odds([prompts[i] for i in rows], [first[i] for i in rows], [second[i] for i in rows])
            self.known.update({keys[i]: Score(float(v), False) for i, v in zip(rows, np.asarray(fresh), strict=True)})
            self.told(len(rows))
        return np.array([self.known[key].value for key in keys], dtype=np.float64)


def _first_places(keys: Sequence[str], known: Mapping[str, Score]) -> list[int]:
    """Where each key that is not known stands first."""
    places: dict[str, int] = {}
    for i, key in enumerate(keys):
        if key not in known:
            places.setdefault(key, i)
    return list(places.values())


def _pair_key(prompt: PromptLike, first: ResponseLike, second: ResponseLike) -> str:
    return digest([text_key(prompt, first), text_key(prompt, second)])


# ---- A file in place of a model ----------------------------------------------------------------------------------


@final
class Recorded:
    """A reward model that knows the texts of a file and no others. Whether texts were cut is not known: it says False."""

    def __init__(self, rewards: Mapping[str, float], name: str = "the scores") -> None:
        self.rewards, self.name = rewards, name

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes a score."""
        return digest_all(f"{key} {value!r}" for key, value in self.rewards.items())

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Rewards as recorded; a text that was not scored is an GuerdonError."""
        keys = [text_key(p, r) for p, r in zip(prompts, responses, strict=True)]
        for key, prompt, response in zip(keys, prompts, responses, strict=True):
            if key not in self.rewards:
                raise _unscored(self.name, as_prompt(prompt)[-1].content, as_response(response).text)
        value = np.array([self.rewards[key] for key in keys], dtype=np.float64)
        return Scores(value, np.zeros(len(value), dtype=bool))


@final
class RecordedJudge:
    """A judge that knows the margins of a file, in the order in which each pair was shown there."""

    def __init__(self, margins: Mapping[str, float], name: str = "the scores") -> None:
        self.margins, self.name = margins, name

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes a margin."""
        return digest_all(f"{key} {value!r}" for key, value in self.margins.items())

    def log_odds(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Margins as recorded; a pair that was not judged in this order is an GuerdonError."""
        keys = [_pair_key(*each) for each in zip(prompts, first, second, strict=True)]
        for key, prompt, response in zip(keys, prompts, first, strict=True):
            if key not in self.margins:
                raise _unscored(self.name, as_prompt(prompt)[-1].content, as_response(response).text)
        return np.array([self.margins[key] for key in keys], dtype=np.float64)


def from_rows(
    rows: Iterable[tuple[str, Comparison, Mapping[str, Any]]], name: str = "the scores"
) -> tuple[list[Comparison], Recorded | RecordedJudge]:
    """(place, comparison, its row) in; the comparisons, and the model that gave the row its scores, out.

    The row holds `rewards` (one a response, as `guerdon score` writes them), or `scores_chosen` and `scores_rejected`, or
    `margin`: nats that chosen is better than rejected; for rows of `responses`, that the first is better. All rows have
    the same of these. A text with two different rewards is an error: no score depends on its company.
    """
    comparisons: list[Comparison] = []
    found: dict[str, tuple[float, str]] = {}
    kinds: dict[str, str] = {}
    for place, comparison, row in rows:
        kind = next((key for key in SCORE_KEYS if row.get(key) is not None), "")
        if not kind:
            raise GuerdonError(
                f"{place}: holds no scores; remedy: give rewards, scores_chosen and scores_rejected, or margin"
            )
        kinds.setdefault("margins" if kind == "margin" else "rewards", place)
        if len(kinds) > 1:
            both = " and ".join(f"{what} (at {where})" for what, where in kinds.items())
            raise GuerdonError(f"{place}: the file holds {both}; remedy: one kind a file")
        for key, value in _entries(place, comparison, row, kind):
            if key in found and found[key][0] != value:
                raise GuerdonError(
                    f"{place}: a text has another score here ({value:g}) than at {found[key][1]} ({found[key][0]:g}); "
                    "remedy: score each text once, in float32"
                )
            found.setdefault(key, (value, place))
        comparisons.append(comparison)
    values = {key: value for key, (value, _) in found.items()}
    return comparisons, RecordedJudge(values, name) if "margins" in kinds else Recorded(values, name)


def _entries(place: str, comparison: Comparison, row: Mapping[str, Any], kind: str) -> list[tuple[str, float]]:
    """Keys of the row's texts, or of its pair, with what is recorded for each."""
    try:
        if kind == "margin":
            return [_margin_entry(comparison, row)]
        values = row["rewards"] if kind == "rewards" else [row.get("scores_chosen"), row.get("scores_rejected")]
        if not isinstance(values, list | tuple) or len(values) != len(comparison.responses):
            raise field_error(kind, f"a list of {len(comparison.responses)} numbers, one per response", values)
        rewards = [as_number(_alone(value), f"{kind}[{i}]") for i, value in enumerate(values)]
    except GuerdonError as error:
        raise GuerdonError(f"{place}: {error}") from None
    if (kind != "rewards" or "chosen" in row) and not _chosen_first(comparison):
        rewards.reverse()
    return [(text_key(comparison.prompt, r), v) for r, v in zip(comparison.responses, rewards, strict=True)]


def _margin_entry(comparison: Comparison, row: Mapping[str, Any]) -> tuple[str, float]:
    if len(comparison.responses) != 2:
        raise field_error(
            "the number of responses of a margin", "2", len(comparison.responses), "Give rewards, one per response."
        )
    margin = as_number(row["margin"], "margin")
    if "chosen" in row and not _chosen_first(comparison):
        margin = -margin
    return _pair_key(comparison.prompt, *comparison.responses), margin


def _chosen_first(comparison: Comparison) -> bool:
    """Where a row said chosen and rejected, the chosen is the one that the preference names."""
    q = comparison.q
    return q is not None and q > 0.5


def _alone(value: Any) -> Any:
    """RewardBench writes a score as a list of one."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _unscored(name: str, asked: str, answered: str) -> GuerdonError:
    shown = f"{' '.join(asked.split())[:40]!r}, {' '.join(answered.split())[:40]!r}"
    return GuerdonError(f"{name}: no score of {shown}; remedy: give the model itself, or score this text too")
