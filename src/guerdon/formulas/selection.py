"""Which comparisons to label next: a D-optimal design on the features of a reward model, and random draws of known probability.

Axes: n candidate pairs, d features. A pair's features are the difference between its two responses', so the sign means
nothing. With p = P(first is better) by the current model, a label of the pair carries the information p(1-p) x x' about the head.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = ["DOptimal", "cap_groups", "d_optimal", "group_share", "random_projection"]


class DOptimal(NamedTuple):
    """Positions of the pairs, in the order in which they were picked, and w x'A^-1 x of each when it was picked."""

    picked: Int[np.ndarray, " m"]
    gain: Float[np.ndarray, " m"]


def d_optimal(
    difference: Float[np.ndarray, "n d"],
    weight: Float[np.ndarray, " n"],
    information: Float[np.ndarray, "d d"],
    num: int,
    group: Int[np.ndarray, " n"],
    cap: int,
) -> DOptimal:
    """At most `num` pairs, greedily: each time the one with the largest w x'A^-1 x, which then joins A as w x x'.

    A starts as `information`, which must be positive definite: ridge x identity + the information of what is labeled already.
    weight: w = p(1-p). The pick that maximizes w x'A^-1 x maximizes log det(A + w x x') = log det A + log(1 + w x'A^-1 x)
    (matrix determinant lemma); A^-1 follows by Sherman and Morrison (1950). Greedy D-optimal design for the last layer of a
    reward model: Active Reward Modeling (ICML 2025). group: small numbers from 0; of one group at most `cap` pairs are picked.
    """
    x, w = np.asarray(difference, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    inverse = np.linalg.inv(np.asarray(information, dtype=np.float64))
    spread = np.einsum("ij,ij->i", x @ inverse, x)
    num_left = np.full(int(group.max(initial=-1)) + 1, cap)
    is_open = np.ones(len(x), dtype=bool)
    picked, gains = [], []
    for _ in range(min(num, len(x))):
        gain = np.where(is_open, w * spread, -np.inf)
        best = int(gain.argmax())
        if not is_open[best]:
            break
        picked.append(best)
        gains.append(gain[best])
        is_open[best] = False
        num_left[group[best]] -= 1
        if not num_left[group[best]]:
            is_open[group == group[best]] = False
        direction = inverse @ x[best]
        shrink = w[best] / (1.0 + w[best] * spread[best])
        inverse -= shrink * np.outer(direction, direction)
        spread = np.maximum(spread - shrink * (x @ direction) ** 2, 0.0)
    return DOptimal(np.array(picked, dtype=np.int64), np.array(gains))


def random_projection(num_features: int, dimension: int, seed: int) -> Float[np.ndarray, "h d"]:
    """A matrix [h, d] of normal entries that keeps squared lengths in expectation (Johnson and Lindenstrauss 1984); d < h."""
    entries: np.ndarray = np.random.default_rng(seed).standard_normal((num_features, dimension))
    return entries / math.sqrt(dimension)


def group_share(group: Int[np.ndarray, " n"], cap: int) -> Float[np.ndarray, " n"]:
    """The probability with which `cap_groups` keeps each pair: min(cap, size of its group) / size of its group."""
    _, index, size = np.unique(group, return_inverse=True, return_counts=True)
    share: np.ndarray = (np.minimum(size, cap) / size)[index]
    return share


def cap_groups(group: Int[np.ndarray, " n"], cap: int, rng: np.random.Generator) -> Bool[np.ndarray, " n"]:
    """True for a random `cap` pairs of each group, every pair of a group with the same probability; all of a smaller group."""
    order = rng.permutation(len(group))
    order = order[np.argsort(group[order], kind="stable")]  # group after group, in random order within each
    ordered = group[order]
    is_start = np.ones(len(group), dtype=bool)
    is_start[1:] = ordered[1:] != ordered[:-1]
    start = np.maximum.accumulate(np.where(is_start, np.arange(len(group)), 0))
    kept = np.zeros(len(group), dtype=bool)
    kept[order[np.arange(len(group)) - start < cap]] = True
    return kept
