"""Best-of-n: the expected score of the response that a proxy chooses from n, and the KL that choosing it costs.

Axes: p prompts, N responses in each prompt's pool (drawn from the reference policy), m chosen responses, v outcomes of a
discrete distribution, c values of n. Scores are in any unit, higher is better; KL is in nats per sequence. All float64.
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
    """P(the i-th smallest of a pool of N is the best of n drawn from it without replacement), [N].

    C(i - 1, n - 1) / C(N, n) for i = 1..N (Nakano et al. 2021, arXiv 2112.09332). Computed as a running product of ratios
    from the largest down, w_i = w_(i+1) (i - n + 1) / i: nothing overflows, and n = 1 (all 1/N) and n = N (the largest
    alone) are exact.

    Raises:
        ValueError: n is below 1, or above N, which the pool cannot tell.
    """
    if not 1 <= n <= pool:
        raise ValueError(f"n must be from 1 to the pool's {pool} responses, got {n}: draw more, or lower n")
    i = np.arange(pool - 1, 0, -1, dtype=np.float64)
    falling = np.concatenate([[n / pool], np.maximum(i - n + 1, 0.0) / i])
    return np.cumprod(falling)[::-1]


def best_of_n(proxy: Float[np.ndarray, " N"], value: Float[np.ndarray, " N"], n: int) -> float:
    """As `curve`, for one prompt and one n."""
    return float(curve(proxy[None], value[None], [n])[0, 0])


def curve(
    proxy: Float[np.ndarray, "p N"], value: Float[np.ndarray, "p N"], ns: Sequence[int]
) -> Float[np.ndarray, "p c"]:
    """Unbiased estimate of E[value of the response that the proxy ranks best of n], per prompt and n.

    `value` is the proxy itself, or another score of the same responses, such as gold. The estimate is the mean over all
    subsets of n of the pool (Nakano et al. 2021), at the cost of one sort. Responses that tie in the proxy share their
    mean value, as if ties were broken by a fair coin; sorting alone would favor one order. At n = 1 it is the plain mean,
    at n = N the value of the best response; close to N a single high reward decides, see `default_ns`.

    Raises:
        ValueError: an n that is not from 1 to N, or a score that is not finite.
    """
    proxy, value = np.asarray(proxy, dtype=np.float64), np.asarray(value, dtype=np.float64)
    if not (np.isfinite(proxy).all() and np.isfinite(value).all()):
        raise ValueError("scores must be finite: leave out the prompts that have NaN or infinite ones")
    share = np.array([weights(n, proxy.shape[1]) for n in ns]).reshape(len(ns), proxy.shape[1])
    order = np.argsort(proxy, axis=1, kind="stable")
    ascending = np.take_along_axis(proxy, order, axis=1)
    value = _mean_in_ties(ascending, np.take_along_axis(value, order, axis=1))
    expected: np.ndarray = value @ share.T
    level = value[:, :1]  # weights sum to 1 within 1e-16 only, which must not turn a constant into a change
    return np.where((value == level).all(axis=1, keepdims=True), level, expected)


def default_ns(pool: int, most: int | None = None) -> tuple[int, ...]:
    """The n to show for a pool of size N: 1, 2, 4, ... and the limit, N/4 unless `most` is given.

    Beyond N/4, a prompt's estimate rests on fewer than four disjoint subsets.
    """
    limit = max(1, pool // 4) if most is None else most
    if not 1 <= limit <= pool:
        raise ValueError(f"the largest n must be from 1 to the pool's {pool} responses, got {limit}")
    return (*(2**i for i in range((limit - 1).bit_length())), limit)


def kl_bound(n: int) -> float:
    """log n - (n - 1)/n nats: an upper bound of the KL from best-of-n to the policy that drew (Stiennon et al. 2020).

    Equal to the KL only if no two draws coincide and no scores tie (Beirami et al. 2024, arXiv 2401.01879).
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return math.log(n) - (n - 1) / n


def kl_estimate(p_best: Float[np.ndarray, " m"], n: int) -> Float[np.ndarray, " m"]:
    """Estimates [m] of the KL of best-of-n in nats, one per chosen response, from its probability under the reference: average them.

    Beirami et al. 2024 (arXiv 2401.01879): below `kl_bound` if a response has mass, and equal to it as its probability
    goes to 0. If no scores tie, the average over chosen responses is at least the exact KL; two responses that tie in
    score count as two.
    """
    bound, p = kl_bound(n), np.asarray(p_best, dtype=np.float64)
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("the reference probability of a chosen response must be in [0, 1]")
    inside = (p > 0.0) & (p < 1.0)
    p_safe = np.where(inside, p, 0.5)
    log_other = np.log1p(-p_safe)
    missed, drawn = np.exp(n * log_other), -np.expm1(n * log_other)  # the response is in none, or in some, of n draws
    estimate = missed * (bound + (n - 1) * log_other) + drawn * (np.log(drawn) - np.log(p_safe))
    return np.where(inside, estimate, np.where(p == 0.0, bound, 0.0))


def kl_exact(probabilities: Float[np.ndarray, " v"], scores: Float[np.ndarray, " v"], n: int) -> float:
    """The exact KL of best-of-n to a discrete reference distribution, in nats, from its outcomes' scores.

    Outcomes that tie share their probability of winning in proportion to their own probabilities.
    """
    p, scores = np.asarray(probabilities, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if (p < 0.0).any() or not math.isclose(p.sum(), 1.0, abs_tol=1e-9):
        raise ValueError(f"probabilities must be at least 0 and sum to 1, got a sum of {p.sum()}")
    _, level = np.unique(scores[p > 0.0], return_inverse=True)
    mass = np.bincount(level, weights=p[p > 0.0])
    reached = np.concatenate([[0.0], np.cumsum(mass)])
    reached[-1] = 1.0
    won = reached[1:] ** n - reached[:-1] ** n
    won, mass = won[won > 0.0], mass[won > 0.0]
    return float(np.sum(won * np.log(won / mass)))


def _mean_in_ties(ascending: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Values [p, N] sorted by the proxy, each replaced by the mean over the responses that tie with it."""
    first = np.ones_like(ascending, dtype=bool)
    first[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    if first.all():
        return value
    starts = np.flatnonzero(first)
    length = np.diff(np.append(starts, first.size))
    mean = np.add.reduceat(value.ravel(), starts) / length
    return np.repeat(mean, length).reshape(value.shape)


def chance_of_outcome(
    proxy: Float[np.ndarray, "p N"], chance: Float[np.ndarray, "p N"], copies: Float[np.ndarray, "p N"]
) -> Float[np.ndarray, "p N"]:
    """The probability of each response's outcome, where responses with equal reward are one outcome.

    Among responses of equal reward best-of-n chooses as the policy does, so only the distribution of rewards shifts: a
    constant reward moves nothing. An outcome of a single text keeps that text's probability `chance`; one of several texts
    gets its share of the pool. copies: how often each response occurs in its pool.
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
