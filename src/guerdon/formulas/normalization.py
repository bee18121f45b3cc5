"""Rewards on a scale that prompts share. Comparisons fix only differences within a prompt; what stands between is a choice.

Axes: n responses, k samples of a reference policy for each response's prompt. A bank [n, k] holds their rewards, NaN where
there is no sample or it is the response itself, which would be its own yardstick. Higher stays better in all of them.
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

SHRINKAGE = 4.0  # samples' worth of belief that a prompt's spread is everybody's


def centered(reward: Float[np.ndarray, " n"], bank: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Rewards minus the mean of their prompt's samples, in the rewards' units: the only one that keeps nats."""
    above: np.ndarray = reward - np.nanmean(bank, axis=1)
    return above


def zscore_global(reward: Float[np.ndarray, " n"], mean: float, spread: float) -> Float[np.ndarray, " n"]:
    """Rewards in standard deviations from the mean of a reference policy's samples on all prompts (Ziegler et al. 2019).

    It moves all prompts alike: what made them incomparable stays.
    """
    return (reward - mean) / spread


def zscore_prompt(
    reward: Float[np.ndarray, " n"], bank: Float[np.ndarray, "n k"], spread: float, shrinkage: float = SHRINKAGE
) -> Float[np.ndarray, " n"]:
    """Rewards in standard deviations of their own prompt's samples from their mean.

    A few samples do not know their spread: s_p^2 becomes (shrinkage spread^2 + k s_p^2) / (shrinkage + k), with `spread`
    that within all prompts (`within_prompt_std`). s_p^2 is the plain mean of squares, k what the row holds.
    """
    k = np.sum(~np.isnan(bank), axis=1)
    own = np.nanvar(bank, axis=1)
    z: np.ndarray = centered(reward, bank) / np.sqrt((shrinkage * spread**2 + k * own) / (shrinkage + k))
    return z


def quantile(reward: Float[np.ndarray, " n"], bank: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """The reward's place among its prompt's samples, in (0, 1): (those below + half of the equal + 1/2) / (k + 1).

    Uniform for another sample of the reference policy. All rewards above the best sample become equal.
    """
    k = np.sum(~np.isnan(bank), axis=1)
    below, equal = np.sum(bank < reward[:, None], axis=1), np.sum(bank == reward[:, None], axis=1)
    place: np.ndarray = (below + equal / 2 + 0.5) / (k + 1)
    return place


def logsigmoid_centered(reward: Float[np.ndarray, " n"], bank: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """log sigmoid(reward - mean of the prompt's samples), below 0: the log-chance of beating the reference (Wang et al. 2024,
    2402.00742, eq. 5, with the mean for r_ref). What is good already gains little by being better."""
    return log_expit(centered(reward, bank))  # type: ignore[no-any-return]


def within_prompt_std(reward: Float[np.ndarray, " m"], prompts: Sequence[Hashable]) -> float:
    """Rewards of m samples and the prompt of each in, standard deviation within prompts out; 0.0 with one sample each."""
    _, squares, size = _by_prompt(reward, prompts)
    freedom = float((size - 1).sum())
    return math.sqrt(float(squares.sum()) / freedom) if freedom > 0 else 0.0


def icc(reward: Float[np.ndarray, " m"], prompts: Sequence[Hashable]) -> float:
    """Rewards of m samples and the prompt of each in, share of their variance that lies between prompts out, in [0, 1].

    Var_p(true mean of p) / Var(r), by one-way analysis of variance with unequal sizes (Donner 1986): (B - W) / (B + (k - 1) W).
    The variance of prompts' observed means over that of all rewards would be 1/k where prompts do not matter. NaN with
    fewer than two prompts, no prompt of two samples, or rewards that are all equal.
    """
    return _icc(*_by_prompt(reward, prompts))


def icc_interval(
    reward: Float[np.ndarray, " m"], prompts: Sequence[Hashable], draws: int = 2000, seed: int = 0
) -> Interval:
    """The same with its interval by bootstrap over prompts; a prompt that is drawn twice counts as two prompts."""
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
    number: dict[Hashable, int] = {}
    code = np.array([number.setdefault(name, len(number)) for name in prompts], dtype=np.int64)
    size = np.bincount(code, minlength=len(number)).astype(np.float64)
    mean = np.bincount(code, weights=reward, minlength=len(number)) / size
    squares = np.bincount(code, weights=(reward - mean[code]) ** 2, minlength=len(number))
    return mean, squares, size
