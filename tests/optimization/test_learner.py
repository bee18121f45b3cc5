"""The policy that learns and its reference: what is frozen, what is trained, in which precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from families import save_family
from optimization_runs import PROMPTS, read_metrics, small_policy, small_run, weights_of

from guerdon.config import ModelOptions
from guerdon.models.directory.loading import create_reward_model
from guerdon.optimization.learner import frozen_copy


def test_a_frozen_copy_computes_as_the_policy_did_and_never_learns(tiny_dir):
    policy = small_policy(tiny_dir, 0)
    policy.sample(["write"], 2, 3)
    frozen = frozen_copy(policy)
    prompts, replies = [policy.encode(p) for p in PROMPTS], [np.arange(8, 12)] * len(PROMPTS)
    with torch.no_grad():
        expected = policy.forward(prompts, replies).log_prob
        for p in policy.model.parameters():
            p.mul_(0.9)
        assert torch.equal(frozen.forward(prompts, replies).log_prob, expected)
        assert not torch.equal(policy.forward(prompts, replies).log_prob, expected)
    assert frozen.backbone.mode == "prefix_tree"
    assert frozen.stop_ids == policy.stop_ids
    assert not any(p.requires_grad for p in frozen.model.parameters())
    assert all(p.requires_grad for p in policy.model.parameters())


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_there_is_no_dropout_in_training_mode(tmp_path, name):
    folder = save_family(tmp_path, name)
    policy, network = small_policy(folder, 0), create_reward_model(ModelOptions(base=str(folder))).network
    policy.model.train()
    network.train()
    text = [np.arange(5, 30)]
    with torch.no_grad():
        assert torch.equal(policy.forward(text, text).log_prob, policy.forward(text, text).log_prob)
        assert torch.equal(network(text), network(text))


def test_bfloat16_weights_learn_through_float32_adapters(tiny_dir, tmp_path):
    policy = small_policy(tiny_dir, dtype="bfloat16")
    kinds = {p.dtype for n, p in policy.model.named_parameters() if "lora" in n}
    before = weights_of(policy)
    small_run(tiny_dir, policy=policy, folder=tmp_path, lr=0.01)
    after = weights_of(policy)
    assert kinds == {torch.float32}
    assert all(torch.equal(before[n], after[n]) for n in before if "lora" not in n)
    assert any(not torch.equal(before[n], after[n]) for n in before if "lora" in n)
    first = read_metrics(tmp_path)[0]
    assert first["ratio_first"] == pytest.approx(1, abs=0.05)
    assert first["kl"] == 0
    assert all(math.isfinite(value) for row in read_metrics(tmp_path) for value in row.values())
