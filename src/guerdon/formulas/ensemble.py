"""One reward from several members': a common scale, the rules that combine them, and how far they share their errors.

Axes: k members, n responses (or pairs, for margins). Rewards and margins are nats of preference log-odds, or each
member's own units before they are put on one scale; higher is better.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from guerdon.formulas.clustered import Groups, group_codes

__all__ = [
    "PENALTY",
    "RULES",
    "SOFTNESS",
    "common_scale",
    "disagreement",
    "error_correlation",
    "error_correlations",
    "error_left",
    "mean",
    "minimum",
    "most_suspect",
    "soft_min",
    "spread",
    "uncertainty",
]

PENALTY = 0.5  # of the variance between members; the choice of Coste et al. 2023 for best-of-n
SOFTNESS = 1.0  # nats


# ---- Rules -------------------------------------------------------------------------------------------------------


def mean(members: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " n"]:
    """The members' mean reward."""
    combined: np.ndarray = members.mean(axis=0)
    return combined


def minimum(members: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " n"]:
    """The members' lowest reward, the worst case (WCO; Coste et al. 2023, arXiv 2310.02743, eq. 4)."""
    combined: np.ndarray = members.min(axis=0)
    return combined


def uncertainty(members: Float[np.ndarray, "k n"], penalty: float = PENALTY) -> Float[np.ndarray, " n"]:
    """mean - penalty x variance of the members' rewards (UWO; Coste et al. 2023, eq. 5).

    The variance is divided by k, as in their best-of-n code; their PPO code divides by k - 1. The penalty is in 1 / nats.
    """
    combined: np.ndarray = members.mean(axis=0) - penalty * members.var(axis=0)
    return combined


def soft_min(members: Float[np.ndarray, "k n"], softness: float = SOFTNESS) -> Float[np.ndarray, " n"]:
    """-softness x log mean_k exp(-r_k / softness) of the members' rewards (arXiv 2606.09073).

    Goes from the minimum (softness, in nats, to 0) to the mean (to infinity); about mean - variance / (2 softness) in between.
    """
    least = members.min(axis=0)  # subtracted first, so that equal members give exactly the member
    mean_exp = logsumexp(-(members - least) / softness, axis=0) - math.log(len(members))
    combined: np.ndarray = least - softness * mean_exp
    return combined


RULES: Mapping[str, Callable[..., Any]] = {
    "mean": mean,
    "min": minimum,
    "uncertainty": uncertainty,
    "soft_min": soft_min,
}


def spread(members: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " n"]:
    """The members' standard deviation (divided by k): a lower bound of the error, blind to errors that all share."""
    std: np.ndarray = members.std(axis=0)
    return std


def most_suspect(p_values: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " n"]:
    """One p-value per response from each member's: the smallest times k, at most 1 (Bonferroni)."""
    least: np.ndarray = np.minimum(1.0, len(p_values) * p_values.min(axis=0))
    return least


# ---- One scale ---------------------------------------------------------------------------------------------------


def common_scale(
    members: Float[np.ndarray, "k n"], groups: Groups
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Each member's mean and spread of rewards within a prompt, from samples and the prompt (group) of each.

    The mean is over prompts, of each prompt's mean. The spread is the pooled standard deviation about the prompts' own means,
    sqrt(sum (r - mean_p)^2 / (n - prompts)), because a constant that a member adds to all replies of a prompt means nothing.
    With two replies per prompt it is the root mean square of the margins over sqrt 2. NaN where no prompt has two samples.
    """
    code = group_codes(groups, members.shape[1])
    size = np.bincount(code)
    means = np.stack([np.bincount(code, weights=member) / size for member in members])
    free = len(code) - len(size)
    squares = np.square(members - means[:, code]).sum(axis=1)
    within = np.sqrt(squares / free) if free else np.full(len(members), math.nan)
    return means.mean(axis=1), within


# ---- Whose errors ------------------------------------------------------------------------------------------------


def error_correlations(
    margins: Float[np.ndarray, "k n"],
    truth: Float[np.ndarray, " n"] | None = None,
    weight: Float[np.ndarray, " n"] | None = None,
    reliability: float = 1.0,
) -> Float[np.ndarray, "k k"]:
    """Correlations between the members' errors, from their margins on pairs and the truth about each pair.

    truth: the gold margin, or 2 q - 1 where only a preference is known; its scale does not matter. A member's error is the
    residual of its margin after a fit on the truth through the origin, which neither swapping the two responses of a pair nor
    rescaling a member changes. Correlations are about 0, not about a mean, for the same reason.
    reliability: share of the truth's mean square that another independent judge would confirm (for single votes, 2 x agreement
    - 1). Below 1 the fit is too weak by that factor, and the members' common signal would pass for common error; the fit is
    divided by it (Spearman 1904, correction for attenuation).
    Without a truth, correlations of the margins themselves: an upper bound, as long as members share their signal more than
    their errors. (With the members' mean as the truth it would always be -1 / (k - 1), whatever they share.)
    NaN where a member has no error; at least -1 and at most 1.
    """
    share = np.full(margins.shape[1], 1.0) if weight is None else weight
    share = share / share.sum()
    left = (share * margins) @ margins.T
    whole = np.diag(left).copy()
    if truth is not None:
        explained = margins @ (share * truth)
        left = left - np.outer(explained, explained) / (float(share @ np.square(truth)) * reliability)
    own = np.where(np.diag(left) > 1e-12 * whole, np.diag(left), math.nan)
    correlations: np.ndarray = np.clip(left / np.sqrt(np.outer(own, own)), -1.0, 1.0)
    return correlations


def error_correlation(
    margins: Float[np.ndarray, "k n"],
    truth: Float[np.ndarray, " n"] | None = None,
    weight: Float[np.ndarray, " n"] | None = None,
    reliability: float = 1.0,
) -> float:
    """The mean over pairs of members of their `error_correlations`; NaN where no two members have errors."""
    table = error_correlations(margins, truth, weight, reliability)
    pairs = table[np.triu_indices(len(table), 1)]
    known = pairs[~np.isnan(pairs)]
    return float(known.mean()) if len(known) else math.nan


def error_left(correlation: float, k: int) -> float:
    """The error variance of the mean of k members over that of one member: rho + (1 - rho) / k.

    For members of equal error variance; never below rho, however many members there are.
    """
    return correlation + (1 - correlation) / k


def disagreement(margins: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " n"]:
    """The share of the pairs of members that prefer different responses, for each pair of responses; a tie differs by half."""
    k = len(margins)
    up, down = (margins > 0).sum(axis=0), (margins < 0).sum(axis=0)
    even = k - up - down
    share: np.ndarray = (up * down + 0.5 * even * (up + down)) / max(1, k * (k - 1) // 2)
    return share
