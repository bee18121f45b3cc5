"""Calibration by an isotonic curve: a judge whose odds bend, and whether that was worth more than a temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.calibration.temperature import (
    DRAWS,
    ODDS_BEFORE_AND_AFTER,
    cross_fitted_temperature,
    fold_of,
    usable_pairs,
)
from guerdon.contracts import Estimate, Finding, GuerdonError, Quantity, Report, RewardModel, digest_all
from guerdon.formulas.calibration import nll
from guerdon.formulas.clustered import clustered_mean
from guerdon.formulas.isotonic import fit_isotonic, isotonic_log_odds
from guerdon.models.calibrated import strip_calibration
from guerdon.models.calibration_error import ODDS, is_miscalibrated, measure_null, measure_odds
from guerdon.models.estimates import describe_intervals, estimate_share, number, percent
from guerdon.models.isotonic import IsotonicJudge
from guerdon.models.scored_pairs import ScoredPairs, score_comparisons
from guerdon.progress import Progress

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.config import CalibrateOptions
    from guerdon.contracts import Comparison, Judge

__all__ = ["fit_isotonic_judge"]

MIN_PAIRS: Final = 1000  # a curve has as many parameters as the data allow
MAX_TIES: Final = 0.01  # share of pairs that the curve may leave undecided without a note

QUANTITIES: Mapping[str, Quantity] = {
    "nll_temperature": Quantity("log loss, a temperature", "nats", ODDS, "by one scale, fitted to other groups"),
    "isotonic_gain": Quantity("less by the curve", "nats", ODDS, "log loss by a temperature minus that by the curve"),
    "isotonic_ties": Quantity("left undecided", "share", ODDS, "pairs to which only the curve gives the odds 1 : 1"),
    **ODDS_BEFORE_AND_AFTER,
}


def fit_isotonic_judge(
    model: RewardModel | Judge,
    comparisons: Sequence[Comparison],
    options: CalibrateOptions,
    *,
    progress: Progress | None = None,
) -> tuple[IsotonicJudge, Report]:
    """A judge whose odds are the model's, bent by a symmetric isotonic curve, and a report of the odds before and after.

    The comparisons are 1000 or more that the model was not trained on. "After" is cross-fitted: each pair is judged by a
    curve fitted to other groups, and so is the temperature it is compared with. Estimates: those of a temperature's report
    with _before and _after; nll_temperature; isotonic_gain, the log loss saved over a temperature, in nats; isotonic_ties,
    the share of pairs that the curve alone leaves undecided. A model that is already calibrated is calibrated again from
    its raw rewards.
    """
    raw = strip_calibration(model)
    raw = raw.model if isinstance(raw, IsotonicJudge) else raw
    pairs = usable_pairs(score_comparisons(raw, comparisons, progress=progress))
    if len(pairs) < MIN_PAIRS:
        raise GuerdonError(
            f"calibrate.method=isotonic: comparisons must give at least {MIN_PAIRS} pairs, got {len(pairs)}. "
            "Use calibrate.method=temperature, or hold out more."
        )
    judge = IsotonicJudge(raw, fit_isotonic(pairs.margin, pairs.q, pairs.weight))
    after = _cross_fitted_log_odds(pairs, options.seed)
    estimates = _measure_curve(pairs, after, options)
    about = {
        "comparisons": str(len(comparisons)),
        "pairs": str(len(pairs)),
        "groups": str(pairs.num_groups),
        "points of the curve": str(len(judge.curve.margin)),
        "comparisons hash": digest_all(comparison.id for comparison in comparisons),
        "intervals": describe_intervals(DRAWS, options.seed),
    }
    return judge, Report("Calibration by a curve", about, estimates, _findings(estimates), quantities=QUANTITIES)


def _cross_fitted_log_odds(pairs: ScoredPairs, seed: int) -> Float[np.ndarray, " n"]:
    """For each pair, the log-odds by a curve fitted to the other folds."""
    log_odds = np.empty(len(pairs))
    fold = fold_of(pairs.group, seed)
    for held_out in np.unique(fold):
        rest = fold != held_out
        curve = fit_isotonic(pairs.margin[rest], pairs.q[rest], pairs.weight[rest])
        log_odds[~rest] = isotonic_log_odds(pairs.margin[~rest], curve)
    return log_odds


def _measure_curve(
    pairs: ScoredPairs, after: Float[np.ndarray, " n"], options: CalibrateOptions
) -> dict[str, Estimate]:
    estimates: dict[str, Estimate] = {}
    calibrated = replace(pairs, margin=after)
    for when, scored in (("before", pairs), ("after", calibrated)):
        odds = measure_odds(scored, bins=options.bins)
        estimates |= {f"{name}_{when}": estimate for name, estimate in odds.items()}
    null = measure_null(calibrated, bins=options.bins, draws=DRAWS, seed=options.seed)
    estimates |= {f"{name}_after": estimate for name, estimate in null.items()}

    def mean(values: Float[np.ndarray, " n"]) -> Estimate:
        return Estimate(*clustered_mean(values, pairs.group, pairs.weight))

    by_temperature = nll(pairs.margin / cross_fitted_temperature(pairs, options.seed), pairs.q)
    estimates["nll_temperature"] = mean(by_temperature)
    estimates["isotonic_gain"] = mean(by_temperature - nll(after, pairs.q))
    undecided = (np.abs(after) < 1e-9) & (pairs.margin != 0)
    estimates["isotonic_ties"] = estimate_share(undecided.astype(np.float64), pairs.group, pairs.weight)
    return estimates


def _findings(estimates: dict[str, Estimate]) -> tuple[Finding, ...]:
    gain, ties = estimates["isotonic_gain"], estimates["isotonic_ties"]
    findings = []
    if not gain.low > 0:
        findings.append(
            Finding(
                "warning",
                "A temperature does as well as the curve",
                f"log loss {number(estimates['nll_temperature'])} with a temperature; the curve saves {number(gain)} nats",
                "calibrate.method=temperature: it stays a reward model, and changes no ranking.",
            )
        )
    if ties.value > MAX_TIES:
        findings.append(
            Finding(
                "note",
                "The curve leaves pairs undecided",
                f"{percent(ties)} of pairs get odds of 1 : 1, where the model had a preference that the labels do not support",
                "Rank by the rewards, not by the odds.",
            )
        )
    if is_miscalibrated(estimates["ece_after"]):
        findings.append(
            Finding(
                "warning",
                "A curve does not correct the odds",
                f"calibration error {percent(estimates['ece_after'])}, after the noise of this many pairs is taken out",
                "Compare the sources in the audit's section on domains.",
            )
        )
    return tuple(findings)
