"""The packed forest: how texts are laid out, and that it equals plain padded rows in float64, forward and gradients, on every
attention family, whatever the trees."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from families import farthest, keep_double, rewards_and_gradients, save_family
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guerdon.config import ModelOptions
from guerdon.models.engine import prefix_tree, tree_attention
from guerdon.models.reward_model import create

FAMILIES = ["llama", "qwen3", "gemma3", "gpt_neox", "phi3", "mistral", "gpt2", "granite"]
WINDOWED = {"mistral": {"sliding_window": 9}}


def tokens(*sizes: int, seed: int = 0) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.integers(4, 60, size).astype(np.int32) for size in sizes]


def branches(prompt: np.ndarray, *replies: np.ndarray) -> list[np.ndarray]:
    return [np.concatenate([prompt, reply]) for reply in replies]


def shapes() -> dict[str, list[np.ndarray]]:
    long, short, one, a, b, c, empty = tokens(40, 12, 1, 7, 19, 3, 0)
    return {
        "pairs": [*branches(long, a, b), *branches(short, b, c)],
        "an empty reply": branches(long, a, empty),
        "identical replies": branches(long, a, a, b),
        "a reply that begins another": branches(short, a, np.concatenate([a, b]), b),
        "one-token prompt": branches(one, a, b),
        "one token": [one],
        "nothing in common": tokens(9, 17, 5, seed=1),
        "turns of one conversation": branches(long, a, *branches(b, a, c, *branches(short, a, b))),
        "64 replies": branches(short, *tokens(*range(64), seed=2)),
        "a text longer than a block": branches(tokens(70, seed=3)[0], *tokens(45, 33, seed=4)),
    }


# ---- The layout ----------------------------------------------------------------------------------------------------


def visible(forest: prefix_tree.Forest) -> dict[int, list[int]]:
    """For each place in the row, the places that its block lets it see, in order."""
    seen = {}
    for block in forest.blocks:
        keys = [at for run in block.keys for at in range(*run)]
        before = len(keys) - block.num_queries
        seen |= {block.start + i: keys[: before + i + 1] for i in range(block.num_queries)}
    return seen


def num_shared_once(texts: list[np.ndarray]) -> int:
    """Nodes of the trie: different beginnings of any length."""
    return len({tuple(text[:stop]) for text in texts for stop in range(1, len(text) + 1)})


def refuse_wrong_layout(texts: list[np.ndarray], forest: prefix_tree.Forest) -> None:
    ids, positions = forest.input_ids[0].numpy(), forest.position_ids[0].numpy()
    assert [at for block in forest.blocks for at in range(block.start, block.stop)] == list(range(forest.num_tokens))
    assert forest.num_tokens == len(ids) == len(positions)
    seen, reached = visible(forest), set()
    for text, end in zip(texts, forest.read_positions.tolist(), strict=True):
        path = seen[end]
        np.testing.assert_array_equal(ids[path], text)
        np.testing.assert_array_equal(positions[path], np.arange(len(text)))
        for depth, at in enumerate(path):  # so does every token before the last
            assert seen[at] == path[: depth + 1]
        reached |= set(path)
    assert reached == set(range(forest.num_tokens))  # nothing is computed for nobody
    assert forest.output_positions.tolist() == sorted(set(forest.read_positions.tolist()))
    assert len(forest.output_positions) == len({text.tobytes() for text in texts})


@pytest.mark.parametrize("shape", shapes())
@pytest.mark.parametrize("chunk", [128, 16, 1])
def test_every_token_sees_exactly_its_own_beginning(shape, chunk, monkeypatch):
    monkeypatch.setattr(prefix_tree, "MAX_BLOCK_QUERIES", chunk)
    texts = shapes()[shape]
    refuse_wrong_layout(texts, prefix_tree.build_forest(texts))


@pytest.mark.parametrize(
    ("shape", "computed"),
    {
        "an empty reply": 40 + 7,
        "identical replies": 40 + 7 + 19,
        "a reply that begins another": 12 + (7 + 19) + (7) + 19,  # 7 tokens are not worth a block
        "one-token prompt": (1 + 7) + (1 + 19),
        "one token": 1,
        "nothing in common": 9 + 17 + 5,
        "64 replies": 12 + sum(range(64)),
        "a text longer than a block": 70 + 45 + 33,
    }.items(),
)
def test_tokens_computed_by_hand(shape, computed):
    assert prefix_tree.build_forest(shapes()[shape]).num_tokens == computed


def test_a_conversation_shares_its_earlier_turns():
    first, second, third, a, b, c = tokens(20, 15, 10, 9, 8, 11)
    one = np.concatenate
    texts = [one([first, a]), one([first, second, b]), one([first, second, third, c]), one([first, second, third])]
    forest = prefix_tree.build_forest(texts)
    refuse_wrong_layout(texts, forest)
    assert forest.num_tokens == 20 + 15 + 10 + 9 + 8 + 11
    assert forest.position_ids.max() == 20 + 15 + 10 + 11 - 1


def test_sliding_windows_and_reads_keep_the_keys_they_need():
    texts = branches(tokens(50)[0], *tokens(30, 9, 17, seed=1))
    forest = prefix_tree.build_forest(texts)
    whole = visible(forest)
    for block in prefix_tree.output_blocks(forest):
        assert [at for run in block.keys for at in range(*run)] == whole[block.start]
        assert block.stop == block.start + 1
    assert [block.start for block in prefix_tree.output_blocks(forest)] == forest.output_positions.tolist()
    for window in (1, 2, 7, 60, 1000):
        for block in map(lambda block: prefix_tree.clip_to_window(block, window), forest.blocks):
            keys = [at for run in block.keys for at in range(*run)]
            assert keys == whole[block.stop - 1][-len(keys) :]
            assert len(keys) == min(len(whole[block.stop - 1]), block.num_queries + window - 1)


# Few letters and a few copies of beginnings: duplicates, prefixes, nested sharing and empty branches all occur.
@st.composite
def alike_texts(draw, longest: int = 30) -> list[np.ndarray]:
    texts: list[list[int]] = []
    for _ in range(draw(st.integers(1, 7))):
        start = draw(st.sampled_from(texts))[: draw(st.integers(0, longest))] if texts else []
        rest = draw(st.lists(st.integers(4, 6), min_size=0 if start else 1, max_size=longest))
        texts.append(start + rest)
    return [np.array(text, dtype=np.int32) for text in texts]


NESTED = [
    np.array([4, 5] * n + rest, dtype=np.int32) for n, rest in ((9, []), (9, [4]), (9, [4]), (5, [6] * 9), (2, []))
]


@given(texts=alike_texts(), shared=st.sampled_from([1, 2, 8]), chunk=st.sampled_from([1, 3, 128]))
@example(texts=NESTED, shared=2, chunk=3)
@settings(max_examples=300)
def test_any_texts_are_laid_out_rightly(texts, shared, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_tree, "MIN_SHARED_TOKENS", shared)
        patch.setattr(prefix_tree, "MAX_BLOCK_QUERIES", chunk)
        forest = prefix_tree.build_forest(texts)
        refuse_wrong_layout(texts, forest)
        fewest, computed = num_shared_once(texts), forest.num_tokens
        assert fewest <= prefix_tree.count_unique_tokens(texts) <= computed <= fewest + (shared - 1) * len(texts)
        if shared == 1:
            assert prefix_tree.count_unique_tokens(texts) == computed == fewest


@given(texts=alike_texts())
@example(texts=[np.array(t, dtype=np.int32) for t in ([4] * 30, [4] * 19 + [5] * 9, [4] * 12 + [6] * 9)])
def test_unique_is_what_a_forest_computes(texts):
    assert prefix_tree.count_unique_tokens(texts) == prefix_tree.build_forest(texts).num_tokens


@given(texts=alike_texts(), budget=st.sampled_from([1, 10, 40, 100, 10**6]))
@settings(max_examples=200)
def test_batches_hold_every_text_once_in_order_and_their_tokens(texts, budget):
    batches = prefix_tree.batch_by_unique_tokens(texts, budget)
    flat = [i for batch in batches for i in batch]
    assert flat == prefix_tree.prefix_order(texts)
    assert sorted(flat) == list(range(len(texts)))
    assert [tuple(texts[i]) for i in flat] == sorted(tuple(text) for text in texts)
    for batch, later in pairwise([*batches, []]):
        held = [texts[i] for i in batch]
        assert len(batch) == 1 or prefix_tree.count_unique_tokens(held) <= budget
        assert not later or prefix_tree.count_unique_tokens([*held, texts[later[0]]]) > budget  # none is closed early


def test_alike_texts_stay_together_in_a_batch():
    families = [branches(p, *tokens(9, 9, seed=i)) for i, p in enumerate(tokens(60, 60, 60, 60))]
    texts = [family[reply] for reply in range(2) for family in families]
    batches = prefix_tree.batch_by_unique_tokens(texts, 60 + 9 + 9)
    assert sorted(map(sorted, batches)) == [[i, i + 4] for i in range(4)]


def test_batching_twenty_thousand_texts_takes_a_moment():
    shared, *texts = tokens(200, *[150] * 20_000)
    texts[::2] = branches(shared, *texts[::2])
    began = time.process_time()
    batches = prefix_tree.batch_by_unique_tokens(texts, 4096)
    count = prefix_tree.count_unique_tokens(texts)
    assert time.process_time() - began < 2
    assert sum(map(len, batches)) == 20_000
    assert count == pytest.approx(200 + 150 * 20_000, rel=0.02)  # a few letters after the prompt agree by chance


def test_a_thousand_nested_beginnings_are_laid_out():
    (text,) = tokens(8 * 1100)
    texts = [text[: 8 * n] for n in range(1, 1101)]
    assert prefix_tree.build_forest(texts).num_tokens == len(text)


# ---- Against padded rows -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=FAMILIES)
def network(request, tmp_path_factory):
    folder = save_family(tmp_path_factory.mktemp(request.param), request.param, **WINDOWED.get(request.param, {}))
    made = create(ModelOptions(base=str(folder), dtype="float32", device="cpu")).network.double()
    assert made.backbone.choose_mode() == "prefix_tree"
    return made


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = save_family(tmp_path_factory.mktemp("llama"), "llama")
    made = create(ModelOptions(base=str(folder), dtype="float32", device="cpu")).network.double()
    assert made.backbone.choose_mode() == "prefix_tree"
    return made


@pytest.fixture(autouse=True)
def stay_double(monkeypatch):
    keep_double(monkeypatch)


def difference(network, texts: list[np.ndarray]) -> float:
    return farthest(*(rewards_and_gradients(network, texts, way) for way in ("prefix_tree", "padded")))


@pytest.mark.parametrize("shape", shapes())
@pytest.mark.parametrize("chunk", [128, 16])
def test_rewards_and_gradients_equal_padded_rows(network, shape, chunk, monkeypatch):
    monkeypatch.setattr(prefix_tree, "MAX_BLOCK_QUERIES", chunk)
    assert difference(network, shapes()[shape]) < 1e-12


@given(texts=alike_texts(20), shared=st.sampled_from([1, 2, 8]), chunk=st.sampled_from([2, 128]))
@example(texts=NESTED, shared=1, chunk=2)
@settings(max_examples=60)
def test_any_texts_have_the_rewards_and_gradients_of_padded_rows(llama, texts, shared, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_tree, "MIN_SHARED_TOKENS", shared)
        patch.setattr(prefix_tree, "MAX_BLOCK_QUERIES", chunk)
        assert difference(llama, texts) < 1e-12


def test_any_number_of_replies_to_one_prompt(llama):
    texts = branches(tokens(17)[0], *tokens(*(1 + i % 13 for i in range(64)), seed=5))
    expected, _ = rewards_and_gradients(llama, texts, "padded")
    for k in range(1, 65):
        with torch.no_grad():
            assert (llama(texts[:k]) - expected[:k]).abs().max() < 1e-12
    assert difference(llama, texts) < 1e-12


def test_three_hundred_trees_in_one_row(llama):
    draw = np.random.default_rng(0)
    prompts = tokens(*draw.integers(1, 30, 300).tolist())
    texts = [t for i, p in enumerate(prompts) for t in branches(p, *tokens(*draw.integers(1, 12, 1 + i % 2), seed=i))]
    forest = prefix_tree.build_forest(texts)
    refuse_wrong_layout(texts, forest)
    assert forest.num_tokens < sum(map(len, texts))
    assert difference(llama, texts) < 1e-12


def test_a_long_text_is_exact_and_so_are_weights_made_again(llama, monkeypatch):
    texts = branches(tokens(1900)[0], *tokens(100, 37, seed=1))
    made_again = rewards_and_gradients(llama, texts, "prefix_tree")
    monkeypatch.setattr(tree_attention, "MAX_SAVED_KEYS", 10**9)
    kept = rewards_and_gradients(llama, texts, "prefix_tree")
    assert farthest(kept, made_again) == 0
    assert farthest(kept, rewards_and_gradients(llama, texts, "padded")) < 1e-12


@pytest.mark.parametrize(
    "setting", [{"MAX_SAVED_KEYS": 0}, {"MAX_GROUP_WEIGHTS": 1}, {"GROUP_COST": 0}, {"GROUP_COST": 10**9}]
)
def test_how_the_work_is_grouped_changes_nothing(llama, setting, monkeypatch):
    texts = [text for shape in shapes().values() for text in shape]
    usual = rewards_and_gradients(llama, texts, "prefix_tree")
    for name, value in setting.items():
        monkeypatch.setattr(tree_attention, name, value)
    assert farthest(rewards_and_gradients(llama, texts, "prefix_tree"), usual) < 1e-13


# ---- The attention alone -------------------------------------------------------------------------------------------


def attend(forest: prefix_tree.Forest, *qkv: torch.Tensor, scale: float = 1.0, window=None, softcap=None, **options):
    """Grouped attention with four query heads and two key heads."""
    layout = tree_attention.ForestAttention(forest)
    plan = tree_attention.plan_groups(layout, 4, 2, window, qkv[0], **options)
    return tree_attention.BlockAttention.apply(*qkv, plan, scale, softcap)


def attention_inputs(forest: prefix_tree.Forest, size: int = 3) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [
        torch.randn(forest.num_tokens, heads, size, generator=draw, dtype=torch.float64, requires_grad=True)
        for heads in (4, 2, 2)
    ]


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("only_read", [False, True])
@pytest.mark.parametrize("keep", [1024, 0])
def test_gradients_are_finite_differences(softcap, window, only_read, keep, monkeypatch):
    monkeypatch.setattr(prefix_tree, "MIN_SHARED_TOKENS", 2)
    monkeypatch.setattr(prefix_tree, "MAX_BLOCK_QUERIES", 4)
    monkeypatch.setattr(tree_attention, "MAX_SAVED_KEYS", keep)
    forest = prefix_tree.build_forest([*branches(tokens(3)[0], *tokens(3, 2, 0, seed=1)), *tokens(2, seed=2)])
    q, k, v = attention_inputs(forest)
    options = {"scale": 0.7, "window": window, "softcap": softcap, "outputs_only": only_read}
    assert torch.autograd.gradcheck(lambda *qkv: attend(forest, *qkv, **options), (q, k, v))


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("window", [None, 5])
def test_attention_is_the_formula_written_down(softcap, window, monkeypatch):
    monkeypatch.setattr(prefix_tree, "MAX_BLOCK_QUERIES", 7)
    forest = prefix_tree.build_forest([text for shape in shapes().values() for text in shape])
    q, k, v = (x.detach() for x in attention_inputs(forest))
    out = attend(forest, q, k, v, scale=0.7, window=window, softcap=softcap)
    for at, keys in visible(forest).items():
        keys = keys[-window:] if window else keys
        for head in range(4):
            scores = k[keys, head // 2] @ q[at, head] * 0.7
            scores = softcap * torch.tanh(scores / softcap) if softcap else scores
            torch.testing.assert_close(out[at, head], scores.softmax(0) @ v[keys, head // 2], rtol=0, atol=1e-13)


def test_a_shared_prefixs_gradient_is_summed_over_its_branches_in_float32():
    draw = torch.Generator().manual_seed(0)

    def relative_errors(branch_count: int) -> list[float]:
        forest = prefix_tree.build_forest(branches(tokens(50)[0], *tokens(*[20] * branch_count, seed=1)))
        inputs = [torch.randn(forest.num_tokens, heads, 16, generator=draw).bfloat16() for heads in (4, 2, 2)]
        asked, found = torch.randn(forest.num_tokens, 4, 16, generator=draw).bfloat16(), []
        for dtype in (torch.bfloat16, torch.float64):
            q, k, v = (x.to(dtype).detach().requires_grad_() for x in inputs)
            attend(forest, q, k, v, scale=0.25).backward(asked.to(dtype))
            found.append([x.grad[:50].double() for x in (k, v)])
        return [float((a - b).norm() / b.norm()) for a, b in zip(*found, strict=True)]

    for branch_count in (2, 64, 256):
        assert max(relative_errors(branch_count)) < 0.006  # 0.018 at 256 where the sum itself is bfloat16


def test_what_is_kept_for_the_backward_pass_grows_with_the_length():
    def kept(length: int) -> int:
        forest, sizes = prefix_tree.build_forest(tokens(length)), []
        q, k, v = attention_inputs(forest)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()), lambda x: x):
            attend(forest, q, k, v)
        return sum(sizes)

    short, long, longer = kept(2000), kept(3000), kept(4000)
    assert longer - long == pytest.approx(long - short, rel=0.1)
