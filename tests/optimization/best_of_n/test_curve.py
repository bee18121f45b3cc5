"""The curve over n is unbiased, its KL lies between the truth and the bound, and its intervals resample prompts."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from pools import discrete_rollouts, toy_rollouts

from guerdon.contracts import GuerdonError, Response
from guerdon.optimization.best_of_n.curve import curve


def test_the_curve_is_the_mean_over_all_choices():
    rng = np.random.default_rng(0)
    proxy, gold = rng.integers(0, 4, size=(6, 7)).astype(float), rng.normal(size=(6, 7))
    by_n = curve(toy_rollouts(proxy, gold), [1, 2, 3, 7])
    for point in by_n.points:
        chosen = list(itertools.combinations(range(7), point.n))
        best = [
            [gold[p, [i for i in c if proxy[p, i] == proxy[p, list(c)].max()]].mean() for c in chosen] for p in range(6)
        ]
        assert point.gold.value == pytest.approx(np.mean(best))
        assert point.proxy.value == pytest.approx(
            np.mean([[proxy[p, list(c)].max() for c in chosen] for p in range(6)])
        )
        assert point.gold_gain.value == pytest.approx(np.mean(best) - gold.mean())
        assert point.proxy_gain.value == pytest.approx(point.proxy.value - proxy.mean())
    np.testing.assert_allclose(by_n.gold.mean(axis=0), [point.gold_gain.value for point in by_n.points])


def test_an_offset_per_prompt_changes_no_gain():
    """Only differences within a prompt mean anything: the offset widens the mean's interval, never the gain's."""
    rng = np.random.default_rng(1)
    proxy = rng.normal(size=(30, 16))
    offset = 100 * rng.normal(size=(30, 1))
    plain, shifted = (curve(toy_rollouts(values)).points[-1] for values in (proxy, proxy + offset))
    assert shifted.proxy_gain.value == pytest.approx(plain.proxy_gain.value)
    assert shifted.proxy_gain.low == pytest.approx(plain.proxy_gain.low)
    assert shifted.proxy.high - shifted.proxy.low > 10 * (plain.proxy.high - plain.proxy.low)


def test_n_goes_up_to_a_quarter_of_the_pool_by_default():
    pool = toy_rollouts(np.random.default_rng(2).normal(size=(3, 64)))
    assert [point.n for point in curve(pool).points] == [1, 2, 4, 8, 16]
    assert curve(pool, most=64).points[-1].n == 64
    assert [point.n for point in curve(pool, [3, 5]).points] == [3, 5]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"ns": [1, 8]}, r"ns must be at most the 4 replies per prompt, got 8\. Draw more"),
        ({"ns": []}, "ns must be rising numbers from 1"),
        ({"ns": [2, 1]}, "ns must be rising numbers from 1"),
        ({"ns": [0, 1]}, "ns must be rising numbers from 1"),
        ({"most": 5}, r"best_of_n\.most_n must be from 1 to 4, the replies per prompt, got 5"),
    ],
)
def test_an_n_that_the_pool_cannot_answer_is_refused(given, error):
    with pytest.raises(GuerdonError, match=error):
        curve(toy_rollouts([[1, 2, 3, 4]]), **given)


def test_intervals_resample_prompts_and_equal_prompts_count_once():
    pool = toy_rollouts(np.random.default_rng(3).normal(size=(10, 8)))
    assert curve(pool).points[-1].proxy.n == 10
    twice = dataclasses.replace(pool, prompts=pool.prompts[:40] * 2)
    assert curve(twice).points[-1].proxy.n == 5
    alone = curve(toy_rollouts([[1, 2, 3, 4]])).points[0]
    assert math.isnan(alone.proxy.low)


def test_at_n_equal_to_the_pool_there_is_no_win_rate():
    points = curve(toy_rollouts(np.random.default_rng(4).normal(size=(3, 12))), [11, 12]).points
    assert points[0].win_rate.value == pytest.approx(11 / 12)
    assert points[1].win_rate is None


@pytest.mark.parametrize("known", [True, False])
def test_the_estimated_kl_lies_between_the_truth_and_the_bound(known):
    """Ten equal texts: log 10 nats at most, while the bound grows forever."""
    by_n = curve(discrete_rollouts(np.full(10, 0.1), np.arange(10.0), known=known), [1, 2, 4, 16, 64])
    for point in by_n.points:
        top = np.diff((np.arange(11) / 10) ** point.n)
        exact = float(np.sum(top * np.log(top / 0.1)))
        assert exact - 0.01 <= point.kl.value <= point.kl_bound + 0.01
    assert by_n.points[-1].kl.value == pytest.approx(math.log(10), abs=0.05)
    assert by_n.points[-1].kl_bound > 3
    assert by_n.kl_source.startswith("log-prob" if known else "counts")
    assert by_n.duplicates.value == pytest.approx(1 - 10 / 512)


def test_the_kl_of_replies_that_never_repeat_is_the_bound():
    pool = toy_rollouts(np.random.default_rng(6).normal(size=(20, 256)))
    for known in (False, True):
        log_prob = np.full(20 * 256, -80.0) if known else None
        by_n = curve(dataclasses.replace(pool, log_prob=log_prob))
        assert by_n.duplicates.value == 0
        for point in by_n.points:
            assert point.kl.value == pytest.approx(point.kl_bound, abs=0.01)


def test_a_reply_that_was_cut_does_not_repeat_one_that_ended():
    pool = toy_rollouts([[1.0, 1.0]], texts=[["a", "a"]])
    one_cut = (Response("a", finish="length"), Response("a", finish="stop"))
    assert curve(pool).duplicates.value == 0.5
    assert curve(dataclasses.replace(pool, responses=one_cut)).duplicates.value == 0
