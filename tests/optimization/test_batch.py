"""A batch holds what the formulas give, reply by reply; a reply without a reward is left out of everything."""

from __future__ import annotations

import math

import pytest
import torch
from optimization_runs import (
    BASELINES,
    PROMPTS,
    SMALL,
    kindness,
    read_metrics,
    record_batches,
    small_policy,
    small_run,
    weights_of,
)

from guerdon.config import ModelOptions, OptimizeOptions
from guerdon.formulas.advantage import gae, token_rewards, whiten
from guerdon.models.directory.loading import create_reward_model


def test_new_adapters_and_a_full_copy_give_the_same_first_batch(tiny_dir, monkeypatch):
    batches = record_batches(monkeypatch)
    small_run(tiny_dir, lora_rank=0, updates=1)
    small_run(tiny_dir, lora_rank=4, updates=1)
    for name in ("score", "log_prob", "reference", "entropy", "advantage", "returns"):
        assert torch.equal(getattr(batches[0], name), getattr(batches[1], name)), name


def test_the_reward_model_reads_exactly_the_tokens_that_were_drawn(tiny_dir):
    policy, model = small_policy(tiny_dir), create_reward_model(ModelOptions(base=str(tiny_dir)))
    drawn = policy.generate([policy.encode(p) for p in PROMPTS], 8, 4, seeds=1)
    asked = [p for p in PROMPTS for _ in range(8)]
    for prompt, ids, finish in zip(asked, drawn.replies, drawn.finish, strict=True):
        read = model.text.encode([prompt], [policy.response(ids, finish)])[0].ids
        assert read[: len(policy.encode(prompt)) + len(ids)].tolist() == [*policy.encode(prompt), *ids]
        assert (policy.end_of_turn in read[len(policy.encode(prompt)) :]) == (finish == "stop")


def test_a_batch_holds_what_the_formulas_give(tiny_dir, monkeypatch):
    """From the second update on, when values and KL are not 0: token rewards, GAE, returns before whitening, masks."""
    batches = record_batches(monkeypatch)
    options = OptimizeOptions(**SMALL, kl_coef=0.3, gamma=0.9, lam=0.8, unfinished=0.5)
    small_run(tiny_dir, updates=3, kl_coef=0.3, gamma=0.9, lam=0.8, unfinished=0.5)
    batch = batches[-1]
    lengths = [len(reply) for reply in batch.rollouts.token_ids]
    assert batch.mask.sum(1).tolist() == lengths
    assert {1, options.max_tokens} & set(lengths)
    raw = torch.tensor(kindness(None, batch.rollouts.responses))
    torch.testing.assert_close(batch.score, raw - 0.5 * torch.from_numpy(batch.rollouts.cut))
    rewards = token_rewards(batch.log_ratio, batch.mask, batch.score, 0.3)
    torch.testing.assert_close(rewards.sum(1), batch.score - 0.3 * batch.kl)
    advantages, returns = gae(rewards, batch.value, batch.mask, 0.9, 0.8)
    assert batch.value.abs().max() > 0
    torch.testing.assert_close(batch.returns, returns)
    torch.testing.assert_close(batch.advantage, whiten(advantages, batch.mask))
    assert not batch.advantage[~batch.mask].any()


@pytest.mark.parametrize("baseline", ["leave_one_out", "group"])
def test_a_group_is_compared_by_reward_minus_beta_kl(tiny_dir, monkeypatch, baseline):
    batches = record_batches(monkeypatch)
    small_run(tiny_dir, updates=3, samples=3, baseline=baseline, kl_coef=0.3)
    batch = batches[-1]
    whole = (batch.score - 0.3 * batch.kl).view(-1, 3)
    others = (whole.sum(1, keepdim=True) - whole) / 2
    expected = (
        whole - others
        if baseline == "leave_one_out"
        else (whole - whole.mean(1, keepdim=True)) / (whole.std(1, keepdim=True) + 1e-4)
    )
    torch.testing.assert_close(batch.advantage, expected.reshape(-1, 1) * batch.mask, atol=1e-5, rtol=1e-4)


def test_whitened_rewards_keep_their_mean(tiny_dir, monkeypatch):
    batches = record_batches(monkeypatch)
    small_run(tiny_dir, updates=1, whiten_rewards=True, gamma=1.0, lam=1.0)
    batch = batches[0]
    rewards = token_rewards(batch.log_ratio, batch.mask, batch.score, 0.05)
    scaled = whiten(rewards, batch.mask, shift_mean=False)
    torch.testing.assert_close(batch.returns[:, 0], scaled.sum(1))  # values are 0 at first


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("baseline", BASELINES)
def test_a_reply_without_a_reward_is_counted_and_not_learned_from(tiny_dir, tmp_path, monkeypatch, baseline, bad):
    def sometimes_bad(prompts, responses):
        rewards = kindness(prompts, responses)
        return [bad if i == 3 else x for i, x in enumerate(rewards)]

    batches = record_batches(monkeypatch)
    done = small_run(tiny_dir, sometimes_bad, folder=tmp_path, baseline=baseline, minibatches=4, reward_scale="running")
    lost = [3] if baseline == "value" else [2, 3]
    for batch, row in zip(batches, read_metrics(tmp_path), strict=True):
        assert (~batch.mask.any(1)).nonzero()[:, 0].tolist() == lost
        assert not batch.advantage[lost].any()
        assert row["unusable"] == len(lost)
        assert all(math.isfinite(value) for value in row.values())
    assert all(torch.isfinite(p).all() for p in weights_of(done.policy).values())
