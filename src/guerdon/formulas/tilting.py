"""Forecasts of optimization from samples: a pool of replies weighted by e^(strength x reward), for every strength.

Axes: p prompts, N responses in a prompt's pool, l strengths of tilting. KL in nats per sequence; all float64.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq


class Tilt(NamedTuple):
    """Expectations at each strength of tilting, for one prompt or [p, l] for p prompts.

    proxy and gold: expected scores. kl: nats per sequence. slope: d gold / d strength, the covariance of gold and proxy
    under the tilt. ess: effective sample size, of N.
    """

    proxy: Float[np.ndarray, "*p l"]
    gold: Float[np.ndarray, "*p l"]
    kl: Float[np.ndarray, "*p l"]
    slope: Float[np.ndarray, "*p l"]
    ess: Float[np.ndarray, "*p l"]


class TiltFrontier(NamedTuple):
    """Means over prompts at each strength that the pool supports, and each prompt's own values, for intervals.

    strengths: [l], those given, up to where the effective samples run out. exhausted: whether any were left out.
    """

    strengths: Float[np.ndarray, " l"]
    proxy: Float[np.ndarray, " l"]
    gold: Float[np.ndarray, " l"]
    kl: Float[np.ndarray, " l"]
    slope: Float[np.ndarray, " l"]
    by_prompt: Tilt
    exhausted: bool


def tilt(proxy: Float[np.ndarray, " N"], gold: Float[np.ndarray, " N"], lambdas: Float[np.ndarray, " l"]) -> Tilt:
    """The tilted policies pi e^(lambda proxy) of one prompt's pool, at strengths lambda = 1 / beta.

    Such a policy maximizes E[proxy] - beta KL, so KL-regularized RL converges to it (Korbak et al. 2022, arXiv
    2205.11275). Expectations are self-normalized importance sampling over the pool, and KL = lambda K' - K with
    K = log mean e^(lambda proxy). This KL cannot exceed log N nats, and is biased well before: see `tilt_frontier`.
    """
    columns = [_tilted(proxy[None], gold[None], float(strength)) for strength in lambdas]
    return Tilt(*(np.array([column[i][0] for column in columns]) for i in range(5)))


def tilt_frontier(
    proxy: Float[np.ndarray, "p N"],
    gold: Float[np.ndarray, "p N"],
    lambdas: Float[np.ndarray, " l"],
    min_share: float = 0.05,
    max_bad: float = 0.10,
) -> TiltFrontier:
    """The mean over prompts of `tilt` at ascending strengths, as far as the samples support it.

    It stops before the first strength at which more than `max_bad` of the prompts have an effective sample size
    (Kish 1965) under max(10, min_share N): beyond, a handful of samples would stand for the policy. Pools of fewer than
    ten responses support none.
    """
    if np.any(np.diff(lambdas) <= 0) or np.any(lambdas < 0):
        raise ValueError(f"strengths of tilting must be at least 0 and ascending, got {lambdas.tolist()}")
    if not (np.isfinite(proxy).all() and np.isfinite(gold).all()):
        raise ValueError("scores must be finite: leave out the prompts that have NaN or infinite ones")
    least = max(10.0, min_share * proxy.shape[1])
    columns: list[Tilt] = []
    for strength in lambdas:
        column = _tilted(proxy, gold, float(strength))
        if np.mean(column.ess < least) > max_bad:
            break
        columns.append(column)
    by_prompt = Tilt(*(np.array([column[i] for column in columns]).reshape(-1, len(proxy)).T for i in range(5)))
    return TiltFrontier(
        strengths=lambdas[: len(columns)],
        proxy=by_prompt.proxy.mean(axis=0),
        gold=by_prompt.gold.mean(axis=0),
        kl=by_prompt.kl.mean(axis=0),
        slope=by_prompt.slope.mean(axis=0),
        by_prompt=by_prompt,
        exhausted=len(columns) < len(lambdas),
    )


def turning_point(
    proxy: Float[np.ndarray, "p N"], gold: Float[np.ndarray, "p N"], strengths: Float[np.ndarray, " l"]
) -> float | None:
    """The strength at which mean gold is at a maximum, from pools and the strengths of their frontier; None without one.

    A root of the mean slope (Khalaf et al. 2025, arXiv 2506.19248) where it falls through 0, so that a minimum is never
    taken; of several, the one with the most gold. None if gold does not turn within the strengths. Only the signs of the
    slope at the given strengths are compared, so a maximum and a minimum between two neighbors are missed.
    """

    def slope(strength: float) -> float:
        return float(_tilted(proxy, gold, strength).slope.mean())

    slopes = np.array([slope(float(strength)) for strength in strengths])
    falls = np.flatnonzero((slopes[:-1] > 0) & (slopes[1:] <= 0))
    roots = [float(brentq(slope, float(strengths[i]), float(strengths[i + 1]), xtol=1e-12)) for i in falls]
    return max(roots, key=lambda root: float(_tilted(proxy, gold, root).gold.mean()), default=None)


def _tilted(proxy: np.ndarray, gold: np.ndarray, strength: float) -> Tilt:
    """The tilt of pools [p, N] at one strength; each field is [p]."""
    behind = proxy - proxy.max(axis=1, keepdims=True)
    weight = np.exp(strength * behind)
    total = weight.sum(axis=1)
    share = weight / total[:, None]
    mean_behind, mean_gold = (share * behind).sum(axis=1), (share * gold).sum(axis=1)
    slope = (share * (gold - mean_gold[:, None]) * (behind - mean_behind[:, None])).sum(axis=1)
    kl = strength * mean_behind - np.log(total / proxy.shape[1])
    return Tilt(
        proxy=mean_behind + proxy.max(axis=1),
        gold=mean_gold,
        kl=np.maximum(kl, 0.0),
        slope=slope,
        ess=1.0 / np.square(share).sum(axis=1),
    )
