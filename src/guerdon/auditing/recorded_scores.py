"""A file of scores in place of a model: the texts that it holds can be audited, no others can be scored.

Axis: n texts, each a prompt and a response, or n pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, final

import numpy as np

from guerdon.auditing.score_cache import pair_key, text_key
from guerdon.auditing.score_rows import ScoredRow, row_margin, row_rewards
from guerdon.contracts import Comparison, Finding, GuerdonError, Scores, as_prompt, as_response, digest_all

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.contracts import PromptLike, ResponseLike

__all__ = ["RecordedJudge", "RecordedRewardModel", "recorded_model"]


class _Recorded:
    """Values by the key of a text or a pair. notes: what a reader must know about the file, as findings."""

    def __init__(self, values: Mapping[str, float], name: str = "the scores", notes: tuple[Finding, ...] = ()) -> None:
        self.values, self.name, self.notes = values, name, notes

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
    rows: Iterable[tuple[Comparison, ScoredRow]], name: str = "the scores", notes: tuple[Finding, ...] = ()
) -> tuple[list[Comparison], RecordedRewardModel | RecordedJudge]:
    """Comparisons with their rows in; the comparisons, and a model that repeats the scores of the rows, out.

    All rows must hold the same kind of scores: rewards, or by how much one response is better. Two rewards of one text are an
    error, for a score must not depend on its batch. `notes` become findings of an audit.
    """
    comparisons: list[Comparison] = []
    recorded: dict[str, tuple[float, str]] = {}
    kinds: dict[str, str] = {}
    for comparison, row in rows:
        try:
            kinds.setdefault(row.kind, row.place)
            entries = _entries(comparison, row)
        except GuerdonError as error:
            raise GuerdonError(f"{row.place}: {error}") from None
        if len(kinds) > 1:
            both = " and ".join(f"{kind} (at {first})" for kind, first in kinds.items())
            raise GuerdonError(f"{row.place}: rows must hold one kind of score, got {both}. Use one file per kind.")
        for key, value in entries:
            known, first = recorded.setdefault(key, (value, row.place))
            if known != value:
                raise GuerdonError(
                    f"{row.place}: a text must have one score, got {value:g} here and {known:g} at {first}. "
                    "Score each text once, in float32."
                )
        comparisons.append(comparison)
    values = {key: value for key, (value, _) in recorded.items()}
    kind = RecordedJudge if "margins" in kinds else RecordedRewardModel
    return comparisons, kind(values, name, notes)


def _entries(comparison: Comparison, row: ScoredRow) -> list[tuple[str, float]]:
    """The keys of a row's texts, or of its pair, with their scores."""
    if row.kind == "margins":
        return [(pair_key(comparison.prompt, *comparison.responses[:2]), row_margin(row, comparison))]
    rewards = row_rewards(row, comparison)
    return [(text_key(comparison.prompt, r), v) for r, v in zip(comparison.responses, rewards, strict=True)]
