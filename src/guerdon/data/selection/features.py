"""What the current reward model says about pairs: the difference of their features, and how open each still is.

Axes: s pairs, h features of the model, d features after the projection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.selection.candidates import CandidateRow, labeled_row
from guerdon.errors import verb
from guerdon.formulas.selection import d_optimal, random_projection
from guerdon.formulas.uncertainty import laplace_information
from guerdon.models.calibrated import calibration_of, strip_calibration
from guerdon.models.reward_model import ScalarRewardModel
from guerdon.models.scored_pairs import comparable_pairs

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from guerdon.config import SelectOptions
    from guerdon.data.selection.sources import Candidate
    from guerdon.formulas.selection import DOptimal
    from guerdon.models.calibrated import CalibratedModel

__all__ = ["PairReader", "ReadPairs"]

CHUNK = 128  # pairs read at once
Pair = tuple[CandidateRow, int, int]


@dataclass(frozen=True, slots=True)
class ReadPairs:
    """difference [s, d]: first - second, projected. margin [s]: nats of log-odds that the first is better."""

    difference: Float[np.ndarray, "s d"]
    margin: Float[np.ndarray, " s"]


class PairReader:
    """Reads pairs with a reward model. Only a model with a single backbone has features that the head reads."""

    def __init__(self, model: CalibratedModel | ScalarRewardModel, options: SelectOptions) -> None:
        inner = strip_calibration(model)
        if not isinstance(inner, ScalarRewardModel):
            raise GuerdonError(
                f"select: the model must be one that Guerdon trained or loaded, got {type(inner).__name__}. "
                "Pass a saved reward model, or one member of an ensemble."
            )
        self.model, self.temperature = inner, calibration_of(model).temperature
        self.options = options
        self._projection: Float[np.ndarray, "h d"] | None = None

    def read(self, pairs: Iterable[Pair]) -> Iterator[ReadPairs]:
        """The pairs in order, some at a time; a response of several neighboring pairs is read once."""
        remaining = iter(pairs)
        while chunk := list(islice(remaining, CHUNK)):
            texts = {(id(row), i): (row.prompt, row.responses[i]) for row, *pair in chunk for i in pair}
            index = {text: n for n, text in enumerate(texts)}
            prompts, responses = zip(*texts.values(), strict=True)
            scores, features = self.model.score_with_features(prompts, responses)
            first, second = (
                np.array([index[id(row), pair[side]] for row, *pair in chunk], dtype=np.int64) for side in (0, 1)
            )
            margin = (scores.value[first] - scores.value[second]) / self.temperature
            yield ReadPairs(self._project(features[first].astype(np.float64) - features[second]), margin)

    def labeled_information(self, comparisons: Iterable[Comparison]) -> Float[np.ndarray, "d d"] | float:
        """The information [d, d] of labeled comparisons; 0.0 where there are none."""
        pairs = ((row, i, j) for c in comparisons for row in [labeled_row(c)] for i, j, _ in comparable_pairs(c))
        return sum((laplace_information(part.difference, part.margin) for part in self.read(pairs)), start=0.0)

    def candidates(self, candidates: Iterable[Candidate]) -> tuple[Int[np.ndarray, " s"], ReadPairs]:
        """The positions of the candidates, ascending, and their pairs in this order."""
        positions: list[int] = []

        def noted() -> Iterator[Pair]:
            for candidate in candidates:
                positions.append(candidate.position)
                yield candidate.row, *candidate.indices

        parts = list(self.read(noted()))
        order = np.argsort(positions)
        whole = ReadPairs(
            np.concatenate([part.difference for part in parts])[order],
            np.concatenate([part.margin for part in parts])[order],
        )
        return np.array(positions, dtype=np.int64)[order], whole

    def pick(
        self,
        pairs: ReadPairs,
        labeled: Float[np.ndarray, "d d"] | float,
        num: int,
        group: Int[np.ndarray, " s"],
    ) -> DOptimal:
        """At most `num` of the pairs, where a label tells most about the head beside the labels that are there."""
        scale = float(np.mean(pairs.difference**2))
        if not scale > 0:
            raise GuerdonError(
                f"select: pairs must differ in what the model's head reads, got {len(pairs.margin)} that "
                f"{verb(len(pairs.margin), 'do')} not. "
                "Check the model with `guerdon doctor DIR`."
            )
        p = expit(pairs.margin)
        information = self.options.ridge * np.eye(pairs.difference.shape[1]) + labeled / scale
        groups = np.unique(group, return_inverse=True)[1]
        return d_optimal(
            pairs.difference / np.sqrt(scale), p * (1 - p), information, num, groups, self.options.per_prompt
        )

    def _project(self, features: Float[np.ndarray, "s h"]) -> Float[np.ndarray, "s d"]:
        width = features.shape[1]
        if width <= self.options.dimension:
            return features
        if self._projection is None:
            self._projection = random_projection(width, self.options.dimension, self.options.seed)
        projected: np.ndarray = features @ self._projection
        return projected
