"""Which pairs of a pool are picked, and with what probability. Axes: n pairs of the pool, m picks, s pairs of the subsample.

The propensity of a pick is its probability of being in the batch, given the active picks: 1 for an active pick, which the
model and the subsample determine, and for a random pick the share of its group that the cap keeps times the share of what
is kept that is drawn. The random part is drawn from all pairs that are not active picks, with a generator of its own, so each
pair of the pool has a positive propensity and sum y / propensity over the picks is unbiased for the sum of y over the pool
(Horvitz and Thompson 1952), whatever the active picks are.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from guerdon.config import SelectOptions
from guerdon.data.selection.candidates import Pool
from guerdon.formulas.selection import cap_groups, group_share

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["ActivePicks", "Picks", "draw_subsample", "draw_test", "draw_train", "in_test_stream"]

TEST, SUBSAMPLE, RANDOM, ORDER = range(4)  # each draw has a generator of its own


class ActivePicks(NamedTuple):
    """Positions in the pool of what the model picks, and w x'A^-1 x of each when it was picked."""

    position: Int[np.ndarray, " a"]
    gain: Float[np.ndarray, " a"]


@dataclass(frozen=True, slots=True)
class Picks:
    """Positions in the pool, in the order in which they should be labeled.

    score: w x'A^-1 x of an active pick when it was picked; NaN for a random one. is_swapped: whether the second response is
    shown first, which is drawn for each pick. num_pool: pairs that they were drawn from.
    """

    position: Int[np.ndarray, " m"]
    propensity: Float[np.ndarray, " m"]
    score: Float[np.ndarray, " m"]
    is_swapped: Bool[np.ndarray, " m"]
    num_pool: int


def in_test_stream(pool: Pool, share: float) -> Bool[np.ndarray, " n"]:
    """True for the pairs of the groups that are reserved for the test, by a hash of the group alone.

    No seed, round or other row moves a group from one stream to the other; a larger share reserves more groups.
    """
    reserved = np.array([_position(key) < share for key in pool.group_key.tolist()], dtype=bool)
    is_reserved: np.ndarray = reserved[pool.group]
    return is_reserved


def draw_test(pool: Pool, among: Int[np.ndarray, " t"], num: int, options: SelectOptions) -> Picks:
    """`num` random pairs of the positions `among`, or all that the cap allows."""
    position, propensity = _draw(pool, among, num, options, TEST)
    return _in_random_order(position, propensity, np.full(len(position), np.nan), len(among), options, TEST)


def draw_subsample(among: Int[np.ndarray, " t"], options: SelectOptions) -> Int[np.ndarray, " s"]:
    """The positions of the pairs that the model reads, in the order of the pool."""
    drawn = _generator(options, SUBSAMPLE).permutation(among)[: options.subsample]
    return np.sort(drawn)


def draw_train(
    pool: Pool,
    among: Int[np.ndarray, " t"],
    num: int,
    options: SelectOptions,
    active: ActivePicks | None = None,
) -> Picks:
    """The active picks and, of the others, random pairs up to `num` in all."""
    picked, gain = active or ActivePicks(np.empty(0, dtype=np.int64), np.empty(0))
    position, propensity = _draw(pool, np.setdiff1d(among, picked), num - len(picked), options, RANDOM)
    return _in_random_order(
        np.concatenate([picked, position]),
        np.concatenate([np.ones(len(picked)), propensity]),
        np.concatenate([gain, np.full(len(position), np.nan)]),
        len(among),
        options,
        ORDER,
    )


def _draw(
    pool: Pool, among: Int[np.ndarray, " t"], num: int, options: SelectOptions, stage: int
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """At most `num` positions and the probability of each: a random `per_prompt` of each group, then a random sample of those."""
    rng = _generator(options, stage)
    group = pool.group[among]
    kept = np.flatnonzero(cap_groups(group, options.per_prompt, rng))
    drawn = rng.permutation(kept)[:num]
    return among[drawn], group_share(group, options.per_prompt)[drawn] * (len(drawn) / max(len(kept), 1))


def _in_random_order(
    position: Int[np.ndarray, " m"],
    propensity: Float[np.ndarray, " m"],
    score: Float[np.ndarray, " m"],
    num_pool: int,
    options: SelectOptions,
    stage: int,
) -> Picks:
    rng = np.random.default_rng([options.seed, options.round, stage, 1])
    order = rng.permutation(len(position))
    is_swapped = rng.random(len(position)) < 0.5
    return Picks(position[order], propensity[order], score[order], is_swapped, num_pool)


def _generator(options: SelectOptions, stage: int) -> np.random.Generator:
    return np.random.default_rng([options.seed, options.round, stage])


def _position(group_key: int) -> float:
    """A group's position in [0, 1): 53 bits of a hash."""
    hashed = hashlib.blake2b(group_key.to_bytes(8, "big"), digest_size=8, person=b"test stream").digest()
    return float((int.from_bytes(hashed, "big") >> 11) / 2**53)
