"""A backbone runs prefix trees only where they are exact, else an exact fallback with one warning. No mode, batch, dtype or
memory option changes a reward by more than rounding."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
import torch
from families import ENCODERS, STATEFUL, max_difference, rewards_and_gradients
from prefixes import ONE_PROMPT, TEXTS, branches, tokens
from transformers import AttentionInterface, DynamicCache

from guerdon.config import ModelOptions
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.engine import prefix_tree, tree_attention
from guerdon.models.engine.backbone import pad
from guerdon.models.engine.modules import attention_name, unwrap_peft
from guerdon.models.engine.pretrained import checkpoint_activations

FALLBACK = "cannot share the tokens of a prompt exactly"


def warnings_in(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "guerdon" and r.levelno >= logging.WARNING]


def difference(network, texts: list[np.ndarray], mode: str) -> float:
    return max_difference(*(rewards_and_gradients(network, texts, m) for m in (mode, "padded")))


# ---- Faults that the guard must find --------------------------------------------------------------------------------------------


def change_forests(patch, change) -> None:
    """Apply a change to every forest that is built."""
    build = prefix_tree.build_forest
    patch.setattr(prefix_tree, "build_forest", lambda *args, **kwargs: change(build(*args, **kwargs)))


def one_key_of_the_future(patch) -> None:
    build_plan = tree_attention.build_plan

    def faulty(*args):
        plan = build_plan(*args)
        for group in plan.groups:
            group.bias[..., 1:] = group.bias[..., :-1].clone()
            group.bias[..., 0] = 0
        return plan

    patch.setattr(tree_attention, "build_plan", faulty)


def siblings_visible(patch) -> None:
    def change(forest):
        blocks = [dataclasses.replace(b, keys=((b.keys[0][0], b.stop),)) for b in forest.blocks]
        return dataclasses.replace(forest, blocks=tuple(blocks))

    change_forests(patch, change)


def prompt_hidden(patch) -> None:
    def change(forest):
        return dataclasses.replace(
            forest, blocks=tuple(dataclasses.replace(b, keys=b.keys[-1:]) for b in forest.blocks)
        )

    change_forests(patch, change)


def positions_not_restarted(patch) -> None:
    change_forests(
        patch, lambda forest: dataclasses.replace(forest, position_ids=torch.arange(forest.num_tokens)[None])
    )


def read_one_token_early(patch) -> None:
    change_forests(
        patch, lambda forest: dataclasses.replace(forest, output_positions=(forest.output_positions - 1).clamp(min=0))
    )


def window_ignored(patch) -> None:
    plan_groups = tree_attention.plan_groups

    def faulty(attention, heads, key_heads, window, like, **options):
        return plan_groups(attention, heads, key_heads, None, like, **options)

    patch.setattr(tree_attention, "plan_groups", faulty)


def window_one_too_wide(patch) -> None:
    plan_groups = tree_attention.plan_groups

    def faulty(attention, heads, key_heads, window, like, **options):
        return plan_groups(attention, heads, key_heads, window and window + 1, like, **options)

    patch.setattr(tree_attention, "plan_groups", faulty)


def last_layer_hides_its_own_tokens(patch) -> None:
    output_blocks = prefix_tree.output_blocks

    def faulty(forest):
        short = [(b, [(lo, min(hi, b.start)) for lo, hi in b.keys]) for b in output_blocks(forest)]
        return tuple(
            dataclasses.replace(b, keys=tuple(run for run in runs if run[0] < run[1]) or b.keys) for b, runs in short
        )

    patch.setattr(tree_attention, "output_blocks", faulty)


FAULTS = [
    *(
        (name, fault)
        for name in ("llama", "gemma3", "gpt2")
        for fault in (one_key_of_the_future, siblings_visible, prompt_hidden)
    ),
    *((name, positions_not_restarted) for name in ("llama", "gpt_neox", "qwen3")),
    *((name, read_one_token_early) for name in ("llama", "phi3")),
    *((name, fault) for name in ("gemma3", "mistral") for fault in (window_ignored, window_one_too_wide)),
]


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=[f"{name}-{fault.__name__}" for name, fault in FAULTS])
def test_the_guard_refuses_every_fault_that_changes_a_reward(
    build_network, in_float64, name, fault, caplog, monkeypatch
):
    network = build_network(name)
    assert network.backbone.choose_mode() == "prefix_tree"
    assert difference(network, TEXTS, "prefix_tree") < 1e-12
    assert not warnings_in(caplog)
    fault(monkeypatch)
    assert difference(network, TEXTS, "prefix_tree") > 1e-6

    guarded = build_network(name).to(torch.float32)  # as in use; the tolerance of the guard is wider than in float64
    assert guarded.backbone.choose_mode() != "prefix_tree"
    assert guarded.backbone.choose_mode() == guarded.backbone.mode
    (warning,) = warnings_in(caplog)
    assert FALLBACK in warning
    assert (guarded(TEXTS).double() - rewards_and_gradients(network, TEXTS, "padded")[0]).abs().max() < 1e-4


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=[f"{name}-{fault.__name__}" for name, fault in FAULTS])
def test_bfloat16_rounding_hides_no_fault(build_network, name, fault, monkeypatch):
    assert build_network(name, torch.bfloat16).backbone.choose_mode() == "prefix_tree"
    fault(monkeypatch)
    assert build_network(name, torch.bfloat16).backbone.choose_mode() != "prefix_tree"


def test_a_large_component_that_all_texts_share_hides_no_fault(build_network, monkeypatch):
    def chosen_mode() -> str:
        network = build_network("gpt2", torch.float32)
        network.backbone.base_model.ln_f.bias.data[3] = 10_000.0
        return network.backbone.choose_mode()

    assert chosen_mode() == "prefix_tree"
    siblings_visible(monkeypatch)
    assert chosen_mode() != "prefix_tree"


def test_a_last_layer_that_is_wrong_at_outputs_only_is_computed_in_full(build_network, in_float64, caplog, monkeypatch):
    network = build_network()
    assert network.backbone.choose_mode() == "prefix_tree"
    assert network.backbone.last_layer is not None
    last_layer_hides_its_own_tokens(monkeypatch)
    assert difference(network, TEXTS, "prefix_tree") > 1e-6
    guarded = build_network()
    assert guarded.backbone.choose_mode() == "prefix_tree"
    assert guarded.backbone.last_layer is None
    assert not warnings_in(caplog)
    assert difference(guarded, TEXTS, "prefix_tree") < 1e-12


def test_a_family_that_does_not_pass_its_window_to_the_attention_is_not_trusted(build_network, in_float64):
    network = build_network("phimoe")  # its window of 50 is in the mask only
    network.backbone.choose_mode()
    texts = branches(tokens(60)[0], *tokens(15, 29, seed=1))
    assert difference(network, texts, network.backbone.mode) < 1e-12


# ---- Fallback modes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STATEFUL)
def test_recurrent_layers_are_padded_without_a_warning(folders, name, caplog):
    network = create_reward_model(ModelOptions(base=str(folders(name)), dtype="float32", device="cpu")).network
    assert network.backbone.choose_mode() == "padded"
    assert not warnings_in(caplog)
    assert network.backbone.native_attention == attention_name(network.classifier) != tree_attention.ATTENTION_NAME


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_are_padded_without_a_warning(folders, name, caplog):
    network = create_reward_model(ModelOptions(base=str(folders(name)), dtype="float32", device="cpu")).network
    assert network.backbone.choose_mode() == "padded"
    assert network(TEXTS).shape == (len(TEXTS), 1)
    assert attention_name(network.classifier) != tree_attention.ATTENTION_NAME
    assert not warnings_in(caplog)


def without_attention_backend(network, patch) -> None:
    patch.setattr(type(network.backbone.base_model), "_supports_attention_backend", False)


def attention_raises(network, patch) -> None:
    def attend(*args, **kwargs):
        raise NotImplementedError("not supported")

    patch.setitem(AttentionInterface._global_mapping, tree_attention.ATTENTION_NAME, attend)


@pytest.mark.parametrize("name", ["llama", "gemma3", "mistral", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("obstacle", [without_attention_backend, attention_raises])
def test_where_prefix_trees_cannot_run_the_cache_is_exact(
    build_network, in_float64, name, obstacle, caplog, monkeypatch
):
    network = build_network(name)
    obstacle(network, monkeypatch)
    assert network.backbone.choose_mode() == "cache"
    assert len(warnings_in(caplog)) == 1
    assert "a KV cache per prompt" in warnings_in(caplog)[0]
    assert attention_name(network.classifier) == network.backbone.native_attention
    for texts in (ONE_PROMPT, ONE_PROMPT[:1], ONE_PROMPT[:2], TEXTS):
        assert difference(network, texts, "cache") < 1e-12


@pytest.mark.parametrize("name", ["gpt_oss", "bloom"])
def test_attention_that_trees_do_not_support_falls_back_to_an_exact_mode(build_network, in_float64, name, caplog):
    network = build_network(name)
    assert network.backbone.choose_mode() == "cache"
    assert len(warnings_in(caplog)) == 1
    for texts in (ONE_PROMPT, TEXTS):
        assert difference(network, texts, "cache") < 1e-12


def test_attention_with_a_soft_cap_is_exact(build_network, in_float64):
    network = build_network("gemma2")
    assert network.backbone.choose_mode() == "prefix_tree"
    assert difference(network, TEXTS, "prefix_tree") < 1e-12
    uncapped = rewards_and_gradients(network, TEXTS, "prefix_tree")[0]
    for layer in network.backbone.base_model.layers:
        layer.self_attn.attn_logit_softcapping = None
    assert (
        rewards_and_gradients(network, TEXTS, "prefix_tree")[0] - uncapped
    ).abs().max() > 1e-3  # the cap changes rewards


def test_with_activation_checkpointing_the_cache_is_not_chosen(build_network, in_float64, caplog, monkeypatch):
    network = build_network()
    without_attention_backend(network, monkeypatch)
    checkpoint_activations(network.classifier, "train.gradient_checkpointing")
    assert network.train().backbone.choose_mode() == "padded"
    assert len(warnings_in(caplog)) == 1
    assert network.backbone.mode == "padded"


def test_activation_checkpointing_after_the_cache_was_chosen_changes_nothing(build_network, in_float64, monkeypatch):
    network = build_network()
    without_attention_backend(network, monkeypatch)
    assert network.backbone.choose_mode() == "cache"
    expected = rewards_and_gradients(network, ONE_PROMPT, "padded")
    checkpoint_activations(network.train().classifier, "train.gradient_checkpointing")
    assert max_difference(rewards_and_gradients(network, ONE_PROMPT, network.backbone.choose_mode()), expected) < 1e-12


def test_a_cache_with_a_fault_is_not_chosen(build_network, in_float64, monkeypatch):
    repeat = DynamicCache.batch_repeat_interleave

    def faulty(self, repeats):
        repeat(self, repeats)
        for layer in self.layers:
            layer.values = torch.zeros_like(layer.values)

    monkeypatch.setattr(DynamicCache, "batch_repeat_interleave", faulty)
    network = build_network()
    without_attention_backend(network, monkeypatch)
    network.backbone.choose_mode()
    assert network.backbone.mode == "padded"


# ---- What must change nothing ------------------------------------------------------------------------------------------

PROMPTS = ["write a good film review"] * 4 + ["is it a sad film ?"] * 3 + ["i love the people"]
REPLIES = [
    "yes , it is great",
    "no",
    "no , not so good",
    "no",
    "yes",
    "the film was bad and sad .",
    "no",
    "they love you",
]


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_order_batches_and_token_budget_change_no_score(folders, name):
    model = create_reward_model(ModelOptions(base=str(folders(name)), dtype="float32", device="cpu"))
    alone = np.array([model.score([p], [r]).value[0] for p, r in zip(PROMPTS, REPLIES, strict=True)])
    assert np.ptp(alone) > 0.1
    for budget in (1, 30, 60, 10**6):
        model.batch_tokens = budget
        np.testing.assert_allclose(model.score(PROMPTS, REPLIES).value, alone, atol=1e-5, rtol=0)
        for seed in range(3):
            order = np.random.default_rng(seed).permutation(len(alone))
            shuffled = model.score([PROMPTS[i] for i in order], [REPLIES[i] for i in order]).value
            np.testing.assert_allclose(shuffled, alone[order], atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["prefix_tree", "cache", "padded"])
def test_texts_beyond_the_longrope_threshold_change_no_shorter_text(build_network, in_float64, mode):
    """Each text gives what it gives alone, although it shares a prefix with texts on the other side of the threshold."""
    network = build_network("longrope")
    network.backbone.choose_mode()
    assert (network.backbone.mode, network.backbone.longrope_threshold) == ("prefix_tree", 24)
    shared = np.arange(5, 20)
    texts = [np.concatenate([shared, np.arange(30, 30 + more)]) for more in (3, 20, 9, 10, 40)]
    alone = torch.cat([network.backbone.hidden_states([text], [12]) for text in texts])
    if mode != "prefix_tree":
        network.backbone.mode = mode
        network.backbone.set_attention(network.backbone.native_attention)
    torch.testing.assert_close(network.backbone.hidden_states(texts, [12] * 5), alone, atol=1e-10, rtol=0)
    assert difference(network, texts, mode) < 1e-10
    network.backbone.longrope_threshold = None
    assert (network.backbone.hidden_states(texts, [12] * 5) - alone).abs().max() > 1e-3


@pytest.mark.parametrize("mode", ["prefix_tree", "cache", "padded"])
def test_gradients_add_up_over_any_split_into_batches(build_network, in_float64, mode, monkeypatch):
    network = build_network()
    if mode != "prefix_tree":
        without_attention_backend(network, monkeypatch)
    network.backbone.choose_mode()
    network.backbone.mode = mode
    weights = torch.linspace(-1, 1, len(TEXTS), dtype=torch.float64)
    whole = rewards_and_gradients(network, TEXTS, mode)
    for budget in (1, 50, 100, 10**6):
        rewards = torch.zeros(len(TEXTS), dtype=torch.float64)
        batches = network.backbone.split_into_batches(TEXTS, budget)
        network.zero_grad()
        for rows in batches:
            batch_rewards = network([TEXTS[i] for i in rows])[:, 0]
            (batch_rewards * weights[rows]).sum().backward()
            rewards[rows] = batch_rewards.detach()
        gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
        assert max_difference((rewards[:, None], gradients), whole) < 1e-12
        if mode != "prefix_tree":
            assert all(
                len(rows) == 1 or network.backbone.count_tokens([TEXTS[i] for i in rows]) <= budget for rows in batches
            )


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("lora_rank", [0, 3])
def test_activation_checkpointing_and_adapters_change_no_gradient(build_network, in_float64, name, lora_rank):
    network = build_network(name, lora_rank=lora_rank)
    assert network.backbone.choose_mode() == "prefix_tree"
    generator = torch.Generator().manual_seed(0)
    for parameter_name, parameter in network.named_parameters():
        if "lora_B" in parameter_name:  # zero at first, which would hide A
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    expected = rewards_and_gradients(network, TEXTS, "padded")
    assert any("lora_A" in key for key in expected[1]) == bool(lora_rank)
    assert max_difference(rewards_and_gradients(network, TEXTS, "prefix_tree"), expected) < 1e-12
    checkpoint_activations(network.train().classifier, "train.gradient_checkpointing")
    if lora_rank:
        unwrap_peft(network.classifier).enable_input_require_grads()
    assert max_difference(rewards_and_gradients(network, TEXTS, "prefix_tree"), expected) < 1e-12


def test_merging_adapters_changes_no_reward(build_network, in_float64):
    network = build_network(lora_rank=3)
    for parameter_name, parameter in network.named_parameters():
        if "lora_B" in parameter_name:
            parameter.data.fill_(0.1)
    before = network(TEXTS)
    network.merge()
    assert network.backbone.mode == "prefix_tree"
    assert (network(TEXTS) - before).abs().max() < 1e-12


def test_two_forests_whose_backward_passes_are_pending_are_not_confused(build_network, in_float64):
    network = build_network().train()
    network.backbone.choose_mode()
    halves = TEXTS[:4], TEXTS[4:]
    expected = [rewards_and_gradients(network, half, "padded")[1] for half in halves]
    expected = {name: expected[0][name] + expected[1][name] for name in expected[0]}
    checkpoint_activations(network.classifier, "train.gradient_checkpointing")
    network.zero_grad()
    rewards = [network(half)[:, 0] for half in halves]
    for half in rewards:  # the first forest is recomputed after the second was built
        (half * torch.linspace(-1, 1, len(half), dtype=torch.float64)).sum().backward()
    assert (
        max(float((p.grad - expected[n]).abs().max()) for n, p in network.named_parameters() if n in expected) < 1e-11
    )


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_bfloat16_weights_give_nearly_the_rewards_of_float32(folders, name):
    full, half = (
        create_reward_model(ModelOptions(base=str(folders(name)), dtype=d, device="cpu")).network
        for d in ("float32", "bfloat16")
    )
    assert full.backbone.choose_mode() == half.backbone.choose_mode() == "prefix_tree"
    with torch.no_grad():
        expected, rewards = full(TEXTS), half(TEXTS)
    assert rewards.dtype == torch.float32
    assert (rewards - expected).abs().max() < 0.15 * (expected.max() - expected.min())


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt_neox"])
def test_autocast_gives_nearly_the_rewards_and_gradients_of_float32(build_network, name):
    network = build_network(name, torch.float32)
    assert network.backbone.choose_mode() == "prefix_tree"
    expected, whole = rewards_and_gradients(network, TEXTS, "prefix_tree")
    with torch.autocast("cpu", torch.bfloat16):
        rewards, rounded = rewards_and_gradients(network, TEXTS, "prefix_tree")
    assert (rewards - expected).abs().max() < 0.15 * (expected.max() - expected.min())
    assert rounded.keys() == whole.keys()
    one, other = (torch.cat([g.flatten() for g in grads.values()]) for grads in (rounded, whole))
    assert torch.cosine_similarity(one, other, dim=0) > 0.97


def test_first_use_under_autocast_chooses_prefix_trees(build_network):
    network = build_network(dtype=torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert network.backbone.choose_mode() == "prefix_tree"


def test_the_pad_token_does_not_matter(build_network, in_float64):
    network = build_network()
    ids, mask = pad(TEXTS, 7)
    assert mask.sum(1).tolist() == list(map(len, TEXTS))
    assert all(
        torch.equal(row[: len(text)], torch.from_numpy(text).long()) for row, text in zip(ids, TEXTS, strict=True)
    )
    network.backbone.choose_mode()
    usual = rewards_and_gradients(network, TEXTS, "padded")
    network.classifier.config.pad_token_id = 7
    assert max_difference(rewards_and_gradients(network, TEXTS, "padded"), usual) < 1e-12


# ---- Hidden states at other tokens ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "gemma3", "mistral", "gpt2", "granite"])
@pytest.mark.parametrize("mode", ["prefix_tree", "cache"])
def test_hidden_states_from_any_token_on_equal_padded_rows(build_network, in_float64, name, mode):
    network = build_network(name)
    backbone = network.backbone
    assert backbone.choose_mode() == "prefix_tree"
    texts = [t for t in TEXTS if len(t) > 1]
    for read_from in (
        [0] * len(texts),
        [len(t) - 1 for t in texts],
        [min(5 * i, len(t) - 1) for i, t in enumerate(texts)],
    ):
        results = {}
        for m in (mode, "padded"):
            backbone.set_attention(tree_attention.ATTENTION_NAME if m == "prefix_tree" else backbone.native_attention)
            network.zero_grad()
            states = {
                "prefix_tree": backbone.run_prefix_tree,
                "cache": backbone.run_cached,
                "padded": backbone.run_padded,
            }[m](texts, read_from)
            states.square().mean().backward()
            grads = {n: p.grad.clone() for n, p in backbone.base_model.named_parameters() if p.grad is not None}
            results[m] = (states.detach(), grads)
        backbone.set_attention(tree_attention.ATTENTION_NAME)
        assert results[mode][0].shape[0] == sum(len(t) - s for t, s in zip(texts, read_from, strict=True))
        assert max_difference(results[mode], results["padded"]) < 1e-12


# ---- torch.compile ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # torch's own, which would stop its compiler
def test_compiled_layers_give_the_same_rewards_and_gradients(build_network):
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception:
        pytest.skip("no C++ compiler")
    network = build_network(dtype=torch.float32)
    expected = rewards_and_gradients(network, TEXTS, "prefix_tree") if network.backbone.choose_mode() else None
    network.backbone.compile()
    try:
        assert max_difference(rewards_and_gradients(network, TEXTS, "prefix_tree"), expected) < 1e-5
    finally:
        AttentionInterface.register(tree_attention.ATTENTION_NAME, tree_attention.layout_attention)
        torch._dynamo.reset()
