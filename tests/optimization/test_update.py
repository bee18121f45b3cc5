"""Optimizer steps: ratios of 1 at first, the same result however a minibatch is computed, no step on what is not finite."""

from __future__ import annotations

import math

import pytest
import torch
from accelerate import Accelerator
from optimization_runs import (
    BASELINES,
    SMALL,
    STEADY,
    kindness,
    max_difference,
    read_metrics,
    record_batches,
    small_policy,
    small_run,
    weights_of,
)

from guerdon import GuerdonError
from guerdon.config import OptimizeOptions
from guerdon.optimization import update
from guerdon.optimization.learner import Learner
from guerdon.optimization.update import minibatches, train_on_batch
from guerdon.optimization.value_models import ValueHead


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("baseline", BASELINES)
def test_before_the_policy_moves_every_ratio_is_1_and_the_kl_is_0(tiny_dir, tmp_path, baseline, lora_rank):
    small_run(tiny_dir, lora_rank=lora_rank, folder=tmp_path, baseline=baseline, lr=1e-30, temperature=0.7, epochs=4)
    for row in read_metrics(tmp_path):
        assert row["ratio_far"] < 2e-5
        assert row["ratio"] == pytest.approx(1, abs=1e-6)
        assert row["ratio_var"] < 1e-9
        assert (row["kl"], row["kl_k3"], row["kl_per_token"], row["clipped"]) == (0, 0, 0, 0)
        assert abs(row["kl_step"]) < 1e-9


@pytest.mark.parametrize("baseline", BASELINES)
def test_each_update_starts_with_ratios_of_1_however_far_the_policy_has_moved(tiny_dir, tmp_path, baseline):
    small_run(tiny_dir, folder=tmp_path, baseline=baseline, lr=0.01, updates=4)
    rows = read_metrics(tmp_path)
    assert all(row["ratio_far"] < 1e-4 for row in rows)
    assert rows[-1]["kl_k3"] > 0.01
    assert max(row["ratio_var"] for row in rows) > 1e-4


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("other", [{"micro_tokens": 16}, {"micro_tokens": 60}, {"gradient_checkpointing": True}])
def test_micro_batches_and_gradient_checkpointing_change_nothing(tiny_dir, tmp_path, baseline, other):
    one = small_run(tiny_dir, folder=tmp_path / "one", baseline=baseline, **STEADY)
    two = small_run(tiny_dir, folder=tmp_path / "two", baseline=baseline, **STEADY, **other)
    assert max_difference(weights_of(one.policy), weights_of(two.policy)) < 1e-6
    assert max_difference(weights_of(one.policy), weights_of(small_policy(tiny_dir))) > 1e-4
    for a, b in zip(read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two"), strict=True):
        assert a == pytest.approx(b, abs=2e-4, nan_ok=True)


def test_minibatches_hold_every_reply_once_in_a_new_order_per_epoch():
    options = OptimizeOptions(prompts=5, samples=2, minibatches=3)
    accelerator = Accelerator(cpu=True)
    epochs = [minibatches(options, 4, epoch, accelerator) for epoch in (0, 1)]
    for parts in epochs:
        assert sorted(row for part in parts for row in part) == list(range(10))
        assert [len(part) for part in parts] == [4, 3, 3]
    assert epochs[0] != epochs[1]


def test_the_learning_rate_falls_linearly_to_0(tiny_dir, tmp_path):
    small_run(tiny_dir, folder=tmp_path, updates=4, lr=0.004)
    assert [row["lr"] for row in read_metrics(tmp_path)] == pytest.approx([0.004, 0.003, 0.002, 0.001])


@pytest.mark.parametrize("way", ["cache", "padded", "no unembedding"])
def test_families_that_cannot_share_prefixes_learn_the_same(tiny_dir, monkeypatch, way):
    batches = record_batches(monkeypatch)
    small_run(tiny_dir, updates=1, lora_rank=0, **STEADY)

    def step(policy):
        options = OptimizeOptions(**{**SMALL, **STEADY})
        learner = Learner(policy, policy, ValueHead(64), options, Accelerator(cpu=True))
        row = train_on_batch(learner, batches[0], learner.trainable_weights(), 0)
        return row, weights_of(policy)

    other = small_policy(tiny_dir, 0)
    other.backbone.mode = "cache" if way == "cache" else "padded"
    if way == "no unembedding":
        other.shares_prefixes = False
    (expected, expected_weights), (row, weights) = step(small_policy(tiny_dir, 0)), step(other)
    assert row == pytest.approx(expected, abs=2e-5)
    assert max_difference(weights, expected_weights) < 1e-6


def test_max_kl_step_ends_the_epochs_of_a_batch(tiny_dir, tmp_path):
    small_run(tiny_dir, folder=tmp_path, epochs=6, max_kl_step=1e-4, lr=0.01)
    rows = read_metrics(tmp_path)
    assert all(2 <= row["steps"] < 12 for row in rows)
    assert all(row["steps"] % 2 == 0 for row in rows)


def test_a_minibatch_without_a_usable_reply_makes_no_step(tiny_dir, tmp_path):
    def sometimes_bad(prompts, responses):
        return [math.nan if i == 3 else x for i, x in enumerate(kindness(prompts, responses))]

    small_run(tiny_dir, sometimes_bad, folder=tmp_path, minibatches=8)
    assert [row["steps"] for row in read_metrics(tmp_path)] == [14, 14, 14]


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tiny_dir, baseline):
    policy = small_policy(tiny_dir)
    calls = []

    def poisoned(gradient):
        calls.append(1)
        return gradient * math.nan if len(calls) == 3 else gradient

    chosen = next(p for p in policy.model.parameters() if p.requires_grad)
    chosen.register_hook(poisoned)
    with pytest.raises(
        GuerdonError, match=r"the gradient of update 1 must be finite, got nan at a loss of .*\. Lower optimize\.lr"
    ):
        small_run(tiny_dir, policy=policy, baseline=baseline)
    assert len(calls) == 3
    assert all(torch.isfinite(p).all() for p in weights_of(policy).values())


def test_a_loss_that_is_not_finite_moves_no_weight(tiny_dir, monkeypatch):
    policy = small_policy(tiny_dir)
    before = weights_of(policy)
    monkeypatch.setattr(update, "clipped_value_loss", lambda value, *rest: torch.full_like(value, math.nan))
    with pytest.raises(GuerdonError, match="at a loss of nan"):
        small_run(tiny_dir, policy=policy)
    assert max_difference(before, weights_of(policy)) == 0


def test_huge_scores_are_named_as_the_cause_of_a_gradient_that_is_not_finite(tiny_dir):
    with pytest.raises(GuerdonError, match=r"Set optimize\.reward_clip or rescale the reward: scores reach 1e\+38"):
        small_run(tiny_dir, lambda prompts, responses: [1e38 * (i % 2) for i in range(len(responses))])
