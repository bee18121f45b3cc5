"""Is the model calibrated? Log loss, Brier score, calibration error with its null, and the curves behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.contracts import Curve, Estimate, Finding, Quantity, Report
from guerdon.formulas.calibration import fit_temperature, num_bins, reliability
from guerdon.formulas.estimation import wilson
from guerdon.formulas.resampling import bootstrap
from guerdon.models.calibration_error import COIN_NLL, QUANTITIES, is_miscalibrated, measure_null, measure_odds
from guerdon.models.estimates import SCALE, number, percent

if TYPE_CHECKING:
    from jaxtyping import Int

    from guerdon.config import AuditOptions
    from guerdon.models.scored_pairs import ScoredPairs

TITLE = "Odds"
TEMPERATURE = {"temperature": Quantity("temperature", "number", SCALE, "raw units of reward in one nat, fitted here")}
HISTOGRAM_BINS: Final = 25
REACH: Final = 0.98  # share of margins within the outermost edges of the histogram


def measure_calibration(pairs: ScoredPairs, options: AuditOptions) -> Report:
    """Keys: nll, brier, ece, overconfidence, ece_null, ece_p_value. Curves: reliability, margins."""
    estimates = measure_odds(pairs, bins=options.bins)
    estimates |= measure_null(pairs, bins=options.bins, draws=options.null_draws, seed=options.seed)
    curves = {"reliability": _reliability_curve(pairs, options.bins), "margins": _margin_histogram(pairs)}
    return Report(TITLE, {}, estimates, _findings(estimates), curves, quantities=QUANTITIES)


def measure_temperature(pairs: ScoredPairs, options: AuditOptions) -> dict[str, Estimate]:
    """Key: temperature, the one that `guerdon calibrate` would fit to these pairs; nothing where none can be fitted."""
    if pairs.is_tie.all() or not pairs.margin.any():
        return {}

    def temperature(rows: Int[np.ndarray, " m"]) -> float:
        return float(fit_temperature(pairs.margin[rows], pairs.q[rows], pairs.weight[rows]))

    return {"temperature": Estimate(*bootstrap(temperature, pairs.group, options.draws, options.seed))}


def _reliability_curve(pairs: ScoredPairs, bins: int) -> Curve:
    confidence, accuracy, count = reliability(pairs.margin, pairs.q, num_bins(len(pairs), bins))
    return Curve(
        tuple(float(x) for x in confidence),
        tuple(Estimate(*wilson(float(a) * int(c), int(c))) for a, c in zip(accuracy, count, strict=True)),
        "confidence of the model",
        "share of people who agree",
        diagonal=True,
        title="Confidence and accuracy",
        caption="On the dashed line confidence equals accuracy; below it the model is more confident than it should be. "
        "Intervals take pairs as independent.",
    )


def _margin_histogram(pairs: ScoredPairs) -> Curve:
    """Share of pairs by margin, in the direction that people prefer; the outermost bars hold everything beyond them."""
    toward_preference = pairs.margin * np.where(pairs.q < 0.5, -1.0, 1.0)
    reach = float(np.quantile(np.abs(toward_preference), REACH)) or 1.0
    edges = np.linspace(-reach, reach, HISTOGRAM_BINS + 1)
    count, _ = np.histogram(np.clip(toward_preference, -reach, reach), edges)
    return Curve(
        tuple(float(x) for x in (edges[1:] + edges[:-1]) / 2),
        tuple(Estimate(*wilson(int(c), len(pairs))) for c in count),
        "margin toward what people prefer, nats",
        "share of pairs",
        kind="bars",
        title="How far apart are the rewards?",
        caption="Right of zero the model agrees with people. The outermost bars hold everything beyond them.",
    )


def _findings(estimates: dict[str, Estimate]) -> tuple[Finding, ...]:
    findings = []
    if is_miscalibrated(estimates["ece"]):
        over = estimates["overconfidence"]
        title = (
            "The model is overconfident"
            if over.low > 0
            else "The model is underconfident"
            if over.high < 0
            else "The model's odds do not hold"
        )
        evidence = (
            f"the calibration error is {percent(estimates['ece'])}, after the noise of this many pairs is taken out; "
            f"confidence minus accuracy is {percent(over)}"
        )
        remedy = "Calibrate if no temperature is stored yet (rankings stay the same); else compare the sources."
        findings.append(Finding("warning", title, evidence, remedy))
    if estimates["nll"].low > COIN_NLL:
        title = "The model's odds are worse than chance"
        evidence = f"log loss is {number(estimates['nll'])} nats, where odds of 1 : 1 give {COIN_NLL:.3f}"
        remedy = "Calibrate before using rewards as probabilities or adding them to other terms."
        findings.append(Finding("warning", title, evidence, remedy))
    return tuple(findings)
