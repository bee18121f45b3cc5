"""What KL-regularized RL would reach, forecast by tilting a pool of the initial policy, and how it compares with a run.

Axes: p prompts, N responses per prompt, l strengths of tilting, u distinct prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from guerdon.auditing.overoptimization.path import Bootstrap, OptimizationPath, path_of_pool
from guerdon.auditing.overoptimization.report import estimate_from_draws, gold_by_proxy
from guerdon.contracts import Curve, Estimate, Finding, Quantity, Rollouts
from guerdon.formulas import best_of_n, drift, tilting
from guerdon.models.estimates import OPTIMIZATION, number

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.formulas.tilting import TiltFrontier

__all__ = ["compare_with_forecast", "forecast_curve", "forecast_finding", "tilted_frontier"]

STRENGTHS = 40  # of tilting, from 0 to where few samples carry the weight
SHOWN = 12  # points of the curve
QUANTITIES: Mapping[str, Quantity] = {
    "forecast_gold": Quantity(
        "forecast of gold", "number", OPTIMIZATION, "what tilting the pool predicts at the proxy that was reached"
    ),
    "forecast_error": Quantity("measured less forecast", "number", OPTIMIZATION, "of gold, at the same proxy"),
}


def tilted_frontier(proxy: Float[np.ndarray, "p N"], gold: Float[np.ndarray, "p N"]) -> TiltFrontier:
    """The frontier up to where the samples run out, with strengths in the proxy's own units."""
    spread = float(proxy.std(axis=1).mean())
    reach = 2.0 * math.sqrt(2.0 * math.log(proxy.shape[1])) / spread if spread > 0 else 1.0
    return tilting.tilt_frontier(proxy, gold, np.linspace(0.0, reach, STRENGTHS))


def forecast_curve(frontier: TiltFrontier, bootstrap: Bootstrap) -> dict[str, Curve]:
    """Gold against proxy along the frontier; nothing if the pool supports no strength."""
    if len(frontier.strengths) < 2:
        return {}
    proxy, gold = _gains(frontier)
    shown = np.unique(np.linspace(0, len(proxy) - 1, SHOWN).round().astype(int))
    caption = (
        "What RL with a KL penalty would reach, forecast by tilting the pool: one point per strength of optimization, up to "
        f"KL = {frontier.kl[-1]:.3g} nats/sequence, beyond which a few replies would dominate."
    )
    title = "Forecast from the pool"
    return {"gold_by_proxy_forecast": gold_by_proxy(proxy[shown], gold[shown], bootstrap, caption, title)}


def forecast_finding(
    proxy: Float[np.ndarray, "p N"], gold: Float[np.ndarray, "p N"], frontier: TiltFrontier
) -> Finding:
    """Whether gold turns within reach of the pool, and at which KL penalty."""
    if len(frontier.strengths) < 2:
        evidence = f"too few replies per prompt for a tilted policy: {proxy.shape[1]}"
        return Finding("note", "No forecast of RL", evidence, "Draw at least 64 replies per prompt.")
    turn = tilting.turning_point(proxy, gold, frontier.strengths)
    reach = f"KL = {frontier.kl[-1]:.3g} nats/sequence"
    if turn is None:
        evidence = f"the pool reaches to {reach}, at a KL penalty of {1 / frontier.strengths[-1]:.3g}"
        return Finding("note", "The forecast of RL does not turn within reach of the pool", evidence)
    kl = float(np.interp(turn, frontier.strengths, frontier.kl))
    evidence = f"gold is highest at a KL penalty β = {1 / turn:.3g}, at KL = {kl:.3g} nats/sequence; the pool reaches to {reach}"
    remedy = "Keep the penalty above that β; the value is of this pool, without an interval."
    return Finding("warning", "RL with too small a KL penalty is forecast to lose gold", evidence, remedy)


def compare_with_forecast(
    path: OptimizationPath, pool: Rollouts, bootstrap: Bootstrap
) -> tuple[dict[str, Estimate], list[Finding], dict[str, Curve]]:
    """The gold that the pool forecasts at the proxy that a run reached, and the gold that the run had there.

    Forecast, best-of-n and RL can be compared in gold against proxy. At equal KL they cannot: RL also changes the
    policy in ways that earn no reward.
    """
    gold = pool.by_prompt(pool.gold)
    assert gold is not None
    assert path.gold is not None
    frontier = tilted_frontier(pool.reward_by_prompt, gold)
    curves = _best_of_n_curve(pool, bootstrap) | forecast_curve(frontier, bootstrap)
    if len(frontier.strengths) < 2:
        return {}, [], curves
    ahead, forecast = drift.complete_prompts(pool.prompts_once, *_gains(frontier))
    proxy_gain, gold_gain = path.proxy - path.proxy[0], path.gold - path.gold[0]
    mean_proxy = proxy_gain.mean(axis=1)
    within = np.flatnonzero(mean_proxy <= ahead.mean(axis=1).max())
    last = int(within[np.argmax(mean_proxy[within])])
    if last == 0:
        return {}, [], curves
    estimates = _forecast_error((proxy_gain[last], gold_gain[last]), (ahead, forecast), bootstrap)
    finding = _forecast_error_finding(estimates, path.points[last], float(mean_proxy[last]))
    return estimates, [finding], curves


def _best_of_n_curve(pool: Rollouts, bootstrap: Bootstrap) -> dict[str, Curve]:
    ns = best_of_n.default_ns(pool.samples)
    if len(ns) < 2:
        return {}
    path, _ = path_of_pool(pool, ns)
    assert path.gold is not None
    proxy, gold = path.proxy - path.proxy[0], path.gold - path.gold[0]
    caption, title = "Best of n on the pool, one point per n.", "Best of n, for the proxy that was gained"
    return {"gold_by_proxy_best_of_n": gold_by_proxy(proxy, gold, bootstrap, caption, title)}


def _forecast_error(
    reached: tuple[Float[np.ndarray, " u"], Float[np.ndarray, " u"]],
    frontier: tuple[Float[np.ndarray, "l v"], Float[np.ndarray, "l v"]],
    bootstrap: Bootstrap,
) -> dict[str, Estimate]:
    """The gold forecast at the proxy that a run reached, and the gold measured less it; prompts of both are resampled."""
    (proxy, gold), (ahead, forecast) = reached, frontier
    of_run, of_pool = bootstrap.counts(len(proxy)), bootstrap._replace(seed=bootstrap.seed + 1).counts(ahead.shape[1])
    drawn_proxy, drawn_gold = of_run @ proxy / len(proxy), of_run @ gold / len(proxy)
    curves = zip(drawn_proxy, of_pool @ ahead.T / ahead.shape[1], of_pool @ forecast.T / ahead.shape[1], strict=True)
    drawn_forecast = np.array([np.interp(x, xs, ys) for x, xs, ys in curves])
    value = float(np.interp(proxy.mean(), ahead.mean(axis=1), forecast.mean(axis=1)))
    n = min(len(proxy), ahead.shape[1])
    return {
        "forecast_gold": estimate_from_draws(value, drawn_forecast, n),
        "forecast_error": estimate_from_draws(float(gold.mean()) - value, drawn_gold - drawn_forecast, n),
    }


def _forecast_error_finding(estimates: dict[str, Estimate], point: str, proxy_gain: float) -> Finding:
    forecast, error = estimates["forecast_gold"], estimates["forecast_error"]
    evidence = (
        f"at {point}, where the proxy had gained {proxy_gain:.3g}: forecast {number(forecast)}, "
        f"measured less forecast {number(error)}"
    )
    title = "The run got the gold that the pool forecast"
    if error.high < 0:
        title = "The run got less gold than the pool forecast: it exploited errors of the reward that the pool does not show"
    elif error.low > 0:
        title = "The run got more gold than the pool forecast"
    return Finding("warning" if error.high < 0 else "note", title, evidence)


def _gains(frontier: TiltFrontier) -> tuple[Float[np.ndarray, "l p"], Float[np.ndarray, "l p"]]:
    """Proxy and gold of each prompt, as gains over the policy that drew the pool."""
    proxy, gold = frontier.by_prompt.proxy, frontier.by_prompt.gold
    return (proxy - proxy[:, :1]).T, (gold - gold[:, :1]).T
