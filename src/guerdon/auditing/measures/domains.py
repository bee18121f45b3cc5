"""Is the model calibrated on every source, and are rewards of different prompts comparable?

Axes: n pairs, s sources, m rewards. A slope is 1 / temperature: 1 where margins are the log-odds that they claim to be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import ndtr, ndtri

from guerdon.contracts import Curve, Estimate, Finding, GuerdonError, Quantity, Report, Rollouts, prompt_digest
from guerdon.formulas.calibration import calibration_slope
from guerdon.formulas.estimation import benjamini_hochberg
from guerdon.formulas.normalization import icc, icc_interval
from guerdon.models.estimates import SCALE, number, percent, points_by_name

if TYPE_CHECKING:
    from collections.abc import Hashable

    from jaxtyping import Float

    from guerdon.config import AuditOptions
    from guerdon.models.scored_pairs import ScoredPairs

FEWEST_GROUPS: Final = 20  # for a source to have a slope of its own
ALPHA: Final = 0.05
BETWEEN: Final = 0.5  # share of the variance of rewards that lies between prompts, above which it is reported

TITLE = "Sources and prompts"
QUANTITIES: Mapping[str, Quantity] = {
    "icc": Quantity(
        "variance between prompts", "share", SCALE, "high: rewards of different prompts are not comparable"
    ),
    "temperature_spread": Quantity(
        "highest over lowest temperature", "number", SCALE, "over the sources; 1 where one scale fits all"
    ),
}


def measure_domains(pairs: ScoredPairs, options: AuditOptions, *, reference: Rollouts | None = None) -> Report:
    """The scale of the odds by source, and the share of the variance of rewards that lies between prompts.

    Keys: temperature_spread, the highest over the lowest temperature of a source, 1 where one scale fits all (with two sources
    of 20 groups or more); icc, the share of the variance of rewards that lies between prompts (for a reward model).
    Curve: slope_by_source.

    `reference` are rollouts with rewards, best of the policy to be trained, on which the icc is measured; without them it is
    measured on the responses of the pairs.
    """
    estimates: dict[str, Estimate] = {}
    findings: list[Finding] = []
    curves: dict[str, Curve] = {}
    about: dict[str, str] = {}
    slopes = _source_slopes(pairs)
    if len(slopes) > 1:
        estimates["temperature_spread"] = _temperature_spread(slopes)
        curves["slope_by_source"] = _slope_curve(slopes)
        findings += _slope_findings(slopes, estimates["temperature_spread"])
    rewards, prompts = _rewards_of_pairs(pairs) if reference is None else _rewards_of_reference(reference)
    if np.isfinite(rewards).all() and not math.isnan(icc(rewards, prompts)):
        estimates["icc"] = Estimate(*icc_interval(rewards, prompts, options.draws, options.seed))
        about["icc from"] = f"{len(rewards)} {'responses of the pairs' if reference is None else 'reference samples'}"
        findings += _icc_findings(estimates["icc"], about["icc from"])
    if too_small := _sources_without_slope(pairs, slopes):
        about["sources without a slope"] = too_small
    return Report(TITLE, about, estimates, tuple(findings), curves, quantities=QUANTITIES)


@dataclass(frozen=True, slots=True)
class _SourceSlope:
    """Slope of the log-odds on the margin for one source. error: of its logarithm."""

    source: str
    value: float
    error: float
    num_groups: int

    @property
    def log(self) -> float:
        return math.log(self.value)

    @property
    def interval(self) -> Estimate:
        half = float(ndtri(1 - ALPHA / 2)) * self.error
        return Estimate(self.value, self.value * math.exp(-half), self.value * math.exp(half), self.num_groups)

    @property
    def p(self) -> float:
        """p-value of a slope of 1."""
        return 2 * float(ndtr(-abs(self.log) / self.error))


def _source_slopes(pairs: ScoredPairs) -> list[_SourceSlope]:
    """The slope of each source with enough groups to determine one."""
    slopes = []
    for name in np.unique(pairs.source):
        rows = pairs.source == name
        num_groups = len(np.unique(pairs.group[rows]))
        if num_groups < FEWEST_GROUPS:
            continue
        slope = calibration_slope(pairs.margin[rows], pairs.q[rows], pairs.group[rows], pairs.weight[rows])
        if math.isfinite(slope.error) and slope.error > 0:
            slopes.append(_SourceSlope(str(name) or "no source", slope.value, slope.error, num_groups))
    return slopes


def _temperature_spread(slopes: list[_SourceSlope]) -> Estimate:
    """The largest over the smallest temperature.

    Its interval holds for all ratios of two sources at once (Sidak 1967), which allows for the choice of these two. A ratio
    is at least 1.
    """
    pairs = list(combinations(slopes, 2))
    band = float(ndtri((1 + (1 - ALPHA) ** (1 / len(pairs))) / 2))
    logs = [slope.log for slope in slopes]
    gaps = [(abs(math.log(a.value / b.value)), band * math.hypot(a.error, b.error)) for a, b in pairs]
    low, high = max(gap - half for gap, half in gaps), max(gap + half for gap, half in gaps)
    num_groups = sum(slope.num_groups for slope in slopes)
    return Estimate(math.exp(max(logs) - min(logs)), math.exp(max(0.0, low)), math.exp(high), num_groups)


def _slope_curve(slopes: list[_SourceSlope]) -> Curve:
    return points_by_name(
        (slope.source for slope in slopes),
        (slope.interval for slope in slopes),
        "source",
        "slope of the log-odds on the margin",
        title="What a margin is worth, by source",
        caption="At 1 the model is calibrated on this source; below 1 it is more confident on this source than it should be.",
    )


def _slope_findings(slopes: list[_SourceSlope], spread: Estimate) -> list[Finding]:
    """Whether sources differ; and if so, those whose own slope is not 1, at a false discovery rate."""
    if not spread.low > 1:
        return []
    values = ", ".join(f"{slope.source} {slope.value:.2f}" for slope in slopes)
    evidence = f"the highest temperature is {number(spread)} times the lowest; slopes: {values}"
    remedy = (
        "Calibrate each source separately, or state on which source the model is calibrated; rankings stay the same."
    )
    findings = [Finding("warning", "One temperature does not fit all sources", evidence, remedy)]
    q_values = benjamini_hochberg(np.array([slope.p for slope in slopes]))
    for slope, q in zip(slopes, q_values.tolist(), strict=True):
        if q < ALPHA:
            kind = "overconfident" if slope.value < 1 else "underconfident"
            evidence = (
                f"its slope is {number(slope.interval)} where 1 would be right, q = {q:.2g} over {len(slopes)} sources"
            )
            remedy = f"Divide its margins by {1 / slope.value:.2g} before reading them as log-odds."
            findings.append(Finding("note", f"On {slope.source} the model is {kind}", evidence, remedy))
    return findings


def _icc_findings(share: Estimate, rewards: str) -> list[Finding]:
    if not share.low > BETWEEN:
        return []
    evidence = f"{percent(share)} of the variance of {rewards} lies between prompts, so a threshold would select prompts, not answers"
    remedy = "Subtract each prompt's reference samples (per_prompt_baseline) before thresholds, filters or RL across prompts."
    return [Finding("warning", "Rewards of different prompts are not comparable", evidence, remedy)]


def _rewards_of_pairs(pairs: ScoredPairs) -> tuple[Float[np.ndarray, " m"], list[Hashable]]:
    """The reward of each response once, and its group."""
    _, rows = pairs.each_response()
    rewards = np.concatenate([pairs.first_reward, pairs.second_reward])[rows]
    return rewards, np.tile(pairs.group, 2)[rows].tolist()


def _rewards_of_reference(reference: Rollouts) -> tuple[Float[np.ndarray, " m"], list[Hashable]]:
    if reference.reward is None:
        raise GuerdonError("domains: the reference samples must have rewards, got none. Score them first.")
    prompts: list[Hashable] = [prompt_digest(prompt) for prompt in reference.prompts]
    return np.asarray(reference.reward, dtype=np.float64), prompts


def _sources_without_slope(pairs: ScoredPairs, slopes: list[_SourceSlope]) -> str:
    names = [str(name) or "no source" for name in np.unique(pairs.source)]
    known = {slope.source for slope in slopes}
    return ", ".join(name for name in names if name not in known) if len(names) > 1 else ""
