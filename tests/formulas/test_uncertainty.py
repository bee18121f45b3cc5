"""Doubt of one model: worked cases, laws, extremes, and worlds in which the truth is known."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import kstest

from guerdon.formulas.uncertainty import (
    aurc,
    auroc,
    cholesky,
    conformal_p,
    effective_parameters,
    fit_prior_precision,
    laplace_information,
    laplace_variance,
    ledoit_wolf,
    mahalanobis,
    moments,
    risk_coverage,
    selective_threshold,
)

CASES = json.loads((Path(__file__).parents[1] / "cases" / "uncertainty.json").read_text(encoding="utf-8"))
laws = settings(derandomize=True, deadline=None, max_examples=40)
seeds = st.integers(0, 2**16)


def floats(values: list) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def worked(name: str):
    return pytest.mark.parametrize("case", CASES[name], ids=lambda case: case["says"])


def as_precision(information: np.ndarray, prior: float) -> np.ndarray:
    return cholesky(information + prior * np.eye(len(information)))


def fit_head(difference: np.ndarray, q: np.ndarray, prior: float) -> np.ndarray:
    """The head of largest posterior."""

    def loss(head: np.ndarray) -> tuple[float, np.ndarray]:
        margin = difference @ head
        slope = difference.T @ (expit(margin) - q) + prior * head
        return float(np.sum(np.logaddexp(0, margin) - q * margin) + prior / 2 * head @ head), slope

    return minimize(loss, np.zeros(difference.shape[1]), jac=True, method="L-BFGS-B", options={"gtol": 1e-8}).x


# ---- Laplace -------------------------------------------------------------------------------------------------------


@worked("laplace_variance")
def test_the_variance_of_a_margin_matches_the_worked_cases(case: dict) -> None:
    information = laplace_information(floats(case["difference"]), floats(case["margin"]))
    variance = laplace_variance(floats(case["asked"]), as_precision(information, case["prior_precision"]))
    assert variance == pytest.approx(case["variance"])


@worked("prior_precision")
def test_the_prior_precision_matches_the_worked_cases(case: dict) -> None:
    information = floats(case["information"])
    assert fit_prior_precision(information, floats(case["head"])) == pytest.approx(case["prior_precision"])
    assert effective_parameters(information, case["prior_precision"]) == pytest.approx(case["decided"])


def test_the_information_is_the_hessian_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    difference, head, q = rng.normal(size=(30, 3)), rng.normal(size=3), rng.random(30)

    def slope(at: np.ndarray) -> np.ndarray:
        return difference.T @ (expit(difference @ at) - q)

    step = 1e-5 * np.eye(3)
    hessian = np.array([(slope(head + d) - slope(head - d)) / 2e-5 for d in step])
    np.testing.assert_allclose(laplace_information(difference, difference @ head), hessian, rtol=1e-7)


@laws
@given(seeds)
def test_information_of_chunks_adds_up_and_neither_order_nor_swap_plays_a_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    difference, margin, weight = rng.normal(size=(20, 4)), rng.normal(size=20), rng.random(20)
    whole = laplace_information(difference, margin, weight)
    parts = [laplace_information(difference[i::3], margin[i::3], weight[i::3]) for i in range(3)]
    np.testing.assert_allclose(whole, sum(parts), atol=1e-12)
    np.testing.assert_allclose(whole, laplace_information(-difference, -margin, weight), atol=1e-12)


@laws
@given(seeds, st.floats(0.01, 100.0))
def test_the_unit_of_features_does_not_show_in_the_variance_of_a_margin(seed: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    difference, head, asked = rng.normal(size=(6, 9)), rng.normal(size=9), rng.normal(size=(3, 9))
    variances = []
    for c in (1.0, unit):
        information = laplace_information(c * difference, difference @ head)
        prior = fit_prior_precision(information, head / c)
        variances.append(laplace_variance(c * asked, as_precision(information, prior)))
    np.testing.assert_allclose(variances[1], variances[0], rtol=1e-6)


def test_no_prior_precision_on_a_grid_has_more_evidence() -> None:
    rng = np.random.default_rng(1)
    difference, head = rng.normal(size=(100, 576)), rng.normal(size=576) / 24
    information = laplace_information(difference, difference @ head)
    s = np.maximum(np.linalg.eigvalsh(information), 0.0)

    def evidence(a: float) -> float:
        return float(len(s) / 2 * math.log(a) - a / 2 * head @ head - np.sum(np.log(s + a)) / 2)

    found = fit_prior_precision(information, head)
    assert all(evidence(found) >= evidence(a) for a in np.geomspace(1e-6, 1e6, 400))
    assert 0 < effective_parameters(information, found) < 100  # comparisons


def test_data_that_tell_nothing_and_a_head_of_zeros_have_no_prior_precision() -> None:
    for information, head in ((np.zeros((2, 2)), np.ones(2)), (np.eye(2), np.zeros(2))):
        with pytest.raises(ValueError, match="information and head must not be 0"):
            fit_prior_precision(information, head)


def test_sure_margins_tell_nothing_and_nothing_overflows() -> None:
    assert laplace_information(floats([[1], [1]]), floats([1e4, -1e4])).tolist() == [[0.0]]


def test_in_a_linear_world_the_variance_is_the_spread_of_heads_fitted_again() -> None:
    rng = np.random.default_rng(2)
    truth, prior = rng.normal(size=6), 0.5
    difference = rng.normal(size=(1500, 6)) * floats([1.5, 1.2, 1.0, 0.8, 0.5, 0.3])
    asked = rng.normal(size=(40, 6))
    draws = [
        asked @ fit_head(difference, (rng.random(1500) < expit(difference @ truth)).astype(float), prior)
        for _ in range(150)
    ]
    information = laplace_information(difference, difference @ truth)
    claimed = laplace_variance(asked, as_precision(information, prior))
    ratio = np.var(draws, axis=0) / claimed
    assert 0.85 < ratio.mean() < 1.1
    assert np.corrcoef(np.var(draws, axis=0), claimed)[0, 1] > 0.95


# ---- Distance ------------------------------------------------------------------------------------------------------


@worked("ledoit_wolf")
def test_the_shrunk_covariance_matches_the_worked_cases(case: dict) -> None:
    rows = floats(case["rows"])
    found = ledoit_wolf(moments(rows, np.zeros(rows.shape[1])))
    assert found.shrinkage == pytest.approx(case["shrinkage"])
    np.testing.assert_allclose(found.covariance, case["covariance"], atol=1e-12)


def ledoit_wolf_by_definition(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """The paper's quantities, row by row."""
    n, h = rows.shape
    d = rows - rows.mean(axis=0)
    s = d.T @ d / n
    m = np.trace(s) / h
    d2 = np.sum((s - m * np.eye(h)) ** 2) / h
    b2 = min(d2, sum(np.sum((np.outer(x, x) - s) ** 2) / h for x in d) / n**2)
    return b2 / d2 * m * np.eye(h) + (1 - b2 / d2) * s, b2 / d2


@laws
@given(seeds, st.integers(2, 40), st.integers(2, 6))
@example(2000, 2, 5)  # no shrinkage at all, which sums that cancel miss by 1e-11
def test_shrinkage_in_chunks_around_any_pivot_is_the_papers(seed: int, n: int, h: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, h)) * rng.gamma(1.0, size=h) + 5 * rng.normal(size=h)
    pivot = rows[0] + rng.normal(size=h)
    sums = moments(rows[: n // 2], pivot) + moments(rows[n // 2 :], pivot)
    covariance, shrinkage = ledoit_wolf_by_definition(rows)
    found = ledoit_wolf(sums)
    assert found.shrinkage == pytest.approx(shrinkage, rel=1e-6)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-8 * np.abs(covariance).max())
    np.testing.assert_allclose(sums.mean, rows.mean(axis=0), atol=1e-10)


@laws
@given(seeds)
def test_the_units_of_single_features_do_not_show_where_they_are_scaled(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, units = rng.normal(size=(30, 5)), np.exp(3 * rng.normal(size=5))
    plain, scaled = (moments(each, each[0], each.std(axis=0)) for each in (rows, rows * units))
    here, there = (ledoit_wolf(sums) for sums in (plain, scaled))
    assert there.shrinkage == pytest.approx(here.shrinkage)
    np.testing.assert_allclose(there.covariance, here.covariance * np.outer(units, units), rtol=1e-8, atol=0)
    np.testing.assert_allclose(scaled.mean, (rows * units).mean(axis=0), rtol=1e-8)


def test_moments_around_different_pivots_are_not_added() -> None:
    rows = np.eye(2)
    with pytest.raises(ValueError, match="the same pivot and scale"):
        moments(rows, np.zeros(2)) + moments(rows, np.ones(2))


def test_fewer_rows_than_features_still_give_a_distance_in_every_direction() -> None:
    rng = np.random.default_rng(3)
    covariance, shrinkage = ledoit_wolf(moments(rng.normal(size=(20, 576)), np.zeros(576)))
    assert 0.5 < shrinkage <= 1
    assert mahalanobis(rng.normal(size=(5, 576)), np.zeros(576), cholesky(covariance)).min() > 0


def test_a_covariance_of_equal_rows_is_refused() -> None:
    sums = moments(np.ones((4, 3)), np.ones(3))
    with pytest.raises(ValueError, match="must be positive definite, got a least eigenvalue of 0"):
        cholesky(ledoit_wolf(sums).covariance)


@worked("mahalanobis")
def test_the_distance_matches_the_worked_case(case: dict) -> None:
    found = mahalanobis(floats(case["rows"]), floats(case["mean"]), cholesky(floats(case["covariance"])))
    assert found == pytest.approx(case["distance"])


@laws
@given(seeds)
def test_no_linear_map_of_the_features_changes_a_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, root, turn = (
        rng.normal(size=(5, 3)),
        np.tril(rng.normal(size=(3, 3))) + 3 * np.eye(3),
        rng.normal(size=(3, 3)),
    )
    turn += 4 * np.eye(3)
    shift, covariance = rng.normal(size=3), root @ root.T
    here = mahalanobis(rows, rows.mean(axis=0), cholesky(covariance))
    there = rows @ turn.T + shift
    moved = mahalanobis(there, there.mean(axis=0), cholesky(turn @ covariance @ turn.T))
    np.testing.assert_allclose(moved, here, rtol=1e-8)


@worked("conformal_p")
def test_the_p_value_matches_the_worked_cases(case: dict) -> None:
    weight = floats(case["weight"]) if "weight" in case else None
    assert conformal_p(floats(case["distance"]), floats(case["calibration"]), weight) == pytest.approx(case["p"])


@laws
@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.lists(st.integers(0, 9), min_size=2, max_size=20))
def test_a_p_value_counts_and_falls_with_distance(calibration: list, distance: list) -> None:
    asked, known = np.sort(floats(distance)), floats(calibration)
    p = conformal_p(asked, known)
    assert (np.diff(p) <= 0).all()
    np.testing.assert_allclose(p, [(1 + sum(known >= d)) / (len(known) + 1) for d in asked])
    np.testing.assert_allclose(conformal_p(np.exp(asked), np.exp(known)), p)  # only the order counts


def test_without_a_shift_p_is_uniform_and_with_one_in_a_quiet_direction_it_is_small() -> None:
    """As many wrong alarms as asked for; and what margins cannot see, in a direction that hardly varies, is seen."""
    rng = np.random.default_rng(4)
    spread = np.append(np.full(15, 3.0), 0.05)
    alarms, found, uniform = [], [], []
    for _ in range(40):
        train, known, new = (rng.standard_t(5, size=(n, 16)) * spread for n in (400, 300, 300))
        sums = moments(train, train[0], train.std(axis=0))
        factor = cholesky(ledoit_wolf(sums).covariance)
        calibration = mahalanobis(known, sums.mean, factor)
        moved = new + np.append(np.zeros(15), 1.0)
        p, p_moved = (conformal_p(mahalanobis(rows, sums.mean, factor), calibration) for rows in (new, moved))
        alarms.append(np.mean(p <= 0.05))
        found.append(np.mean(p_moved <= 0.05))
        uniform.append(kstest(p, "uniform").pvalue)
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.01)
    assert np.mean(found) > 0.95
    assert np.median(uniform) > 0.2  # a little below 1/2: the calibration rows are a sample too


def test_replies_of_one_prompt_are_one_witness() -> None:
    """Twenty prompts of fifty alike replies: counted as a thousand the wrong alarms at 1 in 100 would be 5 in 100."""
    rng = np.random.default_rng(5)
    naive, by_group = [], []
    for _ in range(2000):
        calibration, new = np.repeat(rng.normal(size=20), 50), rng.normal(size=1)
        naive.append(conformal_p(new, calibration)[0] <= 0.01)
        by_group.append(conformal_p(new, calibration, np.full(1000, 1 / 50))[0] <= 0.01)
    assert np.mean(naive) > 0.03
    assert np.mean(by_group) == 0  # 20 prompts cannot say 1 in 100


# ---- Judged by errors ----------------------------------------------------------------------------------------------


@worked("auroc")
def test_auroc_matches_the_worked_cases(case: dict) -> None:
    assert auroc(floats(case["score"]), floats(case["positive"])) == pytest.approx(case["auroc"])


@laws
@given(seeds)
def test_auroc_is_the_share_of_pairs_in_order_and_only_the_order_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 6, size=25).astype(float)
    positive, weight = np.append(rng.integers(0, 2, size=23), [0, 1]).astype(float), rng.integers(1, 4, size=25) + 0.0
    yes, no = positive == 1, positive == 0
    order = (score[yes][:, None] > score[no]) + (score[yes][:, None] == score[no]) / 2
    both = weight[yes][:, None] * weight[no]
    found = auroc(score, positive, weight)
    assert found == pytest.approx(np.sum(order * both) / both.sum())
    assert auroc(np.exp(score), positive, weight) == pytest.approx(found)
    assert auroc(-score, positive, weight) == pytest.approx(1 - found)
    assert auroc(score, 1 - positive, weight) == pytest.approx(1 - found)


def test_auroc_of_one_kind_is_unknown_and_of_a_constant_says_nothing() -> None:
    assert math.isnan(auroc(np.arange(3.0), np.ones(3)))
    assert math.isnan(auroc(np.zeros(0), np.zeros(0)))
    assert auroc(np.zeros(4), floats([0, 1, 1, 0])) == 0.5


@worked("risk_coverage")
def test_risk_and_coverage_match_the_worked_cases(case: dict) -> None:
    certainty, wrong = floats(case["certainty"]), floats(case["wrong"])
    found = risk_coverage(certainty, wrong)
    np.testing.assert_allclose(found.coverage, case["coverage"])
    np.testing.assert_allclose(found.risk, case["risk"], atol=1e-12)
    assert aurc(certainty, wrong) == pytest.approx(case["aurc"])


@laws
@given(seeds)
def test_a_weight_is_a_number_of_rows_and_ends_at_the_mean_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    certainty, wrong = rng.integers(0, 9, size=20).astype(float), rng.random(20)
    weight = rng.integers(1, 4, size=20)
    whole = risk_coverage(certainty, wrong, weight + 0.0)
    assert whole.risk[-1] == pytest.approx(np.average(wrong, weights=weight))
    np.testing.assert_allclose(risk_coverage(np.exp(certainty), wrong, weight + 0.0).risk, whole.risk)
    repeated = risk_coverage(np.repeat(certainty, weight), np.repeat(wrong, weight))
    assert auroc(-certainty, wrong, weight + 0.0) == pytest.approx(
        auroc(-np.repeat(certainty, weight), np.repeat(wrong, weight))
    )
    assert repeated.risk[-1] == pytest.approx(whole.risk[-1])


def test_certainty_that_knows_the_errors_beats_one_that_does_not_and_one_that_lies() -> None:
    rng = np.random.default_rng(6)
    wrong = (rng.random(2000) < 0.3).astype(float)
    knows, blind, lies = (aurc(certainty, wrong) for certainty in (-wrong, rng.random(2000), wrong))
    assert knows < 0.07
    assert blind == pytest.approx(0.3, abs=0.03)
    assert lies > 0.6
    assert math.isnan(aurc(np.zeros(0), np.zeros(0)))


# ---- Abstention ----------------------------------------------------------------------------------------------------


@worked("selective_threshold")
def test_a_threshold_is_given_where_the_bound_allows_it(case: dict) -> None:
    wrong = np.repeat([False, True], [case["right"], case["wrong"]])
    found = selective_threshold(np.arange(len(wrong)) + 1.0, wrong, case["error"])
    assert (found and found.coverage) == case["coverage"]


def world(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Certainty uniform on [0, 1], and errors that fall from 1/2 to 0 with it: above t the error is (1 - t) / 4."""
    rng = np.random.default_rng(seed)
    certainty = rng.random(n)
    return certainty, rng.random(n) < (1 - certainty) / 2


@pytest.mark.parametrize(("error", "n"), [(0.1, 1500), (0.2, 400), (0.2, 150)])
def test_the_guarantee_of_abstention_holds_as_often_as_it_says(error: float, n: int) -> None:
    found = [selective_threshold(*world(n, seed), error) for seed in range(200)]
    broken = [selection is not None and (1 - selection.threshold) / 4 > error for selection in found]
    assert np.mean(broken) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 200)
    answered = [selection.coverage if selection else 0.0 for selection in found]
    assert np.mean(answered) > 0.4 * 4 * error  # and it does answer: at best 4 x error of the rows


def test_errors_that_certainty_does_not_know_are_not_answered_and_faultless_rows_all_are() -> None:
    rng = np.random.default_rng(7)
    assert selective_threshold(rng.random(500), rng.random(500) < 0.4, 0.2) is None
    found = selective_threshold(rng.random(500), np.zeros(500, dtype=bool), 0.2)
    assert found is not None
    assert (found.coverage, found.error) == (1.0, 0.0)
    assert selective_threshold(np.zeros(0), np.zeros(0, dtype=bool), 0.2) is None


def test_rows_of_equal_certainty_are_answered_together() -> None:
    certainty = np.repeat([2.0, 1.0], [200, 300])
    wrong = np.append(np.zeros(200, dtype=bool), np.arange(300) % 2 == 0)
    found = selective_threshold(certainty, wrong, 0.1)
    assert found is not None
    assert (found.threshold, found.coverage) == (2.0, 200 / 500)


def test_the_units_of_certainty_do_not_show_and_impossible_rates_are_refused() -> None:
    certainty, wrong = world(400, 0)
    found, moved = (selective_threshold(c, wrong, 0.1) for c in (certainty, 3 + 2 * certainty))
    assert moved == pytest.approx(found._replace(threshold=3 + 2 * found.threshold))
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        selective_threshold(certainty, wrong, 1.5)


def test_moments_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        moments(np.eye(2), np.zeros(2)).num_rows = 3
