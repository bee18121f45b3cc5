"""Laws of over-optimization on worlds whose answer is known, and the trend of gold on planted curves."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from guerdon.formulas.best_of_n import curve, kl_bound
from guerdon.formulas.overoptimization import (
    MIN_PROMPTS,
    Fit,
    aicc,
    fit,
    fit_with_intervals,
    gold_trend,
    rl_law,
)

CASES = json.loads((Path(__file__).parents[1] / "cases" / "evaluation_golden.json").read_text(encoding="utf-8"))
NS = [int(n) for n in CASES["hump"] if n != "says"]
D = np.sqrt([kl_bound(n) for n in NS])
HUMP = np.array([CASES["hump"][str(n)] for n in NS])


def noisy(mean: np.ndarray, prompts: int, noise: float = 0.3, seed: int = 0) -> np.ndarray:
    """Gold by prompt: the mean curve, a level and a steepness of each prompt's own, and noise at each point."""
    rng = np.random.default_rng(seed)
    steep = 1 + 0.2 * rng.normal(size=(prompts, 1))
    return rng.normal(size=(prompts, 1)) + steep * mean + noise * rng.normal(size=(prompts, len(mean)))


# --- Laws ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["bon", "rl"])
def test_the_fit_of_the_hump_is_the_worked_one(law: str) -> None:
    found, expected = fit(D, HUMP, law), CASES["gao_fit_on_hump"][law]
    for name in ("alpha", "beta", "peak", "height", "rmse"):
        assert getattr(found, name) == pytest.approx(expected[name], rel=1e-9), name
    assert found.peak_kl == pytest.approx(expected["peak"] ** 2)


def test_a_best_of_n_hump_fits_the_best_of_n_law_better() -> None:
    assert fit(D, HUMP, "bon").rmse < 0.006
    assert fit(D, HUMP, "rl").rmse > 0.11
    assert aicc(D, HUMP, "bon") < aicc(D, HUMP, "rl") - 20
    on_rl = rl_law(D, 1.2, 0.8) + 0.001 * np.cos(np.arange(len(D)))
    assert aicc(D, on_rl, "rl") < aicc(D, on_rl, "bon") - 20


@pytest.mark.parametrize("law", ["bon", "rl"])
def test_the_fit_recovers_the_coefficients_of_its_law(law: str) -> None:
    gold = Fit(1.7, 0.6, law, 0.0).at(D)
    found = fit(D, gold, law)
    assert (found.alpha, found.beta, found.rmse) == pytest.approx((1.7, 0.6, 0.0), abs=1e-12)
    assert gold[0] == 0.0


@pytest.mark.parametrize("law", ["bon", "rl"])
def test_a_peak_is_where_its_law_is_highest(law: str) -> None:
    found = Fit(1.7, 0.6, law, 0.0)
    grid = np.linspace(0.0, 3 * found.peak, 30_001)
    assert grid[found.at(grid).argmax()] == pytest.approx(found.peak, abs=1e-3)
    assert found.at(grid).max() == pytest.approx(found.height, abs=1e-6)


@pytest.mark.parametrize(
    ("alpha", "beta", "law", "peak", "height"),
    [
        (1.0, 0.5, "bon", 1.0, 0.5),
        (1.0, 1.0, "rl", 1.0, 1.0),
        (-1.0, 0.5, "bon", 0.0, 0.0),
        (1.0, 0.0, "bon", math.inf, math.inf),
        (1.0, -0.1, "rl", math.inf, math.inf),
        (-1.0, 0.0, "rl", 0.0, 0.0),
        (0.0, 0.0, "bon", 0.0, 0.0),
    ],
)
def test_peaks_are_worked_by_hand(alpha: float, beta: float, law: str, peak: float, height: float) -> None:
    found = Fit(alpha, beta, law, 0.0)
    assert (found.peak, found.height, found.peak_kl) == (peak, height, peak**2)


def test_a_very_distant_peak_does_not_overflow() -> None:
    for law in ("bon", "rl"):
        for beta in (1e-9, 1e-200, 5e-324):
            found = Fit(1.0, beta, law, 0.0)
            assert found.peak > 1e6
            assert math.isfinite(found.peak_kl)
            assert math.isfinite(found.height)


@pytest.mark.parametrize("law", ["bon", "rl"])
def test_scale_carries_over_and_a_weight_is_a_number_of_points(law: str) -> None:
    gold = HUMP + 0.05 * np.cos(np.arange(len(D)))
    once, tenfold = fit(D, gold, law), fit(D, 10 * gold, law)
    assert (tenfold.alpha, tenfold.beta, tenfold.peak) == pytest.approx((10 * once.alpha, 10 * once.beta, once.peak))
    times = 1 + np.arange(len(D)) % 3
    weighted, repeated = fit(D, gold, law, times.astype(float)), fit(np.repeat(D, times), np.repeat(gold, times), law)
    assert (weighted.alpha, weighted.beta, weighted.rmse) == pytest.approx(
        (repeated.alpha, repeated.beta, repeated.rmse)
    )
    assert fit(D, gold, law, np.full(len(D), 7.0)).alpha == pytest.approx(once.alpha)


def test_the_rl_law_leaves_out_points_near_the_reference() -> None:
    near = np.concatenate([[0.0, 0.05, 0.09], D[1:]])
    gold = np.concatenate([[0.0, 99.0, 99.0], HUMP[1:]])
    assert fit(near, gold, "rl") == fit(D, HUMP, "rl")
    assert fit(near, gold, "bon") != fit(D, HUMP, "bon")


def test_too_few_or_invalid_points_are_refused() -> None:
    with pytest.raises(ValueError, match="two distinct distances above 0"):
        fit(np.array([0.0, 1.0, 1.0]), np.zeros(3))
    with pytest.raises(ValueError, match=r"at least 0\.1"):
        fit(np.array([0.0, 0.05, 1.0]), np.zeros(3), "rl")
    for d, gold in [([0.0, -1.0], [0.0, 0.0]), ([0.0, math.nan], [0.0, 0.0]), ([0.0, 1.0], [0.0, math.inf])]:
        with pytest.raises(ValueError, match="finite"):
            fit(np.array(d), np.array(gold))
    with pytest.raises(ValueError, match="weights must be finite"):
        fit(D, HUMP, "bon", -np.ones(len(D)))


def test_the_criterion_is_inf_for_few_points_and_minus_inf_for_a_perfect_fit() -> None:
    assert aicc(D[:5], HUMP[:5], "bon") == math.inf
    assert aicc(D[:6], HUMP[:6], "bon") < math.inf
    assert aicc(D, np.zeros(len(D)), "bon") == -math.inf


def test_the_criterion_is_worked_by_hand() -> None:
    """Eleven points: 11 log(rmse^2) + 6 + 24/7."""
    rmse = CASES["gao_fit_on_hump"]["bon"]["rmse"]
    assert aicc(D, HUMP, "bon") == pytest.approx(11 * math.log(rmse**2) + 6 + 24 / 7)


# --- Doubt --------------------------------------------------------------------------------------------------------------


def test_a_hump_is_observed_with_intervals_around_the_truth() -> None:
    found = fit_with_intervals(D, noisy(HUMP, 200), "bon", seed=1, draws=500)
    truth = CASES["gao_fit_on_hump"]["bon"]
    assert found.peak_observed
    for name in ("alpha", "beta", "peak", "height"):
        interval = getattr(found, name)
        assert interval.low <= truth[name] <= interval.high, name
        assert interval.low < interval.value < interval.high, name
        assert interval.n == 200
    assert found.peak_kl.value == pytest.approx(found.peak.value**2)
    assert found.drop.low > 0.8
    assert found.largest_d == D[-1]
    assert found.fit.alpha == pytest.approx(found.alpha.value)


def test_the_intervals_have_their_nominal_coverage() -> None:
    truth = fit(D, HUMP)
    covered = {"alpha": 0, "beta": 0, "peak": 0}
    for seed in range(200):
        found = fit_with_intervals(D, noisy(HUMP, 40, seed=seed), draws=300, seed=seed)
        for name in covered:
            interval = getattr(found, name)
            covered[name] += interval.low <= getattr(truth, name) <= interval.high
    assert all(0.88 <= count / 200 <= 0.99 for count in covered.values()), covered


def test_a_curve_that_still_rises_has_no_observed_peak_even_if_it_bends() -> None:
    early = slice(0, 4)
    found = fit_with_intervals(D[early], noisy(HUMP[early], 500, noise=0.05), draws=500)
    assert found.beta.low > 0
    assert not found.peak_observed
    assert found.largest_d == D[3]


@pytest.mark.parametrize("law", ["bon", "rl"])
def test_a_straight_line_and_noise_have_no_observed_peak(law: str) -> None:
    for mean in (1.3 * D, np.zeros(len(D))):
        found = fit_with_intervals(D, noisy(mean, 50), law, draws=500)
        assert not found.peak_observed
        assert found.peak.high == math.inf


def test_a_peak_of_the_law_counts_only_if_gold_falls_after_it() -> None:
    """Best-of-n's law bends down over a curve that only saturates, and does so with confidence."""
    found = fit_with_intervals(D, noisy(1 - np.exp(-3 * D), 500, noise=0.05), draws=500)
    assert found.peak.high < D[-1]
    assert found.drop.low <= 0
    assert not found.peak_observed


def test_a_peak_on_few_prompts_is_not_reported() -> None:
    """Four curves of noise can bend the same way, and resampling four shows little of it."""
    gold = noisy(HUMP, MIN_PROMPTS, noise=0.1)
    assert fit_with_intervals(D, gold, draws=500).peak_observed
    few = fit_with_intervals(D, gold[:-1], draws=500)
    assert few.drop.low > 0
    assert few.peak.high < D[-1]
    assert not few.peak_observed


def test_gold_that_only_falls_peaks_at_the_reference() -> None:
    found = fit_with_intervals(D, noisy(-0.2 * D - 0.3 * D**2, 100), draws=500)
    assert found.peak_observed
    assert found.peak == (0.0, 0.0, 0.0, 100)


def test_an_offset_per_prompt_changes_nothing() -> None:
    gold = noisy(HUMP, 30)
    moved = fit_with_intervals(D, gold + 100 * np.arange(30.0)[:, None], draws=200)
    assert moved.peak == pytest.approx(fit_with_intervals(D, gold, draws=200).peak)


def test_the_seed_fixes_the_intervals_and_one_prompt_has_none() -> None:
    gold = noisy(HUMP, 20)
    assert fit_with_intervals(D, gold, "rl", seed=3, draws=200) == fit_with_intervals(D, gold, "rl", seed=3, draws=200)
    alone = fit_with_intervals(D, gold[:1], draws=200)
    assert math.isnan(alone.peak.low)
    assert not alone.peak_observed


def test_the_chunk_size_of_resampling_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gold = noisy(HUMP, 20)
    expected = fit_with_intervals(D, gold, draws=100)
    monkeypatch.setattr("guerdon.formulas.resampling.CHUNK", 70)
    assert fit_with_intervals(D, gold, draws=100).peak == pytest.approx(expected.peak)


@pytest.mark.parametrize(
    ("d", "gold", "error"),
    [
        ([0.5, 1.0], [[0.0, 1.0]], "first point must be the reference"),
        ([0.05, 0.0], [[0.0, 1.0]], "first point must be the reference"),
        ([0.0, 1.0], [[0.0, math.nan]], "leave out prompts without gold"),
        ([0.0, -1.0], [[0.0, 1.0]], "must be finite, and distances at least 0"),
        ([0.0], [[0.0]], "two points"),
    ],
)
def test_curves_without_a_reference_or_without_gold_are_refused(d: list, gold: list, error: str) -> None:
    for judge in (fit_with_intervals, gold_trend):
        with pytest.raises(ValueError, match=error):
            judge(np.array(d), np.array(gold))


# --- GoldTrend ------------------------------------------------------------------------------------------------------------


def test_a_planted_hump_is_over_optimized_since_its_peak() -> None:
    found = gold_trend(D, noisy(HUMP, 64), draws=500)
    assert found.kind == "over-optimized"
    assert found.since_kl is not None
    assert 1.2 <= found.since_kl <= 3.2
    assert found.drop.low > 0.5
    assert found.drop.low < found.drop.value < found.drop.high
    assert (found.drop.n, found.gain.n) == (64, 64)


def test_a_steady_rise_is_fine() -> None:
    found = gold_trend(D, noisy(1.3 * D, 64), draws=500)
    assert (found.kind, found.since_d, found.since_kl) == ("fine", None, None)
    assert found.gain.low > 0
    assert found.early.low <= 1.3 <= found.early.high
    assert found.late.low <= 1.3 <= found.late.high


def test_a_rise_that_saturates_is_flattening() -> None:
    for mean in (1 - np.exp(-3 * D), np.minimum(D, 0.8) + 0.1 * D):
        found = gold_trend(D, noisy(mean, 200, noise=0.05), draws=500)
        assert found.kind == "flattening"
        assert found.late.high < found.early.value / 3


def test_flattening_needs_evidence_that_gold_ever_rose() -> None:
    """Gold without a trend is no plateau: nothing shows that there was a rise to flatten."""
    kinds = [gold_trend(D, noisy(0 * D, 40, seed=seed), seed=seed, draws=300).kind for seed in range(60)]
    assert kinds.count("flattening") <= 6
    assert kinds.count("insufficient") >= 48
    rose_and_came_back = np.where(D < D[-1] / 2, D, D[-1] - D)
    assert gold_trend(D, noisy(rose_and_came_back, 200, noise=0.05), draws=500).kind == "over-optimized"


def test_best_of_n_with_known_truth_gets_the_right_trend() -> None:
    """Pools of 256: errors of a normal proxy only slow gold down, a hump turns it."""
    rng = np.random.default_rng(8)
    gold = rng.normal(size=(64, 1024))
    ns = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    d = np.sqrt([kl_bound(n) for n in ns])
    assert gold_trend(d, curve(gold + rng.normal(size=gold.shape), gold, ns), draws=500).kind == "fine"
    proxy = rng.normal(size=(64, 1024))
    found = gold_trend(d, curve(proxy, proxy - 0.3 * (proxy**2 - 1), ns), draws=500)
    assert found.kind == "over-optimized"
    assert found.since_kl == pytest.approx(kl_bound(16), abs=0.8)


@pytest.mark.parametrize(("prompts", "points"), [(8, 25), (40, 12)])
def test_noise_alone_is_rarely_called_over_optimized(prompts: int, points: int) -> None:
    """The best of many flat points always looks higher than the last; the interval must allow for the selection."""
    d = np.linspace(0.0, 2.0, points)
    alarms = naive = 0
    for seed in range(200):
        gold = np.random.default_rng(seed).normal(size=(prompts, points))
        alarms += gold_trend(d, gold, seed=seed, draws=300).kind == "over-optimized"
        lost = gold[:, gold.mean(axis=0).argmax()] - gold[:, -1]
        naive += lost.mean() > 1.96 * lost.std(ddof=1) / math.sqrt(prompts)
    assert alarms <= 10
    assert naive > 20


def test_a_proxy_that_is_bad_from_the_start_is_over_optimized_since_0() -> None:
    found = gold_trend(D, noisy(-D, 30), draws=500)
    assert (found.kind, found.since_d, found.since_kl) == ("over-optimized", 0.0, 0.0)
    assert found.gain.high < 0


def test_few_prompts_or_no_distance_are_insufficient() -> None:
    gold = noisy(HUMP, MIN_PROMPTS, noise=0.0)
    assert gold_trend(D, gold, draws=200).kind == "over-optimized"
    assert gold_trend(D, gold[:-1], draws=200).kind == "insufficient"
    assert gold_trend(np.zeros(len(D)), gold, draws=200).kind == "insufficient"
    alone = gold_trend(D, gold[:1], draws=200)
    assert alone.kind == "insufficient"
    assert math.isnan(alone.drop.low)
    assert math.isnan(alone.gain.low)


def test_the_order_of_checkpoints_and_an_offset_per_prompt_change_nothing() -> None:
    gold = noisy(HUMP, 20)
    expected = gold_trend(D, gold, draws=200)
    order = np.array([0, *np.random.default_rng(9).permutation(np.arange(1, len(D)))])
    shuffled = gold_trend(D[order], gold[:, order] + 50 * np.arange(20.0)[:, None], draws=200)
    assert (shuffled.kind, shuffled.since_d) == (expected.kind, expected.since_d)
    assert shuffled.drop == pytest.approx(expected.drop)
    assert shuffled.late == pytest.approx(expected.late)


def test_two_checkpoints_at_one_distance_count_as_their_mean_in_the_slopes() -> None:
    d = np.array([0.0, 1.0, 1.0, 2.0, 3.0])
    gold = np.tile([0.0, 0.5, 1.5, 2.0, 3.0], (10, 1)) + np.arange(10.0)[:, None]
    found = gold_trend(d, gold, draws=200)
    assert (found.early.value, found.late.value) == pytest.approx((1.0, 1.0))
    assert found.kind == "fine"


def test_gold_without_variance_between_prompts_has_an_interval_of_width_0() -> None:
    found = gold_trend(D, np.tile(HUMP, (10, 1)), draws=200)
    assert found.kind == "over-optimized"
    assert found.since_d == D[HUMP.argmax()]
    assert found.drop[:3] == pytest.approx((HUMP.max() - HUMP[-1],) * 3)
