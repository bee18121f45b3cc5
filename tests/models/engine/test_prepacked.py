"""Weights laid out once: the same rewards, tokens and log-probabilities as plain products, never a stale weight, nothing left behind."""

from __future__ import annotations

import copy
import gc

import numpy as np
import pytest
import torch
from families import save_family
from torch import nn

from guerdon.config import ModelOptions, PolicyOptions
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.directory.policies import load_policy
from guerdon.models.engine import prepacked as module
from guerdon.models.engine.prepacked import PACKED_WEIGHTS, prepacked_weights

pytestmark = pytest.mark.skipif(not module.has_onednn(), reason="this torch has no oneDNN")


@pytest.fixture
def wide(tmp_path, monkeypatch):
    """A model whose layers are large enough, on a processor that gains by it."""
    monkeypatch.setattr(module, "gains", lambda weight: weight.numel() >= 512 and weight.dtype != torch.float64)
    return save_family(tmp_path, "llama", hidden_size=64, intermediate_size=96)


def products(monkeypatch):
    """How many products used a copy."""
    seen, product = [], torch.ops.mkldnn._linear_pointwise

    def counted(*given):
        seen.append(1)
        return product(*given)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    return seen


def test_rewards_are_those_of_plain_products(wide, monkeypatch):
    model = create_reward_model(ModelOptions(base=str(wide)))
    asked, said = (
        ["write a review of film 1", "write a tweet"] * 3,
        ["good great", "bad", "nice", "it was", "a", "b c d"],
    )
    with monkeypatch.context() as patch:
        patch.setattr(module, "gains", lambda weight: False)
        plain = model.score(asked, said).value
    seen = products(monkeypatch)
    found = model.score(asked, said).value
    assert seen
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-5)
    assert not [m for m in model.network.modules() if "forward" in vars(m)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_replies_and_their_log_probabilities_are_those_of_plain_products(wide, monkeypatch, dtype):
    policy = load_policy(PolicyOptions(base=str(wide), dtype=dtype))
    prompts = [np.arange(5, 5 + n, dtype=np.int32) for n in (3, 9)]
    with monkeypatch.context() as patch:
        patch.setattr(module, "gains", lambda weight: False)
        plain = policy.generate(prompts, 3, 8, temperature=1.0, seeds=1)
    seen = products(monkeypatch)
    drawn = policy.generate(prompts, 3, 8, temperature=1.0, seeds=1)
    assert seen
    assert [reply.tolist() for reply in drawn.replies] == [reply.tolist() for reply in plain.replies]
    np.testing.assert_allclose(drawn.log_prob, plain.log_prob, atol=1e-4 if dtype == "float32" else 0.1)
    seen.clear()
    repeated = [p for p in prompts for _ in range(3)]
    with torch.no_grad():
        policy.forward(repeated, drawn.replies)
    assert seen
    seen.clear()
    policy.forward(repeated, drawn.replies)  # with gradients: the weights themselves
    assert not seen


def change_data(weight):
    weight.data += 1  # as PEFT merges adapters: torch counts no change


def change_in_place(weight):
    with torch.no_grad():
        weight.mul_(2)


def change_storage(weight):
    weight.data = weight.data.clone() + 1


@pytest.mark.parametrize("change", [change_data, change_in_place, change_storage])
def test_a_changed_weight_is_laid_out_anew(wide, change):
    layer = nn.Linear(64, 96)
    x = torch.randn(5, 64)
    with torch.no_grad():
        for _ in range(2):
            with prepacked_weights(nn.Sequential(layer)):
                found = layer(x)
                assert "forward" in vars(layer)
            assert "forward" not in vars(layer)
            torch.testing.assert_close(found, nn.functional.linear(x, layer.weight, layer.bias), rtol=1e-5, atol=1e-5)
            held = PACKED_WEIGHTS[layer][1]
            with prepacked_weights(nn.Sequential(layer)):
                assert PACKED_WEIGHTS[layer][1] is held  # kept while nothing changes
            change(layer.weight)


def test_gradients_autocast_and_other_dtypes_use_the_weight_itself(wide, monkeypatch):
    layer, x = nn.Linear(64, 96), torch.randn(5, 64)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *given: pytest.fail("the copy was used"))
    with prepacked_weights(layer):
        layer(x).sum().backward()
        assert layer.weight.grad is not None
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16


def test_nothing_is_left_on_a_failure_nested_use_or_a_copied_model(wide):
    layer = nn.Linear(64, 96)

    def fail():
        with prepacked_weights(layer), prepacked_weights(layer):
            assert "forward" in vars(layer)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert "forward" not in vars(layer)
    assert copy.deepcopy(layer) not in PACKED_WEIGHTS
    before = len(PACKED_WEIGHTS)
    assert layer in PACKED_WEIGHTS
    del layer
    gc.collect()
    assert len(PACKED_WEIGHTS) == before - 1


def test_no_copies_where_memory_is_short(wide, monkeypatch):
    layer = nn.Linear(64, 96)
    monkeypatch.setattr(module, "FREE_MEMORY_DIVISOR", 10**12)
    with prepacked_weights(layer):
        assert "forward" not in vars(layer)


@pytest.mark.parametrize(
    ("intel", "dtype", "expected"), [(True, "float32", False), (False, "float32", True), (True, "float64", False)]
)
def test_only_weights_that_gain_are_laid_out(monkeypatch, intel, dtype, expected):
    monkeypatch.setattr(module, "is_intel", lambda: intel)
    assert module.gains(nn.Linear(256, 256, dtype=getattr(torch, dtype)).weight) == expected
    assert not module.gains(nn.Linear(16, 16).weight)
