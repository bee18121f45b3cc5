"""KL estimators from the policy's own samples, and the adaptive KL penalty."""

import math

import pytest
import torch

from guerdon.formulas.kl import (
    AdaptiveKL,
    k1,
    k2,
    k3,
    sequence_kl,
)


def test_a_log_ratio_of_ln_2_is_worked_by_hand() -> None:
    ratio = torch.tensor([math.log(2)], dtype=torch.float64)
    assert k1(ratio).item() == pytest.approx(math.log(2))
    assert k2(ratio).item() == pytest.approx(math.log(2) ** 2 / 2)
    assert k3(ratio).item() == pytest.approx(0.5 - 1 + math.log(2))


def test_k1_and_k3_are_unbiased_and_k2_is_not() -> None:
    """Exact expectations over a distribution of three outcomes."""
    policy = torch.tensor([0.85, 0.1, 0.05], dtype=torch.float64)
    reference = torch.tensor([0.05, 0.1, 0.85], dtype=torch.float64)
    ratio = policy.log() - reference.log()
    truth = float((policy * ratio).sum())
    assert float((policy * k1(ratio)).sum()) == pytest.approx(truth)
    assert float((policy * k3(ratio)).sum()) == pytest.approx(truth)
    assert abs(float((policy * k2(ratio)).sum()) - truth) > 0.05


def test_k3_varies_less_than_k1_near_the_reference() -> None:
    policy = torch.tensor([0.35, 0.33, 0.32], dtype=torch.float64)
    ratio = policy.log() - math.log(1 / 3)

    def variance(x: torch.Tensor) -> float:
        return float((policy * x.square()).sum() - (policy * x).sum() ** 2)

    assert variance(k3(ratio)) < 0.01 * variance(k1(ratio))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_k2_and_k3_are_never_negative_and_all_are_zero_at_the_reference(dtype: torch.dtype) -> None:
    ratio = torch.cat([torch.linspace(-40, 40, 801), torch.logspace(-12, 0, 49), -torch.logspace(-12, 0, 49)]).to(dtype)
    assert (k2(ratio) >= 0).all()
    assert (k3(ratio) >= 0).all()
    for estimator in (k1, k2, k3):
        assert estimator(torch.zeros(1, dtype=dtype)).item() == 0.0


def test_k3_stays_finite_for_policies_far_apart() -> None:
    ratio = torch.tensor([-1e4, -20.0, 20.0, 1e4], requires_grad=True)
    loss = k3(ratio)
    assert loss.tolist() == pytest.approx([math.exp(20) - 21] * 2 + [19 + math.exp(-20)] * 2, rel=1e-6)
    assert torch.autograd.grad(loss.sum(), ratio)[0].isfinite().all()


def test_half_precision_is_computed_in_float32() -> None:
    assert k1(torch.ones(2, dtype=torch.bfloat16)).dtype == torch.float32
    assert (
        sequence_kl(torch.ones(1, 2, dtype=torch.bfloat16), torch.ones(1, 2, dtype=torch.bool)).dtype == torch.float32
    )


def test_gradients_match_finite_differences() -> None:
    ratio = torch.tensor([-3.0, -0.4, 0.01, 0.7, 5.0], dtype=torch.float64, requires_grad=True)
    for estimator in (k1, k2, k3):
        assert torch.autograd.gradcheck(estimator, [ratio])


def test_the_gradient_of_k2_is_the_gradient_of_kl_in_expectation() -> None:
    logits = torch.tensor([0.3, -0.2, 1.1], dtype=torch.float64, requires_grad=True)
    reference = torch.log_softmax(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), 0)
    log_prob = torch.log_softmax(logits, 0)
    drawn = log_prob.exp().detach()
    truth = torch.autograd.grad((log_prob.exp() * (log_prob - reference)).sum(), logits, retain_graph=True)[0]
    through_k2 = torch.autograd.grad((drawn * k2(log_prob - reference)).sum(), logits, retain_graph=True)[0]
    assert torch.allclose(through_k2, truth)
    through_k1 = torch.autograd.grad((drawn * k1(log_prob - reference)).sum(), logits)[0]
    assert torch.allclose(through_k1, torch.zeros(3, dtype=torch.float64))


def test_the_kl_of_a_sequence_sums_its_unmasked_tokens() -> None:
    ratio = torch.tensor([[0.5, -0.2, math.nan], [1.0, math.inf, math.nan], [math.nan] * 3])
    mask = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    assert sequence_kl(ratio, mask).tolist() == pytest.approx([0.3, 1.0, 0.0])


@pytest.mark.parametrize(
    ("kl", "n", "beta"),
    [(6.6, 100, 0.1 * 1.001), (6.0, 100, 0.1), (60.0, 100, 0.1 * 1.002), (0.0, 100, 0.1 * 0.998), (-5.0, 100, 0.1 * 0.998), (5.7, 0, 0.1)],
)  # fmt: skip
def test_the_penalty_follows_the_error_clamped_to_a_fifth(kl: float, n: int, beta: float) -> None:
    assert AdaptiveKL(0.1, target=6.0, horizon=10_000.0).update(kl, n).beta == pytest.approx(beta)


def test_the_penalty_converges_to_the_one_that_holds_the_target() -> None:
    """A policy whose KL is 1 / beta settles at beta = 1 / target, from either side."""
    for start in (0.01, 10.0):
        price = AdaptiveKL(start, target=4.0, horizon=100.0)
        for _ in range(400):
            price = price.update(1 / price.beta, 32)
        assert price.beta == pytest.approx(0.25, rel=1e-3)


def test_the_penalty_stays_above_0_for_any_batch_size() -> None:
    assert AdaptiveKL(0.1, target=6.0, horizon=10.0).update(0.0, 10**6).beta == pytest.approx(0.08)


def test_without_a_target_the_penalty_is_constant_and_may_be_0() -> None:
    for beta in (0.0, 0.05):
        fixed = AdaptiveKL(beta)
        assert fixed.update(1000.0, 1000) == fixed


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"beta": 0.0, "target": 6.0}, "beta must be finite and above 0"),
        ({"beta": -0.1}, "beta must be finite and at least 0"),
        ({"beta": math.nan}, "beta must be"),
        ({"beta": 0.1, "target": 0.0}, "target must be"),
        ({"beta": 0.1, "target": -1.0}, "target must be"),
        ({"beta": 0.1, "target": math.inf}, "target must be"),
        ({"beta": 0.1, "target": 1.0, "horizon": 0.0}, "horizon must be"),
        ({"beta": 0.1, "target": 1.0, "horizon": math.nan}, "horizon must be"),
    ],
)
def test_invalid_penalties_are_refused(options: dict, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        AdaptiveKL(**options)


def test_a_kl_that_is_not_finite_is_refused() -> None:
    for price in (AdaptiveKL(0.1), AdaptiveKL(0.1, target=6.0)):
        with pytest.raises(ValueError, match="kl must be finite"):
            price.update(math.nan, 10)
        with pytest.raises(ValueError, match="at least 0"):
            price.update(1.0, -1)
