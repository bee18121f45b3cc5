"""Proper scores, temperature, and calibration error with its null: worked cases, laws, extremes."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from guerdon.formulas.calibration import (
    LOG_TEMPERATURE_RANGE,
    brier,
    calibration_slope,
    confidence_and_correctness,
    ece,
    ece_null,
    ece_p_value,
    fit_temperature,
    nll,
    reliability,
)

CASES = json.loads((Path(__file__).parents[1] / "cases" / "calibration.json").read_text(encoding="utf-8"))
laws = settings(derandomize=True, deadline=None, max_examples=40)
rows = st.lists(st.tuples(st.floats(-20.0, 20.0), st.floats(0.0, 1.0)), min_size=1, max_size=40)


def arrays(table: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    margin, q = np.array(table).T
    return margin, q


def calibrated(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal margins, and labels drawn with the odds they state."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(size=n)
    return margin, (rng.random(n) < expit(margin)).astype(float)


@pytest.mark.parametrize("case", CASES["proper_scores"], ids=lambda case: case["says"])
def test_proper_scores_match_the_worked_cases(case: dict) -> None:
    margin, q = np.array([case["margin"]]), np.array([case["q"]])
    assert nll(margin, q) == pytest.approx(case["nll"], abs=1e-12)
    assert brier(margin, q) == pytest.approx(case["brier"], abs=1e-12)


@laws
@given(rows)
def test_swapping_the_responses_changes_no_measure(table: list) -> None:
    margin, q = arrays(table)
    np.testing.assert_allclose(nll(margin, q), nll(-margin, 1 - q), atol=1e-12)
    np.testing.assert_allclose(brier(margin, q), brier(-margin, 1 - q), atol=1e-12)
    assert ece(margin, q) == pytest.approx(ece(-margin, 1 - q), abs=1e-12)
    assert fit_temperature(margin, q) == pytest.approx(fit_temperature(-margin, 1 - q), rel=1e-6)


@laws
@given(st.floats(0.01, 0.99), st.floats(-5.0, 5.0))
def test_no_margin_scores_better_than_the_true_log_odds(q: float, other: float) -> None:
    truth = np.array([math.log(q / (1 - q))])
    for score in (nll, brier):
        assert score(truth, np.array([q])) <= score(np.array([other]), np.array([q])) + 1e-12


def test_a_margin_that_is_very_wrong_costs_its_nats_without_overflow() -> None:
    margin = np.array([-1e4, 1e4])
    assert nll(margin, np.ones(2)).tolist() == [1e4, 0.0]
    assert brier(margin, np.ones(2)).tolist() == [1.0, 0.0]
    assert fit_temperature(margin, np.ones(2)) == pytest.approx(math.exp(LOG_TEMPERATURE_RANGE[1]))
    assert fit_temperature(np.abs(margin), np.ones(2)) == pytest.approx(math.exp(LOG_TEMPERATURE_RANGE[0]))


@pytest.mark.parametrize("case", CASES["temperature"], ids=lambda case: case["says"])
def test_temperature_matches_the_worked_cases(case: dict) -> None:
    assert fit_temperature(np.array(case["margin"], float), np.array(case["q"], float)) == pytest.approx(case["t"])


def test_the_temperature_scales_with_the_margins_and_no_grid_finds_a_better_one() -> None:
    margin, q = calibrated(500, seed=1)
    t = fit_temperature(3.0 * margin, q)
    assert t == pytest.approx(3.0 * fit_temperature(margin, q), rel=1e-9)
    losses = [nll(3.0 * margin / other, q).mean() for other in np.geomspace(0.5, 20.0, 200)]
    assert nll(3.0 * margin / t, q).mean() <= min(losses)


def test_a_weight_counts_as_repeated_rows() -> None:
    margin, q = calibrated(60, seed=2)
    weight = np.arange(60) % 3
    repeated = fit_temperature(np.repeat(margin, weight), np.repeat(q, weight))
    assert fit_temperature(margin, q, weight.astype(float)) == pytest.approx(repeated, rel=1e-9)


def test_a_zero_margin_is_half_confident_and_half_correct() -> None:
    confidence, correct = confidence_and_correctness(np.array([0.0, 2.0, -2.0]), np.array([1.0, 0.9, 0.9]))
    assert confidence == pytest.approx([0.5, expit(2.0), expit(2.0)])
    assert correct == pytest.approx([0.5, 0.9, 0.1])


@pytest.mark.parametrize("case", CASES["ece"], ids=lambda case: case["says"])
def test_ece_matches_the_worked_cases(case: dict) -> None:
    assert ece(np.array(case["margin"], float), np.array(case["q"], float), case["bins"]) == pytest.approx(case["ece"])


@laws
@given(rows, st.integers(1, 20), st.randoms(use_true_random=False))
def test_bins_hold_every_row_once_and_the_order_of_rows_does_not_matter(table: list, bins: int, random) -> None:
    margin, q = arrays(table)
    table_of = reliability(margin, q, bins)
    assert len(table_of.num_rows) <= bins
    assert table_of.num_rows.sum() == len(margin)
    assert table_of.num_rows.min() > 0
    assert (np.diff(table_of.confidence) > 0).all()
    random.shuffle(table)
    assert ece(*arrays(table), bins) == pytest.approx(ece(margin, q, bins), abs=1e-12)


def test_bins_have_equal_mass_where_no_confidences_are_equal() -> None:
    margin, q = calibrated(101, seed=3)
    assert set(reliability(margin, q, bins=10).num_rows.tolist()) == {10, 11}


def test_fewer_rows_than_bins_get_one_bin_each_and_no_rows_have_no_ece() -> None:
    assert reliability(np.array([1.0, 2.0]), np.ones(2), bins=15).num_rows.tolist() == [1, 1]
    assert math.isnan(ece(np.zeros(0), np.zeros(0)))
    assert np.isnan(ece_null(np.zeros(0), draws=3)).all()
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        ece(np.ones(1), np.ones(1), bins=0)


@pytest.mark.parametrize("golden", CASES["null_of_ten_equal_width_bins"]["rows"], ids=lambda golden: f"n={golden['n']}")
def test_the_null_is_slightly_above_that_of_equal_width_bins(golden: dict) -> None:
    margins = [calibrated(golden["n"], seed)[0] for seed in range(4)]
    null = np.concatenate([ece_null(margin, bins=10, draws=200) for margin in margins])
    assert 1.0 < null.mean() / golden["mean"] < 1.25
    assert 1.0 < np.quantile(null, 0.95) / golden["p95"] < 1.25


def test_the_null_has_the_mean_that_normal_theory_gives() -> None:
    margin, _ = calibrated(3000, seed=4)
    p = expit(margin)
    expected = math.sqrt(2 / math.pi * 15 / 3000) * np.sqrt(p * (1 - p)).mean()
    assert ece_null(margin, draws=300).mean() == pytest.approx(expected, rel=0.03)
    assert ece_null(margin, draws=300, votes=4).mean() == pytest.approx(expected / 2, rel=0.03)


def test_votes_may_differ_by_row_and_the_seed_decides_the_draws() -> None:
    margin, _ = calibrated(200, seed=5)
    votes = np.where(np.arange(200) < 100, 1, 9)
    between = ece_null(margin, votes=votes, draws=200).mean()
    assert ece_null(margin, votes=9, draws=200).mean() < between < ece_null(margin, draws=200).mean()
    assert np.array_equal(ece_null(margin, draws=5, seed=7), ece_null(margin, draws=5, seed=7))
    assert not np.array_equal(ece_null(margin, draws=5, seed=7), ece_null(margin, draws=5, seed=8))


def test_a_model_of_zero_margins_is_calibrated_in_every_draw() -> None:
    assert ece_null(np.zeros(10), draws=4).tolist() == [0.0] * 4


def test_a_calibrated_model_passes_and_an_overconfident_one_does_not() -> None:
    margin, q = calibrated(1000, seed=6)
    assert ece_p_value(ece(margin, q), ece_null(margin, draws=200)) > 0.05
    assert ece_p_value(ece(3 * margin, q), ece_null(3 * margin, draws=200)) == pytest.approx(1 / 201)
    assert ece_p_value(0.0, np.array([0.1, 0.2])) == 1.0


def test_the_slope_is_one_over_the_temperature_and_its_error_matches_resampling() -> None:
    found = []
    for seed in range(60):
        margin, q = calibrated(300, seed)
        slope = calibration_slope(2.0 * margin, q, np.arange(300))
        assert slope.value == pytest.approx(1 / fit_temperature(2.0 * margin, q))
        found.append((math.log(slope.value), slope.error))
    logs, errors = np.array(found).T
    assert logs.mean() == pytest.approx(math.log(0.5), abs=0.06)
    assert errors.mean() == pytest.approx(logs.std(), rel=0.3)


def test_a_repeated_group_counts_once() -> None:
    margin, q = calibrated(300, seed=9)
    alone = calibration_slope(margin, q, np.arange(300))
    thrice = calibration_slope(np.tile(margin, 3), np.tile(q, 3), np.tile(np.arange(300), 3))
    forgotten = calibration_slope(np.tile(margin, 3), np.tile(q, 3), np.arange(900))
    assert thrice == pytest.approx(alone)
    assert forgotten.error == pytest.approx(alone.error / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize(
    ("margin", "q", "groups"),
    [
        ([1.0, 2.0], [1.0, 1.0], [0, 1]),  # separable
        ([1.0, 2.0], [0.0, 0.0], [0, 1]),  # the wrong way round
        ([1.0, 2.0, 1.0], [1.0, 0.0, 1.0], [0, 0, 0]),  # one group
        ([0.0, 0.0], [1.0, 0.0], [0, 1]),
    ],
)
def test_a_slope_that_is_not_determined_is_nan(margin: list, q: list, groups: list) -> None:
    assert np.isnan(calibration_slope(np.array(margin), np.array(q), np.array(groups))).all()
