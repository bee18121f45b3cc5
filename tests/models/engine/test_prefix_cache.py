"""Keys and values that are kept from pass to pass change what is computed, and no state but by rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.config import ModelOptions
from guerdon.models.directory.loading import create_reward_model

VOCABULARY = 100
STARTS = [np.random.default_rng(i).integers(0, VOCABULARY, 40).astype(np.int32) for i in range(3)]


@pytest.fixture(scope="module")
def backbone(tiny_dir):
    return create_reward_model(ModelOptions(base=str(tiny_dir))).network.backbone


def states(backbone, texts):
    with torch.inference_mode():
        return backbone.hidden_states(texts)


def alone(backbone, texts):
    """The states without a cache."""
    cache, backbone.prefix_cache = backbone.prefix_cache, None
    try:
        return torch.cat([states(backbone, [text]) for text in texts])
    finally:
        backbone.prefix_cache = cache


def text(start: int, cut: int, rest: list[int]) -> np.ndarray:
    return np.concatenate([STARTS[start][:cut], np.array(rest, dtype=np.int32)])


texts = st.builds(text, st.integers(0, 2), st.integers(1, 40), st.lists(st.integers(0, VOCABULARY - 1), max_size=12))


@settings(max_examples=25)
@given(
    passes=st.lists(st.lists(texts, min_size=1, max_size=6), min_size=1, max_size=5),
    size=st.sampled_from([1_000, 20_000, 10_000_000]),
)
def test_no_sequence_of_passes_changes_a_state(backbone, passes, size):
    assert backbone.keep_prefixes(size)
    for batch in passes:
        torch.testing.assert_close(states(backbone, batch), alone(backbone, batch), rtol=0, atol=2e-5)
        cache = backbone.prefix_cache
        assert cache.num_bytes == sum(node.num_bytes for node in cache._nodes()) <= size
        for node in cache._nodes():
            assert all(child.parent is node and child.tokens[0] == first for first, child in node.children.items())


def test_candidates_that_come_one_by_one_cost_their_prompt_once(backbone):
    assert backbone.keep_prefixes(10_000_000)
    replies = [np.random.default_rng(50 + i).integers(0, VOCABULARY, 10).astype(np.int32) for i in range(8)]
    for reply in replies:
        states(backbone, [np.concatenate([STARTS[0], reply])])
    counts = backbone.prefix_cache.counts
    assert (counts.texts, counts.hits, counts.tokens) == (8, 7, 8 * 50)
    assert 7 * 40 <= counts.reused_tokens <= 7 * 42  # two replies may begin with the same token


def test_the_same_text_again_computes_its_last_token_only(backbone):
    assert backbone.keep_prefixes(10_000_000)
    states(backbone, [STARTS[1]])
    states(backbone, [STARTS[1]])
    assert backbone.prefix_cache.counts.reused_tokens == len(STARTS[1]) - 1


def test_the_prompt_that_is_used_outlives_those_that_are_not(backbone):
    per_token = 2 * 2 * 2 * 16 * 4  # layers, keys and values, key heads, head size, bytes
    assert backbone.keep_prefixes(100 * per_token)
    for start in (0, 1, 0, 2, 0):
        states(backbone, [STARTS[start]])
    before = backbone.prefix_cache.counts.hits
    states(backbone, [STARTS[0]])
    assert backbone.prefix_cache.counts.hits == before + 1
    states(backbone, [STARTS[1]])
    assert backbone.prefix_cache.counts.hits == before + 1


def test_a_model_whose_texts_cannot_share_keeps_nothing(backbone):
    mode = backbone.mode
    try:
        backbone.mode = "padded"
        assert not backbone.keep_prefixes(10_000_000)
        assert backbone.prefix_cache is None
    finally:
        backbone.mode = mode
    assert not backbone.keep_prefixes(0)
