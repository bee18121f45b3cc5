"""Every update logs means of its batch, and the KL that is logged is the one that is charged."""

from __future__ import annotations

import math

import numpy as np
import pytest
from optimization_runs import BASELINES, kindness, read_metrics, record_batches, small_policy, small_run

import guerdon
from guerdon.formulas import kl
from guerdon.formulas.advantage import token_rewards

LOGGED = {
    "update", "score", "proxy", "kl", "kl_per_token", "kl_k3", "kl_coef", "kl_step", "entropy", "clipped", "ratio",
    "ratio_var", "ratio_first", "ratio_far", "length", "finished", "truncated", "unique", "unusable", "grad_norm", "lr",
    "loss", "policy_loss", "value_loss", "value_clipped", "steps", "partly_read",
}  # fmt: skip


@pytest.mark.parametrize("baseline", BASELINES)
def test_every_update_logs_all_metrics(tiny_dir, tmp_path, baseline):
    small_run(tiny_dir, folder=tmp_path, baseline=baseline)
    rows = read_metrics(tmp_path)
    assert [row["update"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert set(row) == LOGGED | ({"explained_variance", "value"} if baseline == "value" else set())
        assert all(math.isfinite(value) for value in row.values())
        assert row["steps"] == 4


def test_metrics_are_those_of_the_batch_and_kl_is_the_one_that_is_charged(tiny_dir, tmp_path, monkeypatch):
    batches = record_batches(monkeypatch)
    small_run(tiny_dir, folder=tmp_path, lr=0.01, kl_coef=0.2, updates=4)
    for batch, row in zip(batches, read_metrics(tmp_path), strict=True):
        lengths = np.array([len(reply) for reply in batch.rollouts.token_ids])
        rewards = token_rewards(batch.log_ratio, batch.mask, batch.score, 0.2)
        assert row["score"] - row["kl_coef"] * row["kl"] == pytest.approx(float(rewards.sum(1).mean()), abs=1e-5)
        assert row["kl"] == pytest.approx(float(kl.sequence_kl(batch.log_ratio, batch.mask).mean()), abs=1e-6)
        assert row["kl_per_token"] == pytest.approx(row["kl"] * len(lengths) / lengths.sum(), abs=1e-6)
        assert row["proxy"] == pytest.approx(np.mean(kindness(None, batch.rollouts.responses)))
        assert row["length"] == lengths.mean()
        assert row["unique"] == len({r.text for r in batch.rollouts.responses}) / len(lengths)
        assert row["entropy"] == pytest.approx(float(batch.entropy[batch.mask].mean()), abs=1e-5)
    assert read_metrics(tmp_path)[-1]["kl"] != 0


def test_an_adaptive_penalty_follows_the_logged_kl(tiny_dir, tmp_path):
    small_run(tiny_dir, folder=tmp_path, kl_target=0.05, kl_horizon=16, lr=0.02, updates=5)
    rows = read_metrics(tmp_path)
    penalty = kl.AdaptiveKL(0.05, 0.05, 16.0)
    for row in rows:
        assert row["kl_coef"] == penalty.beta
        penalty = penalty.update(row["kl"], 8)
    assert rows[1]["kl_coef"] == pytest.approx(0.05 * 0.9)  # a KL of 0 is far below the target


def test_one_reply_to_all_prompts_lowers_unique(tiny_dir, tmp_path, monkeypatch):
    """With one reply per prompt, pairs of prompt and reply never repeat."""
    policy = small_policy(tiny_dir)
    monkeypatch.setattr(policy, "response", lambda ids, finish: guerdon.Response("yes", finish=finish))
    small_run(tiny_dir, policy=policy, folder=tmp_path, updates=1, samples=1)
    assert read_metrics(tmp_path)[0]["unique"] == 1 / 4
