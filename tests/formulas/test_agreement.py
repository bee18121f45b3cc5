"""Agreement between people: worked cases, the swap law, and checks by brute force."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.formulas.agreement import (
    cohen_kappa,
    krippendorff_alpha_nominal,
    leave_one_out,
    leave_one_out_votes,
    measure_reliability,
    nominal_alpha,
    ordinal_alpha,
    raw_agreement,
    single_rater_accuracy,
)

CASES = json.loads((Path(__file__).parents[1] / "cases" / "agreement.json").read_text(encoding="utf-8"))
laws = settings(derandomize=True, deadline=None, max_examples=40)
vote_tables = st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=1, max_size=10).map(np.array)


@pytest.mark.parametrize("case", CASES["items"], ids=lambda case: case["says"])
def test_items_match_the_worked_cases(case: dict) -> None:
    votes = np.array([case["votes"]])
    for measure, name in [
        (raw_agreement, "raw"),
        (leave_one_out, "leave_one_out"),
    ]:
        expected = math.nan if case[name] is None else case[name]
        assert measure(votes) == pytest.approx([expected], abs=1e-4, nan_ok=True)


@laws
@given(vote_tables)
def test_swapping_the_sides_changes_nothing(votes: np.ndarray) -> None:
    for measure in (raw_agreement, leave_one_out):
        np.testing.assert_array_equal(measure(votes), measure(votes[:, ::-1]))
    half = len(votes) // 2
    turned = np.concatenate([votes[:half], votes[half:, ::-1]])
    assert krippendorff_alpha_nominal(turned) == pytest.approx(krippendorff_alpha_nominal(votes), nan_ok=True)


@laws
@given(vote_tables)
def test_leave_one_out_is_what_leaving_each_one_out_gives(votes: np.ndarray) -> None:
    for row, got in zip(votes, leave_one_out(votes), strict=True):
        raters = np.repeat([1, 0, -1], row)
        if len(raters) < 2:
            assert math.isnan(got)
            continue
        meets = [(1 + vote * np.sign(raters.sum() - vote)) / 2 for vote in raters]
        assert got == pytest.approx(np.mean(meets))


def test_nominal_alpha_matches_the_worked_case() -> None:
    case = CASES["krippendorff"]
    units = zip(*case["ratings"], strict=True)
    counts = np.array([[unit.count(category) for category in (1, 2, 3, 4)] for unit in units])
    assert nominal_alpha(counts) == pytest.approx(case["nominal_alpha"], abs=1e-6)
    assert ordinal_alpha(counts) == pytest.approx(case["ordinal_alpha"], abs=1e-6)


@pytest.mark.parametrize("case", CASES["other_libraries"], ids=["complete", "incomplete"])
def test_reliability_is_that_of_other_libraries(case: dict) -> None:
    counts = np.array([[row.count(category) for category in range(3)] for row in case["ratings"]])
    reliability = measure_reliability(counts, np.arange(len(counts)), draws=200)
    assert reliability is not None
    for name in ("raw", "nominal_alpha", "ordinal_alpha", "ac1"):
        interval = getattr(reliability, name)
        assert interval.value == pytest.approx(case[name], abs=1e-8)
        assert interval.low < interval.value < interval.high
    fleiss = reliability.fleiss_kappa
    assert (fleiss is None) if case["fleiss_kappa"] is None else fleiss.value == pytest.approx(case["fleiss_kappa"])


def test_cohens_kappa_is_that_of_scikit_learn_on_items_in_both_orders() -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(3)
    a = rng.integers(0, 3, 200)
    b = np.where(rng.random(200) < 0.6, a, rng.integers(0, 3, 200))
    kappa = cohen_kappa(a, b, np.arange(200), draws=200)
    expected = cohen_kappa_score(np.concatenate([a, 2 - a]), np.concatenate([b, 2 - b]))
    assert kappa.value == pytest.approx(expected)
    assert kappa.low < expected < kappa.high
    assert math.isnan(cohen_kappa(np.ones(5, int), np.ones(5, int), np.arange(5)).value)


@laws
@given(vote_tables)
def test_reliability_does_not_hang_on_which_side_is_called_first(votes: np.ndarray) -> None:
    half = len(votes) // 2
    turned = np.concatenate([votes[:half], votes[half:, ::-1]])
    before, after = (measure_reliability(table, np.arange(len(table)), draws=10) for table in (votes, turned))
    assert (before is None) == (after is None) == (votes.sum(axis=1).max() < 2)
    if before is not None and after is not None:
        assert before.nominal_alpha.value == pytest.approx(krippendorff_alpha_nominal(votes), nan_ok=True)
        for one, other in zip(before[:4], after[:4], strict=True):
            assert one.value == pytest.approx(other.value, nan_ok=True)


@laws
@given(vote_tables)
def test_the_votes_of_an_item_average_to_its_leave_one_out_agreement(votes: np.ndarray) -> None:
    item = np.repeat(np.arange(len(votes)), votes.sum(axis=1))
    vote = np.concatenate([np.repeat([0, 1, 2], row) for row in votes])
    agreement = leave_one_out_votes(votes, item, vote)
    for i, expected in enumerate(leave_one_out(votes)):
        if not math.isnan(expected):
            assert agreement[item == i].mean() == pytest.approx(expected)
        else:
            assert np.isnan(agreement[item == i]).all()


def test_alpha_does_not_hang_on_which_side_was_called_first() -> None:
    """The better side always first makes the plain alpha of the same votes fall far below the symmetrized one."""
    rng = np.random.default_rng(1)
    first = rng.binomial(3, rng.beta(6, 2, size=400))
    votes = np.stack([first, np.zeros_like(first), 3 - first], axis=1)
    turned = np.where(rng.random(400)[:, None] < 0.5, votes, votes[:, ::-1])
    assert nominal_alpha(votes) < krippendorff_alpha_nominal(votes) - 0.1
    assert nominal_alpha(turned) == pytest.approx(krippendorff_alpha_nominal(votes), abs=0.05)


def test_alpha_is_one_for_unanimity_and_about_zero_for_coin_tosses() -> None:
    assert krippendorff_alpha_nominal(np.array([[3, 0, 0], [0, 0, 2]])) == 1.0
    first = np.random.default_rng(2).binomial(3, 0.5, size=3000)
    tosses = np.stack([first, np.zeros_like(first), 3 - first], axis=1)
    assert krippendorff_alpha_nominal(tosses) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("votes", [[[0, 3, 0], [0, 2, 0]], [[1, 0, 0]], [[0, 0, 0]]])
def test_alpha_is_nan_where_chance_is_undefined(votes: list) -> None:
    assert math.isnan(krippendorff_alpha_nominal(np.array(votes)))


@pytest.mark.parametrize("case", CASES["single_rater"], ids=lambda case: case["says"])
def test_single_rater_accuracy_matches_the_worked_cases(case: dict) -> None:
    assert single_rater_accuracy(case["agreement"]) == pytest.approx(case["accuracy"], abs=1e-3)
