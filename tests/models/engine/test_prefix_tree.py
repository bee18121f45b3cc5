"""Texts are laid out as prefix trees correctly, and whatever the trees, rewards and gradients equal padded rows in float64 on every
family."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from families import keep_float64, max_difference, rewards_and_gradients, save_family
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prefixes import NESTED, branches, shapes, similar_texts, tokens

from guerdon.config import ModelOptions
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.engine import prefix_tree

FAMILIES = ["llama", "qwen3", "gemma3", "gpt_neox", "phi3", "mistral", "gpt2", "granite"]
WINDOWED = {"mistral": {"sliding_window": 9}}


# ---- The layout ----------------------------------------------------------------------------------------------------


def visible_positions(forest: prefix_tree.Forest) -> dict[int, list[int]]:
    """For each position of the row, the positions that its block lets it see, in order."""
    visible = {}
    for block in forest.blocks:
        keys = [at for run in block.keys for at in range(*run)]
        before = len(keys) - block.num_queries
        visible |= {block.start + i: keys[: before + i + 1] for i in range(block.num_queries)}
    return visible


def count_trie_nodes(texts: list[np.ndarray]) -> int:
    """Different prefixes of any length."""
    return len({tuple(text[:stop]) for text in texts for stop in range(1, len(text) + 1)})


def check_layout(texts: list[np.ndarray], forest: prefix_tree.Forest) -> None:
    ids, positions = forest.input_ids[0].numpy(), forest.position_ids[0].numpy()
    assert [at for block in forest.blocks for at in range(block.start, block.stop)] == list(range(forest.num_tokens))
    assert forest.num_tokens == len(ids) == len(positions)
    visible, reached = visible_positions(forest), set()
    for text, end in zip(texts, forest.read_positions.tolist(), strict=True):
        path = visible[end]
        np.testing.assert_array_equal(ids[path], text)
        np.testing.assert_array_equal(positions[path], np.arange(len(text)))
        for depth, at in enumerate(path):  # as for every token before the last
            assert visible[at] == path[: depth + 1]
        reached |= set(path)
    assert reached == set(range(forest.num_tokens))  # every token belongs to a text
    assert forest.output_positions.tolist() == sorted(set(forest.read_positions.tolist()))
    assert len(forest.output_positions) == len({text.tobytes() for text in texts})


@pytest.mark.parametrize("shape", shapes())
@pytest.mark.parametrize("block_size", [128, 16, 1])
def test_every_token_sees_exactly_its_own_text_up_to_itself(shape, block_size, monkeypatch):
    monkeypatch.setattr(prefix_tree, "MAX_BLOCK_QUERIES", block_size)
    texts = shapes()[shape]
    check_layout(texts, prefix_tree.build_forest(texts))


@pytest.mark.parametrize(
    ("shape", "computed"),
    {
        "an empty reply": 40 + 7,
        "identical replies": 40 + 7 + 19,
        "a reply that is a prefix of another": 12 + (7 + 19) + (7) + 19,  # 7 tokens are not worth a block
        "one-token prompt": (1 + 7) + (1 + 19),
        "one token": 1,
        "nothing in common": 9 + 17 + 5,
        "64 replies": 12 + sum(range(64)),
        "a text longer than a block": 70 + 45 + 33,
    }.items(),
)
def test_the_number_of_computed_tokens(shape, computed):
    assert prefix_tree.build_forest(shapes()[shape]).num_tokens == computed


def test_a_conversation_shares_its_earlier_turns():
    first, second, third, a, b, c = tokens(20, 15, 10, 9, 8, 11)
    one = np.concatenate
    texts = [one([first, a]), one([first, second, b]), one([first, second, third, c]), one([first, second, third])]
    forest = prefix_tree.build_forest(texts)
    check_layout(texts, forest)
    assert forest.num_tokens == 20 + 15 + 10 + 9 + 8 + 11
    assert forest.position_ids.max() == 20 + 15 + 10 + 11 - 1


def test_sliding_windows_and_output_blocks_keep_the_keys_they_need():
    texts = branches(tokens(50)[0], *tokens(30, 9, 17, seed=1))
    forest = prefix_tree.build_forest(texts)
    visible = visible_positions(forest)
    for block in prefix_tree.output_blocks(forest):
        assert [at for run in block.keys for at in range(*run)] == visible[block.start]
        assert block.stop == block.start + 1
    assert [block.start for block in prefix_tree.output_blocks(forest)] == forest.output_positions.tolist()
    for window in (1, 2, 7, 60, 1000):
        for block in map(lambda block: prefix_tree.clip_to_window(block, window), forest.blocks):
            keys = [at for run in block.keys for at in range(*run)]
            assert keys == visible[block.stop - 1][-len(keys) :]
            assert len(keys) == min(len(visible[block.stop - 1]), block.num_queries + window - 1)


@given(texts=similar_texts(), shared=st.sampled_from([1, 2, 8]), block_size=st.sampled_from([1, 3, 128]))
@example(texts=NESTED, shared=2, block_size=3)
@settings(max_examples=300)
def test_any_texts_are_laid_out_correctly(texts, shared, block_size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_tree, "MIN_SHARED_TOKENS", shared)
        patch.setattr(prefix_tree, "MAX_BLOCK_QUERIES", block_size)
        forest = prefix_tree.build_forest(texts)
        check_layout(texts, forest)
        fewest, computed = count_trie_nodes(texts), forest.num_tokens
        assert fewest <= prefix_tree.count_unique_tokens(texts) <= computed <= fewest + (shared - 1) * len(texts)
        if shared == 1:
            assert prefix_tree.count_unique_tokens(texts) == computed == fewest


@given(texts=similar_texts())
@example(texts=[np.array(t, dtype=np.int32) for t in ([4] * 30, [4] * 19 + [5] * 9, [4] * 12 + [6] * 9)])
def test_unique_tokens_are_those_of_the_forest(texts):
    assert prefix_tree.count_unique_tokens(texts) == prefix_tree.build_forest(texts).num_tokens


@given(texts=similar_texts(), budget=st.sampled_from([1, 10, 40, 100, 10**6]))
@settings(max_examples=200)
def test_batches_hold_every_text_once_in_prefix_order_within_the_token_budget(texts, budget):
    batches = prefix_tree.batch_by_unique_tokens(texts, budget)
    flat = [i for batch in batches for i in batch]
    assert flat == prefix_tree.prefix_order(texts)
    assert sorted(flat) == list(range(len(texts)))
    assert [tuple(texts[i]) for i in flat] == sorted(tuple(text) for text in texts)
    for batch, following in pairwise([*batches, []]):
        held = [texts[i] for i in batch]
        assert len(batch) == 1 or prefix_tree.count_unique_tokens(held) <= budget
        assert (
            not following or prefix_tree.count_unique_tokens([*held, texts[following[0]]]) > budget
        )  # no batch is closed early


def test_texts_with_a_shared_prefix_stay_in_one_batch():
    groups = [branches(p, *tokens(9, 9, seed=i)) for i, p in enumerate(tokens(60, 60, 60, 60))]
    texts = [group[reply] for reply in range(2) for group in groups]
    batches = prefix_tree.batch_by_unique_tokens(texts, 60 + 9 + 9)
    assert sorted(map(sorted, batches)) == [[i, i + 4] for i in range(4)]


def test_batching_twenty_thousand_texts_takes_less_than_two_seconds():
    shared, *texts = tokens(200, *[150] * 20_000)
    texts[::2] = branches(shared, *texts[::2])
    began = time.process_time()
    batches = prefix_tree.batch_by_unique_tokens(texts, 4096)
    count = prefix_tree.count_unique_tokens(texts)
    assert time.process_time() - began < 2
    assert sum(map(len, batches)) == 20_000
    assert count == pytest.approx(200 + 150 * 20_000, rel=0.02)  # a few letters after the prompt agree by chance


def test_a_thousand_nested_prefixes_are_laid_out():
    (text,) = tokens(8 * 1100)
    texts = [text[: 8 * n] for n in range(1, 1101)]
    assert prefix_tree.build_forest(texts).num_tokens == len(text)


# ---- Against padded rows -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=FAMILIES)
def network(request, tmp_path_factory):
    folder = save_family(tmp_path_factory.mktemp(request.param), request.param, **WINDOWED.get(request.param, {}))
    network = create_reward_model(ModelOptions(base=str(folder), dtype="float32", device="cpu")).network.double()
    assert network.backbone.choose_mode() == "prefix_tree"
    return network


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = save_family(tmp_path_factory.mktemp("llama"), "llama")
    network = create_reward_model(ModelOptions(base=str(folder), dtype="float32", device="cpu")).network.double()
    assert network.backbone.choose_mode() == "prefix_tree"
    return network


@pytest.fixture(autouse=True)
def in_float64(monkeypatch):
    keep_float64(monkeypatch)


def difference(network, texts: list[np.ndarray]) -> float:
    return max_difference(*(rewards_and_gradients(network, texts, mode) for mode in ("prefix_tree", "padded")))


@pytest.mark.parametrize("shape", shapes())
@pytest.mark.parametrize("block_size", [128, 16])
def test_rewards_and_gradients_equal_padded_rows(network, shape, block_size, monkeypatch):
    monkeypatch.setattr(prefix_tree, "MAX_BLOCK_QUERIES", block_size)
    assert difference(network, shapes()[shape]) < 1e-12


@given(texts=similar_texts(20), shared=st.sampled_from([1, 2, 8]), block_size=st.sampled_from([2, 128]))
@example(texts=NESTED, shared=1, block_size=2)
@settings(max_examples=60)
def test_rewards_and_gradients_of_any_texts_equal_padded_rows(llama, texts, shared, block_size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_tree, "MIN_SHARED_TOKENS", shared)
        patch.setattr(prefix_tree, "MAX_BLOCK_QUERIES", block_size)
        assert difference(llama, texts) < 1e-12


def test_any_number_of_replies_to_one_prompt(llama):
    texts = branches(tokens(17)[0], *tokens(*(1 + i % 13 for i in range(64)), seed=5))
    expected, _ = rewards_and_gradients(llama, texts, "padded")
    for k in range(1, 65):
        with torch.no_grad():
            assert (llama(texts[:k]) - expected[:k]).abs().max() < 1e-12
    assert difference(llama, texts) < 1e-12


def test_three_hundred_trees_in_one_row(llama):
    rng = np.random.default_rng(0)
    prompts = tokens(*rng.integers(1, 30, 300).tolist())
    texts = [t for i, p in enumerate(prompts) for t in branches(p, *tokens(*rng.integers(1, 12, 1 + i % 2), seed=i))]
    forest = prefix_tree.build_forest(texts)
    check_layout(texts, forest)
    assert forest.num_tokens < sum(map(len, texts))
    assert difference(llama, texts) < 1e-12
