"""Which way a backbone runs: a forest only where it is exact, else a fallback that is, with one warning; and no way, batch, dtype
or memory option changes a reward by more than its rounding."""

from __future__ import annotations

import dataclasses
import logging
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from families import ENCODERS, STATEFUL, farthest, keep_double, rewards_and_gradients, save_family
from transformers import AttentionInterface, DynamicCache

from guerdon.config import ModelOptions
from guerdon.models.engine import prefix_tree, tree_attention
from guerdon.models.engine.backbone import pad
from guerdon.models.engine.modules import attention_name, unwrap_peft
from guerdon.models.reward_model import create
from guerdon.training.loop import checkpoint_activations

FALLBACK = "cannot share the tokens of a prompt exactly"


def tokens(*sizes: int, seed: int = 0) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.integers(4, 60, size).astype(np.int32) for size in sizes]


def branches(prompt: np.ndarray, *replies: np.ndarray) -> list[np.ndarray]:
    return [np.concatenate([prompt, reply]) for reply in replies]


ONE_PROMPT = branches(tokens(40)[0], *tokens(7, 21, 3, 0, 7, seed=1))
TEXTS = [*ONE_PROMPT, *branches(tokens(12, seed=2)[0], *tokens(19, 3, seed=3)), *tokens(1, 30, seed=4)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Name -> directory of a tiny model of that family, made when first asked for."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            more = {"sliding_window": 9} if name == "mistral" else {}
            made[name] = save_family(tmp_path_factory.mktemp(name), name, **more)
        return made[name]

    return folder


@pytest.fixture
def fresh(folders):
    """A network that has not yet chosen its way."""

    def build(name: str = "llama", dtype: torch.dtype = torch.float64, **options):
        given = ModelOptions(base=str(folders(name)), dtype="float32", device="cpu", **options)
        network = create(given).network.to(dtype)
        if name in ("gpt_oss", "phimoe"):
            network.classifier.set_experts_implementation("eager")  # grouped products know no float64
        return network

    return build


@pytest.fixture
def doubled(monkeypatch):
    keep_double(monkeypatch)


def warnings_in(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "guerdon" and r.levelno >= logging.WARNING]


def difference(network, texts: list[np.ndarray], way: str) -> float:
    return farthest(*(rewards_and_gradients(network, texts, each) for each in (way, "padded")))


# ---- Masks with a fault --------------------------------------------------------------------------------------------


def planted(patch, change) -> None:
    """Let every forest be changed once it is laid out."""
    sound = prefix_tree.build_forest
    patch.setattr(prefix_tree, "build_forest", lambda *args, **kwargs: change(sound(*args, **kwargs)))


def one_future_key(patch) -> None:
    sound = tree_attention.build_plan

    def faulty(*args):
        made = sound(*args)
        for group in made.groups:
            group.bias[..., 1:] = group.bias[..., :-1].clone()
            group.bias[..., 0] = 0
        return made

    patch.setattr(tree_attention, "build_plan", faulty)


def siblings_seen(patch) -> None:
    def change(forest):
        blocks = [dataclasses.replace(b, keys=((b.keys[0][0], b.stop),)) for b in forest.blocks]
        return dataclasses.replace(forest, blocks=tuple(blocks))

    planted(patch, change)


def a_prompt_lost(patch) -> None:
    def change(forest):
        return dataclasses.replace(
            forest, blocks=tuple(dataclasses.replace(b, keys=b.keys[-1:]) for b in forest.blocks)
        )

    planted(patch, change)


def positions_that_run_on(patch) -> None:
    planted(patch, lambda forest: dataclasses.replace(forest, position_ids=torch.arange(forest.num_tokens)[None]))


def read_too_early(patch) -> None:
    planted(
        patch, lambda forest: dataclasses.replace(forest, output_positions=(forest.output_positions - 1).clamp(min=0))
    )


def a_window_ignored(patch) -> None:
    sound = tree_attention.plan_groups
    patch.setattr(
        tree_attention, "plan_groups", lambda f, h, g, window, like, **more: sound(f, h, g, None, like, **more)
    )


def a_window_one_too_wide(patch) -> None:
    sound = tree_attention.plan_groups

    def faulty(forest, heads, key_heads, window, like, **more):
        return sound(forest, heads, key_heads, window and window + 1, like, **more)

    patch.setattr(tree_attention, "plan_groups", faulty)


def last_layer_blind_to_itself(patch) -> None:
    sound = prefix_tree.output_blocks

    def faulty(forest):
        short = [(b, [(lo, min(hi, b.start)) for lo, hi in b.keys]) for b in sound(forest)]
        return tuple(
            dataclasses.replace(b, keys=tuple(run for run in runs if run[0] < run[1]) or b.keys) for b, runs in short
        )

    patch.setattr(tree_attention, "output_blocks", faulty)


FAULTS = [
    *(
        (name, fault)
        for name in ("llama", "gemma3", "gpt2")
        for fault in (one_future_key, siblings_seen, a_prompt_lost)
    ),
    *((name, positions_that_run_on) for name in ("llama", "gpt_neox", "qwen3")),
    *((name, read_too_early) for name in ("llama", "phi3")),
    *((name, fault) for name in ("gemma3", "mistral") for fault in (a_window_ignored, a_window_one_too_wide)),
]


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=[f"{name}-{fault.__name__}" for name, fault in FAULTS])
def test_a_wrong_mask_fails_the_comparison_and_the_guard_refuses_it(fresh, doubled, name, fault, caplog, monkeypatch):
    chosen = fresh(name)
    assert chosen.backbone.choose_mode() == "prefix_tree"
    assert difference(chosen, TEXTS, "prefix_tree") < 1e-12
    assert not warnings_in(caplog)
    fault(monkeypatch)
    assert difference(chosen, TEXTS, "prefix_tree") > 1e-6

    guarded = fresh(name).to(torch.float32)  # as it is used: the guard's tolerance is widest where rounding is
    assert guarded.backbone.choose_mode() != "prefix_tree"
    assert guarded.backbone.choose_mode() == guarded.backbone.mode
    (warning,) = warnings_in(caplog)
    assert FALLBACK in warning
    assert (guarded(TEXTS).double() - rewards_and_gradients(chosen, TEXTS, "padded")[0]).abs().max() < 1e-4


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=[f"{name}-{fault.__name__}" for name, fault in FAULTS])
def test_the_rounding_of_bfloat16_hides_no_wrong_mask(fresh, name, fault, monkeypatch):
    assert fresh(name, torch.bfloat16).backbone.choose_mode() == "prefix_tree"
    fault(monkeypatch)
    assert fresh(name, torch.bfloat16).backbone.choose_mode() != "prefix_tree"


def test_a_large_number_that_all_texts_share_hides_no_wrong_mask(fresh, monkeypatch):
    def chosen() -> str:
        network = fresh("gpt2", torch.float32)
        network.backbone.base_model.ln_f.bias.data[3] = 10_000.0
        return network.backbone.choose_mode()

    assert chosen() == "prefix_tree"
    siblings_seen(monkeypatch)
    assert chosen() != "prefix_tree"


def test_a_last_layer_that_cannot_be_cut_is_computed_in_full(fresh, doubled, caplog, monkeypatch):
    chosen = fresh()
    assert chosen.backbone.choose_mode() == "prefix_tree"
    assert chosen.backbone.last_layer is not None
    last_layer_blind_to_itself(monkeypatch)
    assert difference(chosen, TEXTS, "prefix_tree") > 1e-6
    guarded = fresh()
    assert guarded.backbone.choose_mode() == "prefix_tree"
    assert guarded.backbone.last_layer is None
    assert not warnings_in(caplog)
    assert difference(guarded, TEXTS, "prefix_tree") < 1e-12


def test_a_family_whose_attention_is_not_told_its_window_is_not_trusted(fresh, doubled):
    network = fresh("phimoe")  # a window of 50 in the mask alone
    network.backbone.choose_mode()
    texts = branches(tokens(60)[0], *tokens(15, 29, seed=1))
    assert difference(network, texts, network.backbone.mode) < 1e-12


# ---- Other ways ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STATEFUL)
def test_layers_with_a_state_are_padded_by_design(folders, name, caplog):
    network = create(ModelOptions(base=str(folders(name)), dtype="float32", device="cpu")).network
    assert network.backbone.choose_mode() == "padded"
    assert not warnings_in(caplog)
    assert network.backbone.native_attention == attention_name(network.classifier) != tree_attention.ATTENTION_NAME


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_are_padded_by_design(folders, name, caplog):
    network = create(ModelOptions(base=str(folders(name)), dtype="float32", device="cpu")).network
    assert network.backbone.choose_mode() == "padded"
    assert network(TEXTS).shape == (len(TEXTS), 1)
    assert attention_name(network.classifier) != tree_attention.ATTENTION_NAME
    assert not warnings_in(caplog)


def no_backend(network, patch) -> None:
    patch.setattr(type(network.backbone.base_model), "_supports_attention_backend", False)


def refuses(network, patch) -> None:
    def attend(*args, **kwargs):
        raise NotImplementedError("planted")

    patch.setitem(AttentionInterface._global_mapping, tree_attention.ATTENTION_NAME, attend)


@pytest.mark.parametrize("name", ["llama", "gemma3", "mistral", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("why", [no_backend, refuses])
def test_where_a_forest_is_refused_the_cache_is_as_exact(fresh, doubled, name, why, caplog, monkeypatch):
    network = fresh(name)
    why(network, monkeypatch)
    assert network.backbone.choose_mode() == "cache"
    assert len(warnings_in(caplog)) == 1
    assert "a KV cache per prompt" in warnings_in(caplog)[0]
    assert attention_name(network.classifier) == network.backbone.native_attention
    for texts in (ONE_PROMPT, ONE_PROMPT[:1], ONE_PROMPT[:2], TEXTS):
        assert difference(network, texts, "cache") < 1e-12


@pytest.mark.parametrize("name", ["gpt_oss", "bloom"])
def test_attention_that_a_forest_does_not_know_falls_back_and_scores_rightly(fresh, doubled, name, caplog):
    network = fresh(name)
    assert network.backbone.choose_mode() == "cache"
    assert len(warnings_in(caplog)) == 1
    for texts in (ONE_PROMPT, TEXTS):
        assert difference(network, texts, "cache") < 1e-12


def test_soft_capped_scores_are_exact(fresh, doubled):
    network = fresh("gemma2")
    assert network.backbone.choose_mode() == "prefix_tree"
    assert difference(network, TEXTS, "prefix_tree") < 1e-12
    uncapped = rewards_and_gradients(network, TEXTS, "prefix_tree")[0]
    for layer in network.backbone.base_model.layers:
        layer.self_attn.attn_logit_softcapping = None
    assert (
        rewards_and_gradients(network, TEXTS, "prefix_tree")[0] - uncapped
    ).abs().max() > 1e-3  # the cap was at work


def test_with_activations_made_again_the_cache_is_not_chosen(fresh, doubled, caplog, monkeypatch):
    network = fresh()
    no_backend(network, monkeypatch)
    checkpoint_activations(network)
    assert network.train().backbone.choose_mode() == "padded"
    assert len(warnings_in(caplog)) == 1
    assert network.backbone.mode == "padded"


def test_activations_made_again_after_the_cache_was_chosen_change_nothing(fresh, doubled, monkeypatch):
    network = fresh()
    no_backend(network, monkeypatch)
    assert network.backbone.choose_mode() == "cache"
    expected = rewards_and_gradients(network, ONE_PROMPT, "padded")
    checkpoint_activations(network.train())
    assert farthest(rewards_and_gradients(network, ONE_PROMPT, network.backbone.choose_mode()), expected) < 1e-12


def test_a_cache_that_is_wrong_is_not_chosen(fresh, doubled, monkeypatch):
    sound = DynamicCache.batch_repeat_interleave

    def forgetful(self, repeats):
        sound(self, repeats)
        for layer in self.layers:
            layer.values = torch.zeros_like(layer.values)

    monkeypatch.setattr(DynamicCache, "batch_repeat_interleave", forgetful)
    network = fresh()
    no_backend(network, monkeypatch)
    network.backbone.choose_mode()
    assert network.backbone.mode == "padded"


# ---- What must not matter ------------------------------------------------------------------------------------------

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
def test_order_grouping_and_budget_change_no_score(folders, name):
    model = create(ModelOptions(base=str(folders(name)), dtype="float32", device="cpu"))
    alone = np.array([model.score([p], [r]).value[0] for p, r in zip(PROMPTS, REPLIES, strict=True)])
    assert np.ptp(alone) > 0.1
    for budget in (1, 30, 60, 10**6):
        model.batch_tokens = budget
        np.testing.assert_allclose(model.score(PROMPTS, REPLIES).value, alone, atol=1e-5, rtol=0)
        for seed in range(3):
            order = np.random.default_rng(seed).permutation(len(alone))
            found = model.score([PROMPTS[i] for i in order], [REPLIES[i] for i in order]).value
            np.testing.assert_allclose(found, alone[order], atol=1e-5, rtol=0)


@pytest.mark.parametrize("way", ["prefix_tree", "cache", "padded"])
def test_a_rotary_embedding_that_turns_with_a_long_text_leaves_the_short_ones_alone(fresh, doubled, way):
    """What each text gives alone, where it shares its beginning with texts on the other side of the turn."""
    network = fresh("longrope")
    network.backbone.choose_mode()
    assert (network.backbone.mode, network.backbone.longrope_threshold) == ("prefix_tree", 24)
    shared = np.arange(5, 20)
    texts = [np.concatenate([shared, np.arange(30, 30 + more)]) for more in (3, 20, 9, 10, 40)]
    alone = torch.cat([network.backbone.hidden_states([text], [12]) for text in texts])
    if way != "prefix_tree":
        network.backbone.mode = way
        network.backbone.set_attention(network.backbone.native_attention)
    torch.testing.assert_close(network.backbone.hidden_states(texts, [12] * 5), alone, atol=1e-10, rtol=0)
    assert difference(network, texts, way) < 1e-10
    network.backbone.longrope_threshold = None
    assert (network.backbone.hidden_states(texts, [12] * 5) - alone).abs().max() > 1e-3


@pytest.mark.parametrize("way", ["prefix_tree", "cache", "padded"])
def test_gradients_add_up_over_any_division_into_batches(fresh, doubled, way, monkeypatch):
    network = fresh()
    if way != "prefix_tree":
        no_backend(network, monkeypatch)
    network.backbone.choose_mode()
    network.backbone.mode = way
    weights = torch.linspace(-1, 1, len(TEXTS), dtype=torch.float64)
    whole = rewards_and_gradients(network, TEXTS, way)
    for budget in (1, 50, 100, 10**6):
        rewards, batches = (
            torch.zeros(len(TEXTS), dtype=torch.float64),
            network.backbone.split_into_batches(TEXTS, budget),
        )
        network.zero_grad()
        for rows in batches:
            found = network([TEXTS[i] for i in rows])[:, 0]
            (found * weights[rows]).sum().backward()
            rewards[rows] = found.detach()
        gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
        assert farthest((rewards[:, None], gradients), whole) < 1e-12
        if way != "prefix_tree":
            assert all(
                len(rows) == 1 or network.backbone.count_tokens([TEXTS[i] for i in rows]) <= budget for rows in batches
            )


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("lora_rank", [0, 3])
def test_activations_made_again_and_adapters_change_no_gradient(fresh, doubled, name, lora_rank):
    network = fresh(name, lora_rank=lora_rank)
    assert network.backbone.choose_mode() == "prefix_tree"
    draw = torch.Generator().manual_seed(0)
    for parameter_name, parameter in network.named_parameters():
        if "lora_B" in parameter_name:  # zeros at first, which hide what A does
            parameter.data.copy_(torch.randn(parameter.shape, generator=draw) / 4)
    expected = rewards_and_gradients(network, TEXTS, "padded")
    assert any("lora_A" in key for key in expected[1]) == bool(lora_rank)
    assert farthest(rewards_and_gradients(network, TEXTS, "prefix_tree"), expected) < 1e-12
    checkpoint_activations(network.train())
    if lora_rank:
        unwrap_peft(network.classifier).enable_input_require_grads()
    assert farthest(rewards_and_gradients(network, TEXTS, "prefix_tree"), expected) < 1e-12


def test_adapters_folded_in_change_no_reward(fresh, doubled):
    network = fresh(lora_rank=3)
    for parameter_name, parameter in network.named_parameters():
        if "lora_B" in parameter_name:
            parameter.data.fill_(0.1)
    before = network(TEXTS)
    network.merge()
    assert network.backbone.mode == "prefix_tree"
    assert (network(TEXTS) - before).abs().max() < 1e-12


def test_activations_of_two_forests_in_flight_are_not_confused(fresh, doubled):
    network = fresh().train()
    network.backbone.choose_mode()
    halves = TEXTS[:4], TEXTS[4:]
    expected = [rewards_and_gradients(network, half, "padded")[1] for half in halves]
    expected = {name: expected[0][name] + expected[1][name] for name in expected[0]}
    checkpoint_activations(network)
    network.zero_grad()
    rewards = [network(half)[:, 0] for half in halves]
    for found in rewards:  # the first forest is recomputed after the second was planted
        (found * torch.linspace(-1, 1, len(found), dtype=torch.float64)).sum().backward()
    assert (
        max(float((p.grad - expected[n]).abs().max()) for n, p in network.named_parameters() if n in expected) < 1e-11
    )


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_bfloat16_weights_are_near_float32(folders, name):
    full, half = (
        create(ModelOptions(base=str(folders(name)), dtype=d, device="cpu")).network for d in ("float32", "bfloat16")
    )
    assert full.backbone.choose_mode() == half.backbone.choose_mode() == "prefix_tree"
    with torch.no_grad():
        expected, found = full(TEXTS), half(TEXTS)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.15 * (expected.max() - expected.min())


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt_neox"])
def test_bfloat16_products_train_forward_and_backward(fresh, name):
    network = fresh(name, torch.float32)
    assert network.backbone.choose_mode() == "prefix_tree"
    expected, whole = rewards_and_gradients(network, TEXTS, "prefix_tree")
    with torch.autocast("cpu", torch.bfloat16):
        found, rounded = rewards_and_gradients(network, TEXTS, "prefix_tree")
    assert (found - expected).abs().max() < 0.15 * (expected.max() - expected.min())
    assert rounded.keys() == whole.keys()
    one, other = (torch.cat([g.flatten() for g in grads.values()]) for grads in (rounded, whole))
    assert torch.cosine_similarity(one, other, dim=0) > 0.97


def test_a_first_use_under_autocast_chooses_the_forest(fresh):
    network = fresh(dtype=torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert network.backbone.choose_mode() == "prefix_tree"


def test_padding_reads_the_last_token_whatever_pads(fresh, doubled):
    network = fresh()
    ids, mask = pad(TEXTS, 7)
    assert mask.sum(1).tolist() == list(map(len, TEXTS))
    assert all(
        torch.equal(row[: len(text)], torch.from_numpy(text).long()) for row, text in zip(ids, TEXTS, strict=True)
    )
    network.backbone.choose_mode()
    usual = rewards_and_gradients(network, TEXTS, "padded")
    network.classifier.config.pad_token_id = 7
    assert farthest(rewards_and_gradients(network, TEXTS, "padded"), usual) < 1e-12


# ---- The variable-length kernel ------------------------------------------------------------------------------------


def plain_varlen(q, k, v, q_starts, k_starts, longest_q, longest_k, *, scale, window_size, enable_gqa=True):
    """What torch's kernel promises, in plain torch: causal with the last query at the last key, then the window."""
    assert enable_gqa or q.shape[1] == k.shape[1]
    parts = []
    assert longest_q == int(q_starts.diff().max())
    assert longest_k == int(k_starts.diff().max())
    for i in range(len(q_starts) - 1):
        q_, k_, v_ = (x[s[i] : s[i + 1]].transpose(0, 1) for x, s in ((q, q_starts), (k, k_starts), (v, k_starts)))
        if q.shape[1] != k.shape[1]:
            k_, v_ = (x.repeat_interleave(len(q_) // len(x), 0) for x in (k_, v_))
        place = torch.arange(k_.shape[1])
        at = place[-q_.shape[1] :, None]
        seen = (place <= at) & ((place >= at - window_size[0]) if window_size[0] >= 0 else True)
        scores = (q_ @ k_.transpose(1, 2) * scale).masked_fill(~seen, -torch.inf)
        parts.append((scores.softmax(-1) @ v_).transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("name", ["llama", "gemma3", "mistral", "gpt2"])
@pytest.mark.parametrize("reads_last_layer", [True, False])
@pytest.mark.parametrize("asks_for_groups", [True, False])
def test_the_layout_for_the_gpu_kernel_gives_what_padded_rows_give(
    fresh, doubled, monkeypatch, name, reads_last_layer, asks_for_groups
):
    """The kernel runs on GPUs only; an equal in plain torch stands in for it, and sees what it would see.

    Before torch 2.12 it is not told of grouped heads.
    """
    network = fresh(name)
    assert network.backbone.choose_mode() == "prefix_tree"
    takes = {"scale", "window_size", *(["enable_gqa"] if asks_for_groups else [])}
    monkeypatch.setattr(tree_attention, "varlen_kernel", lambda: (plain_varlen, frozenset(takes)))
    asked = []
    monkeypatch.setattr(tree_attention, "supports_varlen", lambda *given: asked.append(given) or True)
    if not reads_last_layer and network.backbone.last_layer:
        network.backbone.last_layer.remove()
        network.backbone.last_layer = None
    assert difference(network, TEXTS, "prefix_tree") < 1e-12
    assert asked


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("sound", [True, False])
def test_a_kernel_is_dropped_only_where_the_forest_is_exact_without_it(fresh, doubled, monkeypatch, name, sound):
    """gpt2 fails with a last layer that computes only what is read: not the kernel's fault."""

    def faulty(*given, **named):
        return plain_varlen(*given, **named) * 1.5

    monkeypatch.setattr(tree_attention, "supports_varlen", lambda *given: True)
    monkeypatch.setattr(
        tree_attention,
        "varlen_kernel",
        lambda: (plain_varlen if sound else faulty, frozenset({"scale", "window_size"})),
    )
    network = fresh(name)
    assert network.backbone.choose_mode() == "prefix_tree"
    assert network.backbone.allow_varlen == sound
    assert (network.backbone.last_layer is None) == (name == "gpt2")
    assert difference(network, TEXTS, "prefix_tree") < 1e-12


def test_gradients_of_keys_laid_out_many_times_are_summed_in_float32():
    x = torch.zeros(3, 1, 1, dtype=torch.bfloat16, requires_grad=True)
    index = torch.tensor([0] * 300 + [2])
    tree_attention.GatherRows.apply(x, index).backward(torch.ones(301, 1, 1, dtype=torch.bfloat16))
    assert x.grad.flatten().tolist() == [300, 0, 1]  # in bfloat16, 256 + 1 is 256


def test_a_kernel_that_cannot_be_told_of_scale_and_window_is_not_used(monkeypatch):
    q = types.SimpleNamespace(is_cuda=True, dtype=torch.bfloat16, shape=(5, 4, 64))
    monkeypatch.setattr(tree_attention, "varlen_kernel", lambda: (plain_varlen, frozenset({"scale", "window_size"})))
    assert tree_attention.supports_varlen(q, q, None)
    assert not tree_attention.supports_varlen(q, q, 30.0)
    for found in ((plain_varlen, frozenset({"is_causal"})), None):
        monkeypatch.setattr(tree_attention, "varlen_kernel", lambda found=found: found)
        assert not tree_attention.supports_varlen(q, q, None)


# ---- Reading anywhere ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "gemma3", "mistral", "gpt2", "granite"])
@pytest.mark.parametrize("way", ["prefix_tree", "cache"])
def test_states_from_any_token_on_are_those_of_padded_rows(fresh, doubled, name, way):
    network = fresh(name)
    backbone = network.backbone
    assert backbone.choose_mode() == "prefix_tree"
    texts = [t for t in TEXTS if len(t) > 1]
    for since in ([0] * len(texts), [len(t) - 1 for t in texts], [min(5 * i, len(t) - 1) for i, t in enumerate(texts)]):
        found = {}
        for each in (way, "padded"):
            backbone.set_attention(
                tree_attention.ATTENTION_NAME if each == "prefix_tree" else backbone.native_attention
            )
            network.zero_grad()
            states = {
                "prefix_tree": backbone.run_prefix_tree,
                "cache": backbone.run_cached,
                "padded": backbone.run_padded,
            }[each](texts, since)
            states.square().mean().backward()
            grads = {n: p.grad.clone() for n, p in backbone.base_model.named_parameters() if p.grad is not None}
            found[each] = (states.detach(), grads)
        backbone.set_attention(tree_attention.ATTENTION_NAME)
        assert found[way][0].shape[0] == sum(len(t) - s for t, s in zip(texts, since, strict=True))
        assert farthest(found[way], found["padded"]) < 1e-12


# ---- torch.compile ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # torch's own, which would stop its compiler
def test_compiled_layers_give_the_same_rewards_and_gradients(fresh):
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception:
        pytest.skip("no C++ compiler")
    network = fresh(dtype=torch.float32)
    expected = rewards_and_gradients(network, TEXTS, "prefix_tree") if network.backbone.choose_mode() else None
    network.backbone.compile()
    try:
        assert farthest(rewards_and_gradients(network, TEXTS, "prefix_tree"), expected) < 1e-5
    finally:
        AttentionInterface.register(tree_attention.ATTENTION_NAME, tree_attention.layout_attention)
        torch._dynamo.reset()
