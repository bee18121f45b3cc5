"""Weights step as AdamW does, through a float32 master copy where they are bfloat16, and come back from memory and from disk."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from guerdon.runtime.optimizer import AdamWSettings, TrainableWeights


def build(dtype: torch.dtype = torch.float32, **changed) -> tuple[nn.Module, TrainableWeights]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)).to(dtype)
    settings = {"lr": 0.1, "head_lr": 0.3, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.5, "max_grad_norm": 0.0}
    return network, TrainableWeights(network, AdamWSettings(**settings | changed), head=list(network[1].parameters()))


def step(network: nn.Module, weights: TrainableWeights, scale: float = 1.0, factor: float = 1.0) -> float:
    dtype = next(network.parameters()).dtype
    (network(torch.linspace(-1, 1, 8, dtype=dtype).view(2, 4)).square().sum() * scale).backward()
    return weights.step(factor)


def values(network: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def test_matrices_decay_and_the_head_and_biases_do_not():
    network, weights = build()
    by_rate = {(g["lr"], g["weight_decay"]): len(g["params"]) for g in weights.adamw.param_groups}
    assert by_rate == {(0.1, 0.5): 1, (0.1, 0.0): 1, (0.3, 0.0): 2}
    assert set(weights.live) == {name for name, _ in network.named_parameters()}


def test_the_factor_scales_every_learning_rate():
    network, weights = build()
    step(network, weights, factor=0.5)
    assert sorted(g["lr"] for g in weights.adamw.param_groups) == [0.05, 0.05, 0.15]


def test_a_norm_that_is_not_finite_updates_nothing():
    network, weights = build()
    before = values(network)
    assert not math.isfinite(step(network, weights, scale=math.inf))
    assert all(torch.equal(one, other) for one, other in zip(before, values(network), strict=True))
    assert weights.steps == 0
    assert all(p.grad is None for p in network.parameters())


def test_the_norm_is_the_one_before_clipping():
    norms = [step(*build(max_grad_norm=clip)) for clip in (0.0, 1e-3)]
    assert norms[0] == norms[1] > 1e-3


def test_steps_too_small_for_bfloat16_add_up_in_the_master_copy():
    network, weights = build(torch.bfloat16, lr=1e-4, head_lr=1e-4, weight_decay=0.0)
    before = values(network)
    for _ in range(200):
        step(network, weights)
    assert any(not torch.equal(one, other) for one, other in zip(before, values(network), strict=True))
    assert all(p.dtype == torch.float32 for p in weights.master.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_snapshot_restores_the_weights_it_was_taken_of(dtype):
    network, weights = build(dtype)
    step(network, weights)
    snapshot, before = weights.snapshot(), values(network)
    step(network, weights)
    assert not torch.equal(before[0], values(network)[0])
    weights.restore(snapshot)
    assert all(torch.equal(one, other) for one, other in zip(before, values(network), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoint_with_moments_resumes_to_the_same_bits(tmp_path, dtype):
    network, weights = build(dtype)
    for _ in range(3):
        step(network, weights)
    weights.save(tmp_path, {}, is_main=True, moments=True)
    step(network, weights)
    other, resumed = build(dtype)
    resumed.load(tmp_path / "checkpoint", moments=True)
    resumed.set_step(3)
    step(other, resumed)
    assert resumed.steps == weights.steps == 4
    assert all(torch.equal(one, two) for one, two in zip(values(network), values(other), strict=True))


def test_other_processes_write_nothing(tmp_path):
    build()[1].save(tmp_path, {}, is_main=False, moments=True)
    assert not list(tmp_path.iterdir())
