"""Rewards on a scale that prompts share. Comparisons determine differences within a prompt only; the rest is a choice.

Axes: n responses, m samples of all prompts, k samples of a reference policy per prompt. `samples` [n, k] holds the rewards of
the samples for each response's prompt, NaN where there is none or where it is the response itself. Higher stays better.
"""

import math
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import log_expit

from guerdon.formulas.estimation import Interval
from guerdon.formulas.resampling import bootstrap

__all__ = [
    "SHRINKAGE",
    "centered",
    "icc",
    "icc_interval",
    "logsigmoid_centered",
    "quantile",
    "within_prompt_std",
    "zscore_global",
    "zscore_prompt",
]

SHRINKAGE = 4.0  # samples that the standard deviation of all prompts counts for, in that of one prompt


def centered(reward: Float[np.ndarray, " n"], samples: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Rewards minus the mean of their prompt's samples, in the rewards' units: the only scale here that keeps nats."""
    difference: np.ndarray = reward - np.nanmean(samples, axis=1)
    return difference


def zscore_global(reward: Float[np.ndarray, " n"], mean: float, std: float) -> Float[np.ndarray, " n"]:
    """Rewards in standard deviations from the mean of a reference policy's samples on all prompts (Ziegler et al. 2019).

    All prompts are shifted and scaled alike, so differences between prompts stay.
    """
    return (reward - mean) / std


def zscore_prompt(
    reward: Float[np.ndarray, " n"], samples: Float[np.ndarray, "n k"], std: float, shrinkage: float = SHRINKAGE
) -> Float[np.ndarray, " n"]:
    """Rewards as standard deviations from the mean of their prompt's samples.

    A few samples determine a variance s_p^2 poorly, so it is shrunk: (shrinkage std^2 + k s_p^2) / (shrinkage + k), where
    `std` is that within all prompts (`within_prompt_std`), s_p^2 the mean of squares, and k the number of samples.
    """
    k = np.sum(~np.isnan(samples), axis=1)
    variance = np.nanvar(samples, axis=1)
    z: np.ndarray = centered(reward, samples) / np.sqrt((shrinkage * std**2 + k * variance) / (shrinkage + k))
    return z


def quantile(reward: Float[np.ndarray, " n"], samples: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """The rank of each reward among its prompt's samples, in (0, 1): (number below + half of the equal + 1/2) / (k + 1).

    Uniform for another sample of the reference policy. All rewards above the best sample become equal.
    """
    k = np.sum(~np.isnan(samples), axis=1)
    below, equal = np.sum(samples < reward[:, None], axis=1), np.sum(samples == reward[:, None], axis=1)
    rank: np.ndarray = (below + equal / 2 + 0.5) / (k + 1)
    return rank


def logsigmoid_centered(reward: Float[np.ndarray, " n"], samples: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """log sigmoid(reward - mean of the prompt's samples), below 0: the log-probability of beating the reference
    (Wang et al. 2024, arXiv 2402.00742, eq. 5, with the mean for r_ref). A good response gains little by being better."""
    return log_expit(centered(reward, samples))  # type: ignore[no-any-return]


def within_prompt_std(reward: Float[np.ndarray, " m"], prompts: Sequence[Hashable]) -> float:
    """Rewards [m] and their prompts in, standard deviation within prompts out; 0.0 with one sample per prompt."""
    _, squares, size = _by_prompt(reward, prompts)
    freedom = float((size - 1).sum())
    return math.sqrt(float(squares.sum()) / freedom) if freedom > 0 else 0.0


def icc(reward: Float[np.ndarray, " m"], prompts: Sequence[Hashable]) -> float:
    """Rewards [m] and their prompts in, intraclass correlation out: the share of variance between prompts, in [0, 1].

    Var_p(true mean of p) / Var(r), by one-way analysis of variance with unequal sizes (Donner 1986): (B - W) / (B + (k - 1) W).
    (With observed means instead of true ones it would be 1/k where prompts do not matter.) NaN with fewer than two prompts,
    without a prompt of two samples, or if all rewards are equal.
    """
    return _icc(*_by_prompt(reward, prompts))


def icc_interval(
    reward: Float[np.ndarray, " m"], prompts: Sequence[Hashable], draws: int = 2000, seed: int = 0
) -> Interval:
    """`icc` with its interval, by bootstrap over prompts; a prompt that is drawn twice counts as two prompts."""
    mean, squares, size = _by_prompt(reward, prompts)
    return bootstrap(lambda drawn: _icc(mean[drawn], squares[drawn], size[drawn]), range(len(size)), draws, seed)


def _icc(mean: np.ndarray, squares: np.ndarray, size: np.ndarray) -> float:
    p, m = len(size), float(size.sum())
    if p < 2 or m <= p:
        return math.nan
    grand = float((size * mean).sum() / m)
    between = float((size * (mean - grand) ** 2).sum()) / (p - 1)
    within = float(squares.sum()) / (m - p)
    k = (m - float((size**2).sum()) / m) / (p - 1)
    total = between + (k - 1) * within
    return min(1.0, max(0.0, (between - within) / total)) if total > 0 else math.nan


def _by_prompt(reward: np.ndarray, prompts: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, sum of squares about it, and number of samples of each prompt."""
    codes: dict[Hashable, int] = {}
    code = np.array([codes.setdefault(prompt, len(codes)) for prompt in prompts], dtype=np.int64)
    size = np.bincount(code, minlength=len(codes)).astype(np.float64)
    mean = np.bincount(code, weights=reward, minlength=len(codes)) / size
    squares = np.bincount(code, weights=(reward - mean[code]) ** 2, minlength=len(codes))
    return mean, squares, size
