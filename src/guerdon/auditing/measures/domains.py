"""Do the odds mean the same everywhere? One scale for all sources, and one level for all prompts: whether there is such a thing.

Axes: n pairs, s sources, m rewards. A slope is 1 / temperature: 1 where the margins mean their odds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import ndtr, ndtri

from guerdon.contracts import Curve, Estimate, Finding, GuerdonError, Quantity, Report, Rollouts, prompt_digest
from guerdon.formulas.calibration import CalibrationSlope, calibration_slope
from guerdon.formulas.estimation import benjamini_hochberg
from guerdon.formulas.normalization import icc, icc_interval
from guerdon.models.estimates import SCALE

if TYPE_CHECKING:
    from collections.abc import Hashable

    from jaxtyping import Float

    from guerdon.config import AuditOptions
    from guerdon.models.scored_pairs import ScoredPairs

FEWEST_GROUPS: Final = 20  # of a source, for a slope of its own
ALPHA: Final = 0.05
BETWEEN: Final = 0.5  # share of the variance of rewards that lies between prompts, from which on it is said

QUANTITIES: Mapping[str, Quantity] = {
    "icc": Quantity("variance between prompts", "share", SCALE, "high: rewards of different prompts do not compare"),
    "temperature_spread": Quantity(
        "hottest over coldest source", "number", SCALE, "of temperatures; 1 where one scale serves all"
    ),
}


def measure_domains(pairs: ScoredPairs, options: AuditOptions, *, reference: Rollouts | None = None) -> Report:
    """Keys: temperature_spread, the hottest over the coldest source's temperature, 1 where one scale serves all (with two
    sources of 20 groups or more); icc, the share of the variance of rewards that lies between prompts (of a reward model).
    Curve: slope_by_source.

    `reference` are rollouts with rewards, best of the policy to be trained, that the icc is measured on; without them it is
    the responses of the pairs themselves.
    """
    estimates: dict[str, Estimate] = {}
    findings: list[Finding] = []
    curves: dict[str, Curve] = {}
    about: dict[str, str] = {}
    slopes = _slopes(pairs)
    if len(slopes) > 1:
        estimates["temperature_spread"] = _spread(slopes)
        curves["slope_by_source"] = _by_source(slopes)
        findings += _slope_findings(slopes, estimates["temperature_spread"])
    rewards, prompts = _rewards(pairs) if reference is None else _of_reference(reference)
    if np.isfinite(rewards).all() and not math.isnan(icc(rewards, prompts)):
        estimates["icc"] = Estimate(*icc_interval(rewards, prompts, options.draws, options.seed))
        about["icc from"] = f"{len(rewards)} {'responses of the pairs' if reference is None else 'reference samples'}"
        findings += _icc_findings(estimates["icc"], about["icc from"])
    if small := _too_small(pairs, slopes):
        about["sources without a slope"] = small
    return Report("Sources and prompts", about, estimates, tuple(findings), curves, quantities=QUANTITIES)


def _slopes(pairs: ScoredPairs) -> dict[str, tuple[CalibrationSlope, int]]:
    """Slope and number of groups of each source that determines one, by name."""
    found = {}
    for name in np.unique(pairs.source):
        own = pairs.source == name
        groups = len(np.unique(pairs.group[own]))
        if groups < FEWEST_GROUPS:
            continue
        slope = calibration_slope(pairs.margin[own], pairs.q[own], pairs.group[own], pairs.weight[own])
        if math.isfinite(slope.error) and slope.error > 0:
            found[str(name) or "no source"] = (slope, groups)
    return found


def _spread(slopes: dict[str, tuple[CalibrationSlope, int]]) -> Estimate:
    """Largest over smallest temperature. Its interval holds all ratios of two sources at once (Sidak 1967), which allows for
    these two having been picked; a ratio is not below 1."""
    pairs = list(combinations(slopes.values(), 2))
    band = float(ndtri((1 + (1 - ALPHA) ** (1 / len(pairs))) / 2))
    logs = [math.log(slope.value) for slope, _ in slopes.values()]
    low = max(abs(math.log(a.value / b.value)) - band * math.hypot(a.error, b.error) for (a, _), (b, _) in pairs)
    high = max(abs(math.log(a.value / b.value)) + band * math.hypot(a.error, b.error) for (a, _), (b, _) in pairs)
    num = sum(groups for _, groups in slopes.values())
    return Estimate(math.exp(max(logs) - min(logs)), math.exp(max(0.0, low)), math.exp(high), num)


def _by_source(slopes: dict[str, tuple[CalibrationSlope, int]]) -> Curve:
    half = float(ndtri(1 - ALPHA / 2))
    y = [
        Estimate(s.value, s.value * math.exp(-half * s.error), s.value * math.exp(half * s.error), groups)
        for s, groups in slopes.values()
    ]
    return Curve(
        tuple(float(i) for i in range(len(y))),
        tuple(y),
        "source",
        "slope of the log-odds on the margin",
        kind="points",
        x_names=tuple(slopes),
        title="What a margin is worth, by source",
        caption="At 1 the margins mean their odds; below it the model is surer on this source than it should be.",
    )


def _slope_findings(slopes: dict[str, tuple[CalibrationSlope, int]], spread: Estimate) -> list[Finding]:
    """Sources whose own slope is not 1, at a false discovery rate; and whether they differ among themselves."""
    names = list(slopes)
    p = np.array([2 * ndtr(-abs(math.log(slopes[n][0].value)) / slopes[n][0].error) for n in names])
    q = benjamini_hochberg(p)
    found = []
    off = [(n, x) for n, x in zip(names, q.tolist(), strict=True) if x < ALPHA]
    if spread.low > 1:
        evidence = f"hottest over coldest temperature {spread}; slopes: " + ", ".join(
            f"{n} {slopes[n][0].value:.2f}" for n in names
        )
        remedy = "Calibrate each source by itself, or say of which one the odds are meant; no ranking is concerned."
        found.append(Finding("warning", "One temperature does not serve all sources", evidence, remedy))
    for name, each in off if spread.low > 1 else ():
        slope = slopes[name][0]
        kind = "too sure" if slope.value < 1 else "too modest"
        low, high = (slope.value * math.exp(sign * 1.96 * slope.error) for sign in (-1, 1))
        evidence = f"slope {slope.value:.3g} [{low:.3g}, {high:.3g}] where 1 is honest, q = {each:.2g} over {len(names)} sources"
        remedy = f"Divide its margins by {1 / slope.value:.2g} before reading them as odds."
        found.append(Finding("note", f"On {name} the model is {kind}", evidence, remedy))
    return found


def _icc_findings(found: Estimate, what: str) -> list[Finding]:
    if not found.low > BETWEEN:
        return []
    evidence = f"{found} of the variance of {what} lies between prompts: a threshold would choose prompts, not answers"
    remedy = "Take each prompt's reference samples off (per_prompt_baseline) before thresholds, filters or RL across prompts."
    return [Finding("warning", "Rewards of different prompts are not comparable", evidence, remedy)]


def _rewards(pairs: ScoredPairs) -> tuple[Float[np.ndarray, " m"], list[Hashable]]:
    """The reward of each response once, and its group."""
    place = np.concatenate([np.stack([pairs.index, pairs.first], 1), np.stack([pairs.index, pairs.second], 1)])
    _, once = np.unique(place, axis=0, return_index=True)
    rewards = np.concatenate([pairs.first_reward, pairs.second_reward])[once]
    return rewards, np.concatenate([pairs.group, pairs.group])[once].tolist()


def _of_reference(reference: Rollouts) -> tuple[Float[np.ndarray, " m"], list[Hashable]]:
    if reference.reward is None:
        raise GuerdonError("domains: the reference samples have no rewards; remedy: score them first")
    prompts: list[Hashable] = [prompt_digest(prompt) for prompt in reference.prompts]
    return np.asarray(reference.reward, dtype=np.float64), prompts


def _too_small(pairs: ScoredPairs, slopes: dict[str, tuple[CalibrationSlope, int]]) -> str:
    names: Sequence[str] = [str(name) or "no source" for name in np.unique(pairs.source)]
    return ", ".join(name for name in names if name not in slopes) if len(names) > 1 else ""
