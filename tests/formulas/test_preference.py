"""Losses on preferences: worked cases, laws, extremes, and gradients against finite differences."""

import json
import math
from itertools import pairwise, permutations
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from guerdon.formulas.preference import (
    MAX_TIE,
    all_pairs,
    attribute_cross_entropy,
    attribute_regression,
    bradley_terry,
    centering,
    plackett_luce,
    rao_kupper,
    tie_probabilities,
)

CASES = json.loads((Path(__file__).parents[1] / "cases" / "preference.json").read_text(encoding="utf-8"))
laws = settings(derandomize=True, deadline=None, max_examples=20)
rewards_of = st.floats(-30.0, 30.0)
share = st.floats(0.0, 1.0)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(a: Tensor, b: Tensor, atol: float = 1e-12) -> bool:
    return bool(torch.allclose(a.double(), b.double(), rtol=1e-10, atol=atol))


def rankings(max_k: int = 5) -> st.SearchStrategy[tuple[list[float], list[int], list[bool]]]:
    return st.integers(2, max_k).flatmap(
        lambda k: st.tuples(
            st.lists(rewards_of, min_size=k, max_size=k),
            st.lists(st.integers(-1, 3), min_size=k, max_size=k),
            st.lists(st.booleans(), min_size=k, max_size=k),
        )
    )


def as_batch(ranking: tuple[list[float], list[int], list[bool]]) -> tuple[Tensor, Tensor, Tensor]:
    rewards, ranks, mask = ranking
    return f64(*rewards)[None], torch.tensor(ranks)[None], torch.tensor(mask)[None]


@pytest.mark.parametrize("case", CASES["bradley_terry"], ids=lambda case: case["says"])
def test_bradley_terry_matches_the_worked_cases(case: dict) -> None:
    loss = bradley_terry(
        f64(case["first"]),
        f64(case["second"]),
        q=f64(case["q"]),
        margin=f64(case["margin"]),
        smoothing=case["smoothing"],
    )
    assert close(loss, f64(case["loss"]))


@laws
@given(rewards_of, rewards_of, share, st.floats(-3.0, 3.0), st.floats(0.0, 0.5))
def test_swapping_the_responses_with_their_label_and_margin_changes_nothing(
    a: float, b: float, q: float, margin: float, smoothing: float
) -> None:
    forward = bradley_terry(f64(a), f64(b), q=f64(q), margin=f64(margin), smoothing=smoothing)
    backward = bradley_terry(f64(b), f64(a), q=f64(1 - q), margin=f64(-margin), smoothing=smoothing)
    assert close(forward, backward)


@laws
@given(rewards_of, rewards_of, share, st.floats(-100.0, 100.0))
def test_a_constant_added_to_both_rewards_changes_nothing(a: float, b: float, q: float, c: float) -> None:
    assert close(bradley_terry(f64(a + c), f64(b + c), q=f64(q)), bradley_terry(f64(a), f64(b), q=f64(q)), atol=1e-11)


@laws
@given(rewards_of, rewards_of, share)
def test_a_soft_label_gives_the_mean_over_the_votes_it_stands_for(a: float, b: float, q: float) -> None:
    for_first, for_second = bradley_terry(f64(a), f64(b)), bradley_terry(f64(b), f64(a))
    assert close(bradley_terry(f64(a), f64(b), q=f64(q)), q * for_first + (1 - q) * for_second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_pair_that_is_very_wrong_still_has_a_gradient(dtype: torch.dtype) -> None:
    first = torch.tensor([-1e4], dtype=dtype, requires_grad=True)
    loss = bradley_terry(first, torch.zeros(1, dtype=dtype))
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1e4, rel=0.01)
    assert first.grad is not None
    assert first.grad.item() == -1.0


def test_float64_stays_float64() -> None:
    assert bradley_terry(f64(1.0), f64(0.0)).dtype == torch.float64


def test_a_smoothing_that_would_flip_labels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 0\.5\], got 0\.9"):
        bradley_terry(f64(1.0), f64(0.0), smoothing=0.9)


def test_bradley_terry_gradients_match_finite_differences() -> None:
    inputs = [f64(0.3, -2.0, 4.0).requires_grad_() for _ in range(2)]
    q, margin = f64(1.0, 0.3, 0.0), f64(0.0, 0.5, -1.0)
    assert torch.autograd.gradcheck(lambda a, b: bradley_terry(a, b, q=q, margin=margin, smoothing=0.1), inputs)


@laws
@given(rewards_of, rewards_of)
def test_centering_of_two_is_the_squared_sum(a: float, b: float) -> None:
    assert close(centering(f64(a, b)[None], torch.ones(1, 2, dtype=torch.bool)), f64((a + b) ** 2))


def test_centering_ignores_padding_and_empty_rows() -> None:
    rewards = torch.tensor([[1.0, 2.0, math.nan], [5.0, math.nan, 7.0]], dtype=torch.float64, requires_grad=True)
    loss = centering(rewards, torch.tensor([[True, True, False], [False, False, False]]))
    loss.sum().backward()
    assert loss.tolist() == [9.0, 0.0]
    assert rewards.grad is not None
    assert rewards.grad.tolist() == [[6.0, 6.0, 0.0], [0.0, 0.0, 0.0]]


def test_centering_gradients_match_finite_differences() -> None:
    mask = torch.tensor([[True, False, True]])
    assert torch.autograd.gradcheck(lambda r: centering(r, mask), [f64(0.4, 1.0, -2.0)[None].requires_grad_()])


@pytest.mark.parametrize("case", CASES["tie_probabilities"], ids=lambda case: case["says"])
def test_tie_probabilities_match_the_worked_cases(case: dict) -> None:
    assert close(tie_probabilities(f64(case["delta"]), torch.tensor(case["tau"]).double()), f64(*case["p"])[None], 1e-7)


@laws
@given(st.floats(-40.0, 40.0), st.floats(0.0, 20.0))
def test_tie_probabilities_sum_to_one_and_mirror(delta: float, tau: float) -> None:
    p = tie_probabilities(f64(delta), f64(tau)[0])
    assert close(p.sum(dim=1), f64(1.0))
    assert close(tie_probabilities(f64(-delta), f64(tau)[0]), p.flip(dims=[1]))


@laws
@given(rewards_of, rewards_of, st.floats(0.01, 10.0))
def test_rao_kupper_is_the_log_of_its_probabilities(a: float, b: float, tau: float) -> None:
    p = tie_probabilities(f64(a) - f64(b), f64(tau)[0])
    for place in range(3):
        outcome = F.one_hot(torch.tensor([place]), 3).double()
        assert close(rao_kupper(f64(a), f64(b), outcome, f64(tau)[0]), -p[:, place].log(), 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_ties_and_tau_rao_kupper_is_bradley_terry_and_its_gradient_is_finite(dtype: torch.dtype) -> None:
    first = torch.tensor([0.3, -1e4, 1e4, 0.0], dtype=dtype, requires_grad=True)
    second, q = torch.zeros(4, dtype=dtype), torch.tensor([1.0, 1.0, 0.25, 0.5], dtype=dtype)
    tau = torch.zeros((), dtype=dtype, requires_grad=True)
    loss = rao_kupper(first, second, torch.stack([q, torch.zeros_like(q), 1 - q], dim=1), tau)
    expected = bradley_terry(first, second, q=q)
    assert torch.equal(loss, expected)
    (gradient, along_tau) = torch.autograd.grad(loss.sum(), [first, tau])
    assert torch.allclose(gradient, torch.autograd.grad(expected.sum(), first)[0])
    assert math.isfinite(along_tau.item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_an_impossible_tie_has_a_large_but_finite_loss_that_raises_tau(dtype: torch.dtype) -> None:
    tau = torch.zeros((), dtype=dtype, requires_grad=True)
    loss = rao_kupper(torch.zeros(1, dtype=dtype), torch.zeros(1, dtype=dtype), torch.tensor([[0.0, 1.0, 0.0]]), tau)
    loss.sum().backward()
    assert 15 < loss.item() < 100
    assert tau.grad is not None
    assert -math.inf < tau.grad.item() < 0


def test_rao_kupper_gradients_match_finite_differences() -> None:
    outcome = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3], [0.0, 1.0, 0.0]], dtype=torch.float64)
    inputs = [f64(0.3, -2.0, 4.0).requires_grad_(), f64(1.0, 0.0, 3.0).requires_grad_(), f64(0.7)[0].requires_grad_()]
    assert torch.autograd.gradcheck(lambda a, b, tau: rao_kupper(a, b, outcome, tau), inputs)


@pytest.mark.parametrize("case", CASES["rankings"], ids=lambda case: case["says"])
def test_rankings_match_the_worked_cases(case: dict) -> None:
    batch = f64(3.0, 2.0, 1.0).log()[None], torch.tensor(case["ranks"])[None], torch.tensor(case["mask"])[None]
    assert close(plackett_luce(*batch), f64(case["plackett_luce"]))
    assert close(all_pairs(*batch), f64(case["all_pairs"]))


@laws
@given(rewards_of, rewards_of)
def test_a_ranking_of_two_is_bradley_terry(a: float, b: float) -> None:
    rewards, mask = f64(a, b)[None], torch.ones(1, 2, dtype=torch.bool)
    for ranks, q in [([0, 1], 1.0), ([1, 0], 0.0), ([0, 0], 0.5), ([0, -1], 1.0), ([-1, 0], 0.0)]:
        expected = bradley_terry(f64(a), f64(b), q=f64(q))
        assert close(plackett_luce(rewards, torch.tensor([ranks]), mask), expected)
        assert close(all_pairs(rewards, torch.tensor([ranks]), mask), expected)


def mean_over_orders(rewards: list[float], ranks: list[int], mask: list[bool]) -> float:
    """Plackett-Luce by its definition: the mean over every strict order that the ranks allow."""
    present = [i for i in range(len(rewards)) if mask[i]]
    unranked = [i for i in present if ranks[i] < 0]
    losses = []
    for order in permutations(i for i in present if ranks[i] >= 0):
        if all(ranks[a] <= ranks[b] for a, b in pairwise(order)):
            line = [*order, *unranked]
            terms = [f64(*(rewards[j] for j in line[i:])).logsumexp(0) - rewards[line[i]] for i in range(len(order))]
            losses.append(float(sum(terms)))
    return sum(losses) / len(losses)


@laws
@given(rankings())
def test_plackett_luce_is_the_mean_over_the_orders_that_a_ranking_allows(ranking: tuple) -> None:
    assert close(plackett_luce(*as_batch(ranking)), f64(mean_over_orders(*ranking)), atol=1e-10)


@laws
@given(rankings(), st.floats(-50.0, 50.0), st.randoms(use_true_random=False))
def test_rankings_ignore_a_constant_and_the_order_of_the_columns(ranking: tuple, c: float, random) -> None:
    rewards, ranks, mask = as_batch(ranking)
    shuffled = list(range(rewards.shape[1]))
    random.shuffle(shuffled)
    for loss in (plackett_luce, all_pairs):
        assert close(loss(rewards, ranks, mask), loss(rewards + c, ranks, mask), atol=1e-10)
        assert close(loss(rewards, ranks, mask), loss(rewards[:, shuffled], ranks[:, shuffled], mask[:, shuffled]))


@laws
@given(st.lists(rankings(max_k=3), min_size=2, max_size=4))
def test_rows_of_a_batch_are_independent(batch: list) -> None:
    k = max(len(rewards) for rewards, _, _ in batch)
    padded = [(r + [math.nan] * (k - len(r)), g + [0] * (k - len(g)), m + [False] * (k - len(m))) for r, g, m in batch]
    together = torch.cat([as_batch(row)[0] for row in padded])
    ranks, mask = torch.tensor([row[1] for row in padded]), torch.tensor([row[2] for row in padded])
    for loss in (plackett_luce, all_pairs):
        assert close(loss(together, ranks, mask), torch.cat([loss(*as_batch(row)) for row in batch]))


def test_a_tie_larger_than_the_maximum_is_refused_with_advice() -> None:
    k = MAX_TIE + 1
    rewards, ranks, mask = torch.zeros(1, k).double(), torch.zeros(1, k, dtype=torch.long), torch.ones(1, k).bool()
    orders = sum(math.log(size) for size in range(1, k))
    assert close(plackett_luce(rewards[:, 1:], ranks[:, 1:], mask[:, 1:]), f64(orders))
    with pytest.raises(
        ValueError, match=r"comparison 0: a tie must have at most 8 .*, got 9 of rank 0\. Use the all-pairs"
    ):
        plackett_luce(rewards, ranks, mask)


@pytest.mark.parametrize("ranks", [[0, 1, 2], [0, 0, 1], [0, 1, 1], [0, -1, -1]])
def test_a_ranking_that_is_very_wrong_still_has_a_gradient(ranks: list[int]) -> None:
    for loss in (plackett_luce, all_pairs):
        rewards = torch.tensor([[-1e4, 0.0, 1e4]], requires_grad=True)
        value = loss(rewards, torch.tensor([ranks]), torch.ones(1, 3, dtype=torch.bool))
        (gradient,) = torch.autograd.grad(value.sum(), rewards)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient).all()
        assert gradient[0, 0] < 0 < gradient[0, 2]


def test_ranking_gradients_match_finite_differences_and_padding_gets_none() -> None:
    rewards = torch.tensor([[0.5, -1.0, 2.0, 0.1], [1.0, 0.0, -0.5, 3.0], [0.2, 0.4, 0.6, 0.8]], dtype=torch.float64)
    ranks = torch.tensor([[0, 1, 2, 3], [0, 0, -1, 1], [1, 0, 0, 0]])
    mask = torch.tensor([[True] * 4, [True] * 4, [True, True, True, False]])
    for loss in (plackett_luce, all_pairs):
        assert torch.autograd.gradcheck(lambda r, loss=loss: loss(r, ranks, mask), [rewards.clone().requires_grad_()])
        wanting = rewards.clone().requires_grad_()
        assert torch.autograd.grad(loss(wanting, ranks, mask).sum(), wanting)[0][2, 3] == 0


def test_the_cross_entropy_of_ratings_is_that_of_its_definition_and_skips_missing_ones() -> None:
    """-q log p - (1 - q) log (1 - p) with p = 3/4 and 1/2, worked from odds of 3 and 1."""
    predicted = torch.tensor(
        [[math.log(3), 0.0], [math.log(3), 5.0], [7.0, 7.0]], dtype=torch.float64, requires_grad=True
    )
    target = torch.tensor([[1.0, 0.0], [0.2, math.nan], [math.nan, math.nan]], dtype=torch.float64)
    loss = attribute_cross_entropy(predicted, target)
    by_hand = [(math.log(4 / 3) + math.log(2)) / 2, 0.2 * math.log(4 / 3) + 0.8 * math.log(4), 0.0]
    assert loss.tolist() == pytest.approx(by_hand, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss.sum(), predicted)
    assert gradient.tolist() == [pytest.approx(row, abs=1e-12) for row in ([-1 / 8, 1 / 4], [0.55, 0.0], [0.0, 0.0])]
    assert torch.autograd.gradcheck(lambda p: attribute_cross_entropy(p, target), [predicted])


def test_a_missing_rating_is_ignored_and_gets_no_gradient() -> None:
    predicted = torch.tensor([[1.0, 5.0], [2.0, 3.0], [7.0, 7.0]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[0.0, math.nan], [4.0, 0.0], [math.nan, math.nan]], dtype=torch.float64)
    loss = attribute_regression(predicted, target)
    assert loss.tolist() == [1.0, 6.5, 0.0]
    (gradient,) = torch.autograd.grad(loss.sum(), predicted)
    assert gradient.tolist() == [[2.0, 0.0], [-2.0, 3.0], [0.0, 0.0]]
    assert torch.autograd.gradcheck(lambda p: attribute_regression(p, target), [predicted])
