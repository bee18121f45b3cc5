"""Calibration by one temperature: margins are divided by it, so no ranking changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.calibration.reference import QUANTITIES as REFERENCE_QUANTITIES
from guerdon.calibration.reference import measure_reference
from guerdon.contracts import Estimate, Finding, GuerdonError, Quantity, Report, RewardModel, digest_all
from guerdon.formulas.calibration import LOG_TEMPERATURE_RANGE, fit_temperature
from guerdon.formulas.resampling import bootstrap
from guerdon.models.calibrated import CalibratedModel, strip_calibration
from guerdon.models.calibration_error import QUANTITIES as ODDS_QUANTITIES
from guerdon.models.calibration_error import is_miscalibrated, measure_null, measure_odds
from guerdon.models.card import Calibration
from guerdon.models.estimates import SCALE, describe_intervals, number, percent
from guerdon.models.scored_pairs import ScoredPairs, score_comparisons
from guerdon.progress import Progress

if TYPE_CHECKING:
    from jaxtyping import Float, Int, Shaped

    from guerdon.config import CalibrateOptions
    from guerdon.contracts import Comparison, Rollouts

__all__ = ["fit_calibrated_model"]

DRAWS = 500  # bootstrap draws; each refits the temperature
FOLDS: Final = 5
MIN_GROUPS: Final = 20
MAX_RATIO: Final = 10.0  # of the ends of the temperature's interval; beyond it not even the order of magnitude is known

ODDS_BEFORE_AND_AFTER: Mapping[str, Quantity] = {
    f"{name}_{when}": quantity.variant(when)
    for name, quantity in ODDS_QUANTITIES.items()
    for when in ("before", "after")
}
QUANTITIES: Mapping[str, Quantity] = {
    "temperature": Quantity("temperature", "number", SCALE, "raw units of reward in one nat"),
    "temperature_fitted": Quantity(
        "temperature, not stored", "number", SCALE, "fitted, but not determined by the data"
    ),
    **REFERENCE_QUANTITIES,
    **ODDS_BEFORE_AND_AFTER,
}


def fit_calibrated_model(
    model: RewardModel,
    comparisons: Sequence[Comparison],
    options: CalibrateOptions,
    *,
    reference: Rollouts | None = None,
    progress: Progress | None = None,
) -> tuple[CalibratedModel, Report]:
    """The model with its rewards in nats, by one temperature, and a report of its odds before and after.

    The comparisons must not be ones the model was trained on. "After" is cross-fitted: each pair is judged by a temperature
    fitted to other groups. `reference` holds samples of the policy to be optimized; their rewards give the reference mean
    and spread. A model that is already calibrated is calibrated again from its raw rewards. A temperature whose interval spans
    more than a factor of MAX_RATIO is not stored: 1 is, with the reason as the calibration's note.
    """
    raw = strip_calibration(model)
    if not isinstance(raw, RewardModel):
        raise GuerdonError(
            f"calibrate: model must give scores, got {type(raw).__name__}. Give a reward model, not a judge."
        )
    pairs = usable_pairs(score_comparisons(raw, comparisons, progress=progress))
    estimates, findings = _measure_temperature(pairs, options) if options.temperature else ({}, ())
    temperature = estimates["temperature"].value if options.temperature else 1.0
    note = _why_not_stored(estimates.get("temperature_fitted"))
    calibration = Calibration(temperature)
    if reference is not None:
        calibration, reference_estimates = measure_reference(
            raw, reference, temperature, draws=DRAWS, seed=options.seed
        )
        estimates |= reference_estimates
    calibration = replace(calibration, note=note)
    about = {
        "comparisons": str(len(comparisons)),
        "pairs": str(len(pairs)),
        "groups": str(pairs.num_groups),
        "comparisons hash": digest_all(comparison.id for comparison in comparisons),
        "intervals": describe_intervals(DRAWS, options.seed),
        **{f"reference {key.replace('_', ' ')}": str(value) for key, value in calibration.provenance.items()},
    }
    return CalibratedModel(raw, calibration), Report("Calibration", about, estimates, findings, quantities=QUANTITIES)


def usable_pairs(pairs: ScoredPairs) -> ScoredPairs:
    """The same pairs. Raises GuerdonError if no scale can be fitted to them."""
    if len(pairs) == 0:
        raise GuerdonError(
            "calibrate: comparisons must rank at least two responses, got none that do. Give comparisons with a preference."
        )
    if pairs.is_tie.all():
        raise GuerdonError(
            f"calibrate: comparisons must have a preferred response, got {len(pairs)} pairs that are all ties. "
            "Add pairs with a winner."
        )
    if not pairs.margin.any():
        raise GuerdonError(
            f"calibrate: margins must differ from 0, got {len(pairs)} margins that are all 0. Train the model first."
        )
    return pairs


def cross_fitted_temperature(pairs: ScoredPairs, seed: int) -> Float[np.ndarray, " n"]:
    """For each pair, the temperature fitted to the other folds; with a single group, to all pairs."""
    fold = fold_of(pairs.group, seed)
    temperature = np.full(len(pairs), fit_temperature(pairs.margin, pairs.q, pairs.weight))
    for held_out in range(min(FOLDS, pairs.num_groups) if pairs.num_groups > 1 else 0):
        rest = fold != held_out
        temperature[~rest] = fit_temperature(pairs.margin[rest], pairs.q[rest], pairs.weight[rest])
    return temperature


def fold_of(group: Shaped[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " n"]:
    """The fold of each row, 0 to 4; all rows of a group are in the same one."""
    names, code = np.unique(group, return_inverse=True)
    fold: np.ndarray = np.random.default_rng(seed).permutation(len(names))[code] % FOLDS
    return fold


def _measure_temperature(
    pairs: ScoredPairs, options: CalibrateOptions
) -> tuple[dict[str, Estimate], tuple[Finding, ...]]:
    def temperature(rows: Int[np.ndarray, " m"]) -> float:
        return float(fit_temperature(pairs.margin[rows], pairs.q[rows], pairs.weight[rows]))

    fitted = Estimate(*bootstrap(temperature, pairs.group, DRAWS, options.seed))
    if _is_determined(fitted):
        estimates = {"temperature": fitted}
        after = replace(pairs, margin=pairs.margin / cross_fitted_temperature(pairs, options.seed))
    else:
        estimates = {"temperature": Estimate(1.0, math.nan, math.nan, fitted.n), "temperature_fitted": fitted}
        after = pairs
    for when, calibrated in (("before", pairs), ("after", after)):
        odds = measure_odds(calibrated, bins=options.bins)
        estimates |= {f"{name}_{when}": estimate for name, estimate in odds.items()}
    null = measure_null(after, bins=options.bins, draws=DRAWS, seed=options.seed)
    estimates |= {f"{name}_after": estimate for name, estimate in null.items()}
    return estimates, _findings(estimates, pairs, is_miscalibrated(estimates["ece_after"]))


def _is_determined(temperature: Estimate) -> bool:
    """Whether the interval has ends within a factor of MAX_RATIO, and neither is a bound of the fit."""
    lowest, highest = (math.exp(end) for end in LOG_TEMPERATURE_RANGE)
    is_inside = lowest * (1 + 1e-9) < temperature.low and temperature.high < highest * (1 - 1e-9)  # False for NaN
    return is_inside and temperature.high <= MAX_RATIO * temperature.low


def _why_not_stored(fitted: Estimate | None) -> str:
    """Why a fitted temperature is not stored; empty where there is none."""
    if fitted is None:
        return ""
    return f"the data do not determine a temperature: fitted {number(fitted)} on {fitted.n} groups, so 1 is kept"


def _findings(estimates: dict[str, Estimate], pairs: ScoredPairs, is_still_off: bool) -> tuple[Finding, ...]:
    temperature = estimates.get("temperature_fitted", estimates["temperature"])
    lowest, highest = (math.exp(end) for end in LOG_TEMPERATURE_RANGE)
    findings: list[Finding] = []

    def warn(title: str, evidence: str, remedy: str) -> None:
        findings.append(Finding("warning", title, evidence, remedy))

    if temperature.value >= highest * (1 - 1e-9):
        warn(
            "The margins do not predict the labels",
            f"the temperature is at its upper bound, {highest:.0f}, on {len(pairs)} pairs",
            "Check that chosen and rejected are not swapped.",
        )
    elif temperature.value <= lowest * (1 + 1e-9):
        warn(
            "The margins separate every pair",
            f"the temperature is at its lower bound, {lowest:.3g}, on {len(pairs)} pairs",
            "Check that these comparisons were not trained on.",
        )
    if "temperature_fitted" in estimates:
        warn(
            "No temperature is stored",
            _why_not_stored(temperature),
            f"Calibrate on more prompts, until the interval's ends are within a factor of {MAX_RATIO:.0f} of each other.",
        )
    if pairs.num_groups < MIN_GROUPS:
        warn(
            "Too few groups to trust the temperature",
            f"{pairs.num_groups} groups where {MIN_GROUPS} are needed; temperature {number(temperature)}",
            "Hold out more prompts for calibration.",
        )
    if is_still_off:
        warn(
            "One temperature does not correct the odds",
            f"calibration error {percent(estimates['ece_after'])}, after the noise of this many pairs is taken out",
            "Read the reliability curve of the audit; look for sources that differ.",
        )
    return tuple(findings)
