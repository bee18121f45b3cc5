"""The optimization loop: it finds optima that are known, promises what it promises, and a killed run goes on unchanged."""

from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from families import save_family
from scipy.special import logsumexp
from toys import KIND

import guerdon
from guerdon import GuerdonError
from guerdon.api.overoptimization import run_report
from guerdon.config import (
    ModelOptions,
    OptimizeOptions,
    PolicyOptions,
    build,
    make,
)
from guerdon.contracts import as_prompt
from guerdon.formulas import best_of_n, kl
from guerdon.formulas.advantage import (
    RunningScale,
    gae,
    token_rewards,
    whiten,
)
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.directory.policies import load_policy
from guerdon.models.ensemble import Ensemble
from guerdon.optimization import loop, monitor, rollouts
from guerdon.optimization.loop import optimize
from guerdon.optimization.rewards import combined
from guerdon.optimization.rollouts import Scale, ValueHead, ValueNetwork

HERE = Path(__file__).parent
PROMPTS = [
    as_prompt(f"write a {word} review of film {i}") for i, word in enumerate(("good", "bad", "new", "nice", "sad"))
]
HELD_OUT = [as_prompt(f"write a tweet for {word}") for word in ("you", "him", "her", "people")]
SMALL = {
    "updates": 3, "prompts": 4, "samples": 2, "max_tokens": 6, "epochs": 2, "minibatches": 2,
    "lr": 3e-3, "check_every": 0, "save_every": 0,
}  # fmt: skip
STEADY = {"lr": 0.02, "eps": 1.0}  # steps linear in the gradient: a rounding error stays one
BASELINES = ("value", "leave_one_out", "group")


def kindness(prompts, responses):
    """Kind words in a reply."""
    return [float(sum(word in KIND for word in response.text.split())) for response in responses]


def brevity(prompts, responses):
    return [-float(len(response.text.split())) for response in responses]


def speaking(base, lora_rank=2, **options):
    return load_policy(PolicyOptions(base=str(base), lora_rank=lora_rank, **options), adapters=lora_rank > 0)


def run(
    base, reward=kindness, asked=PROMPTS, *, policy=None, lora_rank=2, gold=None, network=None, folder=None, **options
):
    """A small run; keywords that `optimize` does not know are options."""
    known = {name: options.pop(name) for name in ("held_out", "reference_scale") if name in options}
    return optimize(
        policy or speaking(base, lora_rank),
        combined(reward),
        asked,
        make(OptimizeOptions, {**SMALL, **options}),
        gold=None if gold is None else combined(gold),
        value=network,
        folder=folder,
        **known,
    )


def weights(policy):
    return {name: p.detach().clone() for name, p in policy.model.named_parameters()}


def farthest(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def metrics(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def seen_by_learn(monkeypatch):
    """The batches that updates learn from, in order."""
    batches = []
    learn = loop.learn

    def watched(policy, values, batch, *rest):
        batches.append(batch)
        return learn(policy, values, batch, *rest)

    monkeypatch.setattr(loop, "learn", watched)
    return batches


# ---- Worlds with a known optimum -----------------------------------------------------------------------------------


ONE_TOKEN = {
    "updates": 60, "prompts": 64, "samples": 1, "max_tokens": 1, "unfinished": 0.0, "epochs": 2, "minibatches": 1,
    "kl_coef": 0.5, "check_every": 0, "save_every": 0, "lr": 3e-3, "value_lr": 0.05,
}  # fmt: skip


class OneToken:
    """One prompt, one token, a reward of the token: the optimum is the first policy times e^(reward / price)."""

    PROMPT = as_prompt("write a review")
    PRICE = ONE_TOKEN["kl_coef"]

    def __init__(self, base, lora_rank, within_reach):
        self.policy = speaking(base, lora_rank)
        tokens = range(self.policy._vocabulary())
        self.words = [
            self.policy.response(np.array([t]), "stop" if t in self.policy.stop_ids else "length").text for t in tokens
        ]
        self.first = self.log_probs()
        self.worth = np.array([self._drawn(word) for word in self.words])
        if within_reach:  # adapters turn the last hidden state, the norm before the unembedding keeps its length
            unembedding = self.policy.model.get_output_embeddings().weight.detach().double().numpy()
            state = self.policy.backbone.hidden_states([self.policy.encode(self.PROMPT)])[0].detach().double().numpy()
            turned = np.random.default_rng(0).normal(size=len(state))
            turned *= np.linalg.norm(state) / np.linalg.norm(turned)
            self.worth = self.PRICE * (unembedding @ (turned - state))
        self.worths = dict(zip(self.words, self.worth, strict=True))
        optimum = self.first + self.worth / self.PRICE
        self.optimum = optimum - logsumexp(optimum)

    @staticmethod
    def _drawn(word):
        """A number in [-1, 1] of the word's own."""
        return int(hashlib.sha256(word.encode()).hexdigest(), 16) % 2001 / 1000 - 1

    def reward(self, prompts, responses):
        return [self.worths[response.text] for response in responses]

    def log_probs(self):
        """Of every token, exactly."""
        ids = self.policy.encode(self.PROMPT)
        every = [np.array([t]) for t in range(len(self.words))]
        with torch.no_grad():
            return self.policy.forward([ids] * len(every), every).log_prob.double().numpy()

    def mean(self, log_probs):
        return float(np.exp(log_probs) @ self.worth)


def divergence(p, q):
    """KL(p || q) of log-probabilities, nats."""
    return float(np.exp(p) @ (p - q))


@pytest.mark.parametrize("lora_rank", [0, 4])
@pytest.mark.parametrize("baseline", BASELINES)
def test_the_policy_comes_to_the_known_optimum(tiny_dir, baseline, lora_rank):
    """KL(policy || optimum) times the price is what is left to gain, so it must be small beside what there was."""
    world = OneToken(tiny_dir, lora_rank, within_reach=lora_rank > 0)
    groups = {} if baseline == "value" else {"prompts": 8, "samples": 8, "value_lr": None}
    options = OptimizeOptions(**{**ONE_TOKEN, **groups, "baseline": baseline, "updates": 90})
    optimize(world.policy, combined(world.reward), [world.PROMPT], options)
    found = world.log_probs()
    at_first = divergence(world.first, world.optimum)
    assert at_first > 0.3
    assert divergence(found, world.optimum) < 0.1 * at_first
    assert world.mean(found) == pytest.approx(world.mean(world.optimum), abs=0.06)
    assert divergence(found, world.first) == pytest.approx(divergence(world.optimum, world.first), abs=0.08)


def test_best_of_n_of_the_first_policy_follows_its_own_law(tiny_dir):
    """The largest of n independent draws: its mean from the distribution itself, and from pools within four standard errors."""
    world = OneToken(tiny_dir, 0, within_reach=False)
    drawn = world.policy.sample([world.PROMPT] * 60, 64, 1, seed=0)
    pools = np.array(world.reward(drawn.prompts, drawn.responses)).reshape(60, 64)
    ns = (1, 2, 4, 8, 16)
    curves = best_of_n.curve(pools, pools, ns)
    values, place = np.unique(world.worth, return_inverse=True)
    below = np.cumsum(np.bincount(place, np.exp(world.first)))
    for n, found in zip(ns, curves.T, strict=True):
        expected = values @ np.diff(below**n, prepend=0.0)
        assert found.mean() == pytest.approx(expected, abs=4 * found.std(ddof=1) / math.sqrt(len(found)))


def test_replies_of_several_tokens_gain_half_of_what_there_is_in_forty_updates_and_never_more(tiny_dir):
    """E[reward] - price x KL is at most price x log E e^(reward / price) over the first policy's replies."""
    policy, price = speaking(tiny_dir, 0), 0.5
    options = {
        "updates": 40, "prompts": 256, "samples": 1, "max_tokens": 3, "unfinished": 0.0, "epochs": 1, "minibatches": 1,
        "kl_coef": price, "lr": 1e-3, "value_lr": 0.01,
    }  # fmt: skip

    def has_a_word_in_t(prompts, responses):
        return [float(" t" in f" {response.text}") for response in responses]

    draws = policy.sample(["write a review"], 3000, 3, seed=5)
    worth = np.array(has_a_word_in_t(draws.prompts, draws.responses))
    best = price * math.log(np.exp(worth / price).mean())
    first = loop.frozen_copy(policy)
    run(tiny_dir, has_a_word_in_t, [as_prompt("write a review")], policy=policy, **options)
    asked = [policy.encode(as_prompt("write a review"))] * 2000
    drawn = policy.generate(asked, 1, 3, seeds=6)
    said = [policy.response(ids, finish) for ids, finish in zip(drawn.replies, drawn.finish, strict=True)]
    with torch.no_grad():
        at_first = first.forward(asked, drawn.replies).log_prob.split([len(reply) for reply in drawn.replies])
    away = drawn.log_prob - np.array([float(nats.sum()) for nats in at_first])
    whole = has_a_word_in_t(asked, said) - price * away
    error = whole.std() / math.sqrt(len(whole))
    assert best > worth.mean() + 0.1
    assert whole.mean() > (best + worth.mean()) / 2 - 2 * error
    assert whole.mean() < best + 4 * error


# ---- The first step ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("baseline", BASELINES)
def test_before_the_policy_moves_every_ratio_is_one_and_the_kl_is_nought(tiny_dir, tmp_path, baseline, lora_rank):
    run(tiny_dir, lora_rank=lora_rank, folder=tmp_path, baseline=baseline, lr=1e-30, temperature=0.7, epochs=4)
    for row in metrics(tmp_path):
        assert row["ratio_far"] < 2e-5
        assert row["ratio"] == pytest.approx(1, abs=1e-6)
        assert row["ratio_var"] < 1e-9
        assert (row["kl"], row["kl_k3"], row["kl_per_token"], row["clipped"]) == (0, 0, 0, 0)
        assert abs(row["kl_step"]) < 1e-9


@pytest.mark.parametrize("baseline", BASELINES)
def test_each_update_begins_with_ratios_of_one_however_far_the_policy_has_moved(tiny_dir, tmp_path, baseline):
    run(tiny_dir, folder=tmp_path, baseline=baseline, lr=0.01, updates=4)
    rows = metrics(tmp_path)
    assert all(row["ratio_far"] < 1e-4 for row in rows)
    assert rows[-1]["kl_k3"] > 0.01
    assert max(row["ratio_var"] for row in rows) > 1e-4


def test_fresh_adapters_and_a_whole_copy_begin_alike(tiny_dir, monkeypatch):
    batches = seen_by_learn(monkeypatch)
    run(tiny_dir, lora_rank=0, updates=1)
    run(tiny_dir, lora_rank=4, updates=1)
    for name in ("score", "log_prob", "reference", "entropy", "advantage", "returns"):
        assert torch.equal(getattr(batches[0], name), getattr(batches[1], name)), name


def test_a_policy_that_has_spoken_has_a_reference_as_fast_and_as_exact(tiny_dir):
    policy = speaking(tiny_dir, 0)
    policy.sample(["write"], 2, 3)
    frozen = loop.frozen_copy(policy)
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
def test_there_is_no_dropout_in_training_mode_either(tmp_path, name):
    folder = save_family(tmp_path, name)
    policy, network = speaking(folder, 0), create_reward_model(ModelOptions(base=str(folder))).network
    policy.model.train()
    network.train()
    text = [np.arange(5, 30)]
    with torch.no_grad():
        assert torch.equal(policy.forward(text, text).log_prob, policy.forward(text, text).log_prob)
        assert torch.equal(network(text), network(text))


def test_the_reward_model_reads_the_very_tokens_that_were_drawn(tiny_dir):
    policy, model = speaking(tiny_dir), create_reward_model(ModelOptions(base=str(tiny_dir)))
    drawn = policy.generate([policy.encode(p) for p in PROMPTS], 8, 4, seeds=1)
    asked = [p for p in PROMPTS for _ in range(8)]
    for prompt, ids, finish in zip(asked, drawn.replies, drawn.finish, strict=True):
        read = model.text.encode([prompt], [policy.response(ids, finish)])[0].ids
        assert read[: len(policy.encode(prompt)) + len(ids)].tolist() == [*policy.encode(prompt), *ids]
        assert (policy.end_of_turn in read[len(policy.encode(prompt)) :]) == (finish == "stop")


# ---- Advantages ----------------------------------------------------------------------------------------------------


def test_a_batch_holds_what_the_formulas_say(tiny_dir, monkeypatch):
    """From the second update on, when values and KL are not 0: token rewards, GAE, returns before whitening, masks."""
    batches = seen_by_learn(monkeypatch)
    options = OptimizeOptions(**SMALL, kl_coef=0.3, gamma=0.9, lam=0.8, unfinished=0.5)
    run(tiny_dir, updates=3, kl_coef=0.3, gamma=0.9, lam=0.8, unfinished=0.5)
    batch = batches[-1]
    lengths = [len(reply) for reply in batch.turns.replies]
    assert batch.mask.sum(1).tolist() == lengths
    assert {1, options.max_tokens} & set(lengths)
    raw = torch.tensor(kindness(None, batch.turns.responses))
    torch.testing.assert_close(batch.score, raw - 0.5 * torch.from_numpy(~batch.turns.finished))
    rewards = token_rewards(batch.log_ratio, batch.mask, batch.score, 0.3)
    torch.testing.assert_close(rewards.sum(1), batch.score - 0.3 * batch.kl)
    advantages, returns = gae(rewards, batch.value, batch.mask, 0.9, 0.8)
    assert batch.value.abs().max() > 0
    torch.testing.assert_close(batch.returns, returns)
    torch.testing.assert_close(batch.advantage, whiten(advantages, batch.mask))
    assert not batch.advantage[~batch.mask].any()


@pytest.mark.parametrize("baseline", ["leave_one_out", "group"])
def test_siblings_are_judged_by_reward_less_price_times_kl(tiny_dir, monkeypatch, baseline):
    batches = seen_by_learn(monkeypatch)
    run(tiny_dir, updates=3, samples=3, baseline=baseline, kl_coef=0.3)
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
    batches = seen_by_learn(monkeypatch)
    run(tiny_dir, updates=1, whiten_rewards=True, gamma=1.0, lam=1.0)
    batch = batches[0]
    rewards = token_rewards(batch.log_ratio, batch.mask, batch.score, 0.05)
    scaled = whiten(rewards, batch.mask, shift_mean=False)
    torch.testing.assert_close(batch.returns[:, 0], scaled.sum(1))  # values are 0 at first


def test_a_score_is_scaled_then_clipped_then_charged_for_a_missing_end():
    raw, finished = np.array([-6.0, 1.0, 3.0, 9.0]), np.array([True, True, False, True])
    options = OptimizeOptions(reward_clip=2.5, unfinished=1.0)
    assert Scale(mean=1.0, spread=2.0).apply(raw, finished, options).tolist() == [-2.5, 0.0, 0.0, 2.5]
    running = Scale(running=RunningScale()).seen(np.repeat(raw, 2))
    expected = np.clip(raw / raw.std(), -2.5, 2.5) - ~finished  # divided, not shifted
    np.testing.assert_allclose(running.apply(raw, finished, options), expected, rtol=1e-6)


def test_a_reply_that_was_cut_is_told_by_its_finish_and_pays(tiny_dir, tmp_path):
    """One token and no end: every reply is cut, whatever its text is."""
    run(tiny_dir, brevity, folder=tmp_path, max_tokens=1, unfinished=2.0, updates=2)
    for row in metrics(tmp_path):
        assert row["length"] == 1
        assert row["truncated"] == 1 - row["finished"]
        assert row["score"] == pytest.approx(row["proxy"] - 2 * row["truncated"])
    assert max(row["truncated"] for row in metrics(tmp_path)) == 1


# ---- What changes nothing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("other", [{"micro_tokens": 16}, {"micro_tokens": 60}, {"gradient_checkpointing": True}])
def test_how_a_minibatch_is_computed_changes_nothing(tiny_dir, tmp_path, baseline, other):
    one = run(tiny_dir, folder=tmp_path / "one", baseline=baseline, **STEADY)
    two = run(tiny_dir, folder=tmp_path / "two", baseline=baseline, **STEADY, **other)
    assert farthest(weights(one.policy), weights(two.policy)) < 1e-6
    assert farthest(weights(one.policy), weights(speaking(tiny_dir))) > 1e-4
    for a, b in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert a == pytest.approx(b, abs=2e-4, nan_ok=True)


def test_the_seed_decides_everything_and_nothing_else_does(tiny_dir, tmp_path):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        torch.manual_seed(len(name))
        run(tiny_dir, folder=tmp_path / name, seed=seed)
    assert metrics(tmp_path / "one") == metrics(tmp_path / "same") != metrics(tmp_path / "other")


def test_prompts_are_all_used_before_one_is_used_again():
    picked = [i for update in range(10) for i in loop.choose(7, 4, seed=3, update=update)]
    for at in range(0, 35, 7):
        assert sorted(picked[at : at + 7]) == list(range(7))
    assert picked[:7] != picked[7:14]


def test_minibatches_hold_every_reply_once_and_are_shuffled_anew():
    options = OptimizeOptions(prompts=5, samples=2, minibatches=3)
    turns = rollouts.Turns((), (), [], [np.zeros(1)] * 10, np.arange(10))
    accelerator = Accelerator(cpu=True)
    epochs = [loop.minibatches(turns, options, 4, epoch, accelerator) for epoch in (0, 1)]
    for parts in epochs:
        assert sorted(row for part in parts for row in part) == list(range(10))
        assert [len(part) for part in parts] == [4, 3, 3]
    assert epochs[0] != epochs[1]


def test_the_learning_rate_falls_to_nought_in_a_straight_line(tiny_dir, tmp_path):
    run(tiny_dir, folder=tmp_path, updates=4, lr=0.004)
    assert [row["lr"] for row in metrics(tmp_path)] == pytest.approx([0.004, 0.003, 0.002, 0.001])


@pytest.mark.parametrize("way", ["cache", "padded", "no unembedding"])
def test_families_that_cannot_share_prompts_learn_the_same(tiny_dir, monkeypatch, way):
    batches = seen_by_learn(monkeypatch)
    run(tiny_dir, updates=1, lora_rank=0, **STEADY)

    def step(policy):
        options = OptimizeOptions(**{**SMALL, **STEADY})
        values = ValueHead(64)
        held = loop._weights(policy, values, options)
        row = loop.learn(policy, values, batches[0], held, options, 0, Accelerator(cpu=True))
        return row, weights(policy)

    other = speaking(tiny_dir, 0)
    other.backbone.mode = "cache" if way == "cache" else "padded"
    if way == "no unembedding":
        other.shares_prefixes = False
    expected, found = step(speaking(tiny_dir, 0)), step(other)
    assert found[0] == pytest.approx(expected[0], abs=2e-5)
    assert farthest(found[1], expected[1]) < 1e-6


def test_families_that_cannot_share_prompts_are_optimized(tiny_dir, tmp_path):
    policy = speaking(tiny_dir)
    policy.backbone.mode = "padded"
    done = run(tiny_dir, policy=policy, asked=PROMPTS[:1], folder=tmp_path, held_out=HELD_OUT, check_every=1)
    assert policy.backbone.mode == "padded"
    assert all(row["ratio_far"] < 1e-4 for row in metrics(tmp_path))
    assert metrics(tmp_path)[0]["unique"] > 0.5  # a prompt that comes four times gets other replies
    assert len(done.checks) == 4


def test_bfloat16_weights_learn_through_float32_adapters(tiny_dir, tmp_path):
    policy = speaking(tiny_dir, dtype="bfloat16")
    kinds = {p.dtype for n, p in policy.model.named_parameters() if "lora" in n}
    before = weights(policy)
    run(tiny_dir, policy=policy, folder=tmp_path, lr=0.01)
    after = weights(policy)
    assert kinds == {torch.float32}
    assert all(torch.equal(before[n], after[n]) for n in before if "lora" not in n)
    assert any(not torch.equal(before[n], after[n]) for n in before if "lora" in n)
    first = metrics(tmp_path)[0]
    assert first["ratio_first"] == pytest.approx(1, abs=0.05)
    assert first["kl"] == 0
    assert all(math.isfinite(value) for row in metrics(tmp_path) for value in row.values())


# ---- Killed and started again --------------------------------------------------------------------------------------

KILLED = {
    **SMALL, "updates": 6, "save_every": 2, "check_every": 1, "reward_scale": "running", "kl_target": 0.05,
    "kl_horizon": 16, "keep": "best_gold", "lr": 0.01,
}  # fmt: skip


def go(base, folder, reward=kindness, **options):
    return run(base, reward, held_out=HELD_OUT, gold=brevity, folder=folder, **{**KILLED, **options})


def same_run(one, other, first, second):
    """Weights, metrics, checks, and how it ended."""
    assert farthest(weights(one.policy), weights(other.policy)) == 0
    assert metrics(first) == metrics(second)
    assert (first / "checks.jsonl").read_bytes() == (second / "checks.jsonl").read_bytes()
    assert (one.updates, one.stopped, one.kept) == (other.updates, other.stopped, other.kept)
    assert [monitor.to_row(c) for c in one.checks] == [monitor.to_row(c) for c in other.checks]


@pytest.mark.parametrize(
    ("where", "at", "options"),
    [
        ("log", 3, {}),  # after an update, before its checkpoint
        ("log", 4, {"baseline": "leave_one_out"}),  # the metrics have a line that the checkpoint lacks
        ("save", 4, {"baseline": "group"}),
        ("saw", 4, {}),  # between a checkpoint and its check
        ("saw", 5, {}),  # the best may be younger than the checkpoint
        ("log", 4, {"max_kl": 1e-9}),  # stops at update 2
        ("log", 6, {"value_warmup": 3}),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bits(tiny_dir, tmp_path, monkeypatch, where, at, options):
    whole = go(tiny_dir, tmp_path / "whole", **options)
    method = getattr(loop._Run, where)
    calls = {
        "log": lambda row: row["update"],
        "save": lambda update, weights: update,
        "saw": lambda c, weights: c.update,
    }

    def dying(self, *given):
        if calls[where](*given) == at:
            raise KeyboardInterrupt
        method(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, where, dying)
        if whole.updates >= at:
            with pytest.raises(KeyboardInterrupt):
                go(tiny_dir, tmp_path / "killed", **options)
    again = go(tiny_dir, tmp_path / "killed", **options)
    same_run(whole, again, tmp_path / "whole", tmp_path / "killed")
    same_run(whole, go(tiny_dir, tmp_path / "killed", **options), tmp_path / "whole", tmp_path / "killed")


def test_a_run_that_the_system_kills_goes_on_to_the_same_bits(tiny_dir, tmp_path):
    """A real SIGKILL, in the reward of an update between two checkpoints."""
    script = f"""
        import os, signal, sys
        sys.path[:0] = [{str(HERE.parent)!r}, {str(HERE)!r}]
        import torch
        torch.set_num_threads(1)
        from pathlib import Path
        from test_loop import go, kindness
        from guerdon.optimization import rewards
        calls = []

        def deadly(prompts, responses):
            calls.append(1)
            if len(calls) == 9:  # checks ask too
                os.kill(os.getpid(), signal.SIGKILL)
            return kindness(prompts, responses)

        deadly.__name__, deadly.fingerprint = "kindness", rewards._told(kindness)  # to the run it is the same reward
        go({str(tiny_dir)!r}, Path({str(tmp_path / "killed")!r}), deadly)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    rows = metrics(tmp_path / "killed")
    assert 2 < len(rows) < 6
    whole, again = go(tiny_dir, tmp_path / "whole"), go(tiny_dir, tmp_path / "killed")
    same_run(whole, again, tmp_path / "whole", tmp_path / "killed")


def test_a_run_that_ended_is_not_done_again(tiny_dir, tmp_path, monkeypatch):
    done = go(tiny_dir, tmp_path)
    batches = seen_by_learn(monkeypatch)
    again = go(tiny_dir, tmp_path)
    assert not batches
    assert farthest(weights(done.policy), weights(again.policy)) == 0


@pytest.mark.parametrize("other", [{"seed": 1}, {"lr": 0.02}, {"updates": 7}])
def test_a_run_with_other_options_does_not_go_on_from_this_one(tiny_dir, tmp_path, other):
    go(tiny_dir, tmp_path, updates=2)
    with pytest.raises(GuerdonError, match=r"belongs to a run that differs in optimize options\. Delete it"):
        go(tiny_dir, tmp_path, **{"updates": 2, **other})
    go(tiny_dir, tmp_path, updates=2, micro_tokens=64, gradient_checkpointing=True)


def test_a_run_does_not_go_on_with_another_reward_and_a_folder_of_another_kind_is_left_alone(tiny_dir, tmp_path):
    go(tiny_dir, tmp_path / "run", updates=2)
    before = metrics(tmp_path / "run")
    with pytest.raises(
        GuerdonError,
        match=r"run: belongs to a run that differs in reward\. Delete it to start over, or pass another --out",
    ):
        go(tiny_dir, tmp_path / "run", reward=of_the_prompt, updates=2)
    assert metrics(tmp_path / "run") == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(GuerdonError, match=r"other: holds a model or another kind of run\. Pass another --out"):
        go(tiny_dir, tmp_path / "other", updates=2)
    assert (tmp_path / "other" / "metrics.jsonl").read_text() == '{"step": 1}\n'


# ---- Checks, stops and what is kept --------------------------------------------------------------------------------


def test_every_check_asks_the_same_prompts_of_reward_and_gold(tiny_dir, tmp_path):
    done = run(tiny_dir, held_out=HELD_OUT, gold=brevity, folder=tmp_path, check_every=2, updates=5, check_prompts=3)
    assert [check.update for check in done.checks] == [0, 2, 4, 5]
    assert {check.prompts for check in done.checks} == {done.checks[0].prompts}
    for check in done.checks:
        assert len(check.prompts) == 3
        replies = [guerdon.Response(text) for text in check.texts]
        assert check.proxy.tolist() == kindness(None, replies)
        assert check.gold.tolist() == brevity(None, replies)
    assert done.checks[0].kl.tolist() == [0, 0, 0]
    assert monitor.read_checks(tmp_path / "checks.jsonl")[-1].texts == done.checks[-1].texts


def test_the_kl_of_a_check_is_that_of_its_replies(tiny_dir):
    done = run(tiny_dir, held_out=HELD_OUT, check_every=3, lora_rank=0, lr=0.01, kl_coef=0.0)
    last = done.checks[-1]
    replies = [
        guerdon.Response(t, finish="stop" if f else "length") for t, f in zip(last.texts, last.finished, strict=True)
    ]
    said = guerdon.contracts.Rollouts(tuple(HELD_OUT), tuple(replies))
    exact = [len(t.split()) + f == size for t, f, size in zip(last.texts, last.finished, last.length, strict=True)]
    expected = done.policy.log_probs(said) - speaking(tiny_dir, 0).log_probs(said)
    assert any(exact)
    np.testing.assert_allclose(last.kl[exact], expected[exact], atol=1e-4)
    assert np.abs(last.kl).max() > 0.01


def test_a_run_that_ended_before_its_first_update_holds_no_folder(tiny_dir, tmp_path):
    """A reward with a mistake in it may be mended and started again in the same place."""
    with pytest.raises(GuerdonError, match="the judge is out"):
        run(tiny_dir, raises, folder=tmp_path, held_out=HELD_OUT, check_every=1)
    done = run(tiny_dir, kindness, folder=tmp_path, held_out=HELD_OUT, check_every=1, lr=0.01)
    assert (done.updates, len(metrics(tmp_path)), len(done.checks)) == (3, 3, 4)
    with pytest.raises(GuerdonError, match=r"belongs to a run that differs in optimize options and reward\."):
        run(tiny_dir, brevity, folder=tmp_path, held_out=HELD_OUT, check_every=1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_held_out_reply_without_a_reward_is_missing_and_spoils_nothing(tiny_dir, tmp_path, bad):
    def moody(prompts, responses):
        return [bad if "him" in p[-1].content else float(len(r.text)) for p, r in zip(prompts, responses, strict=True)]

    done = run(tiny_dir, kindness, held_out=HELD_OUT, gold=moody, folder=tmp_path, check_every=1)
    for check in [*done.checks, *monitor.read_checks(tmp_path / "checks.jsonl")]:
        assert np.isnan(check.gold).tolist() == [False, True, False, False]
        assert monitor.measures(check)["gold"].n == 3
        assert math.isfinite(monitor.measures(check)["gold"].value)


def test_the_best_by_gold_is_the_policy_that_is_kept(tiny_dir, tmp_path):
    """Gold counts unkindness, so the longer a run for kindness lasts, the worse it is."""

    def unkindness(prompts, responses):
        return [-x for x in kindness(prompts, responses)]

    long = {
        "held_out": PROMPTS,
        "gold": unkindness,
        "check_every": 2,
        "updates": 12,
        "lr": 0.02,
        "kl_coef": 0.0,
        "prompts": 5,
    }
    for folder in (None, tmp_path):
        done = run(tiny_dir, folder=folder, keep="best_gold", **long)
        assert done.kept == monitor.best(done.checks) < 12
        at = next(check for check in done.checks if check.update == done.kept)
        options = OptimizeOptions(**SMALL)
        ids = [done.policy.encode(p) for p in PROMPTS]
        seeds = [rollouts.seed_of(options.seed, i) for i in range(len(ids))]
        drawn = done.policy.generate(ids, 1, options.max_tokens, seeds=seeds)
        assert [done.policy.response(r, f).text for r, f in zip(drawn.replies, drawn.finish, strict=True)] == list(
            at.texts
        )
    assert run(tiny_dir, **long).kept == 12


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        ({"max_kl": 1e-6}, r"kl .* passed 1e-06"),
        ({"min_entropy": 100.0}, "entropy .* passed 100"),
        ({"max_length": 0.5}, "length .* passed 0.5"),
        ({"min_length": 100.0}, "length .* passed 100"),
    ],
)
def test_a_run_that_leaves_its_band_stops_is_checked_and_says_why(tiny_dir, bound, said):
    done = run(tiny_dir, held_out=HELD_OUT, check_every=100, updates=8, lr=0.01, **bound)
    assert done.updates < 8
    assert done.stopped
    assert re.match(said, done.stopped)
    assert [check.update for check in done.checks] == [0, done.updates]


def test_prompts_that_were_left_out_stand_in_the_report(tiny_dir, tmp_path):
    prompts = [*PROMPTS, as_prompt(""), as_prompt(" ")]
    guerdon.optimize(
        speaking(tiny_dir), kindness, prompts, held_out=HELD_OUT, out=tmp_path, **SMALL | {"check_every": 3}
    )
    assert json.loads((tmp_path / "report.json").read_text())["about"]["prompts left out (empty)"] == "2"


def test_a_finished_pool_of_reward_models_is_drawn_once(tiny_dir, tmp_path, monkeypatch):
    """Not so where a judge is a function, whose state nobody can see."""
    model = CalibratedModel(create_reward_model(ModelOptions(base=str(tiny_dir))), Calibration())
    policy, drawn = speaking(tiny_dir, 0), []
    sample = type(policy).sample_with_seeds
    monkeypatch.setattr(type(policy), "sample_with_seeds", lambda *given: drawn.append(1) or sample(*given))
    options = {"n": 4, "max_tokens": 4}

    def draws(*judges, **more):
        drawn.clear()
        found = guerdon.best_of_n(policy, judges[0], PROMPTS, tmp_path / "a.jsonl", **options, **more)
        return bool(drawn), found

    first = draws(model)
    assert first[0]
    again = draws(model)
    assert not again[0]
    assert again[1].estimates == first[1].estimates
    for judges, more in (([model], {"gold": brevity}), ([kindness], {})):
        with pytest.raises(GuerdonError, match=r"belongs to a run that differs in (reward|gold).*\. Delete it"):
            draws(*judges, **more)
        (tmp_path / "a.jsonl").unlink()
        assert draws(*judges, **more)[0]
        assert draws(*judges, **more)[0]


def test_a_folder_that_another_process_writes_is_refused(tiny_dir, tmp_path):
    script = f"""
        import sys
        from pathlib import Path
        from guerdon.io import run_folder
        with run_folder.RunFolder(Path({str(tmp_path)!r})).lock():
            print(1, flush=True)
            sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"1\n"
        for _ in range(2):
            with pytest.raises(
                GuerdonError, match=r"another process is writing it\. Wait for it, or pass another --out"
            ):
                guerdon.optimize(speaking(tiny_dir), kindness, PROMPTS, held_out=HELD_OUT, out=tmp_path, **SMALL)
        assert list(tmp_path.iterdir()) == []
    finally:
        process.communicate()
    done = guerdon.optimize(speaking(tiny_dir), kindness, PROMPTS, held_out=HELD_OUT, out=tmp_path, **SMALL)
    assert done.updates == 3


def test_a_run_whose_gold_falls_beyond_doubt_is_stopped(tiny_dir, monkeypatch):
    monkeypatch.setattr(monitor, "should_stop", lambda checks: "gold fell" if len(checks) == 3 else None)
    done = run(tiny_dir, held_out=HELD_OUT, gold=brevity, check_every=1, updates=6, stop_when="over_optimized")
    assert (done.stopped, done.updates) == ("gold fell", 2)


def test_a_batch_is_left_when_the_policy_has_moved_far_enough_from_the_one_that_drew_it(tiny_dir, tmp_path):
    run(tiny_dir, folder=tmp_path, epochs=6, max_kl_step=1e-4, lr=0.01)
    rows = metrics(tmp_path)
    assert all(2 <= row["steps"] < 12 for row in rows)
    assert all(row["steps"] % 2 == 0 for row in rows)


# ---- Metrics -------------------------------------------------------------------------------------------------------

LOGGED = {
    "update", "score", "proxy", "kl", "kl_per_token", "kl_k3", "kl_coef", "kl_step", "entropy", "clipped", "ratio",
    "ratio_var", "ratio_first", "ratio_far", "length", "finished", "truncated", "unique", "unusable", "grad_norm", "lr",
    "loss", "policy_loss", "value_loss", "value_clipped", "steps", "partly_read",
}  # fmt: skip


@pytest.mark.parametrize("baseline", BASELINES)
def test_every_update_logs_what_shows_whether_it_learns(tiny_dir, tmp_path, baseline):
    run(tiny_dir, folder=tmp_path, baseline=baseline)
    rows = metrics(tmp_path)
    assert [row["update"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert set(row) == LOGGED | ({"explained_variance", "value"} if baseline == "value" else set())
        assert all(math.isfinite(value) for value in row.values())
        assert row["steps"] == 4


def test_metrics_are_those_of_the_batch_and_the_kl_is_the_one_that_is_charged(tiny_dir, tmp_path, monkeypatch):
    batches = seen_by_learn(monkeypatch)
    run(tiny_dir, folder=tmp_path, lr=0.01, kl_coef=0.2, updates=4)
    for batch, row in zip(batches, metrics(tmp_path), strict=True):
        lengths = np.array([len(reply) for reply in batch.turns.replies])
        rewards = token_rewards(batch.log_ratio, batch.mask, batch.score, 0.2)
        assert row["score"] - row["kl_coef"] * row["kl"] == pytest.approx(float(rewards.sum(1).mean()), abs=1e-5)
        assert row["kl"] == pytest.approx(float(kl.sequence_kl(batch.log_ratio, batch.mask).mean()), abs=1e-6)
        assert row["kl_per_token"] == pytest.approx(row["kl"] * len(lengths) / lengths.sum(), abs=1e-6)
        assert row["proxy"] == pytest.approx(np.mean(kindness(None, batch.turns.responses)))
        assert row["length"] == lengths.mean()
        assert row["unique"] == len({r.text for r in batch.turns.responses}) / len(lengths)
        assert row["entropy"] == pytest.approx(float(batch.entropy[batch.mask].mean()), abs=1e-5)
    assert metrics(tmp_path)[-1]["kl"] != 0


def test_an_adaptive_price_follows_the_logged_kl(tiny_dir, tmp_path):
    run(tiny_dir, folder=tmp_path, kl_target=0.05, kl_horizon=16, lr=0.02, updates=5)
    rows = metrics(tmp_path)
    price = kl.AdaptiveKL(0.05, 0.05, 16.0)
    for row in rows:
        assert row["kl_coef"] == price.beta
        price = price.update(row["kl"], 8)
    assert rows[1]["kl_coef"] == pytest.approx(0.05 * 0.9)  # a KL of 0 is far below the target


def test_one_reply_to_all_prompts_shows_in_unique(tiny_dir, tmp_path, monkeypatch):
    """With one reply a prompt, pairs of prompt and reply would never repeat."""
    policy = speaking(tiny_dir)
    monkeypatch.setattr(policy, "response", lambda ids, finish: guerdon.Response("yes", finish=finish))
    run(tiny_dir, policy=policy, folder=tmp_path, updates=1, samples=1)
    assert metrics(tmp_path)[0]["unique"] == 1 / 4


# ---- Values --------------------------------------------------------------------------------------------------------


def of_the_prompt(prompts, responses):
    """A reward that is known before the reply begins."""
    return [2.0 * ("good" in p[-1].content or "nice" in p[-1].content) for p in prompts]


@pytest.mark.parametrize("value", ["head", "reward"])
def test_a_warmed_up_value_model_explains_its_returns_before_the_policy_moves(tiny_dir, tmp_path, monkeypatch, value):
    network = (
        ValueNetwork(create_reward_model(ModelOptions(base=str(tiny_dir))).network, 0.0, 1.0)
        if value == "reward"
        else None
    )
    policy = speaking(tiny_dir)
    before, after = weights(policy), []
    learn = loop.learn

    def watched(*given):
        row = learn(*given)
        after.append(weights(policy))
        return row

    monkeypatch.setattr(loop, "learn", watched)
    run(
        tiny_dir, of_the_prompt, policy=policy, network=network, folder=tmp_path, updates=9, value_warmup=8, prompts=5, samples=8,
        epochs=4, value=value, value_lr=2e-2 if value == "head" else 2e-3, value_clip=10.0, kl_coef=0.0, unfinished=0.0,
    )  # fmt: skip
    assert all(farthest(before, still) == 0 for still in after[:8])
    assert farthest(before, after[8]) > 0
    rows = metrics(tmp_path)
    assert all(row["kl"] == 0 for row in rows)
    assert rows[7]["explained_variance"] > max(0.2, rows[0]["explained_variance"])


def test_a_value_model_that_begins_as_the_reward_model_learns_on_its_own(tiny_dir, tmp_path):
    model = CalibratedModel(create_reward_model(ModelOptions(base=str(tiny_dir))), Calibration(temperature=0.5))
    before = {n: p.detach().clone() for n, p in model.model.network.named_parameters()}
    policy = speaking(tiny_dir)
    config = build({"optimize": {**SMALL, "value": "reward", "check_every": 1}})
    done = guerdon.optimize(policy, model, PROMPTS, held_out=HELD_OUT, out=tmp_path, config=config)
    assert len(done.checks) == 4
    assert all(math.isfinite(row["explained_variance"]) for row in metrics(tmp_path))
    assert metrics(tmp_path)[0]["value"] != 0  # a head on the policy begins at 0
    assert all(torch.equal(before[n], p) for n, p in model.model.network.named_parameters())


# ---- What cannot be learned from ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("baseline", BASELINES)
def test_a_reply_without_a_reward_is_counted_and_teaches_nothing(tiny_dir, tmp_path, monkeypatch, baseline, bad):
    def moody(prompts, responses):
        given = kindness(prompts, responses)
        return [bad if i == 3 else x for i, x in enumerate(given)]

    batches = seen_by_learn(monkeypatch)
    done = run(tiny_dir, moody, folder=tmp_path, baseline=baseline, minibatches=4, reward_scale="running")
    lost = [3] if baseline == "value" else [2, 3]
    for batch, row in zip(batches, metrics(tmp_path), strict=True):
        assert (~batch.mask.any(1)).nonzero()[:, 0].tolist() == lost
        assert not batch.advantage[lost].any()
        assert row["unusable"] == len(lost)
        assert all(math.isfinite(value) for value in row.values())
    assert all(torch.isfinite(p).all() for p in weights(done.policy).values())


def test_a_minibatch_without_a_usable_reply_makes_no_step(tiny_dir, tmp_path):
    def moody(prompts, responses):
        return [math.nan if i == 3 else x for i, x in enumerate(kindness(prompts, responses))]

    run(tiny_dir, moody, folder=tmp_path, minibatches=8)
    assert [row["steps"] for row in metrics(tmp_path)] == [14, 14, 14]


def raises(prompts, responses):
    raise RuntimeError("the judge is out")


@pytest.mark.parametrize(
    ("reward", "options", "said"),
    [
        (raises, {}, r"reward raises: raised RuntimeError \(the judge is out\)"),
        (lambda p, r: [1.0], {}, r"returned 1 numbers for 8 responses; remedy"),
        (
            lambda p, r: [math.nan] * len(r),
            {},
            r"at update 3, no prompt has a finite reward .*, for 3 updates in a row",
        ),
        (
            lambda p, r: [math.nan, 1.0] * (len(r) // 2),
            {"baseline": "leave_one_out"},
            r"at update 3, no prompt has a finite reward for each of its 2 replies, for 3 updates in a row; remedy",
        ),
    ],
)
def test_a_reward_that_is_broken_stops_the_run_with_its_name(tiny_dir, reward, options, said):
    with pytest.raises(GuerdonError, match=said):
        run(tiny_dir, reward, **options)


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_gradient_that_is_no_number_never_enters_the_weights(tiny_dir, baseline):
    policy = speaking(tiny_dir)
    calls = []

    def poisoned(gradient):
        calls.append(1)
        return gradient * math.nan if len(calls) == 3 else gradient

    chosen = next(p for p in policy.model.parameters() if p.requires_grad)
    chosen.register_hook(poisoned)
    with pytest.raises(
        GuerdonError, match=r"the gradient of update 1 is nan, its loss .*; remedy: a smaller optimize\.lr"
    ):
        run(tiny_dir, policy=policy, baseline=baseline)
    assert len(calls) == 3
    assert all(torch.isfinite(p).all() for p in weights(policy).values())


def test_a_loss_that_is_no_number_moves_no_weight(tiny_dir, monkeypatch):
    policy = speaking(tiny_dir)
    before = weights(policy)
    monkeypatch.setattr(loop, "clipped_value_loss", lambda value, *rest: torch.full_like(value, math.nan))
    with pytest.raises(GuerdonError, match="its loss nan"):
        run(tiny_dir, policy=policy)
    assert farthest(before, weights(policy)) == 0


def test_prompts_that_cannot_be_answered_are_left_out_and_counted(tiny_dir, caplog):
    prompts = [*PROMPTS, as_prompt(" "), as_prompt("film " * 600), as_prompt("")]
    done = run(tiny_dir, asked=prompts)
    assert done.excluded == {"empty": 2, "too long for policy.max_prompt or the context": 1}
    assert "prompts left out: 2 empty, 1 too long" in caplog.text
    with pytest.raises(GuerdonError, match=r"none of 2 prompts can be answered \(empty\); remedy"):
        run(tiny_dir, asked=[as_prompt(""), as_prompt(" ")])
    with pytest.raises(GuerdonError, match="no prompt to learn from; remedy"):
        run(tiny_dir, asked=[], held_out=HELD_OUT)


def test_a_prompt_that_the_template_refuses_is_left_out_and_counted(tiny_dir):
    policy = speaking(tiny_dir)
    policy.tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + policy.tokenizer.chat_template
    )
    odd = as_prompt([{"role": "system", "content": "be kind"}, {"role": "user", "content": "write a tweet"}])
    assert run(tiny_dir, policy=policy, asked=[*PROMPTS, odd]).excluded == {"refused by the chat template": 1}
    with pytest.raises(GuerdonError, match=r"none of 1 prompts .*no system\. Reorder"):
        run(tiny_dir, policy=policy, asked=[odd])


def test_fewer_prompts_than_a_batch_are_asked_again_and_answered_anew(tiny_dir, monkeypatch):
    batches = seen_by_learn(monkeypatch)
    run(tiny_dir, asked=PROMPTS[:2], samples=1, updates=1)
    replies = {(p, tuple(r.tolist())) for p, r in zip(batches[0].turns.asked, batches[0].turns.replies, strict=True)}
    assert len(batches[0].turns.asked) == 4
    assert len(replies) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"baseline": "leave_one_out", "samples": 1},
            r"optimize\.samples must be 2 or more with optimize\.baseline=leave_one_out, which compares",
        ),
        (
            {"baseline": "group", "samples": 1},
            r"optimize\.samples must be 2 or more .*, got 1\. Set optimize\.samples=4",
        ),
        ({"minibatches": 9}, r"optimize\.minibatches must be at most 8, the replies in a batch, got 9\. Set a smaller"),
        ({"value": "reward"}, r"optimize\.value=reward: the reward must be one of our models"),
        ({"reward_scale": "reference"}, r"optimize\.reward_scale=reference: the model must store a reference"),
        (
            {"baseline": "group", "value_warmup": 2},
            r"optimize\.value_warmup must be left out .* has no value model, got 2\. Leave",
        ),
        (
            {"baseline": "group", "whiten_rewards": True},
            r"optimize\.whiten_rewards must be .*, got True\. Leave it out",
        ),
        (
            {"value_warmup": 1, "weight_decay": 0.1},
            r"optimize\.weight_decay must be 0 .*, got 0\.1\. Set one of the two",
        ),
        (
            {"kl_coef": 0.0, "kl_target": 1.0},
            r"optimize\.kl_coef must be greater than 0 .* 0 cannot adapt, got 0\.0\. Start",
        ),
        ({"gold": brevity}, r"a gold judge needs held-out prompts .*\. Give --held-out"),
        ({"gold": brevity, "held_out": HELD_OUT}, r"optimize\.check_every above 0"),
        ({"keep": "best_gold"}, r"optimize\.keep: needs a gold judge"),
        ({"stop_when": "over_optimized", "held_out": HELD_OUT}, r"optimize\.stop_when: needs a gold judge"),
    ],
)
def test_an_option_that_could_not_be_followed_is_refused(tiny_dir, options, said):
    with pytest.raises(GuerdonError, match=said):
        run(tiny_dir, **options)


@pytest.mark.parametrize(("scale", "weight", "unit"), [("none", 3.0, 1 / 6), ("reference", 3.0, 0.25)])
def test_a_weight_scales_what_is_stored_with_the_model_and_values_too(
    tiny_dir, tmp_path, monkeypatch, scale, weight, unit
):
    """A reward of 3 x the model's nats has 3 x their spread; values are in units of the score that is optimized."""
    calibration = Calibration(temperature=0.5, reference_mean=1.0, reference_spread=0.25, provenance={"rows": 9})
    model = CalibratedModel(create_reward_model(ModelOptions(base=str(tiny_dir))), calibration)
    batches, given = seen_by_learn(monkeypatch), []
    prepare = loop.prepare
    monkeypatch.setattr(loop, "prepare", lambda *args: (given.append(args), prepare(*args))[1])
    config = build({"optimize": {**SMALL, "updates": 1, "value": "reward", "reward_scale": scale, "unfinished": 0.0}})
    guerdon.optimize(
        speaking(tiny_dir), combined({"m": model}, [weight]), PROMPTS, held_out=HELD_OUT, out=tmp_path, config=config
    )
    turns, values = batches[0].turns, given[0][2]
    raw = model.model.score(turns.asked, turns.responses).value
    expected = (raw - 1.0) / 0.25 if scale == "reference" else weight * (raw - 1.0) / 0.5
    np.testing.assert_allclose(batches[0].score.numpy(), expected, rtol=1e-4, atol=1e-4)
    assert (values.mean, 1 / values.scale) == (1.0, pytest.approx(unit))


def test_a_run_folder_is_the_policy_that_it_made(tiny_dir, tmp_path):
    done = guerdon.optimize(
        speaking(tiny_dir), kindness, PROMPTS, out=tmp_path, config=build({"optimize": {**SMALL, "lr": 0.02}})
    )
    prompts, replies = [done.policy.encode(PROMPTS[0])], [np.arange(8, 20)]
    with torch.no_grad():
        expected, found = done.policy.forward(prompts, replies), speaking(tmp_path, 0).forward(prompts, replies)
        torch.testing.assert_close(found.log_prob, expected.log_prob, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(
            speaking(tiny_dir, 0).forward(prompts, replies).log_prob, expected.log_prob, atol=1e-3
        )


def test_what_is_logged_is_drawn_without_a_check_too(tiny_dir, tmp_path):
    guerdon.optimize(speaking(tiny_dir), kindness, PROMPTS, out=tmp_path, config=build({"optimize": SMALL}))
    curves = json.loads((tmp_path / "report.json").read_text())["curves"]
    shown = {
        "score", "kl", "entropy", "clipped", "value_clipped", "ratio", "ratio_var", "explained_variance", "length", "truncated",
        "finished", "unique",
    }  # fmt: skip
    assert {f"update_{name}" for name in shown} <= set(curves)
    assert (tmp_path / "report.html").exists()


def test_half_a_line_of_a_killed_run_spoils_no_report(tiny_dir, tmp_path):
    config = build({"optimize": {**SMALL, "check_every": 1}})
    guerdon.optimize(speaking(tiny_dir), kindness, PROMPTS, held_out=HELD_OUT, out=tmp_path, config=config)
    whole = guerdon.measure_overoptimization(tmp_path)
    for name in ("metrics.jsonl", "checks.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"update": 4, "sc')
    assert guerdon.measure_overoptimization(tmp_path) == whole


def test_a_template_is_compared_with_that_of_every_reward_model(tiny_dir, tmp_path):
    model = CalibratedModel(create_reward_model(ModelOptions(base=str(tiny_dir))), Calibration())
    other = speaking(tiny_dir, system="be kind")
    for reward in (model, combined({"m": model, "k": kindness})):
        for work in (guerdon.optimize, guerdon.best_of_n):
            more = {"out": tmp_path / "x"} if work is guerdon.optimize else {}
            with pytest.raises(GuerdonError, match=r"not one system message .* remedy: policy\.system=null"):
                work(other, reward, PROMPTS, *([] if more else [tmp_path / "x"]), **more)


def test_a_scale_that_the_model_stores_is_taken(tiny_dir, monkeypatch):
    batches = seen_by_learn(monkeypatch)
    run(tiny_dir, updates=1, reward_scale="reference", reference_scale=(1.0, 4.0), unfinished=0.0)
    expected = [(x - 1) / 4 for x in kindness(None, batches[0].turns.responses)]
    assert batches[0].score.tolist() == pytest.approx(expected)


# ---- Judges that fail now and then ---------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["reward", "gold"])
def test_a_judge_without_numbers_at_a_check_costs_neither_the_run_nor_its_report(tiny_dir, tmp_path, which):
    """All NaN at one check, and single ones throughout."""
    asked = iter(range(10**6))

    def unlucky(prompts, responses):
        held_out = prompts[0] in HELD_OUT
        call = next(asked) if held_out else -1
        lost = {0: (1,), 2: range(9)}.get(call, ())
        return [math.nan if i in lost else x for i, x in enumerate(kindness(prompts, responses))]

    judges = (unlucky, brevity) if which == "reward" else (brevity, unlucky)
    config = build({"optimize": {**SMALL, "updates": 4, "check_every": 1, "keep": "best_gold"}})
    done = guerdon.optimize(
        speaking(tiny_dir), judges[0], PROMPTS, gold=judges[1], held_out=HELD_OUT, out=tmp_path, config=config
    )
    assert done.updates == 4
    assert len(done.checks) == 5
    assert np.isnan(getattr(done.checks[2], "proxy" if which == "reward" else "gold")).all()
    said = guerdon.measure_overoptimization(tmp_path).about
    assert said["checks left out"].startswith("1 of 5")
    assert said["prompts left out"].startswith("1 of 4")
    assert (tmp_path / "report.html").exists()


def test_a_run_without_a_verdict_ends_with_its_course(tiny_dir, tmp_path):
    config = build({"optimize": {**SMALL, "check_every": 1}})
    given = {"held_out": HELD_OUT, "out": tmp_path, "config": config}
    guerdon.optimize(speaking(tiny_dir), kindness, PROMPTS, **given)
    (tmp_path / "checks.jsonl").unlink()
    (tmp_path / "excluded.json").write_text("[]")
    report = run_report(tmp_path)
    assert report.findings[0].title == "Whether the reward stayed true is not known"
    assert "update_score" in report.curves
    guerdon.optimize(
        speaking(tiny_dir), kindness, PROMPTS, **given
    )  # it is whole: nothing is learned, a report is written
    assert "1 checks" in (tmp_path / "report.md").read_text()


def test_an_update_without_a_usable_reward_is_counted_and_teaches_nothing(tiny_dir, tmp_path, caplog):
    batch = iter(range(10**6))

    def unlucky(prompts, responses):
        return [math.nan] * len(responses) if next(batch) == 1 else kindness(prompts, responses)

    done = run(tiny_dir, unlucky, folder=tmp_path, kl_target=0.05, min_entropy=1e-3)
    assert (done.updates, done.stopped) == (3, None)
    rows = metrics(tmp_path)
    assert set(rows[1]) == {"update", "unusable"}
    assert rows[1]["unusable"] == 8
    assert [row["unusable"] for row in rows[::2]] == [0, 0]
    assert "at update 2, no prompt has a finite reward for each of its 2 replies: nothing is learned" in caplog.text


def test_held_out_prompts_that_do_not_fit_are_told_and_others_take_their_place(tiny_dir, caplog):
    policy = speaking(tiny_dir, max_prompt=40)
    long = as_prompt("write " * 60)
    done = run(tiny_dir, policy=policy, held_out=[long, *HELD_OUT], check_every=3, check_prompts=4)
    assert done.excluded == {"held out, too long for policy.max_prompt or the context": 1}
    assert len(done.checks[0].prompts) == 4
    assert "held-out prompts left out: 1 too long" in caplog.text
    with pytest.raises(GuerdonError, match="none of 1 held-out prompts can be answered"):
        run(tiny_dir, policy=policy, held_out=[long], check_every=3)


def test_a_gold_of_few_prompts_is_warned_of_at_the_start(tiny_dir, caplog):
    run(tiny_dir, gold=brevity, held_out=HELD_OUT, check_every=3)
    assert "gold judges 4 different prompts; a verdict needs 8 or more" in caplog.text


def test_a_reward_of_another_scale_is_blamed_for_what_it_does(tiny_dir):
    with pytest.raises(
        GuerdonError, match=r"remedy: optimize\.reward_clip or a reward of another scale: scores reach 1e\+38"
    ):
        run(tiny_dir, lambda prompts, responses: [1e38 * (i % 2) for i in range(len(responses))])


def test_what_the_judges_did_not_see_whole_is_in_metrics_and_checks(tiny_dir, tmp_path):
    config = build({"optimize": {**SMALL, "check_every": 1}})
    model = CalibratedModel(
        create_reward_model(ModelOptions(base=str(tiny_dir), max_length=12, truncation="left")), Calibration()
    )
    guerdon.optimize(speaking(tiny_dir), model, PROMPTS, held_out=HELD_OUT, out=tmp_path, config=config)
    assert metrics(tmp_path)[0]["partly_read"] == 1
    assert "A judge saw only part of some texts" in (tmp_path / "report.md").read_text()


# ---- Judges that are the same, and those that are not --------------------------------------------------------------


def test_gold_is_nothing_of_the_reward_whatever_it_is_called_and_weighted(tiny_dir, tmp_path):
    model, other = (create_reward_model(ModelOptions(base=str(tiny_dir)), seed=seed) for seed in (0, 1))
    whole = CalibratedModel(model, Calibration())
    wider = CalibratedModel(model, Calibration(temperature=2.0))
    both = Ensemble([whole, CalibratedModel(other, Calibration())])
    cases = [
        (combined({"a": whole}, [2.0]), combined({"b": whole})),
        (whole, wider),
        (combined({"a": whole, "b": kindness}), combined({"k": kindness})),
        (both, CalibratedModel(other, Calibration())),
    ]
    for reward, gold in cases:
        for work in (guerdon.optimize, guerdon.best_of_n):
            more = [] if work is guerdon.optimize else [tmp_path / "x.jsonl"]
            with pytest.raises(GuerdonError, match="is in the reward itself"):
                work(speaking(tiny_dir), reward, PROMPTS, *more, gold=gold)
    kept_out = combined({"a": whole, "b": kindness}, [1.0, 0.0])
    assert combined(kindness).in_common(kept_out) is None
    assert combined({"a": whole}).in_common(combined({"b": CalibratedModel(other, Calibration())})) is None


def test_a_name_changes_no_fingerprint(tiny_dir):
    model = CalibratedModel(create_reward_model(ModelOptions(base=str(tiny_dir))), Calibration())
    assert combined({"./rm": model}).fingerprint == combined({"rm": model}).fingerprint
    assert combined({"rm": model}, [2.0]).fingerprint != combined({"rm": model}).fingerprint


def test_a_template_is_compared_with_that_of_members_and_of_gold(tiny_dir, tmp_path):
    model = CalibratedModel(create_reward_model(ModelOptions(base=str(tiny_dir))), Calibration())
    other = speaking(tiny_dir, system="be kind")
    for given in ({"reward": Ensemble([model, model])}, {"reward": kindness, "gold": model}):
        with pytest.raises(GuerdonError, match=r"not one system message .* remedy: policy\.system=null"):
            guerdon.best_of_n(other, given.pop("reward"), PROMPTS, tmp_path / "x.jsonl", **given)


def test_an_ensemble_has_a_scale_of_its_own_but_starts_no_value_model(tiny_dir, monkeypatch):
    models = [create_reward_model(ModelOptions(base=str(tiny_dir)), seed=seed) for seed in (0, 1)]
    calibration = Calibration(reference_mean=0.5, reference_spread=2.0, provenance={"policy": "toy"})
    both = CalibratedModel(Ensemble([CalibratedModel(model, Calibration()) for model in models]), calibration)
    with pytest.raises(GuerdonError, match=r"the reward is an ensemble, and a value model starts as one model"):
        guerdon.optimize(speaking(tiny_dir), both, PROMPTS, **SMALL, value="reward")
    batches = seen_by_learn(monkeypatch)
    guerdon.optimize(speaking(tiny_dir), both, PROMPTS, **{**SMALL, "reward_scale": "reference", "unfinished": 0.0})
    turns = batches[0].turns
    expected = both.score(turns.asked, turns.responses).value / 2.0
    np.testing.assert_allclose(batches[0].score.numpy(), expected, atol=1e-5)
