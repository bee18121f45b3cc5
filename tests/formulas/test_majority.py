"""What a few votes say of all people: worked cases, laws, and simulations with preferences that are known."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from guerdon.formulas.agreement import pair_accuracy
from guerdon.formulas.majority import best_accuracy, fit_concentration, majority_again, measure_majority, shape_excess


def test_the_posterior_is_that_of_votes_for_a_side() -> None:
    votes = np.array([[3, 0, 0], [2, 0, 1], [2, 5, 1], [1, 0, 1], [0, 3, 0]])
    found = best_accuracy(votes, 1.0)
    expected = [1 - 0.5**4, scipy.stats.beta(3, 2).sf(0.5), scipy.stats.beta(3, 2).sf(0.5), math.nan, math.nan]
    assert found == pytest.approx(expected, nan_ok=True)
    assert best_accuracy(votes[:1], 0.2)[0] > found[0] > best_accuracy(votes[:1], 20.0)[0] > 0.5


def test_fresh_votes_follow_the_beta_binomial_and_a_tie_counts_half() -> None:
    two, three = majority_again(np.array([[2, 0, 0], [1, 0, 2]]), 1.5)
    fresh = scipy.stats.betabinom(2, 3.5, 1.5)
    assert two == pytest.approx(fresh.pmf(2) + fresh.pmf(1) / 2)
    fresh = scipy.stats.betabinom(3, 3.5, 2.5)
    assert three == pytest.approx(fresh.pmf(3) + fresh.pmf(2))


def test_the_fit_of_two_votes_follows_from_the_share_that_split() -> None:
    """P(split) = a / (2a + 1), so 24 of 80 give a = .3 / (1 - .6) = .75."""
    votes = np.array([[2, 0, 0]] * 30 + [[0, 0, 2]] * 26 + [[1, 4, 1]] * 24 + [[1, 0, 0]] * 50)
    assert fit_concentration(votes) == pytest.approx(0.75, rel=1e-3)
    assert fit_concentration(votes[:56]) == pytest.approx(0.01, rel=0.05)  # nobody disagrees
    assert fit_concentration(votes[56:80]) == pytest.approx(1000.0, rel=0.05)  # everybody does


def test_which_response_is_first_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    votes = rng.multinomial(5, [0.6, 0.1, 0.3], size=80)
    groups, weight = np.arange(80) // 2, np.ones(80)
    turned = np.where(rng.random(80)[:, None] < 0.5, votes, votes[:, ::-1])
    assert measure_majority(votes, groups, weight, 100) == measure_majority(turned, groups, weight, 100)


def test_too_few_votes_or_too_few_that_differ_give_nothing() -> None:
    agreed, split = [[3, 0, 0]], [[2, 0, 1]]
    for rows in (agreed * 14 + split * 5, agreed * 30 + split * 4, [[1, 2, 0]] * 50):
        assert measure_majority(np.array(rows), np.arange(len(rows)), np.ones(len(rows)), 100) is None
    rows = agreed * 15 + split * 5
    assert measure_majority(np.array(rows), np.arange(20), np.ones(20), 100) is not None
    assert measure_majority(np.array(rows), np.arange(20) // 2, np.ones(20), 100) is None  # ten prompts


def voted(preference: np.ndarray, people: int, rng: np.random.Generator, ties: float = 0.0) -> np.ndarray:
    """Votes of that many people on each pair, of whom a share calls it a tie."""
    choosing = rng.binomial(people, 1 - ties, len(preference))
    first = rng.binomial(choosing, preference)
    return np.stack([first, people - choosing, choosing - first], axis=1)


def covered(concentration: float, people: int, trials: int, rng: np.random.Generator, ties: float = 0.0) -> np.ndarray:
    """How often both intervals hold the truth, from 200 pairs whose preferences are Beta(a, a)."""
    preference = rng.beta(concentration, concentration, 100_000)
    seen = voted(preference, people, rng, ties)
    first, _, second = seen.T
    decided = first != second
    best = np.mean((first > second)[decided] == (preference > 0.5)[decided])
    fresh = 2 * rng.binomial(first + second, preference) - first - second
    again = np.mean((1 + np.sign(fresh) * np.sign(first - second))[decided] / 2)
    inside = np.zeros(2)
    for trial in range(trials):
        votes = voted(rng.beta(concentration, concentration, 200), people, rng, ties)
        found = measure_majority(votes, np.arange(200), np.ones(200), 300, trial)
        assert found is not None
        inside += [i.low <= truth <= i.high for i, truth in ((found.best_accuracy, best), (found.again, again))]
    return inside / trials


@pytest.mark.parametrize(("people", "concentration"), [(2, 1.0), (3, 0.3), (5, 3.0), (20, 1.0)])
def test_both_quantities_lie_within_their_intervals(people: int, concentration: float) -> None:
    """60 simulations each: a coverage of .95 has a standard deviation of .028. benchmarks/coverage.py has more."""
    assert (covered(concentration, people, 60, np.random.default_rng(people)) >= 0.86).all()


def test_ties_are_left_out_without_bias() -> None:
    assert (covered(1.0, 3, 60, np.random.default_rng(9), ties=0.3) >= 0.86).all()


def test_no_person_exceeds_the_best_accuracy() -> None:
    """Two people's votes, and a third who answers as they do: right on the population's side at most as often as anybody."""
    rng = np.random.default_rng(5)
    preference = rng.beta(0.4, 0.4, 600)
    votes, third = voted(preference, 2, rng), np.where(rng.random(600) < preference, 1.0, -1.0)
    found = measure_majority(votes, np.arange(600), np.ones(600), 300)
    assert found is not None
    decided = votes[:, 0] != votes[:, 2]
    accuracy = pair_accuracy(third, votes[:, 0] / 2)[decided].mean()
    assert accuracy < found.best_accuracy.low


def clear_or_coins(n: int, rng: np.random.Generator) -> np.ndarray:
    """Half of the pairs clear, half of them coin tosses."""
    side = np.where(rng.random(n) < 0.5, rng.beta(20, 1, n), rng.uniform(0.4, 0.6, n))
    return np.where(rng.random(n) < 0.5, side, 1 - side)


def test_a_mixture_of_clear_and_coin_like_pairs_is_overstated_and_its_shape_rejected() -> None:
    """The prior has one shape. Where half of the pairs are clear and half are coins, the bound is too high by some points, not too low."""
    rng = np.random.default_rng(6)
    preference = clear_or_coins(2000, rng)
    votes = voted(preference, 5, rng)
    found = measure_majority(votes, np.arange(2000), np.ones(2000), 100)
    assert found is not None
    truth = np.mean((votes[:, 0] > votes[:, 2]) == (preference > 0.5))
    assert truth < found.best_accuracy.value < truth + 0.1
    assert found.has_other_shape


def rejected(preferences: Callable[[int], np.ndarray], people: int, pairs: int, rng: np.random.Generator) -> float:
    """How often 100 data sets of that many pairs contradict the shape."""
    excess = [
        shape_excess(voted(preferences(pairs), people, rng), np.arange(pairs), np.ones(pairs)) for _ in range(100)
    ]
    assert None not in excess
    return float(np.mean([not e.low <= 0 <= e.high for e in excess if e is not None]))


@pytest.mark.parametrize(("people", "at_least"), [(5, 0.55), (20, 0.98)])
def test_votes_of_clear_and_coin_like_pairs_contradict_the_shape(people: int, at_least: float) -> None:
    """With five votes in 70 of 100 data sets of 300 pairs."""
    rng = np.random.default_rng(7)
    assert rejected(lambda n: clear_or_coins(n, rng), people, 300, rng) >= at_least


@pytest.mark.parametrize("people", [4, 5, 20])
@pytest.mark.parametrize("concentration", [0.3, 1.0, 4.0])
def test_votes_of_beta_distributed_preferences_seldom_contradict_it(people: int, concentration: float) -> None:
    """The test's size is .05, with a standard deviation of .022 in 100 data sets."""
    rng = np.random.default_rng(8)
    assert rejected(lambda n: rng.beta(concentration, concentration, n), people, 300, rng) <= 0.12


def test_the_shape_is_compared_by_means_over_pairs_and_fours_of_votes() -> None:
    """Votes 4:1 agree in 6 of 10 pairs and differ in 4; of five fours one has the product 1 and four have -1."""
    votes = np.array([[4, 2, 1]] * 30 + [[0, 0, 5]] * 30)
    x, fourth = (0.2 + 1) / 2, (-0.6 + 1) / 2
    found = shape_excess(votes, np.arange(60), np.ones(60))
    assert found is not None
    assert found.value == pytest.approx(fourth - 3 * x**2 / (1 + 2 * x))
    by_prompt = shape_excess(votes, np.arange(60) // 3, np.ones(60))
    assert by_prompt is not None
    assert by_prompt.n == 20
    assert by_prompt.high - by_prompt.low > 1.5 * (found.high - found.low)


def test_fewer_than_four_votes_for_a_side_say_nothing_of_the_shape() -> None:
    votes = np.array([[2, 5, 1]] * 30 + [[3, 0, 0]] * 30 + [[4, 0, 0]] * 19)
    assert shape_excess(votes, np.arange(79), np.ones(79)) is None
    found = measure_majority(votes, np.arange(79), np.ones(79), 100)
    assert found is not None
    assert not found.has_other_shape
