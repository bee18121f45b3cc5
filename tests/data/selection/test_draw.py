"""Stored propensities are the frequencies with which pairs are picked, and weights from them undo the selection."""

from __future__ import annotations

import numpy as np
import pytest

from guerdon.config import SelectOptions
from guerdon.data.selection.candidates import Pool
from guerdon.data.selection.draw import ActivePicks, draw_subsample, draw_test, draw_train, in_test_stream

SEEDS = 3000
NUM, NUM_PICKS = 40, 12


def pool_of(group: np.ndarray) -> Pool:
    number = np.arange(len(group))
    keys = np.random.default_rng(9).integers(0, 2**63, size=group.max() + 1).astype(np.uint64)
    return Pool(number, number * 0, number * 0 + 1, number.astype(np.uint64), group, keys)


GROUP = np.repeat(np.arange(13), [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7])  # 40 pairs of 13 prompts
POOL = pool_of(GROUP)
EVERYTHING = np.arange(NUM)
VALUE = np.random.default_rng(4).normal(2.0, 1.0, size=NUM)  # any statistic of a pair; it depends on the group below
VALUE[GROUP > 9] += 3.0


def active_picks(options: SelectOptions, num: int = 4) -> ActivePicks:
    """A rule that depends on the subsample alone and likes large values, as an active strategy may."""
    subsample = draw_subsample(EVERYTHING, options)
    best = subsample[np.argsort(-VALUE[subsample])][:num]
    return ActivePicks(best, VALUE[best])


def drawn(seed: int, *, is_active: bool = False, **options):
    chosen = SelectOptions(seed=seed, **options)
    return draw_train(POOL, EVERYTHING, NUM_PICKS, chosen, active_picks(chosen) if is_active else None)


@pytest.mark.parametrize("per_prompt", [1, 2, 9])
def test_a_random_pick_has_the_frequency_that_its_propensity_states(per_prompt):
    count, stated = np.zeros(NUM), np.full(NUM, np.nan)
    for seed in range(SEEDS):
        picks = drawn(seed, per_prompt=per_prompt)
        assert len(picks.position) == NUM_PICKS
        count[picks.position] += 1
        known = stated[picks.position]
        assert np.array_equal(known[~np.isnan(known)], picks.propensity[~np.isnan(known)])
        stated[picks.position] = picks.propensity
    error = np.sqrt(stated * (1 - stated) / SEEDS)
    assert np.abs(count / SEEDS - stated).max() < 4 * error.max()
    assert stated.sum() == pytest.approx(NUM_PICKS)  # the expected number of picks


def test_given_the_active_picks_every_propensity_is_the_frequency_over_the_random_draws():
    active = ActivePicks(np.array([30, 2, 17]), np.array([3.0, 2.0, 1.0]))
    count, stated = np.zeros(NUM), np.full(NUM, np.nan)
    for seed in range(SEEDS):
        picks = draw_train(POOL, EVERYTHING, NUM_PICKS, SelectOptions(seed=seed), active)
        count[picks.position] += 1
        stated[picks.position] = picks.propensity
    assert stated[[30, 2, 17]].tolist() == [1.0, 1.0, 1.0]
    error = np.sqrt(stated * (1 - stated) / SEEDS)
    assert np.abs(count / SEEDS - stated).max() < 4 * error.max()
    assert stated.sum() == pytest.approx(NUM_PICKS)


@pytest.mark.parametrize("is_active", [False, True])
@pytest.mark.parametrize("per_prompt", [1, 3])
def test_weights_of_one_over_the_propensity_give_the_sum_over_the_pool(is_active, per_prompt):
    estimates, plain = [], []
    for seed in range(SEEDS):
        picks = drawn(seed, is_active=is_active, per_prompt=per_prompt, subsample=20)
        estimates.append(np.sum(VALUE[picks.position] / picks.propensity))
        plain.append(VALUE[picks.position].mean())
    error = np.std(estimates) / np.sqrt(SEEDS)
    assert abs(np.mean(estimates) - VALUE.sum()) < 4 * error
    assert abs(np.mean(plain) - VALUE.mean()) > 10 * np.std(plain) / np.sqrt(SEEDS)  # without weights it is biased


def test_at_most_the_cap_of_a_prompt_is_in_each_part():
    for seed in range(50):
        picks = drawn(seed, is_active=True, per_prompt=1)
        is_random = np.isnan(picks.score)
        assert np.bincount(GROUP[picks.position[is_random]]).max() == 1
        assert len(np.unique(picks.position)) == len(picks.position) == NUM_PICKS
        assert (~is_random).sum() == 4


def test_the_random_part_does_not_depend_on_how_the_active_picks_came_about():
    active = ActivePicks(np.array([1, 5]), np.array([1.0, 0.5]))
    options = SelectOptions(seed=3)
    other = ActivePicks(active.position[::-1].copy(), active.gain)
    assert set(draw_train(POOL, EVERYTHING, 9, options, active).position) == set(
        draw_train(POOL, EVERYTHING, 9, options, other).position
    )


def test_half_of_the_picks_are_shown_in_the_other_order():
    swapped = np.concatenate([drawn(seed).is_swapped for seed in range(300)])
    assert swapped.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(swapped)))


def test_the_test_stream_is_a_fixed_share_of_prompts_that_grows_with_the_share():
    pool = pool_of(np.arange(5000))
    parts = [in_test_stream(pool, share) for share in (0.0, 0.1, 0.3)]
    assert [part.mean() for part in parts] == pytest.approx([0.0, 0.1, 0.3], abs=0.02)
    assert not (parts[1] & ~parts[2]).any()


def test_a_small_pool_is_picked_whole_with_propensity_one():
    picks = draw_train(POOL, EVERYTHING, 500, SelectOptions(per_prompt=9))
    assert sorted(picks.position) == list(range(NUM))
    assert picks.propensity.tolist() == [1.0] * NUM
    assert len(draw_test(POOL, EVERYTHING[:0], 5, SelectOptions()).position) == 0


def test_rounds_draw_anew():
    draws = [draw_train(POOL, EVERYTHING, 9, SelectOptions(round=n)).position.tolist() for n in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
