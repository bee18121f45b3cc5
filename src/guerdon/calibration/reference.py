"""The rewards of a policy's own samples: the mean and spread that normalized rewards are measured from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Estimate, GuerdonError, Quantity, RewardModel, digest_all, prompt_digest
from guerdon.formulas.clustered import clustered_mean
from guerdon.formulas.resampling import bootstrap
from guerdon.models.card import Calibration
from guerdon.models.estimates import SCALE

if TYPE_CHECKING:
    from jaxtyping import Int

    from guerdon.contracts import Rollouts


QUANTITIES: Mapping[str, Quantity] = {
    "reference_mean": Quantity("reference mean", "number", SCALE, "mean raw reward of the reference policy's samples"),
    "reference_spread": Quantity("reference spread", "number", SCALE, "standard deviation of those rewards"),
    "reference_between_prompts": Quantity(
        "variance between prompts",
        "share",
        SCALE,
        "share that prompts explain; where it is high, rewards of different prompts are not comparable",
    ),
}


def measure_reference(
    model: RewardModel, reference: Rollouts, temperature: float, *, draws: int, seed: int
) -> tuple[Calibration, dict[str, Estimate]]:
    """The calibration with reference mean and spread in raw units, and their estimates, with intervals over prompts.

    reference_between_prompts is the share of the variance of rewards that lies between prompts.
    """
    if len(reference.responses) < 2:
        raise GuerdonError(
            f"calibrate: reference must have at least 2 samples, got {len(reference.responses)}. Sample more."
        )
    raw = np.asarray(model.score(reference.prompts, reference.responses).value, dtype=np.float64)
    if not raw.std() > 0:
        raise GuerdonError(
            f"calibrate: rewards of the reference must differ, got {raw[0]:.4g} for all {len(raw)} samples. "
            "Sample with a temperature above 0."
        )
    prompts = np.array([prompt_digest(prompt) for prompt in reference.prompts])
    _, code, count = np.unique(prompts, return_inverse=True, return_counts=True)

    def between_prompts(rows: Int[np.ndarray, " m"]) -> float:
        total, size = np.bincount(code[rows], weights=raw[rows]), np.bincount(code[rows])
        prompt_mean = (total / np.maximum(size, 1))[code[rows]]
        return float(prompt_mean.var() / raw[rows].var()) if raw[rows].var() > 0 else math.nan

    estimates = {
        "reference_mean": Estimate(*clustered_mean(raw, prompts)),
        "reference_spread": Estimate(*bootstrap(lambda rows: float(raw[rows].std()), prompts, draws, seed)),
        "reference_between_prompts": Estimate(*bootstrap(between_prompts, prompts, draws, seed)),
    }
    authors = sorted({response.author for response in reference.responses if response.author})
    provenance: dict[str, object] = {
        "policy": ", ".join(authors) or "unknown",
        "prompts": digest_all(sorted(set(prompts.tolist()))),
        "n": len(raw),
        "samples_per_prompt": int(count.min()),
    }
    return Calibration(temperature, float(raw.mean()), float(raw.std()), provenance), estimates
