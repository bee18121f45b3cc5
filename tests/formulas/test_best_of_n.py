"""Best-of-n: the unbiased estimator against enumeration, ties, and three KLs that bound one another."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.formulas.best_of_n import (
    best_of_n,
    chance_of_outcome,
    curve,
    default_ns,
    kl_bound,
    kl_estimate,
    kl_exact,
    weights,
    win_rate,
)

CASES = json.loads((Path(__file__).parents[1] / "cases" / "evaluation_golden.json").read_text(encoding="utf-8"))
VECTOR = CASES["bon_vector"]
laws = settings(derandomize=True, deadline=None, max_examples=40)


def by_enumeration(proxy: np.ndarray, score: np.ndarray, n: int) -> float:
    """The mean over all subsets of n of what the proxy's favorites among them carry, ties at their mean."""
    chosen = []
    for subset in itertools.combinations(range(len(proxy)), n):
        index = np.array(subset)
        chosen.append(score[index[proxy[index] == proxy[index].max()]].mean())
    return float(np.mean(chosen))


@pytest.mark.parametrize("score", ["proxy", "gold"])
def test_the_estimator_matches_the_worked_pool(score: str) -> None:
    proxy, values = np.array(VECTOR["proxy"]), np.array(VECTOR[score])
    for n, expected in VECTOR[f"unbiased_{score}"].items():
        assert best_of_n(proxy, values, int(n)) == pytest.approx(expected, abs=1e-6)


def test_the_weights_of_two_of_three_are_counted_by_hand() -> None:
    """Of the subsets {1,2}, {1,3}, {2,3}: the second is best once, the third twice."""
    assert weights(2, 3).tolist() == pytest.approx([0.0, 1 / 3, 2 / 3])


@laws
@given(
    st.integers(1, 8).flatmap(
        lambda N: st.tuples(st.integers(1, N), st.lists(st.integers(-2, 2), min_size=N, max_size=N))
    )
)
def test_the_estimator_is_the_mean_over_all_subsets_ties_included(drawn: tuple[int, list[int]]) -> None:
    n, scores = drawn
    proxy = np.array(scores, dtype=float)
    gold = np.random.default_rng(len(scores)).normal(size=len(scores))
    assert best_of_n(proxy, gold, n) == pytest.approx(by_enumeration(proxy, gold, n), abs=1e-12)


@pytest.mark.parametrize("pool", [1, 2, 64, 12_600])
def test_weights_are_probabilities_and_exact_at_both_ends(pool: int) -> None:
    for n in default_ns(pool, pool):
        w = weights(n, pool)
        assert w.sum() == pytest.approx(1.0, abs=1e-11)
        assert (w >= 0).all()
        assert (w[: n - 1] == 0).all()
    assert (weights(1, pool) == 1 / pool).all()
    assert weights(pool, pool).tolist() == [0.0] * (pool - 1) + [1.0]


@pytest.mark.parametrize(("n", "pool"), [(3, 50), (25, 50), (49, 50), (1000, 4096)])
def test_weights_are_ratios_of_binomial_coefficients(n: int, pool: int) -> None:
    exact = [math.comb(i - 1, n - 1) / math.comb(pool, n) for i in range(1, pool + 1)]
    assert weights(n, pool) == pytest.approx(exact, rel=1e-11)


def test_one_draw_is_the_mean_and_all_draws_the_maximum() -> None:
    proxy, gold = np.array(VECTOR["proxy"]), np.array(VECTOR["gold"])
    assert best_of_n(proxy, gold, 1) == pytest.approx(gold.mean())
    assert best_of_n(proxy, gold, 8) == gold[proxy.argmax()]


def test_ties_share_their_mean_in_any_order() -> None:
    proxy, gold = np.array([1.0, 0.0, 1.0]), np.array([3.0, 0.0, 5.0])
    for order in itertools.permutations(range(3)):
        assert best_of_n(proxy[list(order)], gold[list(order)], 3) == 4.0
    constant = np.zeros(3)
    assert [best_of_n(constant, gold, n) for n in (1, 2, 3)] == pytest.approx([8 / 3] * 3)


def test_a_constant_value_is_exact_at_every_n() -> None:
    """A sum of weights misses 1 by a rounding error, the same for every prompt: it would pass for a certain fall."""
    proxy = np.random.default_rng(0).normal(size=(9, 256))
    for constant in (0.1, 1.0, 3.3, -1e6):
        assert (curve(proxy, np.full_like(proxy, constant), (1, 2, 8, 64, 256)) == constant).all()
    tied = curve(np.zeros((1, 64)), proxy[:1, :64], (1, 2, 8, 64))
    assert (tied == tied[0, 0]).all()


@laws
@given(st.integers(0, 1000))
def test_order_and_monotone_changes_of_the_proxy_change_nothing_and_gold_shifts_through(seed: int) -> None:
    rng = np.random.default_rng(seed)
    proxy, gold, shuffled = rng.normal(size=(2, 12)), rng.normal(size=(2, 12)), rng.permutation(12)
    expected = curve(proxy, gold, (1, 3, 7, 12))
    assert curve(proxy[:, shuffled], gold[:, shuffled], (1, 3, 7, 12)) == pytest.approx(expected)
    assert curve(np.exp(proxy), gold, (1, 3, 7, 12)) == pytest.approx(expected)
    assert curve(proxy, 5 - 2 * gold, (1, 3, 7, 12)) == pytest.approx(5 - 2 * expected)
    assert (np.diff(curve(proxy, proxy, range(1, 13)), axis=1) > 0).all()


def test_prompts_are_independent_even_if_their_scores_tie() -> None:
    proxy = np.array([[0.0, 1.0, 1.0, 2.0], [2.0, 2.0, 2.0, 2.0], [3.0, 1.0, 0.0, 2.0]])
    gold = np.arange(12.0).reshape(3, 4)
    together = curve(proxy, gold, (1, 2, 4))
    assert together.shape == (3, 3)
    for i in range(3):
        assert together[i].tolist() == pytest.approx([best_of_n(proxy[i], gold[i], n) for n in (1, 2, 4)])


def test_pools_of_normals_give_the_normal_maximum_without_bias() -> None:
    """The plug-in estimate would be a tenth of a standard deviation low at n = 32 of 64."""
    pools = np.random.default_rng(0).normal(size=(4000, 64))
    ns = (2, 4, 16, 32, 64)
    found = curve(pools, pools, ns)
    truth = np.array([CASES["normal_max"][str(n)][0] for n in ns])
    assert (np.abs(found.mean(axis=0) - truth) < 4 * found.std(axis=0) / math.sqrt(4000)).all()
    assert CASES["estimator_bias_N64"]["32"]["plugin_mean"] < found.mean(axis=0)[3] - 0.08


def test_a_heavy_tailed_error_of_the_proxy_loses_the_whole_gain() -> None:
    """Gold is normal and the proxy errs by Student's t(2): the best of very many is picked for its error alone."""
    rng = np.random.default_rng(1)
    gold = rng.normal(size=(300, 4096))
    ns = (1, 4, 16, 64, 256, 1024, 4096)
    found = curve(gold + rng.standard_t(2, size=gold.shape), gold, ns).mean(axis=0)
    assert found == pytest.approx([CASES["catastrophic_t2_gold_MC"][str(n)] for n in ns], abs=0.17)
    assert found[2] > 0.6
    assert abs(found[-1]) < 0.17


@pytest.mark.parametrize(("n", "pool"), [(0, 4), (5, 4), (-1, 4), (1, 0)])
def test_an_n_the_pool_cannot_answer_is_refused(n: int, pool: int) -> None:
    with pytest.raises(ValueError, match=f"n must be from 1 to the pool's {pool} responses, got {n}"):
        weights(n, pool)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    fine, broken = np.array([0.0, 1.0]), np.array([0.0, bad])
    for proxy, gold in [(fine, broken), (broken, fine)]:
        with pytest.raises(ValueError, match="scores must be finite"):
            best_of_n(proxy, gold, 1)


@pytest.mark.parametrize(
    ("pool", "most", "expected"),
    [
        (64, None, (1, 2, 4, 8, 16)),
        (100, None, (1, 2, 4, 8, 16, 25)),
        (3, None, (1,)),
        (1, None, (1,)),
        (8, 8, (1, 2, 4, 8)),
        (8, 3, (1, 2, 3)),
    ],
)
def test_default_ns_double_up_to_the_limit(pool: int, most: int | None, expected: tuple[int, ...]) -> None:
    assert default_ns(pool, most) == expected


@pytest.mark.parametrize("most", [0, 9])
def test_a_limit_outside_the_pool_is_refused(most: int) -> None:
    with pytest.raises(ValueError, match="must be from 1 to the pool's 8 responses"):
        default_ns(8, most)


def test_the_bound_matches_its_table() -> None:
    for n, expected in CASES["kl"].items():
        if n != "says":
            assert kl_bound(int(n)) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="at least 1"):
        kl_bound(0)


LAWS = {
    "uniform2": np.full(2, 1 / 2),
    "uniform10": np.full(10, 1 / 10),
    "uniform1000": np.full(1000, 1 / 1000),
    "zipf100_bestrare": 1 / np.arange(1, 101) / np.sum(1 / np.arange(1, 101)),
    "zipf100_bestcommon": 1 / np.arange(100, 0, -1) / np.sum(1 / np.arange(1, 101)),
}


@pytest.mark.parametrize("name", LAWS)
def test_exact_kl_estimate_and_bound_match_their_table_and_are_ordered(name: str) -> None:
    p = LAWS[name]
    for number, expected in CASES["bon_kl_exact_est_bound"][name].items():
        n, below = int(number), np.cumsum(p) - p
        selected = (below + p) ** n - below**n
        exact, bound = kl_exact(p, np.arange(len(p), dtype=float), n), kl_bound(n)
        estimate = float(selected @ kl_estimate(p, n))
        assert [exact, estimate, bound] == pytest.approx(expected, abs=6e-5)
        assert exact <= estimate + 1e-9 <= bound + 2e-9


def test_a_coin_of_two_scores_is_worked_by_hand() -> None:
    """Best of two: 1/4 and 3/4 against a half each. The estimate of either is the same, for each has p = 1/2."""
    by_hand = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert kl_exact(np.array([0.5, 0.5]), np.array([0.0, 1.0]), 2) == pytest.approx(by_hand)
    hand_estimate = 0.25 * (math.log(2) + math.log(0.5) - 0.5) + 0.75 * math.log(1.5)
    assert kl_estimate(np.array([0.5]), 2)[0] == pytest.approx(hand_estimate)


@pytest.mark.parametrize("n", [1, 2, 64, 10**6])
def test_the_estimate_of_a_response_with_probability_0_is_the_bound(n: int) -> None:
    tiny = np.array([0.0, 5e-324, 1e-300, 1e-15])
    assert kl_estimate(tiny, n) == pytest.approx([kl_bound(n)] * 4, abs=1e-8)


@pytest.mark.parametrize("n", [1, 2, 64, 10**6])
def test_the_estimate_of_a_certain_response_is_0_and_of_a_likely_one_its_surprisal(n: int) -> None:
    assert kl_estimate(np.array([1.0]), n)[0] == 0.0
    assert kl_estimate(np.array([0.3]), 10**6)[0] == pytest.approx(-math.log(0.3))
    assert kl_estimate(np.array([0.3]), 1)[0] == pytest.approx(0.0, abs=1e-15)


@laws
@given(st.floats(0.0, 1.0), st.integers(1, 10_000))
def test_the_estimate_is_between_0_and_the_bound(p: float, n: int) -> None:
    estimate = kl_estimate(np.array([p]), n)[0]
    assert -1e-9 <= estimate <= kl_bound(n) + 1e-9
    assert estimate <= (-math.log(p) if p > 0 else math.inf) + 1e-9


def test_choosing_among_tied_outcomes_has_no_kl() -> None:
    assert kl_exact(np.array([0.2, 0.8]), np.array([1.0, 1.0]), 50) == pytest.approx(0.0)
    split = kl_exact(np.array([0.5, 0.2, 0.3, 0.0]), np.array([0.0, 1.0, 1.0, 9.0]), 4)
    assert split == pytest.approx(kl_exact(np.array([0.5, 0.5]), np.array([0.0, 1.0]), 4))


def test_invalid_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        kl_estimate(np.array([math.nan]), 2)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        kl_estimate(np.array([1.5]), 2)
    with pytest.raises(ValueError, match="sum to 1"):
        kl_exact(np.array([0.5, 0.6]), np.zeros(2), 2)
    with pytest.raises(ValueError, match="at least 1"):
        kl_exact(np.array([1.0]), np.zeros(1), 0)


def test_equal_rewards_are_one_outcome() -> None:
    """A constant reward moves nothing, and one of two values no further than choosing the better one always."""
    tiny, alone = np.full((1, 20), 1e-9), np.ones((1, 20))
    constant = chance_of_outcome(np.zeros((1, 20)), tiny, alone)
    assert kl_estimate(constant[0], 8).max() == pytest.approx(0.0, abs=1e-12)
    proxy = np.repeat([[0.0, 1.0]], [2, 18], axis=1)
    two = chance_of_outcome(proxy, tiny, alone)
    assert two[0].tolist() == [0.1] * 2 + [0.9] * 18
    assert curve(proxy, kl_estimate(two[0], 16)[None], [16])[0, 0] <= -np.log(0.9) + 1e-9


def test_a_text_whose_reward_no_other_has_keeps_its_probability() -> None:
    proxy, chance = np.array([[0.0, 0.0, 1.0, 2.0]]), np.array([[0.3, 0.3, 0.2, 0.1]])
    same_text_twice = np.array([[2.0, 2.0, 1.0, 1.0]])
    assert chance_of_outcome(proxy, chance, same_text_twice).tolist() == chance.tolist()


def test_without_ties_the_win_rate_is_n_over_n_plus_one():
    proxy = np.random.default_rng(4).normal(size=(3, 12))
    for n in (1, 2, 5, 11):
        np.testing.assert_allclose(win_rate(proxy, n), n / (n + 1))


def test_with_ties_the_win_rate_is_the_mean_over_all_choices():
    proxy = np.random.default_rng(5).integers(0, 3, size=(4, 7)).astype(float)
    for n in (1, 2, 4, 6):
        expected = []
        for row in proxy:
            won = [
                0.5 * (1 + np.sign(row[list(some)].max() - row[one]))
                for one in range(7)
                for some in itertools.combinations([i for i in range(7) if i != one], n)
            ]
            expected.append(np.mean(won))
        np.testing.assert_allclose(win_rate(proxy, n), expected)
        assert (win_rate(proxy, n) <= n / (n + 1) + 1e-12).all()
    np.testing.assert_allclose(win_rate(np.ones((1, 5)), 3), 0.5)
