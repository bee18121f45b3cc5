"""How uncertain one reward model is: the spread of its rewards, and whether a text is like its training data.

Axes: n texts, h features (what the head reads of a text: its last token's hidden state), m held-out replies. Spreads are in the
model's raw reward units, float64; a calibration scales them as it scales the reward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from guerdon.formulas.uncertainty import conformal_p, laplace_variance, mahalanobis

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """The posterior of a model's head and the distribution of its features, measured once.

    mean: mean feature of the training replies. precision: lower Cholesky factor of the head's posterior precision.
    covariance: lower Cholesky factor of the replies' shrunk covariance. distance, weight: Mahalanobis distances of the held-out
    replies, ascending, and each reply's share of its group. fingerprint: of the weights and the chat template it belongs to.
    """

    mean: Float[np.ndarray, " h"]
    precision: Float[np.ndarray, "h h"]
    covariance: Float[np.ndarray, "h h"]
    distance: Float[np.ndarray, " m"]
    weight: Float[np.ndarray, " m"]
    fingerprint: str
    provenance: Mapping[str, Any]

    def std(self, features: Float[np.ndarray, "n h"]) -> Float[np.ndarray, " n"]:
        """Standard deviation of each reward relative to that of the mean training reply, raw units."""
        return self.margin_std(features - self.mean)

    def margin_std(self, difference: Float[np.ndarray, "n h"]) -> Float[np.ndarray, " n"]:
        """Standard deviation of each margin, raw units, from the difference between its two responses' features."""
        spread: np.ndarray = np.sqrt(laplace_variance(np.asarray(difference, np.float64), self.precision))
        return spread

    def shift_p(self, features: Float[np.ndarray, "n h"]) -> Float[np.ndarray, " n"]:
        """p-value of each text coming from the held-out texts' distribution."""
        return conformal_p(mahalanobis(features, self.mean, self.covariance), self.distance, self.weight)
