"""Token rewards, GAE, whitening over processes, baselines among samples, and the running scale."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from guerdon.formulas.advantage import (
    MIN_SCORES,
    RunningScale,
    gae,
    group_normalized,
    leave_one_out,
    moments,
    potential_differences,
    token_rewards,
    whiten,
)

laws = settings(derandomize=True, deadline=None, max_examples=40)
T, F = True, False


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_score_is_added_once_at_the_last_token_for_any_length() -> None:
    """Lengths 1, 2 and all; padding on the right, then on the left. The content of padding does not matter."""
    ratio = torch.tensor([[1.0, math.nan, math.inf], [1.0, -2.0, math.nan], [1.0, -2.0, 3.0], [math.nan, 4.0, 5.0]])
    mask = torch.tensor([[T, F, F], [T, T, F], [T, T, T], [F, T, T]])
    rewards = token_rewards(ratio, mask, torch.tensor([10.0, 20.0, 30.0, 40.0]), beta=0.5)
    assert rewards.tolist() == [[9.5, 0.0, 0.0], [-0.5, 21.0, 0.0], [-0.5, 1.0, 28.5], [0.0, -2.0, 37.5]]


def test_token_rewards_sum_to_score_minus_beta_kl() -> None:
    ratio, score = random(4, 6), random(4, seed=1)
    mask = torch.arange(6) < torch.tensor([1, 3, 5, 6])[:, None]
    total = token_rewards(ratio, mask, score, beta=0.3).sum(dim=1)
    assert torch.allclose(total, score - 0.3 * torch.where(mask, ratio, 0.0).sum(dim=1))
    free = token_rewards(ratio, mask, score, beta=0.0)
    assert torch.equal((free != 0).sum(dim=1), torch.ones(4, dtype=torch.long))


def test_token_rewards_are_float32_at_least_and_refuse_a_sequence_without_tokens() -> None:
    ratio, score = torch.ones(1, 2, dtype=torch.bfloat16), torch.ones(1, dtype=torch.float64)
    assert token_rewards(ratio, torch.tensor([[T, T]]), score, 0.1).dtype == torch.float32
    with pytest.raises(ValueError, match=r"rows \[0\]"):
        token_rewards(ratio, torch.tensor([[F, F]]), score, 0.1)


def test_potential_differences_are_worked_by_hand() -> None:
    """Before three tokens 5, 7, 4: relative to the first 0, 2, -1, and 0 at the end; gamma 1/2: 1, -2 1/2, 1. Gaps are skipped."""
    potential = torch.tensor(
        [[5.0, 7.0, 4.0, math.nan], [5.0, math.nan, 7.0, 4.0], [math.inf, 3.0, math.nan, math.nan]]
    )
    mask = torch.tensor([[T, T, T, F], [T, F, T, T], [F, T, F, F]])
    half = potential_differences(potential, mask, gamma=0.5)
    assert half.tolist() == [[1.0, -2.5, 1.0, 0.0], [1.0, 0.0, -2.5, 1.0], [0.0, 0.0, 0.0, 0.0]]
    assert potential_differences(potential, mask, gamma=1.0)[0].tolist() == [2.0, -3.0, 1.0, 0.0]


@laws
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.floats(0.01, 1), st.floats(-1e3, 1e3))
def test_potential_differences_have_a_discounted_sum_of_0_and_ignore_a_shift(
    potential: list[float], gamma: float, shift: float
) -> None:
    before = torch.tensor([potential], dtype=torch.float64)
    mask = torch.ones_like(before, dtype=torch.bool)
    added = potential_differences(before, mask, gamma)
    discount = gamma ** torch.arange(len(potential), dtype=torch.float64)
    assert float((added * discount).sum()) == pytest.approx(0, abs=1e-9)
    assert torch.allclose(potential_differences(before + shift, mask, gamma), added, atol=1e-9)


def test_gae_is_worked_by_hand() -> None:
    """Rewards 1, 2; values 3, 4; gamma 1/2, lambda 1/2: A2 = 2 - 4 = -2, A1 = 1 + 2 - 3 + 1/4 x -2 = -1/2."""
    rewards, values = torch.tensor([[1.0, 2.0, math.nan]]), torch.tensor([[3.0, 4.0, math.nan]])
    advantages, returns = gae(rewards, values, torch.tensor([[T, T, F]]), gamma=0.5, lam=0.5)
    assert advantages.tolist() == [[-0.5, -2.0, 0.0]]
    assert returns.tolist() == [[2.5, 2.0, 0.0]]


def test_lambda_one_is_return_minus_value_and_lambda_zero_is_one_step() -> None:
    rewards, values = random(3, 5), random(3, 5, seed=1)
    mask = torch.arange(5) < torch.tensor([1, 4, 5])[:, None]
    rewards, values = torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)
    to_come = rewards.flip(1).cumsum(1).flip(1)
    advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    assert torch.allclose(advantages, to_come - values)
    assert torch.allclose(returns, to_come)
    next_values = torch.cat([values[:, 1:], torch.zeros(3, 1, dtype=torch.float64)], dim=1)
    one_step, _ = gae(rewards, values, mask, gamma=0.9, lam=0.0)
    assert torch.allclose(one_step, torch.where(mask, rewards + 0.9 * next_values - values, 0.0))


def test_perfect_values_leave_no_advantage() -> None:
    rewards, mask = random(2, 4), torch.ones(2, 4, dtype=torch.bool)
    values = torch.zeros(2, 5, dtype=torch.float64)
    for t in (3, 2, 1, 0):
        values[:, t] = rewards[:, t] + 0.9 * values[:, t + 1]
    advantages, _ = gae(rewards, values[:, :4], mask, gamma=0.9, lam=0.95)
    assert torch.allclose(advantages, torch.zeros_like(advantages), atol=1e-12)


def test_padding_on_either_side_or_in_between_changes_no_token() -> None:
    rewards, values = random(1, 3), random(1, 3, seed=1)
    expected = gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), 0.9, 0.8)
    for places in ([0, 1, 2], [3, 4, 5], [1, 2, 5]):
        spread = torch.full((2, 1, 6), math.nan, dtype=torch.float64)
        spread[0, :, places], spread[1, :, places] = rewards, values
        mask = torch.zeros(1, 6, dtype=torch.bool)
        mask[:, places] = True
        for found, wanted in zip(gae(spread[0], spread[1], mask, 0.9, 0.8), expected, strict=True):
            assert torch.allclose(found[:, places], wanted)
            assert (found[~mask] == 0).all()


def test_gradients_of_gae_match_finite_differences() -> None:
    mask = torch.tensor([[T, T, F], [T, T, T]])
    inputs = [random(2, 3).requires_grad_(), random(2, 3, seed=1).requires_grad_()]
    assert torch.autograd.gradcheck(lambda r, v: gae(r, v, mask, 0.9, 0.8), inputs)


def test_whitened_entries_have_mean_0_and_variance_1_and_masked_ones_are_0() -> None:
    x, mask = 5 + 3 * random(4, 6), torch.arange(6) < torch.tensor([1, 3, 5, 6])[:, None]
    x[~mask] = math.nan
    white = whiten(x, mask)
    assert white[mask].mean().item() == pytest.approx(0.0, abs=1e-12)
    assert white[mask].var(correction=0).item() == pytest.approx(1.0)
    assert (white[~mask] == 0).all()
    kept = whiten(x, mask, shift_mean=False)
    assert kept[mask].mean().item() == pytest.approx(x[mask].mean().item())
    assert torch.allclose(whiten(7 - 2 * x, mask), -white)


def test_whitening_two_values_is_worked_by_hand() -> None:
    both = torch.tensor([T, T])
    assert whiten(torch.tensor([1.0, 5.0]), both).tolist() == pytest.approx([-1.0, 1.0])
    assert whiten(torch.tensor([1.0, 5.0]), both, shift_mean=False).tolist() == pytest.approx([2.0, 4.0])


@pytest.mark.parametrize("cut", [0, 1, 3, 4])
def test_processes_that_sum_their_moments_whiten_as_one(cut: int) -> None:
    x, mask = 100 + random(4, 6).float(), random(4, 6, seed=1) > -1.5
    shared = moments(x[:cut], mask[:cut]) + moments(x[cut:], mask[cut:])
    parts = [whiten(x[rows], mask[rows], moments=shared) for rows in (slice(0, cut), slice(cut, None))]
    assert torch.allclose(torch.cat(parts), whiten(x, mask), atol=1e-6)
    if 0 < cut < 4:
        assert not torch.allclose(whiten(x[:cut], mask[:cut]), parts[0], atol=1e-3)


def test_moments_are_count_sum_and_sum_of_squares_of_unmasked_values() -> None:
    assert moments(torch.tensor([1.0, -3.0, math.nan]), torch.tensor([T, T, F])).tolist() == [2.0, -2.0, 10.0]


def test_equal_single_or_missing_values_whiten_to_0() -> None:
    everywhere = torch.ones(3, dtype=torch.bool)
    assert whiten(torch.full((3,), 0.1), everywhere).tolist() == pytest.approx([0.0] * 3, abs=1e-6)
    assert whiten(torch.full((3,), 0.1), everywhere, shift_mean=False).tolist() == pytest.approx([0.1] * 3)
    assert whiten(torch.tensor([4.0]), torch.tensor([T])).tolist() == [0.0]
    assert whiten(torch.tensor([math.nan]), torch.tensor([F])).tolist() == [0.0]


def test_a_large_mean_does_not_cancel_the_spread() -> None:
    x = torch.tensor([10_000.0, 10_001.0])
    assert whiten(x, torch.tensor([T, T])).tolist() == pytest.approx([-1.0, 1.0], abs=1e-3)


def test_leave_one_out_compares_each_sample_with_the_others() -> None:
    """Scores 1, 2, 6 minus the means of the other two, 4, 3.5, 1.5."""
    assert leave_one_out(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [pytest.approx([-3.0, -1.5, 4.5])]
    assert leave_one_out(torch.tensor([[1.0, 5.0]])).tolist() == [[-4.0, 4.0]]


@laws
@given(st.integers(2, 9), st.integers(0, 100))
def test_leave_one_out_matches_its_definition_and_ignores_shifts(k: int, seed: int) -> None:
    scores = random(3, k, seed=seed)
    others = torch.stack([scores[:, [j for j in range(k) if j != i]].mean(dim=1) for i in range(k)], dim=1)
    found = leave_one_out(scores)
    assert torch.allclose(found, scores - others)
    assert torch.allclose(found.sum(dim=1), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(leave_one_out(scores + 7), found)
    assert torch.allclose(leave_one_out(2 * scores), 2 * found)


def test_group_normalization_ignores_shift_and_scale() -> None:
    scores = torch.tensor([[1.0, 3.0], [10.0, 30.0], [0.1, 0.1]])
    half = 1 / math.sqrt(2)
    assert group_normalized(scores, eps=0.0)[:2].tolist() == [pytest.approx([-half, half])] * 2
    assert group_normalized(scores)[2].tolist() == pytest.approx([0.0, 0.0], abs=1e-9)
    many = random(4, 16)
    assert torch.allclose(group_normalized(many, 0.0).std(dim=1), torch.ones(4, dtype=torch.float64))
    assert torch.allclose(group_normalized(3 * many + 5, 0.0), group_normalized(many, 0.0))


def test_a_single_sample_per_prompt_is_refused() -> None:
    for baseline in (leave_one_out, group_normalized):
        with pytest.raises(ValueError, match="at least 2 samples per prompt, got 1"):
            baseline(torch.ones(3, 1))


@laws
@given(st.lists(st.lists(st.floats(-100, 100), max_size=6), min_size=1, max_size=5))
def test_a_running_scale_has_the_moments_of_all_scores_so_far(batches: list[list[float]]) -> None:
    scale = RunningScale()
    for batch in batches:
        scale = scale.update(torch.tensor(batch, dtype=torch.float64))
    seen = torch.tensor([score for batch in batches for score in batch], dtype=torch.float64)
    assert scale.count == len(seen)
    if len(seen):
        assert scale.mean == pytest.approx(float(seen.mean()), abs=1e-9)
        assert scale.m2 == pytest.approx(float((seen - seen.mean()).square().sum()), abs=1e-6)


def test_a_running_scale_divides_and_does_not_shift() -> None:
    scores = 50 + 4 * random(1000)
    scale = RunningScale().update(scores[:600]).update(scores[600:])
    scaled = scale.apply(scores)
    assert torch.allclose(scaled, scores / scores.std(correction=0))
    assert scaled.mean().item() == pytest.approx(scores.mean().item() / scores.std(correction=0).item())


def test_a_running_scale_waits_for_enough_scores_that_vary() -> None:
    x = torch.tensor([3.0, 4.0])
    few = RunningScale().update(torch.arange(MIN_SCORES - 1.0))
    assert few.apply(x) is x
    assert few.update(torch.ones(1)).apply(x).tolist() != x.tolist()
    assert RunningScale().update(torch.full((100,), 0.1)).update(torch.full((7,), 0.1)).apply(x) is x
    assert RunningScale().apply(x) is x


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        RunningScale().update(torch.tensor([1.0, bad]))
