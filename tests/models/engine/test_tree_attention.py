"""Attention over a forest is the formula, its gradients are exact and summed in float32, and neither how blocks are grouped nor
which kernel computes them changes a result."""

from __future__ import annotations

import types

import pytest
import torch
from families import max_difference, rewards_and_gradients
from prefixes import TEXTS, branches, shapes, tokens

from guerdon.models.engine import prefix_tree, tree_attention

pytestmark = pytest.mark.usefixtures("in_float64")


@pytest.fixture
def llama(build_network):
    network = build_network("llama")
    assert network.backbone.choose_mode() == "prefix_tree"
    return network


def difference(network, texts) -> float:
    return max_difference(*(rewards_and_gradients(network, texts, mode) for mode in ("prefix_tree", "padded")))


# ---- Blocks --------------------------------------------------------------------------------------------------------


def visible_positions(forest: prefix_tree.Forest) -> dict[int, list[int]]:
    """For each position of the row, the positions of its own text up to itself, in order."""
    visible = {}
    for block in forest.blocks:
        keys = [at for run in block.keys for at in range(*run)]
        before = len(keys) - block.num_queries
        visible |= {block.start + i: keys[: before + i + 1] for i in range(block.num_queries)}
    return visible


def attend(forest: prefix_tree.Forest, *qkv: torch.Tensor, scale: float = 1.0, window=None, softcap=None, **options):
    """Grouped attention with four query heads and two key heads."""
    layout = tree_attention.ForestAttention(forest)
    plan = tree_attention.plan_groups(layout, 4, 2, window, qkv[0], **options)
    return tree_attention.BlockAttention.apply(*qkv, plan, scale, softcap)


def attention_inputs(forest: prefix_tree.Forest, size: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(forest.num_tokens, heads, size, generator=generator, dtype=torch.float64, requires_grad=True)
        for heads in (4, 2, 2)
    ]


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("window", [None, 5])
def test_attention_is_the_formula(softcap, window, monkeypatch):
    monkeypatch.setattr(prefix_tree, "MAX_BLOCK_QUERIES", 7)
    forest = prefix_tree.build_forest([text for shape in shapes().values() for text in shape])
    q, k, v = (x.detach() for x in attention_inputs(forest))
    out = attend(forest, q, k, v, scale=0.7, window=window, softcap=softcap)
    for at, keys in visible_positions(forest).items():
        keys = keys[-window:] if window else keys
        for head in range(4):
            scores = k[keys, head // 2] @ q[at, head] * 0.7
            scores = softcap * torch.tanh(scores / softcap) if softcap else scores
            torch.testing.assert_close(out[at, head], scores.softmax(0) @ v[keys, head // 2], rtol=0, atol=1e-13)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("outputs_only", [False, True])
@pytest.mark.parametrize("max_saved_keys", [1024, 0])
def test_gradients_are_finite_differences(softcap, window, outputs_only, max_saved_keys, monkeypatch):
    monkeypatch.setattr(prefix_tree, "MIN_SHARED_TOKENS", 2)
    monkeypatch.setattr(prefix_tree, "MAX_BLOCK_QUERIES", 4)
    monkeypatch.setattr(tree_attention, "MAX_SAVED_KEYS", max_saved_keys)
    forest = prefix_tree.build_forest([*branches(tokens(3)[0], *tokens(3, 2, 0, seed=1)), *tokens(2, seed=2)])
    options = {"scale": 0.7, "window": window, "softcap": softcap, "outputs_only": outputs_only}
    assert torch.autograd.gradcheck(lambda *qkv: attend(forest, *qkv, **options), attention_inputs(forest))


def test_the_gradient_of_a_shared_prefix_is_summed_over_its_branches_in_float32():
    generator = torch.Generator().manual_seed(0)

    def relative_errors(num_branches: int) -> list[float]:
        forest = prefix_tree.build_forest(branches(tokens(50)[0], *tokens(*[20] * num_branches, seed=1)))
        inputs = [torch.randn(forest.num_tokens, heads, 16, generator=generator).bfloat16() for heads in (4, 2, 2)]
        grad, prefix_grads = torch.randn(forest.num_tokens, 4, 16, generator=generator).bfloat16(), []
        for dtype in (torch.bfloat16, torch.float64):
            q, k, v = (x.to(dtype).detach().requires_grad_() for x in inputs)
            attend(forest, q, k, v, scale=0.25).backward(grad.to(dtype))
            prefix_grads.append([x.grad[:50].double() for x in (k, v)])
        return [float((a - b).norm() / b.norm()) for a, b in zip(*prefix_grads, strict=True)]

    for num_branches in (2, 64, 256):
        assert max(relative_errors(num_branches)) < 0.006  # 0.018 at 256 where the sum itself is bfloat16


def test_memory_for_the_backward_pass_is_linear_in_the_length():
    def saved_elements(length: int) -> int:
        forest, sizes = prefix_tree.build_forest(tokens(length)), []
        q, k, v = attention_inputs(forest)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()), lambda x: x):
            attend(forest, q, k, v)
        return sum(sizes)

    short, long, longer = saved_elements(2000), saved_elements(3000), saved_elements(4000)
    assert longer - long == pytest.approx(long - short, rel=0.1)


def test_a_long_text_is_exact_whether_attention_weights_are_saved_or_recomputed(llama, monkeypatch):
    texts = branches(tokens(1900)[0], *tokens(100, 37, seed=1))
    recomputed = rewards_and_gradients(llama, texts, "prefix_tree")
    monkeypatch.setattr(tree_attention, "MAX_SAVED_KEYS", 10**9)
    saved = rewards_and_gradients(llama, texts, "prefix_tree")
    assert max_difference(saved, recomputed) == 0
    assert max_difference(saved, rewards_and_gradients(llama, texts, "padded")) < 1e-12


@pytest.mark.parametrize(
    "setting", [{"MAX_SAVED_KEYS": 0}, {"MAX_GROUP_WEIGHTS": 1}, {"GROUP_COST": 0}, {"GROUP_COST": 10**9}]
)
def test_how_blocks_are_grouped_changes_nothing(llama, setting, monkeypatch):
    texts = [text for shape in shapes().values() for text in shape]
    expected = rewards_and_gradients(llama, texts, "prefix_tree")
    for name, value in setting.items():
        monkeypatch.setattr(tree_attention, name, value)
    assert max_difference(rewards_and_gradients(llama, texts, "prefix_tree"), expected) < 1e-13


# ---- The variable-length kernel ------------------------------------------------------------------------------------


def plain_varlen(q, k, v, q_starts, k_starts, max_q, max_k, *, scale, window_size, enable_gqa=True):
    """What torch's kernel computes, in plain torch: causal with the last query at the last key, then the window."""
    assert enable_gqa or q.shape[1] == k.shape[1]
    parts = []
    assert max_q == int(q_starts.diff().max())
    assert max_k == int(k_starts.diff().max())
    for i in range(len(q_starts) - 1):
        q_, k_, v_ = (x[s[i] : s[i + 1]].transpose(0, 1) for x, s in ((q, q_starts), (k, k_starts), (v, k_starts)))
        if q.shape[1] != k.shape[1]:
            k_, v_ = (x.repeat_interleave(len(q_) // len(x), 0) for x in (k_, v_))
        position = torch.arange(k_.shape[1])
        query = position[-q_.shape[1] :, None]
        visible = (position <= query) & ((position >= query - window_size[0]) if window_size[0] >= 0 else True)
        scores = (q_ @ k_.transpose(1, 2) * scale).masked_fill(~visible, -torch.inf)
        parts.append((scores.softmax(-1) @ v_).transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("name", ["llama", "gemma3", "mistral", "gpt2"])
@pytest.mark.parametrize("partial_last_layer", [True, False])
@pytest.mark.parametrize("takes_enable_gqa", [True, False])
def test_the_layout_for_the_gpu_kernel_gives_what_padded_rows_give(
    build_network, monkeypatch, name, partial_last_layer, takes_enable_gqa
):
    """The kernel runs on GPUs only; plain torch stands in for it and gets what it would get.

    Before torch 2.12 it has no parameter for grouped heads.
    """
    network = build_network(name)
    assert network.backbone.choose_mode() == "prefix_tree"
    parameters = {"scale", "window_size", *(["enable_gqa"] if takes_enable_gqa else [])}
    monkeypatch.setattr(tree_attention, "varlen_kernel", lambda: (plain_varlen, frozenset(parameters)))
    calls = []
    monkeypatch.setattr(tree_attention, "supports_varlen", lambda *args: calls.append(args) or True)
    if not partial_last_layer and network.backbone.last_layer:
        network.backbone.last_layer.remove()
        network.backbone.last_layer = None
    assert difference(network, TEXTS) < 1e-12
    assert calls


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("is_correct", [True, False])
def test_the_kernel_is_dropped_only_where_the_forest_is_exact_without_it(build_network, monkeypatch, name, is_correct):
    """gpt2 fails with a last layer that computes output positions only, which is not the kernel's fault."""

    def faulty(*args, **kwargs):
        return plain_varlen(*args, **kwargs) * 1.5

    monkeypatch.setattr(tree_attention, "supports_varlen", lambda *args: True)
    monkeypatch.setattr(
        tree_attention,
        "varlen_kernel",
        lambda: (plain_varlen if is_correct else faulty, frozenset({"scale", "window_size"})),
    )
    network = build_network(name)
    assert network.backbone.choose_mode() == "prefix_tree"
    assert network.backbone.allow_varlen == is_correct
    assert (network.backbone.last_layer is None) == (name == "gpt2")
    assert difference(network, TEXTS) < 1e-12


def test_gradients_of_keys_copied_many_times_are_summed_in_float32():
    x = torch.zeros(3, 1, 1, dtype=torch.bfloat16, requires_grad=True)
    index = torch.tensor([0] * 300 + [2])
    tree_attention.GatherRows.apply(x, index).backward(torch.ones(301, 1, 1, dtype=torch.bfloat16))
    assert x.grad.flatten().tolist() == [300, 0, 1]  # in bfloat16, 256 + 1 is 256


def test_a_kernel_without_scale_and_window_is_not_used(monkeypatch):
    q = types.SimpleNamespace(is_cuda=True, dtype=torch.bfloat16, shape=(5, 4, 64))
    monkeypatch.setattr(tree_attention, "varlen_kernel", lambda: (plain_varlen, frozenset({"scale", "window_size"})))
    assert tree_attention.supports_varlen(q, q, None)
    assert not tree_attention.supports_varlen(q, q, 30.0)
    for kernel in ((plain_varlen, frozenset({"is_causal"})), None):
        monkeypatch.setattr(tree_attention, "varlen_kernel", lambda kernel=kernel: kernel)
        assert not tree_attention.supports_varlen(q, q, None)
