"""The report of a path: gold's trend and law, what a nat of proxy was worth in gold, and how much of the gain is length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from guerdon.auditing.overoptimization.path import Bootstrap, OptimizationPath, curve_by_kl
from guerdon.contracts import Curve, Estimate, Finding, Quantity, Report
from guerdon.formulas import drift, overoptimization
from guerdon.models.estimates import OPTIMIZATION, SHARED_QUANTITIES, number

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.formulas.overoptimization import FitWithIntervals, GoldTrend, Law

__all__ = ["estimate_from_draws", "gold_by_proxy", "path_report"]

MIN_POINTS = 3  # at distinct distances, for a law of two coefficients to be more than an interpolation
LAWS: Mapping[str, str] = {"bon": "d (α - β d)", "rl": "d (α - β log d)"}
NO_GOLD = Finding(
    "warning",
    "Without a gold judge nothing can be concluded",
    "only the proxy was measured, and a proxy rises even while it is exploited",
    "Judge the same replies by something that was not optimized: a reward model trained on other comparisons, a rule, people.",
)
QUANTITIES: Mapping[str, Quantity] = {
    "gold_drop": Quantity(
        "gold, lost since its best", "number", OPTIMIZATION, "the best gold minus the last, allowing for the selection"
    ),
    "length_gain": Quantity("length, gain", "number", OPTIMIZATION, "per reply; tokens, or words in a best-of-n file"),
    "length_share": Quantity(
        "gain that is length", "share", OPTIMIZATION, "share of the proxy's gain that goes with longer replies"
    ),
    "length_correlation": Quantity(
        "gain with length",
        "number",
        OPTIMIZATION,
        "correlation over prompts of the gain in proxy with the gain in length",
    ),
    "gold_per_proxy": Quantity(
        "gold per proxy", "number", OPTIMIZATION, "gold gained per nat of proxy, from start to end"
    ),
    "gold_per_proxy_late": Quantity(
        "gold per proxy, late", "number", OPTIMIZATION, "the same over the last part; below 0 the reward misleads"
    ),
    "falling_prompts": Quantity(
        "prompts that fall", "share", OPTIMIZATION, "prompts whose gold falls over the last part"
    ),
    "law_alpha": Quantity("law, α", "number", OPTIMIZATION, "first gain per √KL; Gao et al. 2022"),
    "law_beta": Quantity("law, β", "number", OPTIMIZATION, "how soon the gain bends; Gao et al. 2022"),
    "peak_kl": Quantity("KL at the peak", "nats", OPTIMIZATION, "where gold is highest by the law, nats/sequence"),
    "peak_gold": Quantity("gold at the peak", "number", OPTIMIZATION, "its gain there, by the law"),
    **SHARED_QUANTITIES,
}


@dataclass(frozen=True, slots=True, eq=False)
class _Gold:
    """A path's gains of gold and proxy [points, u], gold's trend, and its law if there are enough distances for one."""

    gain: np.ndarray
    proxy_gain: np.ndarray
    trend: GoldTrend
    law: FitWithIntervals | None


def path_report(title: str, path: OptimizationPath, bootstrap: Bootstrap, alerts: Sequence[Finding] = ()) -> Report:
    """Summary, estimates, findings and curves of a path. The alerts come after the finding about gold."""
    proxy_gain = path.proxy - path.proxy[0]
    estimates = {"proxy_gain": bootstrap.mean(proxy_gain[-1])}
    proxy_title = "The optimized reward, the further the policy goes"
    curves = {"proxy_by_kl": curve_by_kl(path, proxy_gain, "proxy, gain in nats", bootstrap, proxy_title)}
    about = {
        "KL at the end": f"{_last_kl(path):.4g} nats/sequence ({path.points[-1]})",
        "different prompts": f"{path.proxy.shape[1]:,}",
        "intervals": f"95 %, {bootstrap.draws} bootstrap draws by prompt, seed {bootstrap.seed}",
    }
    if path.gold is None:
        findings = [NO_GOLD, *alerts]
        summary = NO_GOLD.title + "."
    else:
        gold = _measure_gold(path, path.gold, proxy_gain, bootstrap)
        summary = drift.describe_trend(gold.trend, _last_kl(path))
        estimates |= _gold_estimates(path, gold, bootstrap)
        curves |= _gold_curves(path, gold, bootstrap)
        findings = [_trend_finding(path, gold), *alerts, *_peak_finding(gold), *_exchange_finding(estimates)]
    length_estimates, length_findings = _measure_length(path, estimates["proxy_gain"], bootstrap)
    estimates |= length_estimates
    findings += length_findings
    length_label = f"length of a reply, {path.unit}"
    curves["length_by_kl"] = curve_by_kl(path, path.length, length_label, bootstrap, "Length of replies")
    return Report(title, about, estimates, tuple(findings), curves, summary=summary, quantities=QUANTITIES)


def gold_by_proxy(
    proxy: Float[np.ndarray, "m u"], gold: Float[np.ndarray, "m u"], bootstrap: Bootstrap, caption: str, title: str
) -> Curve:
    """Mean gain of gold against mean gain of the proxy."""
    x, y = tuple(proxy.mean(axis=1).tolist()), tuple(bootstrap.mean(row) for row in gold)
    return Curve(x, y, "proxy, gain in nats", "gold, gain", caption=caption, title=title)


def estimate_from_draws(value: float, drawn: Float[np.ndarray, " draws"], n: int) -> Estimate:
    """A value with the percentile interval of its bootstrap draws."""
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n)


def _last_kl(path: OptimizationPath) -> float:
    return float(path.d[-1] ** 2)


# ---- Gold --------------------------------------------------------------------------------------------------------


def _measure_gold(path: OptimizationPath, gold: np.ndarray, proxy_gain: np.ndarray, bootstrap: Bootstrap) -> _Gold:
    gain = gold - gold[0]
    trend = overoptimization.gold_trend(path.d, gain.T, bootstrap.seed, bootstrap.draws)
    law = None
    if len(np.unique(path.d[path.d >= overoptimization.MIN_DISTANCE])) >= MIN_POINTS:
        law = overoptimization.fit_with_intervals(path.d, gain.T, path.law, bootstrap.seed, bootstrap.draws)
    return _Gold(gain, proxy_gain, trend, law)


def _gold_estimates(path: OptimizationPath, gold: _Gold, bootstrap: Bootstrap) -> dict[str, Estimate]:
    estimates = {"gold_gain": Estimate(*gold.trend.gain), "gold_drop": Estimate(*gold.trend.drop)}
    late = int(np.searchsorted(path.d, path.d[-1] * 2 / 3))
    for name, start in (("gold_per_proxy", 0), ("gold_per_proxy_late", min(late, len(path.d) - 2))):
        proxy, gained = gold.proxy_gain[-1] - gold.proxy_gain[start], gold.gain[-1] - gold.gain[start]
        slope = _slope(proxy, gained, bootstrap)
        if slope is not None:
            estimates[name] = slope
    half = len(path.d) // 2
    estimates["falling_prompts"] = bootstrap.mean((gold.gain[-1] < gold.gain[half]).astype(np.float64))
    if gold.law is not None:
        estimates |= {"law_alpha": Estimate(*gold.law.alpha), "law_beta": Estimate(*gold.law.beta)}
        if gold.law.peak_observed:
            estimates |= {"peak_kl": Estimate(*gold.law.peak_kl), "peak_gold": Estimate(*gold.law.height)}
    return estimates


def _slope(proxy: Float[np.ndarray, " u"], gold: Float[np.ndarray, " u"], bootstrap: Bootstrap) -> Estimate | None:
    """Mean gold gained per nat of mean proxy gained; None if the proxy is not shown to have risen."""
    if not bootstrap.mean(proxy).low > 0:
        return None
    count = bootstrap.counts(len(proxy))
    drawn_gold, drawn_proxy = count @ gold, count @ proxy
    has_gain = drawn_proxy != 0  # else the draw has no slope
    slopes = drawn_gold[has_gain] / drawn_proxy[has_gain]
    return estimate_from_draws(float(gold.mean() / proxy.mean()), slopes, len(proxy))


def _gold_curves(path: OptimizationPath, gold: _Gold, bootstrap: Bootstrap) -> dict[str, Curve]:
    by_kl = curve_by_kl(path, gold.gain, "gold, gain", bootstrap, "The second judge, the further the policy goes")
    title = "Gold, for the proxy that was gained"
    by_proxy = gold_by_proxy(gold.proxy_gain, gold.gain, bootstrap, "as measured", title)
    return {"gold_by_kl": replace(by_kl, caption=_law_caption(path, gold)), "gold_by_proxy": by_proxy}


def _law_caption(path: OptimizationPath, gold: _Gold) -> str:
    law = gold.law
    if law is None:
        return f"Too few distances for a law: {MIN_POINTS} are needed."
    other: Law = "rl" if path.law == "bon" else "bon"
    mean = gold.gain.mean(axis=1)
    aicc, other_aicc = (overoptimization.aicc(path.d, mean, name) for name in (path.law, other))
    better = ""
    if other_aicc < aicc - 2:
        better = f" {LAWS[other]} fits these points better (AICc {other_aicc:.1f} against {aicc:.1f})."
    alpha, beta = number(law.alpha), number(law.beta)
    fit = f"gold = {LAWS[path.law]}, α {alpha}, β {beta}, residual {law.fit.rmse:.2g}"
    return f"Law of Gao et al. 2022: {fit}.{better} {_describe_peak(law)}"


def _describe_peak(law: FitWithIntervals) -> str:
    if not law.peak_observed:
        return f"No peak observed up to KL = {law.largest_d**2:.3g} nats/sequence."
    return f"Its peak is at KL = {number(law.peak_kl)} nats/sequence, at gold {number(law.height)}."


def _trend_finding(path: OptimizationPath, gold: _Gold) -> Finding:
    trend = gold.trend
    title = drift.describe_trend(trend, _last_kl(path)).removesuffix(".")
    evidence = f"from its best to the end gold lost {number(trend.drop)}"
    if trend.kind == "insufficient":
        return Finding("warning", title, evidence, "Measure on more prompts (64, say), at more than one distance.")
    if trend.kind == "over-optimized":
        assert path.gold is not None
        evidence = f"from start to end gold gained {number(trend.gain)}"
        best = path.points[int(np.argmax(path.gold.mean(axis=1)))]
        remedy = (
            f"Return to the best by gold ({best}), or stop there; then label what the policy says now, and train again."
        )
        return Finding("warning", title, evidence, remedy)
    if trend.kind == "flattening":
        return Finding("warning", title, evidence, "Further optimization gains little gold: stop, or check more often.")
    return Finding("note", title, evidence, "This says nothing about a larger KL: keep measuring.")


def _peak_finding(gold: _Gold) -> Iterator[Finding]:
    law = gold.law
    if law is None:
        return
    if law.peak_observed:
        evidence = _describe_peak(law).removesuffix(".")
        yield Finding("note", "The fitted law has its peak within what was measured", evidence)
        return
    evidence = f"the law has β {number(law.beta)}; from the point nearest the law's peak to the end gold lost {number(law.drop)}"
    if gold.trend.kind == "over-optimized":
        evidence += "; gold did fall, but the fitted law has no maximum in this range"
    yield Finding("note", _describe_peak(law).removesuffix("."), evidence, "Do not extrapolate a law: measure further.")


def _exchange_finding(estimates: Mapping[str, Estimate]) -> Iterator[Finding]:
    """What a nat of proxy was worth in gold at the end."""
    late = estimates.get("gold_per_proxy_late")
    if late is not None and late.high < 0:
        evidence = f"gold gained per nat of proxy, over the last third of the way: {number(late)}"
        remedy = "Do not choose checkpoints, or n, by the proxy beyond the turn."
        yield Finding("warning", "At the end gold falls as the proxy rises", evidence, remedy)


# ---- Length ------------------------------------------------------------------------------------------------------


def _measure_length(
    path: OptimizationPath, gain: Estimate, bootstrap: Bootstrap
) -> tuple[dict[str, Estimate], list[Finding]]:
    """The gain in length, and how much of the proxy's gain goes with it."""
    estimates = {"length_gain": bootstrap.mean(path.length[-1] - path.length[0])}
    effect = drift.length_effect(path.proxy, path.length, bootstrap.draws, bootstrap.seed)
    if not math.isnan(effect.correlation.value):
        estimates["length_correlation"] = Estimate(*effect.correlation)
    if math.isnan(effect.share.value) or not gain.low > 0:
        return estimates, []
    estimates["length_share"] = share = Estimate(*effect.share)
    if not share.low > 0.5:
        return estimates, []
    grown = f"replies grew by {number(estimates['length_gain'])} {path.unit}"
    evidence = f"share of the proxy's gain that goes with length: {number(share)}; {grown}"
    remedy = "Train the reward model on pairs of equal length, or penalize length; compare at equal length."
    return estimates, [Finding("warning", "Most of the gain is length", evidence, remedy)]
