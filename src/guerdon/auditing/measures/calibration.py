"""Does the model mean its odds? Log loss, Brier score, calibration error with its null, and the curves behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import (
    Curve,
    Estimate,
    Finding,
    Report,
)
from guerdon.formulas.calibration import reliability
from guerdon.formulas.estimation import wilson
from guerdon.models.calibration_error import (
    COIN_NLL,
    QUANTITIES,
    is_miscalibrated,
    measure_null,
    measure_odds,
)

if TYPE_CHECKING:
    from guerdon.config import AuditOptions
    from guerdon.models.scored_pairs import ScoredPairs

HISTOGRAM_BINS = 25


def measure_calibration(pairs: ScoredPairs, options: AuditOptions) -> Report:
    """Keys: nll, brier, ece, overconfidence, ece_null, ece_p_value. Curves: reliability, margins."""
    estimates = measure_odds(
        pairs.margin, pairs.q, pairs.weight, pairs.group, bins=options.bins, draws=options.draws, seed=options.seed
    )
    estimates |= measure_null(
        pairs, estimates["ece"].value, bins=options.bins, draws=options.null_draws, seed=options.seed
    )
    curves = {"reliability": _reliability_curve(pairs, options.bins), "margins": _margin_histogram(pairs)}
    return Report("Odds", {}, estimates, _findings(estimates), curves, quantities=QUANTITIES)


def _reliability_curve(pairs: ScoredPairs, bins: int) -> Curve:
    confidence, accuracy, count = reliability(pairs.margin, pairs.q, bins)
    return Curve(
        tuple(float(each) for each in confidence),
        tuple(Estimate(*wilson(float(a) * int(c), int(c))) for a, c in zip(accuracy, count, strict=True)),
        "confidence of the model",
        "share of people who agree",
        diagonal=True,
        title="Do the odds mean what they say?",
        caption="On the dashed line the odds mean what they say; below it the model is surer than it should be. "
        "Intervals take pairs as independent.",
    )


def _margin_histogram(pairs: ScoredPairs) -> Curve:
    """Share of pairs by margin, in the direction of the verdict; the outermost bars hold everything beyond them."""
    toward_preference = pairs.margin * np.where(pairs.q < 0.5, -1.0, 1.0)
    reach = float(np.quantile(np.abs(toward_preference), 0.98)) or 1.0
    edges = np.linspace(-reach, reach, HISTOGRAM_BINS + 1)
    count, _ = np.histogram(np.clip(toward_preference, -reach, reach), edges)
    return Curve(
        tuple(float(each) for each in (edges[1:] + edges[:-1]) / 2),
        tuple(Estimate(*wilson(int(c), len(pairs))) for c in count),
        "margin toward the verdict, nats",
        "share of pairs",
        kind="bars",
        title="How far apart are the rewards?",
        caption="Right of zero the model agrees with the verdict. The outermost bars hold everything beyond them.",
    )


def _findings(found: dict[str, Estimate]) -> tuple[Finding, ...]:
    notes = []
    if is_miscalibrated(found):
        over = found["overconfidence"]
        evidence = (
            f"calibration error {found['ece']}, {found['ece_null']} if the odds were right; "
            f"confidence minus accuracy {over}"
        )
        title = "Overconfident" if over.low > 0 else "Too modest" if over.high < 0 else "The odds are off"
        notes.append(
            Finding(
                "warning",
                title,
                evidence,
                "Calibrate if no temperature is stored yet (no ranking changes); else see whether sources differ.",
            )
        )
    if found["nll"].low > COIN_NLL:
        notes.append(
            Finding(
                "warning",
                "As odds, worse than a coin",
                f"log loss {found['nll']}, a coin has {COIN_NLL:.3f}",
                "Calibrate before using rewards as probabilities or mixing them with other terms.",
            )
        )
    return tuple(notes)
