"""A model and held-out comparisons in, a judge with bent odds out, and whether the bending was worth more than a temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.calibration import (
    DRAWS,
    cross_fitted_temperature,
    fold_of,
    usable_pairs,
)
from guerdon.contracts import (
    Estimate,
    Finding,
    GuerdonError,
    Report,
    RewardModel,
    digest_all,
)
from guerdon.formulas.calibration import nll
from guerdon.formulas.isotonic import fit_isotonic, isotonic_log_odds
from guerdon.formulas.resampling import bootstrap_mean, paired_difference
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.calibration_error import is_miscalibrated, measure_null, measure_odds
from guerdon.models.isotonic import IsotonicJudge
from guerdon.models.scored_pairs import Progress, ScoredPairs, score_comparisons

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.config import CalibrateOptions
    from guerdon.contracts import Comparison, Judge

__all__ = ["fit_isotonic_judge"]

FEWEST_PAIRS: Final = 1000  # a curve has as many parameters as it wants
MANY_TIES: Final = 0.01


def fit_isotonic_judge(
    model: RewardModel | Judge,
    comparisons: Sequence[Comparison],
    options: CalibrateOptions,
    *,
    progress: Progress | None = None,
) -> tuple[IsotonicJudge, Report]:
    """A judge whose odds are the model's, bent by a symmetric isotonic curve, and a report of the odds before and after.

    The comparisons are 1000 or more that the model was not trained on. "After" is cross-fitted: each pair is judged by a
    curve fitted to other groups, and so is the temperature that it is compared with. Keys: as of a temperature's report
    with _before and _after; nll_temperature; isotonic_gain, in nats of log loss over the temperature; isotonic_ties, pairs
    that only the curve leaves undecided. A model that is already calibrated is calibrated again from its raw rewards.
    """
    raw = (
        model.model
        if isinstance(model, CalibratedModel)
        else model.model
        if isinstance(model, IsotonicJudge)
        else model
    )
    pairs = usable_pairs(score_comparisons(raw, comparisons, progress=progress))
    if len(pairs) < FEWEST_PAIRS:
        raise GuerdonError(
            f"calibrate.method=isotonic: {len(pairs)} pairs where a curve needs {FEWEST_PAIRS}; "
            "remedy: calibrate.method=temperature, or hold out more"
        )
    judge = IsotonicJudge(raw, fit_isotonic(pairs.margin, pairs.q, pairs.weight))
    after = _cross_fitted(pairs, options.seed)
    estimates = _measured(pairs, after, options)
    about = {
        "comparisons": str(len(comparisons)),
        "pairs": str(len(pairs)),
        "groups": str(pairs.num_groups),
        "points of the curve": str(len(judge.curve.margin)),
        "comparisons hash": digest_all(comparison.id for comparison in comparisons),
        "intervals": f"95 %, {DRAWS} bootstrap draws by group, seed {options.seed}",
    }
    return judge, Report("Calibration by a curve", about, estimates, _findings(estimates))


def _cross_fitted(pairs: ScoredPairs, seed: int) -> Float[np.ndarray, " n"]:
    """For each pair the log-odds by a curve fitted to the other folds."""
    odds = np.empty(len(pairs))
    fold = fold_of(pairs.group, seed)
    for held_out in np.unique(fold):
        rest = fold != held_out
        curve = fit_isotonic(pairs.margin[rest], pairs.q[rest], pairs.weight[rest])
        odds[~rest] = isotonic_log_odds(pairs.margin[~rest], curve)
    return odds


def _measured(pairs: ScoredPairs, after: Float[np.ndarray, " n"], options: CalibrateOptions) -> dict[str, Estimate]:
    estimates: dict[str, Estimate] = {}
    for when, margin in (("before", pairs.margin), ("after", after)):
        odds = measure_odds(
            margin, pairs.q, pairs.weight, pairs.group, bins=options.bins, draws=DRAWS, seed=options.seed
        )
        estimates |= {f"{name}_{when}": estimate for name, estimate in odds.items()}
    bent = replace(pairs, margin=after)
    null = measure_null(bent, estimates["ece_after"].value, bins=options.bins, draws=DRAWS, seed=options.seed)
    estimates |= {f"{name}_after": estimate for name, estimate in null.items()}
    scaled = nll(pairs.margin / cross_fitted_temperature(pairs, options.seed), pairs.q)
    asked = {"weight": pairs.weight, "draws": DRAWS, "seed": options.seed}
    estimates["nll_temperature"] = Estimate(*bootstrap_mean(scaled, pairs.group, **asked))  # type: ignore[arg-type]
    gain = paired_difference(scaled, nll(after, pairs.q), pairs.group, **asked)  # type: ignore[arg-type]
    estimates["isotonic_gain"] = Estimate(*gain)
    undecided = ((np.abs(after) < 1e-9) & (pairs.margin != 0)).astype(np.float64)
    estimates["isotonic_ties"] = Estimate(*bootstrap_mean(undecided, pairs.group, **asked))  # type: ignore[arg-type]
    return estimates


def _findings(found: dict[str, Estimate]) -> tuple[Finding, ...]:
    gain, ties = found["isotonic_gain"], found["isotonic_ties"]
    notes = []
    if not gain.low > 0:
        evidence = f"log loss {found['nll_temperature']} by a temperature; less by {gain} nats by the curve"
        notes.append(
            Finding(
                "warning",
                "A temperature does as well as the curve",
                evidence,
                "calibrate.method=temperature: it stays a reward model, and changes no ranking.",
            )
        )
    if ties.value > MANY_TIES:
        evidence = (
            f"{ties} of pairs get the odds 1 : 1, where the model had a preference that the verdicts do not bear out"
        )
        notes.append(
            Finding("note", "The curve leaves pairs undecided", evidence, "Rank by the rewards, not by the odds.")
        )
    if is_miscalibrated({"ece_p_value": found["ece_p_value_after"]}):
        evidence = f"calibration error {found['ece_after']}, {found['ece_null_after']} if the odds were right"
        notes.append(
            Finding(
                "warning",
                "A curve does not mend the odds",
                evidence,
                "See whether sources differ: the audit's domains.",
            )
        )
    return tuple(notes)
