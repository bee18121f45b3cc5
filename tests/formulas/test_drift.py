"""Drift of replies: worked cases, laws, and worlds in which the part of length is known."""

import math

import numpy as np
import pytest

from guerdon.formulas.drift import (
    complete_prompts,
    count_copies,
    describe_trend,
    distinct,
    length_effect,
    repetition,
    unique_share,
    words,
)
from guerdon.formulas.overoptimization import gold_trend

RNG = np.random.default_rng(7)


def world(by_length: float, by_quality: float, p: int = 300, m: int = 4, seed: int = 1):
    """Reward = the prompt's own + by_length a token + by_quality a check + noise; lengths grow by 10 a check."""
    rng = np.random.default_rng(seed)
    step = np.arange(m)[:, None]
    hard = rng.normal(size=p)
    length = 60 + 20 * hard + 10 * step + rng.normal(size=(m, p)) * 8
    proxy = -3 * hard + by_length * length + by_quality * step + 0.3 * rng.normal(size=(m, p))
    return proxy, length


def test_words_are_runs_marks_and_the_letters_of_very_long_runs():
    assert words("It's 3 o'clock.") == ["it", "'", "s", "3", "o", "'", "clock", "."]
    assert words("S" * 30) == ["s"] * 30


def test_repetition_by_hand():
    assert repetition("a b c d") == 0  # one run of four
    assert repetition("a b c d a b c d") == pytest.approx(1 - 4 / 5)  # abcd bcda cdab dabc abcd
    assert repetition("") == repetition("a b c") == 0


def test_a_stuck_key_is_repetition_though_it_is_one_word():
    assert repetition("no " + "s" * 100) > 0.9


def test_distinct_by_hand():
    found = distinct(["a b a", "b c"], 1)
    assert found.value == pytest.approx(3 / 5)
    assert found.n == 2
    assert distinct(["a b a", "b c"], 2).value == 1  # ab ba bc
    assert math.isnan(distinct(["a", ""], 2).value)


def test_longer_replies_of_the_same_diversity_do_not_lower_distinct():
    text = [" ".join(f"w{i}" for i in RNG.integers(1000, size=200)) for _ in range(50)]
    short = [" ".join(t.split()[:32]) for t in text]
    assert distinct(text, 1) == distinct(short, 1)


def test_the_interval_of_distinct_covers_the_value_of_new_replies():
    rng = np.random.default_rng(3)

    def draw():
        return [" ".join(f"w{i}" for i in rng.zipf(1.6, size=20)) for _ in range(60)]

    fresh = np.mean([distinct(draw(), 1).value for _ in range(200)])
    held = [found.low <= fresh <= found.high for found in (distinct(draw(), 1) for _ in range(200))]
    assert np.mean(held) >= 0.93


def test_unique_replies_ignore_spaces_and_case():
    found = unique_share(["Yes.", "yes. ", "no", "maybe"])
    assert found.value == 0.75
    assert found.low < 0.75 < found.high
    everyone = unique_share(["a", "b", "c"])
    assert everyone.value == 1
    assert everyone.low < 0.5  # three of three is no certainty
    assert unique_share(["same"] * 10).value == 0.1
    assert math.isnan(unique_share([]).value)


def test_a_gain_that_is_length_has_share_one():
    part = length_effect(*world(by_length=0.05, by_quality=0.0))
    assert part.share.value == pytest.approx(1, abs=0.1)
    assert part.share.low < 1 < part.share.high
    assert part.slope.value == pytest.approx(0.05, abs=0.005)
    assert part.correlation.low > 0.5


def test_a_gain_in_quality_has_share_zero_even_if_length_rises():
    part = length_effect(*world(by_length=0.0, by_quality=0.5, seed=2))
    assert part.share.value == pytest.approx(0, abs=0.1)
    assert part.share.low < 0 < part.share.high
    assert part.correlation.low < 0 < part.correlation.high


def test_a_gain_half_of_length_has_share_half():
    assert length_effect(*world(by_length=0.05, by_quality=0.5)).share.value == pytest.approx(0.5, abs=0.05)


def test_two_evaluations_give_the_regression_of_gain_on_gain():
    proxy, length = world(0.03, 0.4, p=80, m=2)
    gain, longer = proxy[1] - proxy[0], length[1] - length[0]
    slope, intercept = np.polyfit(longer, gain, 1)
    part = length_effect(proxy, length)
    assert part.slope.value == pytest.approx(slope)
    assert part.share.value == pytest.approx(1 - intercept / gain.mean())
    assert part.correlation.value == pytest.approx(np.corrcoef(gain, longer)[0, 1])


def test_the_share_ignores_offsets_per_prompt_and_the_scale_of_either_axis():
    proxy, length = world(0.03, 0.4, p=50)
    shift = np.random.default_rng(0).normal(size=50)
    one, other = length_effect(proxy, length), length_effect(7 * (proxy + 10 * shift), length / 3 + 100 * shift)
    np.testing.assert_allclose(other.share, one.share)
    np.testing.assert_allclose(other.correlation, one.correlation)


def test_the_intervals_of_the_share_have_their_nominal_coverage():
    found = [length_effect(*world(0.02, 0.3, p=40, m=3, seed=s), draws=300).share for s in range(200)]
    truth = 0.02 * 10 / (0.02 * 10 + 0.3)
    assert 0.90 <= np.mean([f.low <= truth <= f.high for f in found]) <= 0.99


def test_constant_length_gives_nan():
    proxy, length = world(0.0, 0.5)
    part = length_effect(proxy, np.full_like(length, 32.0))
    assert math.isnan(part.share.value)
    assert math.isnan(part.correlation.value)
    same_growth = length_effect(proxy, np.full_like(length, 32.0) + 10 * np.arange(4)[:, None])
    assert math.isnan(same_growth.slope.value)
    assert math.isnan(length_effect(proxy[:1], length[:1]).share.value)
    assert math.isnan(length_effect(proxy[:, :2], length[:, :2]).share.value)


def test_incomplete_prompts_are_left_out_and_equal_prompts_are_averaged():
    proxy = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, math.nan, 8.0]])
    gold = 10 * np.array([[1.0, 2.0, 3.0, 4.0]])
    first, second = complete_prompts(["b", "a", "c", "b"], proxy, gold)
    np.testing.assert_array_equal(first, [[2.5, 2.0], [6.5, 6.0]])
    np.testing.assert_array_equal(second, [[25.0, 20.0]])
    (empty,) = complete_prompts(["a"], np.array([[math.nan]]))
    assert empty.shape == (1, 0)


def test_copies_count_themselves():
    np.testing.assert_array_equal(count_copies(["a", "b", "a"]), [2, 1, 2])


def test_a_trend_is_described_in_one_sentence_with_its_interval():
    d, rng = np.linspace(0, 3, 7), np.random.default_rng(0)

    def describe(curve, p=60):
        return describe_trend(gold_trend(d, curve + 0.2 * rng.normal(size=(p, 7))), 9.0)

    assert describe(d * (2 - 0.8 * d)).startswith("Over-optimized since KL = 1 nats/sequence: from there to KL = 9 ")
    assert describe(-d).startswith("Over-optimized from the start")
    assert describe(d).startswith("Fine up to KL = 9 nats/sequence: gold has risen by")
    assert describe(1 - np.exp(-4 * d)).startswith("Flattening: up to KL = 9 nats/sequence gold has risen by")
    assert "not shown to have risen" in describe(0 * d)
    assert describe(d, p=3) == "Not enough evidence for a trend: 3 prompts, and at least 8 are needed."
    assert "same KL" in describe_trend(gold_trend(np.zeros(3), rng.normal(size=(20, 3))), 0.0)
