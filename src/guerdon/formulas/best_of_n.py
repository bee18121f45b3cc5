"""Best-of-n: what the proxy's favorite of n draws is worth, and how far picking it moves the policy.

Axes: p prompts, N samples of each prompt's pool (drawn from the reference policy), m selected responses, v outcomes of
a discrete law, c values of n. Scores are in any unit, higher is better; KL is in nats a sequence. Everything is float64.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import gammaln
from scipy.stats import rankdata

__all__ = [
    "best_of_n",
    "chance_of_outcome",
    "curve",
    "default_ns",
    "kl_bound",
    "kl_estimate",
    "kl_exact",
    "kl_of_choice",
    "weights",
    "win_rate",
]


def weights(n: int, pool: int) -> Float[np.ndarray, " N"]:
    """n and the size N of a pool in, P(the i-th smallest of the pool is the best of n drawn from it) [N] out.

    C(i - 1, n - 1) / C(N, n) for i = 1..N, drawing without replacement (Nakano et al. 2021, arXiv 2112.09332).
    Built as a running product of ratios from the largest down, w_i = w_(i+1) (i - n + 1) / i: nothing overflows, and
    n = 1 (all 1/N) and n = N (the largest alone) are exact.

    Raises:
        ValueError: n is below 1, or above N, where the pool says nothing.
    """
    if not 1 <= n <= pool:
        raise ValueError(
            f"best of n needs n between 1 and the pool's {pool} samples, got {n}: draw more, or ask for less"
        )
    i = np.arange(pool - 1, 0, -1, dtype=np.float64)
    falling = np.concatenate([[n / pool], np.maximum(i - n + 1, 0.0) / i])
    return np.cumprod(falling)[::-1]


def best_of_n(proxy: Float[np.ndarray, " N"], carried: Float[np.ndarray, " N"], n: int) -> float:
    """A pool's proxy scores and what each sample carries in; unbiased E[carried by the proxy's best of n] out.

    `carried` is the proxy itself, or the gold score of the same samples in the same order. See `curve`.
    """
    return float(curve(proxy[None], carried[None], [n])[0, 0])


def curve(
    proxy: Float[np.ndarray, "p N"], carried: Float[np.ndarray, "p N"], ns: Sequence[int]
) -> Float[np.ndarray, "p c"]:
    """Proxy scores and what each sample carries in; per prompt and n, unbiased E[carried by the proxy's best of n] out.

    The mean over all subsets of n of the pool (Nakano et al. 2021), at the cost of one sort. Samples that tie in the
    proxy each carry their mean, as if ties were broken by a fair coin; a sort alone would favor one order. At n = 1
    it is the plain mean, at n = N what the favorite carries; close to N it is one lucky draw, see `default_ns`.

    Raises:
        ValueError: an n that the pool cannot answer, or a score that is not finite.
    """
    proxy, carried = np.asarray(proxy, dtype=np.float64), np.asarray(carried, dtype=np.float64)
    if not (np.isfinite(proxy).all() and np.isfinite(carried).all()):
        raise ValueError("best of n needs finite scores: leave out the samples whose score is NaN or infinite")
    share = np.array([weights(n, proxy.shape[1]) for n in ns]).reshape(len(ns), proxy.shape[1])
    order = np.argsort(proxy, axis=1, kind="stable")
    ascending = np.take_along_axis(proxy, order, axis=1)
    carried = _mean_in_ties(ascending, np.take_along_axis(carried, order, axis=1))
    expected: np.ndarray = carried @ share.T
    level = carried[:, :1]  # where all carry the same, a sum of weights that misses 1 by 1e-16 would pass for a change
    return np.where((carried == level).all(axis=1, keepdims=True), level, expected)


def default_ns(pool: int, most: int | None = None) -> tuple[int, ...]:
    """A pool's size N in; the n to show out: 1, 2, 4, ... and the limit, N/4 unless `most` is given.

    Beyond N/4 fewer than four disjoint draws of n stand behind the estimate of a prompt.
    """
    limit = max(1, pool // 4) if most is None else most
    if not 1 <= limit <= pool:
        raise ValueError(f"the largest n lies between 1 and the pool's {pool} samples, got {limit}")
    return (*(2**i for i in range((limit - 1).bit_length())), limit)


def kl_bound(n: int) -> float:
    """n in, log n - (n - 1)/n nats out: at least the KL from best-of-n to the policy that drew (Stiennon et al. 2020).

    Equal to it only where no two draws coincide and no scores tie (Beirami et al. 2024, arXiv 2401.01879).
    """
    if n < 1:
        raise ValueError(f"best of n needs n of at least 1, got {n}")
    return math.log(n) - (n - 1) / n


def kl_estimate(p_best: Float[np.ndarray, " m"], n: int) -> Float[np.ndarray, " m"]:
    """Reference probabilities of the selected responses in, a KL of best-of-n [m] in nats out: average it.

    Beirami et al. 2024 (arXiv 2401.01879): closer than `kl_bound` where a response has mass, and equal to it as the
    probability goes to 0. At least the exact KL on average over selected responses where no scores tie; two responses
    that tie in score count as two.
    """
    bound, p = kl_bound(n), np.asarray(p_best, dtype=np.float64)
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("the reference probability of a selected response lies between 0 and 1")
    inside = (p > 0.0) & (p < 1.0)
    p_safe = np.where(inside, p, 0.5)
    log_other = np.log1p(-p_safe)
    missed, drawn = np.exp(n * log_other), -np.expm1(n * log_other)  # the response is in none, in some, of n draws
    estimate = missed * (bound + (n - 1) * log_other) + drawn * (np.log(drawn) - np.log(p_safe))
    return np.where(inside, estimate, np.where(p == 0.0, bound, 0.0))


def kl_exact(probabilities: Float[np.ndarray, " v"], scores: Float[np.ndarray, " v"], n: int) -> float:
    """A discrete reference law and its outcomes' scores in, the KL of best-of-n to it in nats out.

    Outcomes that tie share what their tie wins in proportion to their probabilities.
    """
    p, scores = np.asarray(probabilities, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if n < 1:
        raise ValueError(f"best of n needs n of at least 1, got {n}")
    if (p < 0.0).any() or not math.isclose(p.sum(), 1.0, abs_tol=1e-9):
        raise ValueError(f"probabilities are at least 0 and sum to 1, got a sum of {p.sum()}")
    _, level = np.unique(scores[p > 0.0], return_inverse=True)
    mass = np.bincount(level, weights=p[p > 0.0])
    reached = np.concatenate([[0.0], np.cumsum(mass)])
    reached[-1] = 1.0
    won = reached[1:] ** n - reached[:-1] ** n
    won, mass = won[won > 0.0], mass[won > 0.0]
    return float(np.sum(won * np.log(won / mass)))


def _mean_in_ties(ascending: np.ndarray, carried: np.ndarray) -> np.ndarray:
    """Sorted proxy scores [p, N] and what they carry in, the same with the mean of its tie at each place out."""
    first = np.ones_like(ascending, dtype=bool)
    first[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    if first.all():
        return carried
    starts = np.flatnonzero(first)
    length = np.diff(np.append(starts, first.size))
    mean = np.add.reduceat(carried.ravel(), starts) / length
    return np.repeat(mean, length).reshape(carried.shape)


def chance_of_outcome(
    proxy: Float[np.ndarray, "p N"], chance: Float[np.ndarray, "p N"], copies: Float[np.ndarray, "p N"]
) -> Float[np.ndarray, "p N"]:
    """Proxies, chances and how often each reply stands in its pool in; the chance of each reply's reward out.

    Among replies of equal reward best-of-n chooses as the policy does, so they are one outcome, and its KL that of the
    rewards' law: a constant reward moves nothing. A reward that a single text has keeps that text's chance; one that several
    have gets its share of the pool.
    """
    out = chance.astype(np.float64)
    for row, values in enumerate(proxy):
        equal = values[:, None] == values
        texts = (equal / copies[row]).sum(1)  # different texts of the same reward
        share = equal.mean(1)
        out[row] = np.where(texts > 1.5, np.maximum(out[row], share), out[row])
    return out


def kl_of_choice(proxy: Float[np.ndarray, "p N"], chance: Float[np.ndarray, "p N"], n: int) -> Float[np.ndarray, " p"]:
    """`kl_estimate` of each response from its `chance_of_outcome`, averaged over what the proxy chooses from n: nats per prompt."""
    estimates = kl_estimate(chance.reshape(-1), n).reshape(chance.shape)
    return curve(proxy, estimates, [n])[:, 0]


def win_rate(proxy: Float[np.ndarray, "p N"], n: int) -> Float[np.ndarray, " p"]:
    """How often the best of n beats one more response of the pool, per prompt, a tie counting half. Needs n < N.

    Exact over all choices of n and one more out of N: the one more wins where all n are below it.
    """
    size = proxy.shape[1]
    below = rankdata(proxy, method="min", axis=1) - 1
    not_above = rankdata(proxy, method="max", axis=1) - 1  # of the others
    lost = (_all_among(below, size, n) + _all_among(not_above, size, n)) / 2
    won: np.ndarray = 1.0 - lost.mean(axis=1)
    return won


def _all_among(count: np.ndarray, size: int, n: int) -> np.ndarray:
    """C(count, n) / C(size - 1, n): the chance that n of the size - 1 others all lie among `count` of them."""
    enough = count >= n
    c = np.where(enough, count, n)
    log_share = gammaln(c + 1) - gammaln(c - n + 1) - gammaln(size) + gammaln(size - n)
    return np.where(enough, np.exp(log_share), 0.0)
