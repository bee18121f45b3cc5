"""The symmetric monotone curve: worked cases, the laws it obeys, and that no other monotone curve fits better."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from guerdon.formulas.isotonic import fit_isotonic, isotonic_log_odds

CASES = json.loads((Path(__file__).parents[1] / "cases" / "isotonic.json").read_text(encoding="utf-8"))
tables = st.lists(st.tuples(st.integers(-9, 9), st.sampled_from([0.0, 0.3, 0.5, 1.0])), min_size=1, max_size=30)


def arrays(table):
    margin, q = np.array(table, dtype=np.float64).T
    return margin, q


@pytest.mark.parametrize("case", CASES["fits"], ids=lambda case: case["says"])
def test_the_curve_matches_the_worked_cases(case):
    curve = fit_isotonic(np.array(case["margin"], float), np.array(case["q"], float))
    assert curve.margin.tolist() == case["points"]
    assert expit(curve.log_odds) == pytest.approx(case["p"])


@given(tables)
def test_the_curve_is_monotone_and_symmetric(table):
    margin, q = arrays(table)
    curve = fit_isotonic(margin, q)
    assert (np.diff(curve.log_odds) >= 0).all()
    grid = np.linspace(-12, 12, 97)
    np.testing.assert_allclose(isotonic_log_odds(-grid, curve), -isotonic_log_odds(grid, curve), atol=1e-9)
    assert isotonic_log_odds(np.zeros(1), curve)[0] == pytest.approx(0.0, abs=1e-12)
    swapped = fit_isotonic(-margin, 1 - q)
    np.testing.assert_allclose(isotonic_log_odds(grid, swapped), isotonic_log_odds(grid, curve), atol=1e-9)


@given(tables, st.floats(0.1, 10.0))
def test_the_curve_depends_on_the_order_of_margins_and_not_their_scale(table, scale):
    margin, q = arrays(table)
    odds = isotonic_log_odds(margin, fit_isotonic(margin, q))
    np.testing.assert_allclose(isotonic_log_odds(scale * margin, fit_isotonic(scale * margin, q)), odds, atol=1e-9)


def test_no_monotone_curve_has_a_smaller_squared_error():
    rng = np.random.default_rng(0)
    margin = rng.normal(size=200)
    q = (rng.random(200) < expit(margin)).astype(float)
    fitted = ((expit(isotonic_log_odds(margin, fit_isotonic(margin, q))) - q) ** 2).mean()
    for t in np.geomspace(0.1, 20, 40):
        assert fitted <= ((expit(margin / t) - q) ** 2).mean() + 1e-9


def test_a_weight_counts_as_repeated_rows_and_the_order_of_rows_does_not_matter():
    rng = np.random.default_rng(1)
    margin, q = rng.integers(-5, 6, 40).astype(float), rng.choice([0.0, 0.5, 1.0], 40)
    weight = rng.integers(0, 4, 40)
    grid, order = np.linspace(-4, 4, 9), rng.permutation(40)
    weighted, repeated = (
        fit_isotonic(margin, q, weight.astype(float)),
        fit_isotonic(np.repeat(margin, weight), np.repeat(q, weight)),
    )
    # not equal: Laplace's n differs
    assert expit(isotonic_log_odds(grid, weighted)) == pytest.approx(expit(isotonic_log_odds(grid, repeated)), abs=0.03)
    np.testing.assert_array_equal(fit_isotonic(margin[order], q[order]).log_odds, fit_isotonic(margin, q).log_odds)


def test_a_planted_curve_is_recovered_where_a_scale_does_not_fit():
    rng = np.random.default_rng(2)
    margin = 4 * rng.normal(size=20_000)
    truth = np.sign(margin) * np.minimum(np.abs(margin), 1.0)  # all sure margins are equally good
    q = (rng.random(len(margin)) < expit(truth)).astype(float)
    curve = fit_isotonic(margin, q)
    assert expit(isotonic_log_odds(np.array([0.5, 2.0, 8.0]), curve)) == pytest.approx(expit([0.5, 1.0, 1.0]), abs=0.03)


def test_separable_pairs_are_no_more_certain_than_their_number_allows():
    curve = fit_isotonic(np.arange(1.0, 99.0), np.ones(98))
    assert expit(curve.log_odds).max() == pytest.approx(0.99)
    assert expit(isotonic_log_odds(np.array([1e9]), curve))[0] == pytest.approx(0.99)


def test_equal_margins_have_even_odds():
    assert isotonic_log_odds(np.array([0.0, 3.0, -3.0]), fit_isotonic(np.zeros(5), np.ones(5))).tolist() == [
        0.0,
        0.0,
        0.0,
    ]
