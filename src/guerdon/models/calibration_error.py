"""Calibration of margins as log-odds, each measure with its interval: reported by calibration and by the audit.

Axes: n counts pairs. Margins are nats; q is the share of people who prefer the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Estimate, Quantity
from guerdon.formulas.calibration import (
    brier,
    confidence_and_correctness,
    ece,
    ece_null,
    ece_p_value,
    nll,
    num_bins,
)
from guerdon.formulas.calibration_error import calibration_error
from guerdon.formulas.clustered import clustered_mean
from guerdon.formulas.estimation import clopper_pearson

if TYPE_CHECKING:
    from guerdon.models.scored_pairs import ScoredPairs

COIN_NLL = float(np.log(2))

POSSIBLE = {"nll": (0.0, np.inf), "brier": (0.0, 1.0), "overconfidence": (-1.0, 1.0)}
ODDS = "Odds"  # the section of the page
QUANTITIES: Mapping[str, Quantity] = {
    "nll": Quantity("log loss", "nats", ODDS, "mean negative log-likelihood of the labels; a coin has 0.693"),
    "brier": Quantity("Brier score", "number", ODDS, "mean squared error of the probability; a coin has 0.25"),
    "ece": Quantity(
        "calibration error",
        "share",
        ODDS,
        "root-mean-square distance between confidence and accuracy, less what noise adds; the interval is of the true error",
    ),
    "ece_null": Quantity(
        "noise alone",
        "share",
        ODDS,
        "mean distance that even perfect odds show on this many pairs if nothing is corrected",
    ),
    "ece_p_value": Quantity(
        "p-value of calibration",
        "number",
        ODDS,
        "chance of so large an error under perfect calibration; the interval is of the simulation",
    ),
    "overconfidence": Quantity(
        "overconfidence", "share", ODDS, "mean confidence minus accuracy; below 0 is too modest"
    ),
}


def measure_odds(pairs: ScoredPairs, *, bins: int) -> dict[str, Estimate]:
    """Estimates nll, brier, ece, overconfidence (mean confidence minus accuracy). The calibration error weights every pair equally."""
    margin, q = pairs.margin, pairs.q
    confidence, correct = confidence_and_correctness(margin, q)
    means = {"nll": nll(margin, q), "brier": brier(margin, q), "overconfidence": confidence - correct}
    estimates = {
        name: Estimate(*clustered_mean(values, pairs.group, pairs.weight, within=POSSIBLE[name]))
        for name, values in means.items()
    }
    votes = np.where(np.isin(q, (0.0, 0.5, 1.0)), np.maximum(1, pairs.votes.sum(axis=1)), pairs.votes.sum(axis=1))
    estimates["ece"] = Estimate(*calibration_error(margin, q, pairs.group, bins, votes=votes))
    return {name: estimates[name] for name in ("nll", "brier", "ece", "overconfidence")}


def measure_null(pairs: ScoredPairs, *, bins: int, draws: int, seed: int) -> dict[str, Estimate]:
    """Estimates ece_null (mean and central 95 % of the uncorrected mean distance, ECE, under perfect calibration) and ece_p_value.

    The interval of the p-value is of the simulation alone.
    """
    votes = np.maximum(1, pairs.votes.sum(axis=1))
    bins = num_bins(len(pairs), bins)
    observed = ece(pairs.margin, pairs.q, bins)
    null = ece_null(pairs.margin, votes=votes, bins=bins, draws=draws, seed=seed)
    low, high = np.quantile(null, [0.025, 0.975])
    as_large = clopper_pearson(int(np.count_nonzero(null >= observed)), draws)
    return {
        "ece_null": Estimate(float(null.mean()), float(low), float(high), pairs.num_groups),
        "ece_p_value": Estimate(ece_p_value(observed, null), as_large.low, as_large.high, pairs.num_groups),
    }


def is_miscalibrated(error: Estimate) -> bool:
    """Whether the interval of the true calibration error excludes 0."""
    return error.low > 0
