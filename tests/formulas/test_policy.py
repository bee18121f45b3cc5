"""PPO's losses per token, and measures of whether the policy still learns."""

import math

import pytest
import torch

from guerdon.formulas.policy import (
    clip_fraction,
    clipped_policy_loss,
    clipped_value_loss,
    entropy,
    explained_variance,
)


def of(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


ZERO = of(0.0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 2.0, -2.0, 0.0),  # nothing has moved
        (1.1, 2.0, -2.2, 0.0),  # within the clip
        (1.5, 2.0, -2.4, 1.0),  # gained enough: 1.2 x 2
        (0.5, 2.0, -1.0, 0.0),  # on the losing side, pulled back unclipped
        (0.5, -2.0, 1.6, 1.0),  # fell enough: 0.8 x 2
        (1.5, -2.0, 3.0, 0.0),  # on the losing side, pulled back unclipped
        (1.5, 0.0, 0.0, 0.0),  # nothing at stake
    ],
)
def test_the_policy_loss_is_worked_by_hand(ratio: float, advantage: float, loss: float, clipped: float) -> None:
    arguments = (of(math.log(ratio) - 3.0), of(-3.0), of(advantage), 0.2)
    assert clipped_policy_loss(*arguments).item() == pytest.approx(loss)
    assert clip_fraction(*arguments).item() == clipped


def test_at_the_first_step_the_gradient_is_the_policy_gradient_and_nothing_is_clipped() -> None:
    log_prob = of(-0.5, -2.0, -9.0).requires_grad_()
    advantage = of(1.0, -3.0, 0.5)
    loss = clipped_policy_loss(log_prob, log_prob.detach(), advantage, 0.2)
    assert loss.tolist() == (-advantage).tolist()
    assert torch.autograd.grad(loss.sum(), log_prob)[0].tolist() == (-advantage).tolist()
    assert clip_fraction(log_prob, log_prob.detach(), advantage, 0.2).tolist() == [0.0, 0.0, 0.0]


def test_the_clip_decides_exactly_where_the_gradient_is_0() -> None:
    old, advantage = torch.full((81,), -2.0, dtype=torch.float64), torch.ones(81, dtype=torch.float64)
    for sign in (1.0, -1.0):
        log_prob = (old + torch.linspace(-1.0, 1.0, 81, dtype=torch.float64)).requires_grad_()
        loss = clipped_policy_loss(log_prob, old, sign * advantage, 0.2)
        grad = torch.autograd.grad(loss.sum(), log_prob)[0]
        assert torch.equal(grad == 0, clip_fraction(log_prob, old, sign * advantage, 0.2) == 1)


def test_a_larger_advantage_scales_the_loss_and_no_clip_is_the_plain_ratio() -> None:
    log_prob, old, advantage = of(-1.0, -0.2, -4.0), of(-1.5, -0.1, -2.0), of(0.4, -1.0, 2.0)
    loss = clipped_policy_loss(log_prob, old, advantage, 0.2)
    assert torch.allclose(clipped_policy_loss(log_prob, old, 3 * advantage, 0.2), 3 * loss)
    assert torch.allclose(clipped_policy_loss(log_prob, old, advantage, 1e9), -advantage * (log_prob - old).exp())
    assert (loss >= -advantage * (log_prob - old).exp()).all()


def test_an_extreme_ratio_stays_finite() -> None:
    log_prob = torch.tensor([-1e4, 0.0], requires_grad=True)
    loss = clipped_policy_loss(log_prob, torch.tensor([0.0, -1e4]), torch.tensor([-1.0, -1.0]), 0.2)
    assert loss.tolist() == pytest.approx([0.8, math.exp(20)], rel=1e-6)
    assert torch.autograd.grad(loss.sum(), log_prob)[0].isfinite().all()


def test_tokens_may_have_any_shape() -> None:
    x = torch.zeros(2, 3)
    assert clipped_policy_loss(x, x, x, 0.2).shape == (2, 3)
    assert clipped_value_loss(x[0], x[0], x[0], 0.2).shape == (3,)
    assert clip_fraction(x, x, x, 0.2).shape == (2, 3)
    assert clipped_policy_loss(x.bfloat16(), x.bfloat16(), x, 0.2).dtype == torch.float32


@pytest.mark.parametrize(
    ("value", "old", "returns", "loss"),
    [
        (1.0, 1.0, 3.0, 2.0),  # half of 2 squared
        (1.1, 1.0, 3.0, 1.805),  # within the clip: half of 1.9 squared
        (2.5, 1.0, 3.0, 1.62),  # moved far toward the return: counts as 1.2, half of 1.8 squared
        (-1.0, 1.0, 3.0, 8.0),  # moved away: the free error is the larger
    ],
)
def test_the_value_loss_is_worked_by_hand(value: float, old: float, returns: float, loss: float) -> None:
    assert clipped_value_loss(of(value), of(old), of(returns), 0.2).item() == pytest.approx(loss)


def test_the_value_loss_is_at_least_the_plain_one_and_ignores_a_common_shift() -> None:
    generator = torch.Generator().manual_seed(0)
    value, old, returns = torch.randn(3, 50, generator=generator, dtype=torch.float64)
    loss = clipped_value_loss(value, old, returns, 0.2)
    assert (loss >= (value - returns).square() / 2).all()
    assert torch.allclose(clipped_value_loss(value + 7, old + 7, returns + 7, 0.2), loss)
    assert torch.allclose(clipped_value_loss(value, old, returns, 1e9), (value - returns).square() / 2)


def test_gradients_match_finite_differences() -> None:
    """Away from the corners of the clip, which have no gradient."""
    log_prob = of(-1.0, -0.9, -3.0, -0.2).requires_grad_()
    old, advantage = of(-1.05, -1.5, -2.0, -0.9), of(1.0, 2.0, 1.0, -1.5)
    assert torch.autograd.gradcheck(lambda x: clipped_policy_loss(x, old, advantage, 0.2), [log_prob])
    value = of(1.1, 2.5, -1.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: clipped_value_loss(x, of(1, 1, 1), of(3, 3, 3), 0.2), [value])
    logits = of(0.3, -2.0, 1.0, 0.0).reshape(2, 2).requires_grad_()
    assert torch.autograd.gradcheck(entropy, [logits])


def test_explained_variance_is_worked_by_hand() -> None:
    returns, mask = of(0.0, 2.0, 99.0), torch.tensor([True, True, False])
    assert explained_variance(of(0.0, 2.0, -5.0), returns, mask).item() == 1.0
    assert explained_variance(of(7.0, 7.0, math.nan), returns, mask).item() == 0.0
    assert explained_variance(of(2.0, 0.0, 0.0), returns, mask).item() == -3.0
    assert explained_variance(of(0.5, 1.5, 0.0), returns, mask).item() == pytest.approx(0.75)


def test_constant_returns_have_no_explained_variance() -> None:
    assert math.isnan(explained_variance(of(1.0, 2.0), of(3.0, 3.0), torch.tensor([True, True])).item())
    assert math.isnan(explained_variance(of(1.0, 2.0), of(3.0, 4.0), torch.tensor([False, False])).item())


def test_entropy_is_log_v_for_a_uniform_distribution_and_0_for_a_certain_token() -> None:
    uniform = torch.zeros(2, 3, 8, dtype=torch.float64)
    assert torch.allclose(entropy(uniform), torch.full((2, 3), math.log(8), dtype=torch.float64))
    assert entropy(of(1e4, 0.0, -1e4)).item() == 0.0
    assert entropy(of(math.log(3), 0.0)).item() == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def test_entropy_ignores_a_shift_and_impossible_tokens() -> None:
    logits = of(0.3, -1.0, 2.0)
    assert torch.allclose(entropy(logits + 100), entropy(logits))
    ruled_out = torch.cat([logits, of(-math.inf)]).requires_grad_()
    assert torch.allclose(entropy(ruled_out), entropy(logits))
    assert torch.autograd.grad(entropy(ruled_out), ruled_out)[0].isfinite().all()
    assert entropy(torch.zeros(4, dtype=torch.bfloat16)).dtype == torch.float32
