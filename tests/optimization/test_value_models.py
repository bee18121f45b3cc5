"""Value models: a head on the policy, or a network that starts as the reward model."""

from __future__ import annotations

import math

import pytest
import torch
from optimization_runs import (
    HELD_OUT,
    PROMPTS,
    SMALL,
    max_difference,
    of_the_prompt,
    read_metrics,
    small_policy,
    small_run,
    weights_of,
)

import guerdon
from guerdon.config import ModelOptions, build
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model
from guerdon.optimization import loop
from guerdon.optimization.value_models import ValueNetwork


@pytest.mark.parametrize("value", ["head", "reward"])
def test_value_warmup_explains_returns_before_the_policy_moves(tiny_dir, tmp_path, monkeypatch, value):
    network = (
        ValueNetwork(create_reward_model(ModelOptions(base=str(tiny_dir))).network, 0.0, 1.0)
        if value == "reward"
        else None
    )
    policy = small_policy(tiny_dir)
    before, after = weights_of(policy), []
    train = loop.train_on_batch

    def watched(*given):
        row = train(*given)
        after.append(weights_of(policy))
        return row

    monkeypatch.setattr(loop, "train_on_batch", watched)
    small_run(
        tiny_dir, of_the_prompt, policy=policy, network=network, folder=tmp_path, updates=9, value_warmup=8, prompts=5, samples=8,
        epochs=4, value=value, value_lr=2e-2 if value == "head" else 2e-3, value_clip=10.0, kl_coef=0.0, unfinished=0.0,
    )  # fmt: skip
    assert all(max_difference(before, still) == 0 for still in after[:8])
    assert max_difference(before, after[8]) > 0
    rows = read_metrics(tmp_path)
    assert all(row["kl"] == 0 for row in rows)
    assert rows[7]["explained_variance"] > max(0.2, rows[0]["explained_variance"])


def test_a_value_model_that_starts_as_the_reward_model_leaves_the_reward_model_unchanged(tiny_dir, tmp_path):
    model = CalibratedModel(create_reward_model(ModelOptions(base=str(tiny_dir))), Calibration(temperature=0.5))
    before = {n: p.detach().clone() for n, p in model.model.network.named_parameters()}
    policy = small_policy(tiny_dir)
    config = build({"optimize": {**SMALL, "value": "reward", "check_every": 1}})
    done = guerdon.optimize(policy, model, PROMPTS, held_out=HELD_OUT, out=tmp_path, config=config)
    assert len(done.checks) == 4
    assert all(math.isfinite(row["explained_variance"]) for row in read_metrics(tmp_path))
    assert read_metrics(tmp_path)[0]["value"] != 0  # a head on the policy starts at 0
    assert all(torch.equal(before[n], p) for n, p in model.model.network.named_parameters())
