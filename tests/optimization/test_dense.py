"""`optimize.dense`: the reward model's value of each prefix as a potential moves reward between tokens, and nothing else."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from families import save_family
from optimization_runs import PROMPTS, kindness, record_batches, small_policy, small_run
from scipy.special import logsumexp

from guerdon import GuerdonError
from guerdon.config import ModelOptions, OptimizeOptions, make
from guerdon.contracts import as_prompt
from guerdon.formulas.advantage import gae, potential_differences, token_rewards, whiten
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.ensemble import CommonScale, Ensemble
from guerdon.models.ensemble_rules import ensemble_rule
from guerdon.models.prompt_normalized import per_prompt_baseline
from guerdon.optimization.loop import optimize
from guerdon.optimization.prefix_rewards import prefix_rewards, refuse_without_prefixes
from guerdon.optimization.rewards import combined
from tiny import save_tiny

NO_VALUES = {"lam": 1.0, "gamma": 1.0, "value_lr": 1e-12}  # returns are then the sums of the rewards to come


def reward_model(tiny_dir, seed=0, temperature=0.5, **options):
    """Random weights, so that the values of prefixes differ; the temperature gives them a spread of some nats."""
    model = create_reward_model(ModelOptions(base=str(tiny_dir), truncation="left", **options), seed=seed)
    return CalibratedModel(model, Calibration(temperature=temperature, reference_mean=0.1))


@pytest.fixture(scope="module")
def model(tiny_dir):
    return reward_model(tiny_dir)


SCALES = {
    "as it is": {},
    "running": {"reward_scale": "running"},
    "reference": {"reward_scale": "reference", "reference_scale": (0.3, 1.7)},
    "clipped": {"reward_clip": 0.5},
    "unfinished": {"unfinished": 2.5},
    "without a penalty": {"kl_coef": 0.0},
}


@pytest.mark.parametrize("name", SCALES)
def test_token_rewards_of_a_reply_sum_to_its_score_to_a_millionth(tiny_dir, model, monkeypatch, name):
    """Whatever scales, clips or charges the score; the KL penalty stays what it was, token by token."""
    batches = record_batches(monkeypatch)
    small_run(tiny_dir, model, updates=2, dense=True, **{**NO_VALUES, **SCALES[name]})
    beta = SCALES[name].get("kl_coef", 0.05)
    for batch in batches:
        np.testing.assert_allclose(batch.returns[:, 0], batch.score - beta * batch.kl, atol=1e-6, rtol=0)
    steps = batches[0].returns[:, :-1] - batches[0].returns[:, 1:]
    paid = steps[batches[0].mask[:, 1:]].abs()
    assert (paid > 1e-3).double().mean() > 0.5  # most tokens, where only the last one was


def test_whitened_rewards_have_the_sum_that_they_have_without(tiny_dir, model, monkeypatch):
    batches = record_batches(monkeypatch)
    for dense in (False, True):
        small_run(tiny_dir, model, updates=1, whiten_rewards=True, dense=dense, **NO_VALUES)
    sparse, dense = (batch.returns for batch in batches)
    np.testing.assert_allclose(dense[:, 0], sparse[:, 0], atol=1e-6)
    assert (dense[:, 1:] - sparse[:, 1:]).abs().max() > 0.1


def test_a_batch_holds_the_differences_of_the_values_that_whole_texts_get(tiny_dir, model, monkeypatch):
    """Against `score` on each prefix as a text of its own, one at a time; discounted, from the second update on."""
    batches = record_batches(monkeypatch)
    small_run(tiny_dir, model, updates=2, dense=True, gamma=0.9, lam=0.8, reward_clip=3.0)
    batch = batches[-1]
    raw, network = torch.zeros_like(batch.value).double(), model.model.network
    for i, (prompt, reply) in enumerate(zip(batch.rollouts.prompt_ids, batch.rollouts.token_ids, strict=True)):
        for t in range(len(reply)):
            with torch.no_grad():
                raw[i, t] = float(network([np.concatenate([prompt, reply[:t]])])[0, 0])
    potential = ((raw - 0.1) / 0.5).clamp(-3, 3)
    rewards = token_rewards(batch.log_ratio, batch.mask, batch.score, 0.05).double()
    rewards += potential_differences(potential, batch.mask, 0.9)
    advantages, returns = gae(rewards, batch.value, batch.mask, 0.9, 0.8)
    np.testing.assert_allclose(batch.returns, returns, atol=2e-4)
    np.testing.assert_allclose(batch.advantage, whiten(advantages, batch.mask), atol=2e-4)
    assert batch.advantage.dtype == batch.returns.dtype == torch.float32


def test_without_dense_a_reward_model_pays_the_last_token_alone(tiny_dir, model, monkeypatch):
    batches = record_batches(monkeypatch)
    small_run(tiny_dir, model, updates=1, kl_coef=0.0, **NO_VALUES)
    (batch,) = batches
    assert torch.equal(batch.returns, batch.score[:, None] * batch.mask)


def test_nothing_moves_in_a_reply_of_one_token(tiny_dir, model, monkeypatch):
    batches = record_batches(monkeypatch)
    for dense in (False, True):
        small_run(tiny_dir, model, dense=dense, updates=1, max_tokens=1)
    np.testing.assert_allclose(batches[1].advantage, batches[0].advantage, atol=1e-6)


# ---- The optimum ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_the_optimal_policy_of_a_tree_of_replies_is_the_same_under_any_potential(gamma):
    """Soft values by backward recursion over every reply of up to three tokens of an alphabet of four, 0 ends a reply."""
    random = np.random.default_rng(0)
    alphabet, beta, longest = range(4), 0.5, 3
    nodes = [p for n in range(longest) for p in itertools.product((1, 2, 3), repeat=n)]
    reference = {p: np.log(random.dirichlet(np.ones(4))) for p in nodes}
    worth = {(*p, a): random.normal() for p in nodes for a in alphabet if a == 0 or len(p) == longest - 1}
    phi = {p: 3 * random.normal() for p in nodes}

    def added(reply, t):
        """What the formula adds to token t of a reply."""
        before = torch.tensor([[phi[reply[:i]] for i in range(len(reply))]], dtype=torch.float64)
        return float(potential_differences(before, torch.ones(1, len(reply), dtype=torch.bool), gamma)[0, t])

    def solve(dense, node=()):
        """The soft value of a node, and the log-probabilities of the optimal policy in all nodes from there on."""
        worths, policies = [], {}
        for a in alphabet:
            child = (*node, a)
            value, below = (worth[child], {}) if child in worth else solve(dense, child)
            value, below = (value, below) if child in worth else (gamma * value, below)
            whole = child if child in worth else (*child, 0)
            worths.append(value + (added(whole, len(node)) if dense else 0.0))
            policies |= below
        logits = reference[node] + np.array(worths) / beta
        return beta * logsumexp(logits), policies | {node: logits - logsumexp(logits)}

    (sparse_value, sparse), (dense_value, dense) = solve(False), solve(True)
    assert dense_value == pytest.approx(sparse_value, abs=1e-12)
    for node in nodes:
        np.testing.assert_allclose(dense[node], sparse[node], atol=1e-12)


class TwoTokenWorld:
    """One prompt, replies of up to two tokens, a reward model: the optimum is the initial policy times e^(reward / beta)."""

    PROMPT, BETA = as_prompt("write a review"), 0.5

    def __init__(self, base, model):
        self.policy = small_policy(base, 0)
        ids, tokens = self.policy.encode(self.PROMPT), range(self.policy.vocabulary_size)
        self.replies = [np.array([a]) for a in self.policy.stop_ids]
        self.replies += [np.array([a, b]) for a in tokens if a not in self.policy.stop_ids for b in tokens]
        self.prompt_ids = ids
        self.first = self.log_probs()
        self.model = model
        self.worth = self._worth()
        optimum = self.first + self.worth / self.BETA
        self.optimum = optimum - logsumexp(optimum)

    def log_probs(self):
        with torch.no_grad():
            nats = self.policy.forward([self.prompt_ids] * len(self.replies), self.replies).log_prob.double()
        return np.array([float(own.sum()) for own in nats.split([len(reply) for reply in self.replies])])

    def _worth(self):
        ends = ["stop" if reply[-1] in self.policy.stop_ids else "length" for reply in self.replies]
        texts = [self.policy.response(ids, finish) for ids, finish in zip(self.replies, ends, strict=True)]
        return self.model.score([self.PROMPT] * len(texts), texts).value

    def left_to_gain(self, log_probs):
        """E[reward] - beta KL to the initial policy, below that of the optimum: beta KL(policy || optimum)."""
        return self.BETA * float(np.exp(log_probs) @ (log_probs - self.optimum))


def test_the_policy_converges_to_the_known_optimum_of_two_tokens(tmp_path):
    base = save_tiny(tmp_path, words="system user assistant write a review good film bad".split())
    world = TwoTokenWorld(base, reward_model(base))
    options = {
        "updates": 25, "prompts": 128, "max_tokens": 2, "unfinished": 0.0, "epochs": 1, "kl_coef": world.BETA,
        "check_every": 0, "save_every": 0, "lr": 3e-3, "value_lr": 0.05, "dense": True,
    }  # fmt: skip
    optimize(world.policy, combined(world.model), [world.PROMPT], make(OptimizeOptions, options))
    assert np.exp(world.first).sum() == pytest.approx(1, abs=1e-6)  # every reply
    assert world.left_to_gain(world.first) > 0.5
    assert world.left_to_gain(world.log_probs()) < 0.25 * world.left_to_gain(world.first)


# ---- What has a value for a prefix ---------------------------------------------------------------------------------


def drawn(tiny_dir, prompts=PROMPTS[:2], max_tokens=5):
    return small_policy(tiny_dir).sample(prompts, 2, max_tokens, seed=0)


def test_sources_are_combined_prefix_by_prefix_as_replies_are(tiny_dir, model):
    other, rollouts = reward_model(tiny_dir, seed=1, temperature=0.3), drawn(tiny_dir)
    one, two = (prefix_rewards(combined(source), rollouts, 5) for source in (model, other))
    both = combined({"one": model, "two": other, "idle": kindness}, [2.0, -0.5, 0.0], clip=4.0)
    expected = (2 * one - 0.5 * two).clamp(-4, 4)
    np.testing.assert_allclose(prefix_rewards(both, rollouts, 5), expected, atol=1e-6)
    scale = CommonScale((0.5, -0.5), (1.0, 4.0))  # on the common unit, 2
    lowest = CalibratedModel(Ensemble([model, other], ensemble_rule("min"), scale), Calibration(temperature=2.0))
    expected = torch.minimum((one - 0.5) * 2, (two + 0.5) / 2) / 2
    masked = torch.arange(one.shape[1]) < torch.tensor(rollouts.length)[:, None]
    np.testing.assert_allclose(prefix_rewards(combined(lowest), rollouts, 5)[masked], expected[masked], atol=1e-6)


def test_the_value_of_a_prefix_depends_on_nothing_that_follows(tiny_dir, model):
    """Also where the model reads only the end of a long prompt."""
    short = reward_model(tiny_dir, max_length=20)
    rollouts = drawn(tiny_dir, [as_prompt("write a good review of film " * 6)])
    cut = replace(rollouts, token_ids=tuple(ids[:2] for ids in rollouts.token_ids))
    for source in (model, short):
        whole, start = (prefix_rewards(combined(source), given, 5) for given in (rollouts, cut))
        np.testing.assert_allclose(start, whole[:, : start.shape[1]], atol=1e-5)
    assert not torch.allclose(*(prefix_rewards(combined(source), cut, 5) for source in (model, short)), atol=0.1)


def test_a_reward_without_a_value_for_a_prefix_is_refused(tiny_dir, tmp_path, model):
    narrow = save_tiny(tmp_path / "narrow", words="system user assistant write a review good film bad".split())
    heads = create_reward_model(ModelOptions(base=str(tiny_dir), heads=2))
    encoder = create_reward_model(ModelOptions(base=str(save_family(tmp_path, "bert")), template="plain"))
    inside = combined(Ensemble([model, CalibratedModel(heads, Calibration())]))
    policy = small_policy(tiny_dir)
    refused = [
        (
            combined(kindness),
            r"must have reward models on this machine, .*, got kindness\. Choose another reward, or leave",
        ),
        (combined([model, kindness]), "got kindness"),
        (combined(per_prompt_baseline(model, ["q"] * 2, ["a", "b"])), "got PromptNormalizedModel"),
        (combined(Ensemble([model, model]), members="min"), r"got another\. Leave members out"),
        (combined(heads), "must have reward models with one head each, got 2 heads"),
        (inside, "got 2 heads"),
        (combined(reward_model(narrow)), "must have a policy and a reward model that share a tokenizer, got two"),
        (combined(reward_model(tiny_dir, max_length=8)), "reads more than optimize.max_tokens=8 tokens, got 8"),
        (combined(encoder), "must have causal reward models, .*, got an encoder"),
    ]
    for reward, message in refused:
        with pytest.raises(GuerdonError, match=rf"^optimize\.dense .*{message}"):
            refuse_without_prefixes(reward, policy, 8)
    with pytest.raises(GuerdonError, match=r"optimize\.dense must have reward models on this machine"):
        small_run(tiny_dir, kindness, dense=True)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            {"baseline": "group"},
            r"optimize\.dense must be left out with optimize\.baseline=group, .*, got True\. Leave",
        ),
        ({"baseline": "leave_one_out"}, r"optimize\.dense must be left out with optimize\.baseline=leave_one_out"),
        ({"value": "reward"}, r"optimize\.value must be head with optimize\.dense=true, .*, got 'reward'\. Leave one"),
    ],
)
def test_options_that_contradict_dense_are_refused(tiny_dir, model, options, error):
    with pytest.raises(GuerdonError, match=error):
        small_run(tiny_dir, model, dense=True, **options)
