"""Votes to labels: another library's numbers, laws, an independent optimizer, and crowds whose truth is known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from guerdon.formulas.annotators import (
    Ratings,
    VoteTable,
    dawid_skene,
    effective_votes,
    fit_abilities,
    majority,
    most_shared,
    one_vote_each,
    two_sided_p,
)

CASES = json.loads((Path(__file__).parents[1] / "cases" / "annotators.json").read_text(encoding="utf-8"))
laws = settings(derandomize=True, deadline=None, max_examples=20)
PAIRS, ANNOTATORS = 6, 3
single_votes = st.tuples(
    st.integers(0, PAIRS - 1),
    st.integers(0, ANNOTATORS - 1),
    st.integers(0, 2),
    st.booleans(),
    st.sampled_from([0.3, 1.0]),
)
vote_lists = st.lists(single_votes, min_size=1, max_size=30)


def table_of(votes: list[tuple[int, int, int, bool, float]]) -> VoteTable:
    pair, annotator, shown, swapped, weight = map(np.array, zip(*votes, strict=True))
    return VoteTable(pair, annotator, shown, swapped.astype(bool), weight, PAIRS, ANNOTATORS)


def swapped(table: VoteTable, pairs: np.ndarray) -> VoteTable:
    """The same votes, with first and second of some pairs named the other way round."""
    return table._replace(is_swapped=table.is_swapped ^ pairs[table.pair])


def simulated(
    ability: np.ndarray, left_bias: np.ndarray, num: int, votes: int, seed: int, threshold: float = 0.0
) -> tuple[VoteTable, np.ndarray]:
    """Votes of a crowd by the model itself, and which pairs' first response is the better one."""
    rng = np.random.default_rng(seed)
    is_first = rng.random(num) < 0.5
    annotator = np.concatenate([rng.permutation(len(ability))[:votes] for _ in range(num)])
    pair = np.repeat(np.arange(num), votes)
    side = rng.random(len(pair)) < 0.5
    lead = ability[annotator] * np.where(is_first[pair] ^ side, 1, -1) + left_bias[annotator]
    draw = rng.random(len(pair))
    left, right = 1 / (1 + np.exp(threshold - lead)), 1 / (1 + np.exp(threshold + lead))
    shown = np.where(draw < left, 0, np.where(draw >= 1 - right, 2, 1))
    return VoteTable(pair, annotator, shown, side, np.ones(len(pair)), num, len(ability)), is_first


# ---- Laws ----------------------------------------------------------------------------------------------------------


@laws
@given(vote_lists, st.lists(st.booleans(), min_size=PAIRS, max_size=PAIRS).map(np.array))
def test_naming_a_pairs_responses_the_other_way_turns_its_label_and_nothing_else(votes, pairs) -> None:
    table, turned = table_of(votes), swapped(table_of(votes), pairs)

    def turn(q: np.ndarray) -> np.ndarray:
        return np.where(pairs, 1 - q, q)

    np.testing.assert_allclose(majority(turned), turn(majority(table)), atol=1e-12)
    fit, other = fit_abilities(table), fit_abilities(turned)
    np.testing.assert_allclose(other.q, turn(fit.q), atol=1e-9)
    np.testing.assert_allclose(other.ability, fit.ability, atol=1e-9)
    np.testing.assert_allclose(other.left_bias_se, fit.left_bias_se, atol=1e-9)
    posterior = dawid_skene(table, rounds=20)
    expected = np.where(pairs[:, None], posterior[:, ::-1], posterior)
    np.testing.assert_allclose(dawid_skene(turned, rounds=20), expected, atol=1e-6)


@laws
@given(vote_lists)
def test_annotators_of_one_ability_without_bias_are_a_majority(votes) -> None:
    table = table_of([(pair, 0, shown, side, 1.0) for pair, _, shown, side, _ in votes])
    fit = fit_abilities(table, has_left_bias=False)
    if fit.ability[0] > 1e-3:
        counts = table.counts()
        np.testing.assert_array_equal(np.sign((fit.q - 0.5).round(9)), np.sign(counts[:, 0] - counts[:, 2]))


@laws
@given(vote_lists)
def test_a_vote_of_weight_two_is_two_votes(votes) -> None:
    twice = [vote for vote in votes for _ in range(2)]
    heavy = [(*vote[:4], 2 * vote[4]) for vote in votes]
    np.testing.assert_allclose(fit_abilities(table_of(twice)).q, fit_abilities(table_of(heavy)).q, atol=1e-9)


def test_a_pair_that_nobody_judged_is_open() -> None:
    table = table_of([(0, 0, 0, False, 1.0), (0, 1, 0, False, 1.0)])
    for q in (majority(table), fit_abilities(table).q, dawid_skene(table, has_left_bias=False) @ [1.0, 0.5, 0.0]):
        np.testing.assert_allclose(q[1:], 0.5)
        assert q[0] > 0.6


def test_prior_log_odds_are_added_to_those_of_the_votes() -> None:
    table = table_of([(0, 0, 1, False, 1.0)])
    prior = np.array([0.0, 2.0, -1.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(fit_abilities(table, prior).q[1:3], 1 / (1 + np.exp([-2.0, 1.0])))


def test_effective_votes_are_their_number_among_equals_and_one_beside_guesses() -> None:
    table = table_of([(0, 0, 0, False, 1.0), (0, 1, 2, False, 1.0), (0, 2, 0, False, 1.0), (1, 0, 0, False, 1.0)])
    np.testing.assert_allclose(effective_votes(table, np.full(3, 0.7))[:3], [3.0, 1.0, 0.0])
    np.testing.assert_allclose(effective_votes(table, np.array([2.0, 0.0, 0.0]))[:2], [1.0, 1.0])


# ---- Against others ------------------------------------------------------------------------------------------------


def test_dawid_skene_is_that_of_another_library() -> None:
    case = CASES["dawid_skene"]
    votes = np.array(case["votes"])
    num, raters = votes.shape
    pair, annotator = np.repeat(np.arange(num), raters), np.tile(np.arange(raters), num)
    table = VoteTable(pair, annotator, votes.ravel(), np.zeros(votes.size, bool), np.ones(votes.size), num, raters)
    posterior = dawid_skene(table, has_left_bias=False, smoothing=0.0, rounds=500, tolerance=1e-12)
    np.testing.assert_allclose(posterior, case["posterior"], atol=2e-4)


def log_posterior(parameters: np.ndarray, table: VoteTable, log_threshold: float) -> float:
    """The marginal log-likelihood of the votes plus the log prior, written down anew, pair by pair."""
    ability, left_bias, log_t = parameters.reshape(3, -1)

    def chance(j: int, shown: int, is_left_better: bool) -> float:
        lead, t = (ability[j] if is_left_better else -ability[j]) + left_bias[j], math.exp(log_t[j])
        left, right = 1 / (1 + math.exp(t - lead)), 1 / (1 + math.exp(t + lead))
        return [left, 1 - left - right, right][shown]

    total = 0.0
    for i in range(table.num_pairs):
        rows = np.flatnonzero(table.pair == i)
        both = [
            math.prod(chance(table.annotator[v], table.shown_vote[v], is_first ^ table.is_swapped[v]) for v in rows)
            for is_first in (True, False)
        ]
        total += math.log(sum(both) / 2)
    deviation = np.concatenate([ability - 1, left_bias, log_t - log_threshold])
    return total - float(deviation @ deviation) / 2


def test_the_fit_is_the_maximum_that_another_optimizer_finds() -> None:
    table, _ = simulated(np.array([2.0, 1.0, 0.3]), np.array([0.0, 0.8, -0.5]), 80, 3, seed=3, threshold=0.4)
    tie_share = float((table.shown_vote == 1).mean())
    log_threshold = math.log(2 * math.atanh(tie_share))
    start = np.array([1.0] * 3 + [0.0] * 3 + [log_threshold] * 3)
    best = minimize(lambda x: -log_posterior(x, table, log_threshold), start, method="BFGS")
    fit = fit_abilities(table, tolerance=1e-7, rounds=3000)
    ours = np.concatenate([fit.ability, fit.left_bias, np.log(fit.tie_threshold)])
    np.testing.assert_allclose(ours, best.x, atol=2e-3)


# ---- Crowds whose truth is known -----------------------------------------------------------------------------------


def test_ability_and_left_bias_are_recovered_with_honest_standard_errors() -> None:
    ability = np.array([2.0, 1.5, 1.5, 1.0, 1.0, 0.5, 0.5, 0.0, -1.0, 1.0])
    left_bias = np.array([0.0, 0.5, -0.5, 0.0, 1.0, 0.0, 2.0, 0.0, 0.0, -1.0])
    covered = []
    for seed in range(12):
        table, _ = simulated(ability, left_bias, 900, 3, seed, threshold=0.3)
        fit = fit_abilities(table)
        assert np.corrcoef(fit.ability, ability)[0, 1] > 0.93
        assert np.corrcoef(fit.left_bias, left_bias)[0, 1] > 0.95
        covered.append(np.abs(fit.ability - ability) < 1.96 * fit.ability_se)
        covered.append(np.abs(fit.left_bias - left_bias) < 1.96 * fit.left_bias_se)
        has_side = ability != 0  # one without ability is flagged by chance, 1 time in 40
        np.testing.assert_array_equal(fit.is_reversed[has_side], ability[has_side] < 0)
    assert 0.90 < np.mean(covered) < 0.99


def test_a_mixed_crowd_is_labeled_better_than_by_majority_and_q_is_calibrated() -> None:
    ability = np.array([1.8, 1.8, 1.8, 0.8, 0.8, 0.0, 0.0, 0.0, -1.8, -1.8, 0.2, 0.2])
    left_bias = np.array([0.0] * 10 + [2.5, 2.5])
    table, is_first = simulated(ability, left_bias, 3000, 3, seed=1)
    fit = fit_abilities(table)
    accuracy = np.mean((fit.q > 0.5) == is_first)
    assert accuracy > np.mean((majority(table) > 0.5) == is_first) + 0.1
    assert np.maximum(fit.q, 1 - fit.q).mean() == pytest.approx(accuracy, abs=0.03)


def test_a_judge_that_always_says_left_says_nothing() -> None:
    rng = np.random.default_rng(0)
    num = 400
    table = VoteTable(
        np.arange(num), np.zeros(num, int), np.zeros(num, int), rng.random(num) < 0.5, np.ones(num), num, 1
    )
    fit = fit_abilities(table)
    np.testing.assert_allclose(fit.q, 0.5, atol=0.02)
    assert two_sided_p(fit.left_bias, fit.left_bias_se)[0] < 0.001
    np.testing.assert_allclose(dawid_skene(table) @ [1.0, 0.5, 0.0], 0.5, atol=0.02)


def test_a_vote_alone_counts_as_that_of_an_average_annotator() -> None:
    rng = np.random.default_rng(1)
    num = 300
    table = VoteTable(
        np.arange(num), np.zeros(num, int), rng.choice([0, 2], num), rng.random(num) < 0.5, np.ones(num), num, 1
    )
    fit = fit_abilities(table)
    np.testing.assert_allclose(np.abs(np.log(fit.q / (1 - fit.q))), 1.0, atol=0.1)


def test_extremes_stay_finite() -> None:
    everyone = [(pair, j, 0 if pair < 3 else 2, False, 1.0) for pair in range(PAIRS) for j in range(ANNOTATORS)] * 50
    ties = [(pair, j, 1, False, 1.0) for pair in range(PAIRS) for j in range(ANNOTATORS)]
    for votes in (everyone, ties):
        fit = fit_abilities(table_of(votes))
        for values in fit[:7]:
            assert np.isfinite(values).all()
        assert np.isfinite(dawid_skene(table_of(votes), smoothing=0.0)).all()
    np.testing.assert_allclose(fit_abilities(table_of(ties)).q, 0.5)


# ---- Ratings -------------------------------------------------------------------------------------------------------


def test_several_votes_of_an_annotator_on_a_pair_are_one_and_a_tie_where_they_cancel():
    """Annotator 1 says first, first, second of pair 0; annotator 0 says first and second of pair 1, and second of pair 0."""
    pair, annotator = np.array([0, 1, 0, 0, 1, 0]), np.array([1, 0, 1, 1, 0, 0])
    vote, weight = np.array([0, 0, 0, 2, 2, 2]), np.array([1.0, 0.5, 1.0, 1.0, 0.5, 1.0])
    ratings, rating_of_vote = one_vote_each(pair, annotator, vote, weight, 2)
    assert [*zip(*(column.tolist() for column in ratings), strict=True)] == [(0, 0, 2), (0, 1, 0), (1, 0, 1)]
    assert rating_of_vote.tolist() == [1, 2, 1, 1, 2, 0]
    assert ratings.counts(2).tolist() == [[1, 0, 1], [0, 1, 0]]
    assert ratings.of(ratings.annotator == 0).pair.tolist() == [0, 1]


def test_who_shares_most_pairs_comes_first_with_the_ratings_of_both():
    """Annotators 0, 1 and 2 share pair 0; 0 and 2 also share pair 1."""
    ratings = Ratings(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 2]), np.array([0, 2, 1, 0, 0]))
    shared = [(a, b, of_a.tolist(), of_b.tolist()) for a, b, of_a, of_b in most_shared(ratings, 1, 10)]
    assert shared[0] == (0, 2, [3, 0], [4, 2])
    assert sorted(shared[1:]) == [(0, 1, [0], [1]), (1, 2, [1], [2])]
    assert [each[:2] for each in most_shared(ratings, 2, 10)] == [(0, 2)]
    assert len([*most_shared(ratings, 1, 2)]) == 2
    assert [*most_shared(ratings.of(np.zeros(5, bool)), 1, 10)] == []
