"""A file of scores in place of a model: the texts that it holds can be audited, no others can be scored.

Axis: n texts, each a prompt and a response, or n pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from guerdon.auditing.score_cache import pair_key, text_key
from guerdon.contracts import Comparison, GuerdonError, Scores, as_prompt, as_response, digest_all
from guerdon.errors import field_error
from guerdon.io.fields import as_number

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.contracts import PromptLike, ResponseLike

__all__ = ["SCORE_KEYS", "UNUSED_KEYS", "RecordedJudge", "RecordedRewardModel", "recorded_model"]

SCORE_KEYS: Final = ("rewards", "scores_chosen", "scores_rejected", "margin")
UNUSED_KEYS: Final = ("truncated",)  # what `guerdon score` adds besides


class _Recorded:
    """Values by the key of a text or a pair."""

    def __init__(self, values: Mapping[str, float], name: str = "the scores") -> None:
        self.values, self.name = values, name

    @property
    def fingerprint(self) -> str:
        """Changes with every change of a value."""
        return digest_all(f"{key} {value!r}" for key, value in self.values.items())

    def _look_up(
        self, keys: Sequence[str], prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """The values of the keys; a prompt and its response, or the first of its pair, name one without a value."""
        for key, prompt, response in zip(keys, prompts, responses, strict=True):
            if key not in self.values:
                texts = (as_prompt(prompt)[-1].content, as_response(response).text)
                shown = ", ".join(repr(" ".join(text.split())[:40]) for text in texts)
                raise GuerdonError(
                    f"{self.name}: every text must have a score, got none for {shown}. "
                    "Score this text too, or give the model."
                )
        return np.array([self.values[key] for key in keys], dtype=np.float64)


@final
class RecordedRewardModel(_Recorded):
    """A reward model that knows recorded texts only. Truncation is unknown and reported as False."""

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Rewards as recorded; a text without a score is a GuerdonError."""
        keys = [text_key(p, r) for p, r in zip(prompts, responses, strict=True)]
        value = self._look_up(keys, prompts, responses)
        return Scores(value, np.zeros(len(value), dtype=bool))


@final
class RecordedJudge(_Recorded):
    """A judge that knows recorded pairs only, in the order in which each was shown."""

    def log_odds(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Margins as recorded; a pair that was not judged in this order is a GuerdonError."""
        keys = [pair_key(*pair) for pair in zip(prompts, first, second, strict=True)]
        return self._look_up(keys, prompts, first)


def recorded_model(
    rows: Iterable[tuple[str, Comparison, Mapping[str, Any]]], name: str = "the scores"
) -> tuple[list[Comparison], RecordedRewardModel | RecordedJudge]:
    """(place, comparison, its row) in; the comparisons, and a model that repeats the scores of the rows, out.

    A row holds `rewards` (one per response, as `guerdon score` writes them), or `scores_chosen` and `scores_rejected`, or
    `margin`: by how many nats chosen is better than rejected or, in rows of `responses`, the first than the second. All
    rows must hold the same kind. Two rewards of one text are an error, for a score must not depend on its batch.
    """
    comparisons: list[Comparison] = []
    recorded: dict[str, tuple[float, str]] = {}
    kinds: dict[str, str] = {}
    for place, comparison, row in rows:
        kind = next((key for key in SCORE_KEYS if row.get(key) is not None), "")
        if not kind:
            raise GuerdonError(
                f"{place}: row must hold scores, got fields {', '.join(row)}. "
                "Add rewards, scores_chosen and scores_rejected, or margin."
            )
        kinds.setdefault("margins" if kind == "margin" else "rewards", place)
        if len(kinds) > 1:
            both = " and ".join(f"{name} (at {first})" for name, first in kinds.items())
            raise GuerdonError(f"{place}: rows must hold one kind of score, got {both}. Use one file per kind.")
        for key, value in _entries(place, comparison, row, kind):
            known, first = recorded.setdefault(key, (value, place))
            if known != value:
                raise GuerdonError(
                    f"{place}: a text must have one score, got {value:g} here and {known:g} at {first}. "
                    "Score each text once, in float32."
                )
        comparisons.append(comparison)
    values = {key: value for key, (value, _) in recorded.items()}
    return comparisons, RecordedJudge(values, name) if "margins" in kinds else RecordedRewardModel(values, name)


def _entries(place: str, comparison: Comparison, row: Mapping[str, Any], kind: str) -> list[tuple[str, float]]:
    """The keys of a row's texts, or of its pair, with their scores."""
    try:
        if kind == "margin":
            return [_margin_entry(comparison, row)]
        values = row["rewards"] if kind == "rewards" else [row.get("scores_chosen"), row.get("scores_rejected")]
        if not isinstance(values, list | tuple) or len(values) != len(comparison.responses):
            raise field_error(kind, f"a list of {len(comparison.responses)} numbers, one per response", values)
        rewards = [as_number(_unwrap(value), f"{kind}[{i}]") for i, value in enumerate(values)]
    except GuerdonError as error:
        raise GuerdonError(f"{place}: {error}") from None
    if (kind != "rewards" or "chosen" in row) and not _is_chosen_first(comparison):
        rewards.reverse()
    return [(text_key(comparison.prompt, r), v) for r, v in zip(comparison.responses, rewards, strict=True)]


def _margin_entry(comparison: Comparison, row: Mapping[str, Any]) -> tuple[str, float]:
    if len(comparison.responses) != 2:
        raise field_error(
            "the number of responses of a margin", "2", len(comparison.responses), "Give rewards, one per response."
        )
    margin = as_number(row["margin"], "margin")
    if "chosen" in row and not _is_chosen_first(comparison):
        margin = -margin
    return pair_key(comparison.prompt, *comparison.responses), margin


def _is_chosen_first(comparison: Comparison) -> bool:
    """Whether the preferred response, which the row called chosen, is the first."""
    q = comparison.q
    return q is not None and q > 0.5


def _unwrap(value: Any) -> Any:
    """The score itself: RewardBench writes it as a list of one."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
