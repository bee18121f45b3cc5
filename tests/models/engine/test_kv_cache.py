"""Decoding with a KV cache: attention to prompt and reply together is the formula, and neither dropping finished replies, the
room in the cache nor rounding of uniform numbers changes what is sampled."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from guerdon.config import PolicyOptions
from guerdon.models.directory.policies import load_policy
from guerdon.models.engine import kv_cache


@pytest.fixture(scope="module")
def policy(tiny_dir):
    loaded = load_policy(PolicyOptions(base=str(tiny_dir)))
    loaded.generate([np.array([5], dtype=np.int32)], 1, 1)  # chooses the mode
    return loaded


@pytest.fixture(scope="module")
def prompts() -> list[np.ndarray]:
    """Prompts of unequal length, two of which share a prefix and two of which are the same."""
    rng = np.random.default_rng(0)
    first = [rng.integers(5, 60, size).astype(np.int32) for size in rng.integers(1, 40, 6)]
    return [*first, np.concatenate([first[0], first[1]]), np.concatenate([first[0], first[2]]), first[0]]


def as_lists(sampled: kv_cache.SampledTokens) -> list[list[int]]:
    return [reply.tolist() for reply in sampled.replies]


@pytest.mark.parametrize("softcap", [None, 0.8])
@pytest.mark.parametrize("cpu_kernel", [True, False])
@pytest.mark.parametrize("window", [None, 6])
def test_attention_to_prompt_and_reply_together_is_the_formula(softcap, cpu_kernel, window, monkeypatch):
    """Replies of 7 tokens to prompts of 9 and 4: a window of 6 hides both prompts."""
    if not cpu_kernel:
        monkeypatch.setattr(kv_cache, "has_cpu_kernel", lambda *_: False)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    lengths, prompt_of_reply, num_tokens = torch.tensor([9, 4]), np.array([0, 0, 1]), 6
    keys, values = random(2, 2, 9, 8), random(2, 2, 9, 8)
    group = kv_cache.PromptGroup(np.arange(2), lengths, {0: keys}, {0: values}, prompt_of_reply).with_slots()
    own = [random(3, 2, kv_cache.INITIAL_CAPACITY, 8) for _ in range(2)]
    cache = kv_cache.KVCache((group,), torch.arange(3), lengths[prompt_of_reply], num_tokens, {0: own[0]}, {0: own[1]})
    q, k, v = random(3, 4, 8), random(3, 2, 8), random(3, 2, 8)
    out = cache.attend(0, q, k, v, 0.5, window, softcap)
    for row, prompt in enumerate(prompt_of_reply):
        for head in range(4):
            visible = [
                torch.cat(
                    [x[prompt, head // 2, : lengths[prompt]], y[row, head // 2, :num_tokens], z[row, None, head // 2]]
                )
                for x, y, z in ((keys, own[0], k), (values, own[1], v))
            ]
            visible = [x[-window:] if window else x for x in visible]
            scores = visible[0] @ q[row, head] * 0.5
            scores = softcap * torch.tanh(scores / softcap) if softcap else scores
            torch.testing.assert_close(out[row, head], scores.softmax(0) @ visible[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("compact_share", [0.0, 1.0])
def test_dropping_finished_replies_changes_nothing(policy, prompts, monkeypatch, compact_share):
    """Until they are dropped from the cache, finished replies are computed and ignored."""
    stops = sorted({*policy.stop_ids, *range(40, 48)})

    def generate():
        uniforms = np.random.default_rng(0).random((3 * len(prompts), 20))
        return kv_cache.generate(policy.backbone, policy.unembed, prompts, uniforms, temperature=1.0, stops=stops)

    with torch.inference_mode():
        expected = generate()
        monkeypatch.setattr(kv_cache, "COMPACT_SHARE", compact_share)
        sampled = generate()
    assert as_lists(sampled) == as_lists(expected)
    assert {"stop", "length"} == set(expected.finish)


def test_a_cache_that_grows_samples_what_a_large_one_does(policy, prompts, monkeypatch):
    prompts, max_tokens = prompts[:2], 3 * kv_cache.INITIAL_CAPACITY
    grown = policy.generate(prompts, 2, max_tokens, seeds=0)
    monkeypatch.setattr(kv_cache, "INITIAL_CAPACITY", max_tokens)
    large = policy.generate(prompts, 2, max_tokens, seeds=0)
    assert as_lists(grown) == as_lists(large)
    with torch.no_grad():
        log_prob = policy.forward([p for p in prompts for _ in range(2)], grown.replies).log_prob
    sums = [float(x.sum()) for x in log_prob.split([len(reply) for reply in grown.replies])]
    np.testing.assert_allclose(sums, grown.log_prob, atol=1e-3)


def test_no_uniform_number_samples_a_token_of_probability_zero():
    """The largest numbers round to 1 in single precision; a vocabulary often ends with ids that are never used."""
    logits = torch.tensor([[-math.inf, 0.0, 2.0, -math.inf, -200.0]]).expand(4, -1)
    uniform = torch.tensor([0.0, 1 - 2**-24, 1 - 2**-30, 1 - 2**-53], dtype=torch.float64)
    token, log_prob = kv_cache.sample_token(logits, uniform, 1.0)
    assert token.tolist() == [1, 2, 2, 2]
    assert torch.isfinite(log_prob).all()
