"""PPO, RLOO and GRPO converge where the optimum is known: one token, a reward of the token, a KL penalty."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from one_token_world import ONE_TOKEN, OneTokenWorld, divergence
from optimization_runs import BASELINES, small_policy, small_run

from guerdon.config import OptimizeOptions
from guerdon.contracts import as_prompt
from guerdon.formulas import best_of_n
from guerdon.optimization.learner import frozen_copy
from guerdon.optimization.loop import optimize
from guerdon.optimization.rewards import combined


@pytest.mark.parametrize("lora_rank", [0, 4])
@pytest.mark.parametrize("baseline", BASELINES)
def test_the_policy_converges_to_the_known_optimum(tiny_dir, baseline, lora_rank):
    """KL(policy || optimum) times beta is what is left to gain, so it must be small compared with the start."""
    world = OneTokenWorld(tiny_dir, lora_rank, within_reach=lora_rank > 0)
    groups = {} if baseline == "value" else {"prompts": 8, "samples": 8, "value_lr": None}
    options = OptimizeOptions(**{**ONE_TOKEN, **groups, "baseline": baseline, "updates": 90})
    optimize(world.policy, combined(world.reward), [world.PROMPT], options)
    log_probs = world.log_probs()
    initial = divergence(world.first, world.optimum)
    assert initial > 0.3
    assert divergence(log_probs, world.optimum) < 0.1 * initial
    assert world.mean(log_probs) == pytest.approx(world.mean(world.optimum), abs=0.06)
    assert divergence(log_probs, world.first) == pytest.approx(divergence(world.optimum, world.first), abs=0.08)


def test_best_of_n_of_the_initial_policy_has_the_expected_maximum(tiny_dir):
    """The largest of n independent draws: its mean by the distribution, and over pools within four standard errors."""
    world = OneTokenWorld(tiny_dir, 0, within_reach=False)
    drawn = world.policy.sample([world.PROMPT] * 60, 64, 1, seed=0)
    pools = np.array(world.reward(drawn.prompts, drawn.responses)).reshape(60, 64)
    ns = (1, 2, 4, 8, 16)
    curves = best_of_n.curve(pools, pools, ns)
    values, place = np.unique(world.worth, return_inverse=True)
    below = np.cumsum(np.bincount(place, np.exp(world.first)))
    for n, means in zip(ns, curves.T, strict=True):
        expected = values @ np.diff(below**n, prepend=0.0)
        assert means.mean() == pytest.approx(expected, abs=4 * means.std(ddof=1) / math.sqrt(len(means)))


def test_forty_updates_gain_at_least_half_of_the_possible_and_never_more_than_all(tiny_dir):
    """E[reward] - beta KL is at most beta log E e^(reward / beta) over the initial policy's replies."""
    policy, beta = small_policy(tiny_dir, 0), 0.5
    options = {
        "updates": 40, "prompts": 256, "samples": 1, "max_tokens": 3, "unfinished": 0.0, "epochs": 1, "minibatches": 1,
        "kl_coef": beta, "lr": 1e-3, "value_lr": 0.01,
    }  # fmt: skip

    def has_a_word_in_t(prompts, responses):
        return [float(" t" in f" {response.text}") for response in responses]

    draws = policy.sample(["write a review"], 3000, 3, seed=5)
    worth = np.array(has_a_word_in_t(draws.prompts, draws.responses))
    best = beta * math.log(np.exp(worth / beta).mean())
    first = frozen_copy(policy)
    small_run(tiny_dir, has_a_word_in_t, [as_prompt("write a review")], policy=policy, **options)
    asked = [policy.encode(as_prompt("write a review"))] * 2000
    drawn = policy.generate(asked, 1, 3, seeds=6)
    responses = [policy.response(ids, finish) for ids, finish in zip(drawn.replies, drawn.finish, strict=True)]
    with torch.no_grad():
        initial = first.forward(asked, drawn.replies).log_prob.split([len(reply) for reply in drawn.replies])
    away = drawn.log_prob - np.array([float(nats.sum()) for nats in initial])
    whole = has_a_word_in_t(asked, responses) - beta * away
    error = whole.std() / math.sqrt(len(whole))
    assert best > worth.mean() + 0.1
    assert whole.mean() > (best + worth.mean()) / 2 - 2 * error
    assert whole.mean() < best + 4 * error
