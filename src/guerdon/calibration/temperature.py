"""Calibration by one temperature: margins are divided by it, so no ranking changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from guerdon.calibration.reference import QUANTITIES as REFERENCE_QUANTITIES
from guerdon.calibration.reference import measure_reference
from guerdon.contracts import Estimate, Finding, GuerdonError, Quantity, Report, RewardModel, Severity, digest_all
from guerdon.errors import counted, verb
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
NOT_STORED: Final = "No temperature is stored"
MAX_RATIO: Final = 10.0  # of the ends of the temperature's interval; beyond it not even the order of magnitude is known

ODDS_BEFORE_AND_AFTER: Mapping[str, Quantity] = {
    f"{name}_{when}": quantity.variant(when)
    for name, quantity in ODDS_QUANTITIES.items()
    for when in ("before", "after")
}
QUANTITIES: Mapping[str, Quantity] = {
    "temperature": Quantity("temperature", "number", SCALE, "raw units of reward in one nat"),
    "temperature_fitted": Quantity(
        "temperature, not stored", "number", SCALE, "fitted to these data; the finding says why it is not stored"
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
    and spread, which are in raw units: without a new reference, those of an earlier calibration are kept at any temperature. A
    model that is already calibrated is calibrated again from its raw rewards, and "before" is at its stored temperature. A
    fitted temperature is not stored if its interval spans more than a factor of MAX_RATIO, or if it does not lower the
    cross-fitted log loss: the stored one is kept, or 1 with the reason as the calibration's note.
    """
    raw = strip_calibration(model)
    stored = model.calibration if isinstance(model, CalibratedModel) else Calibration()
    if not isinstance(raw, RewardModel):
        raise GuerdonError(
            f"calibrate: model must give scores, got {type(raw).__name__}. Give a reward model, not a judge."
        )
    pairs = usable_pairs(score_comparisons(raw, comparisons, progress=progress))
    fit = _fit(pairs, options, stored.temperature) if options.temperature else _Fit(stored.temperature)
    estimates, note = dict(fit.estimates), stored.note
    if options.temperature and not (fit.why_kept and _has_temperature(stored.temperature)):
        note = fit.why_kept
    calibration = replace(stored, temperature=fit.temperature, note=note)
    if reference is not None:
        measured, reference_estimates = measure_reference(
            raw, reference, fit.temperature, draws=DRAWS, seed=options.seed
        )
        calibration = replace(measured, note=note)
        estimates |= reference_estimates
    about = {
        "comparisons": str(len(comparisons)),
        "pairs": str(len(pairs)),
        "groups": str(pairs.num_groups),
        "comparisons hash": digest_all(comparison.id for comparison in comparisons),
        "intervals": describe_intervals(DRAWS, options.seed),
        **{f"reference {key.replace('_', ' ')}": str(value) for key, value in calibration.provenance.items()},
    }
    if reference is None and stored.provenance:
        about["reference"] = "mean and spread of an earlier calibration are kept: they are in raw units"
    report = Report(
        "Calibration", about, estimates, fit.findings, summary=_summary(fit, stored.temperature), quantities=QUANTITIES
    )
    return CalibratedModel(raw, calibration), report


def usable_pairs(pairs: ScoredPairs) -> ScoredPairs:
    """The same pairs. Raises GuerdonError if no scale can be fitted to them."""
    if len(pairs) == 0:
        raise GuerdonError(
            "calibrate: comparisons must rank at least two responses, got none that do. Give comparisons with a preference."
        )
    if pairs.is_tie.all():
        raise GuerdonError(
            f"calibrate: comparisons must have a preferred response, got {counted(len(pairs), 'pair')} that "
            f"{verb(len(pairs), 'are')} all ties. "
            "Add pairs with a winner."
        )
    if not pairs.margin.any():
        raise GuerdonError(
            f"calibrate: margins must differ from 0, got {counted(len(pairs), 'margin')} that "
            f"{verb(len(pairs), 'are')} all 0. Train the model first."
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


@dataclass(frozen=True, slots=True)
class _Fit:
    """The temperature to store, and what the report says of it. why_kept: why a fitted one is not stored; empty if it is."""

    temperature: float
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    why_kept: str = ""


def _fit(pairs: ScoredPairs, options: CalibrateOptions, stored: float) -> _Fit:
    """The temperature of the pairs, or the stored one where the pairs give none that is better."""

    def temperature(rows: Int[np.ndarray, " m"]) -> float:
        return float(fit_temperature(pairs.margin[rows], pairs.q[rows], pairs.weight[rows]))

    fitted = Estimate(*bootstrap(temperature, pairs.group, DRAWS, options.seed))
    if _bound_of(fitted.value):  # draws pile up at the bound, which says nothing of how certain it is
        fitted = replace(fitted, low=math.nan, high=math.nan)
    before = replace(pairs, margin=pairs.margin / stored)
    after = replace(pairs, margin=pairs.margin / cross_fitted_temperature(pairs, options.seed))
    odds_before, odds_after = (measure_odds(scored, bins=options.bins) for scored in (before, after))
    why_kept = _why_kept(fitted, stored, odds_before["nll"], odds_after["nll"])
    estimates = {"temperature": fitted}
    if why_kept:
        after, odds_after = before, odds_before
        estimates = {"temperature": Estimate(stored, math.nan, math.nan, fitted.n), "temperature_fitted": fitted}
    for when, odds in (("before", odds_before), ("after", odds_after)):
        estimates |= {f"{name}_{when}": estimate for name, estimate in odds.items()}
    null = measure_null(after, bins=options.bins, draws=DRAWS, seed=options.seed)
    estimates |= {f"{name}_after": estimate for name, estimate in null.items()}
    findings = _findings(estimates, pairs, why_kept, has_stored=_has_temperature(stored))
    return _Fit(estimates["temperature"].value, estimates, findings, why_kept)


def _has_temperature(stored: float) -> bool:
    """Whether a temperature was stored: a model without one has 1."""
    return stored != 1.0


def _why_kept(fitted: Estimate, stored: float, nll_before: Estimate, nll_after: Estimate) -> str:
    """Why the fitted temperature is not stored; empty if it is. The losses are at the stored one and cross-fitted."""
    is_kept = f"so {stored:.3g} is kept"
    bound = _bound_of(fitted.value)
    if bound:
        return f"the best temperature lies beyond its {bound} bound, {fitted.value:.3g}, {is_kept}"
    if not _is_determined(fitted):
        return f"the data do not determine a temperature: fitted {number(fitted)} on {fitted.n} groups, {is_kept}"
    if nll_after.value > nll_before.value and not math.isclose(fitted.value, stored, rel_tol=1e-6):
        losses = f"{nll_before.value:.4f} before, {nll_after.value:.4f} after"
        return f"a temperature of {number(fitted)} does not lower the cross-fitted log loss ({losses}), {is_kept}"
    return ""


def _bound_of(temperature: float) -> Literal["lower", "upper", ""]:
    """The bound of the fit that a temperature lies at; empty if it lies at none."""
    lowest, highest = (math.exp(end) for end in LOG_TEMPERATURE_RANGE)
    if temperature <= lowest * (1 + 1e-9):
        return "lower"
    return "upper" if temperature >= highest * (1 - 1e-9) else ""


def _is_determined(temperature: Estimate) -> bool:
    """Whether the interval has ends within a factor of MAX_RATIO, and neither is a bound of the fit."""
    has_bound = bool(_bound_of(temperature.low) or _bound_of(temperature.high))
    return not has_bound and temperature.high <= MAX_RATIO * temperature.low  # False for NaN


def _summary(fit: _Fit, stored: float) -> str:
    """That the fitted temperature is not stored, and which one the model has; empty if it is stored."""
    if not fit.why_kept:
        return ""
    kept = f"the stored temperature, {stored:.3g}, is kept" if _has_temperature(stored) else NOT_STORED.lower()
    return f"{kept}: {fit.why_kept.removesuffix(f', so {stored:.3g} is kept')}"


def _findings(
    estimates: Mapping[str, Estimate], pairs: ScoredPairs, why_kept: str, *, has_stored: bool
) -> tuple[Finding, ...]:
    fitted = estimates.get("temperature_fitted", estimates["temperature"])
    findings: list[Finding] = []

    def add(title: str, evidence: str, remedy: str, severity: Severity = "warning") -> None:
        findings.append(Finding(severity, title, evidence, remedy))

    evidence = f"on {len(pairs)} pairs {why_kept}"
    if _bound_of(fitted.value) == "upper":
        add("The margins do not predict the labels", evidence, "Check that chosen and rejected are not swapped.")
    elif _bound_of(fitted.value) == "lower":
        add("The margins separate every pair", evidence, "Check that these comparisons were not trained on.")
    elif why_kept:
        title = "The stored temperature is kept" if has_stored else NOT_STORED
        if _is_determined(fitted):
            add(title, why_kept, "To replace it, calibrate on more prompts." if has_stored else "", "note")
        else:
            ratio = f"{MAX_RATIO:.0f} of each other"
            add(
                title, why_kept, f"Calibrate on more prompts, until the interval's ends are within a factor of {ratio}."
            )
    if pairs.num_groups < MIN_GROUPS:
        needed = f"{pairs.num_groups} groups where {MIN_GROUPS} are needed"
        spread = "" if _bound_of(fitted.value) else f"; temperature {number(fitted)}"
        add("Too few groups to trust the temperature", needed + spread, "Hold out more prompts for calibration.")
    if is_miscalibrated(estimates["ece_after"]):
        add(
            "One temperature does not correct the odds",
            f"calibration error {percent(estimates['ece_after'])}, after the noise of this many pairs is taken out",
            "Read the reliability curve of the audit; look for sources that differ.",
        )
    return tuple(findings)
