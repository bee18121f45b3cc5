"""A model and held-out comparisons in, the same model with honest odds out, and what that changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import (
    Estimate,
    Finding,
    GuerdonError,
    Report,
    RewardModel,
    digest_all,
    prompt_digest,
)
from guerdon.formulas.calibration import LOG_TEMPERATURE_RANGE, fit_temperature
from guerdon.formulas.resampling import bootstrap, bootstrap_mean
from guerdon.models.calibrated import CalibratedModel, Calibration
from guerdon.models.calibration_error import is_miscalibrated, measure_null, measure_odds
from guerdon.models.scored_pairs import Progress, ScoredPairs, score_comparisons

if TYPE_CHECKING:
    from jaxtyping import Float, Int, Shaped

    from guerdon.config import CalibrateOptions
    from guerdon.contracts import Comparison, Rollouts

__all__ = ["fit"]

DRAWS = 500  # bootstrap draws; each refits the temperature
FOLDS = 5
FEWEST_GROUPS = 20


def fit(
    model: RewardModel,
    comparisons: Sequence[Comparison],
    options: CalibrateOptions,
    *,
    reference: Rollouts | None = None,
    progress: Progress | None = None,
) -> tuple[CalibratedModel, Report]:
    """The model in nats, by one temperature over its margins, and a report of the odds before and after.

    The comparisons are ones the model was not trained on. "After" is cross-fitted: each pair is judged by a temperature
    fitted to other groups. `reference` holds samples of the policy to be trained; its rewards give the reference mean
    and spread. A model that is already calibrated is calibrated again from its raw rewards.
    """
    raw = model.model if isinstance(model, CalibratedModel) else model
    if not isinstance(raw, RewardModel):
        raise GuerdonError(f"calibrate: {type(raw).__name__} gives no scores to scale; remedy: give a reward model")
    pairs = usable_pairs(score_comparisons(raw, comparisons, progress=progress))
    estimates, findings = _measure_temperature(pairs, options) if options.temperature else ({}, ())
    temperature = estimates["temperature"].value if options.temperature else 1.0
    calibration = Calibration(temperature)
    if reference is not None:
        calibration, measured = _measure_reference(raw, reference, temperature, options.seed)
        estimates |= measured
    about = {
        "comparisons": str(len(comparisons)),
        "pairs": str(len(pairs)),
        "groups": str(pairs.num_groups),
        "comparisons hash": digest_all(comparison.id for comparison in comparisons),
        "intervals": f"95 %, {DRAWS} bootstrap draws by group, seed {options.seed}",
        **{f"reference {key.replace('_', ' ')}": str(value) for key, value in calibration.provenance.items()},
    }
    return CalibratedModel(raw, calibration), Report("Calibration", about, estimates, findings)


def usable_pairs(pairs: ScoredPairs) -> ScoredPairs:
    """The pairs, where they can fit a scale at all."""
    if len(pairs) == 0:
        raise GuerdonError("calibrate: no comparable pair; remedy: give verdicts that rank at least two responses")
    if pairs.is_tie.all():
        raise GuerdonError(
            f"calibrate: all {len(pairs)} pairs are ties, which fit no temperature; remedy: add pairs with a winner"
        )
    if not pairs.margin.any():
        raise GuerdonError(
            f"calibrate: all {len(pairs)} margins are 0, so no scale shows; remedy: train the model first"
        )
    return pairs


def _measure_temperature(
    pairs: ScoredPairs, options: CalibrateOptions
) -> tuple[dict[str, Estimate], tuple[Finding, ...]]:
    def temperature(rows: Int[np.ndarray, " m"]) -> float:
        return float(fit_temperature(pairs.margin[rows], pairs.q[rows], pairs.weight[rows]))

    estimates = {"temperature": Estimate(*bootstrap(temperature, pairs.group, DRAWS, options.seed))}
    margins = {"before": pairs.margin, "after": pairs.margin / cross_fitted_temperature(pairs, options.seed)}
    for when, margin in margins.items():
        odds = measure_odds(
            margin, pairs.q, pairs.weight, pairs.group, bins=options.bins, draws=DRAWS, seed=options.seed
        )
        estimates |= {f"{name}_{when}": estimate for name, estimate in odds.items()}
    after = replace(pairs, margin=margins["after"])
    null = measure_null(after, estimates["ece_after"].value, bins=options.bins, draws=DRAWS, seed=options.seed)
    estimates |= {f"{name}_after": estimate for name, estimate in null.items()}
    return estimates, _temperature_findings(estimates, pairs, is_miscalibrated(null))


def fold_of(group: Shaped[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " n"]:
    """The fold of each row, 0 to 4: all of a group in one."""
    names, place = np.unique(group, return_inverse=True)
    fold: np.ndarray = np.random.default_rng(seed).permutation(len(names))[place] % FOLDS
    return fold


def cross_fitted_temperature(pairs: ScoredPairs, seed: int) -> Float[np.ndarray, " n"]:
    """For each pair the temperature fitted to the other folds; with a single group, to all pairs."""
    fold = fold_of(pairs.group, seed)
    temperature = np.full(len(pairs), fit_temperature(pairs.margin, pairs.q, pairs.weight))
    for held_out in range(min(FOLDS, pairs.num_groups) if pairs.num_groups > 1 else 0):
        rest = fold != held_out
        temperature[~rest] = fit_temperature(pairs.margin[rest], pairs.q[rest], pairs.weight[rest])
    return temperature


def _temperature_findings(estimates: dict[str, Estimate], pairs: ScoredPairs, still_off: bool) -> tuple[Finding, ...]:
    temperature = estimates["temperature"]
    coldest, hottest = (math.exp(end) for end in LOG_TEMPERATURE_RANGE)
    found: list[tuple[str, str, str]] = []
    if temperature.value >= hottest * (1 - 1e-9):
        title, remedy = "The margins say nothing of the verdicts", "Check that chosen and rejected are not swapped."
        found.append((title, f"the temperature is at its upper bound, {hottest:.0f}, on {len(pairs)} pairs", remedy))
    elif temperature.value <= coldest * (1 + 1e-9):
        title, remedy = "The margins separate every pair", "Check that these comparisons were not trained on."
        found.append((title, f"the temperature is at its lower bound, {coldest:.3g}, on {len(pairs)} pairs", remedy))
    if pairs.num_groups < FEWEST_GROUPS:
        evidence = f"{pairs.num_groups} groups, {FEWEST_GROUPS} wanted; temperature {temperature}"
        found.append(("Too few groups to trust the temperature", evidence, "Hold out more prompts for calibration."))
    if still_off:
        evidence = f"calibration error {estimates['ece_after']}, {estimates['ece_null_after']} if the odds were right"
        remedy = "Read the reliability curve of the audit; look for sources that differ."
        found.append(("One temperature does not mend the odds", evidence, remedy))
    return tuple(Finding("warning", *each) for each in found)


def _measure_reference(
    model: RewardModel, reference: Rollouts, temperature: float, seed: int
) -> tuple[Calibration, dict[str, Estimate]]:
    """Mean and spread, in raw units, of a policy's rewards, and the share of their variance that prompts explain."""
    if len(reference.responses) < 2:
        raise GuerdonError(f"calibrate: a reference needs 2 samples or more, got {len(reference.responses)}")
    raw = np.asarray(model.score(reference.prompts, reference.responses).value, dtype=np.float64)
    keys = np.array([prompt_digest(prompt) for prompt in reference.prompts])
    if not raw.std() > 0:
        same = f"all {len(raw)} reference samples get the reward {raw[0]:.4g}"
        raise GuerdonError(f"calibrate: {same}; remedy: sample with a temperature above 0")
    _, place, count = np.unique(keys, return_inverse=True, return_counts=True)

    def between_prompts(rows: Int[np.ndarray, " m"]) -> float:
        total, size = np.bincount(place[rows], weights=raw[rows]), np.bincount(place[rows])
        mean_of_own = (total / np.maximum(size, 1))[place[rows]]
        return float(mean_of_own.var() / raw[rows].var()) if raw[rows].var() > 0 else math.nan

    estimates = {
        "reference_mean": Estimate(*bootstrap_mean(raw, keys, draws=DRAWS, seed=seed)),
        "reference_spread": Estimate(*bootstrap(lambda rows: float(raw[rows].std()), keys, DRAWS, seed)),
        "reference_between_prompts": Estimate(*bootstrap(between_prompts, keys, DRAWS, seed)),
    }
    authors = sorted({response.author for response in reference.responses if response.author})
    provenance: dict[str, object] = {
        "policy": ", ".join(authors) or "unknown",
        "prompts": digest_all(sorted(set(keys.tolist()))),
        "n": len(raw),
        "samples_per_prompt": int(count.min()),
    }
    return Calibration(temperature, float(raw.mean()), float(raw.std()), provenance), estimates
