"""What bounds memory changes a gradient by rounding only: micro-batches, parts of one comparison, activation checkpointing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from families import save_family
from toys import liked
from training_runs import SMOOTH, farthest, gradients, train, weights

from guerdon.config import ModelOptions
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.reward_model import ScalarNetwork


@pytest.mark.parametrize("loss", ["bradley_terry", "plackett_luce"])
def test_micro_batches_change_a_gradient_by_rounding_only(tiny_dir, loss):
    comparisons = liked(12, k=2 if loss == "bradley_terry" else 4)
    comparisons[3] = dataclasses.replace(comparisons[3], weight=2.5)
    whole, large = gradients(tiny_dir, comparisons, loss=loss, micro_tokens=10**6)
    for tokens in (16, 100, 300):
        value, small = gradients(tiny_dir, comparisons, loss=loss, micro_tokens=tokens)
        assert value == pytest.approx(whole, rel=1e-6)
        assert farthest(large, small) < 1e-5  # of gradients up to 10
    one, many = (
        weights(train(tiny_dir, comparisons, loss=loss, epochs=4.0, micro_tokens=tokens, **SMOOTH))
        for tokens in (10**6, 100)
    )
    assert farthest(one, many) < 1e-6


def test_micro_batches_change_weights_by_less_than_one_step_of_adamw(tiny_dir):
    """AdamW divides by the gradient's size, so the rounding of a gradient near 0 counts: the promise is no stronger."""
    lr = 1e-3
    one, many = (
        weights(train(tiny_dir, liked(16), lr=lr, epochs=4.0, batch_size=8, micro_tokens=tokens))
        for tokens in (10**6, 100)
    )
    assert farthest(one, many) < lr


@pytest.mark.parametrize("more", [{}, {"lora_rank": 2}, {"dtype": "bfloat16"}])
@pytest.mark.parametrize("loss", ["plackett_luce", "rao_kupper"])
def test_a_comparison_larger_than_a_pass_is_computed_in_parts(tiny_dir, monkeypatch, loss, more):
    """Of 24 replies, or two long ones: no pass is larger than the budget, and all gradients are those of one pass."""
    comparison = liked(1, k=24 if loss == "plackett_luce" else 2)[0]
    if loss == "rao_kupper":
        long = tuple(dataclasses.replace(r, text=f"{r.text} and so it was" * 9) for r in comparison.responses)
        comparison = dataclasses.replace(comparison, responses=long)
    sizes, cost = [], ScalarNetwork.forward

    def forward(network, texts):
        sizes.append(network.backbone.count_tokens(texts))
        return cost(network, texts)

    monkeypatch.setattr(ScalarNetwork, "forward", forward)
    given = {"loss": loss, "model": more}
    value, large = gradients(tiny_dir, [comparison], micro_tokens=10**6, **given)
    assert len(sizes) == 1
    whole = sizes.pop()
    least = 64 if loss == "plackett_luce" else whole // 2 - 20
    found, small = gradients(tiny_dir, [comparison], micro_tokens=least, **given)
    assert len(sizes) >= 4
    assert max(sizes) < whole * 0.75
    assert found == pytest.approx(value, rel=0.02 if "dtype" in more else 1e-6)
    if "dtype" not in more:
        assert small.keys() == large.keys()
        assert farthest(large, small) < 1e-6 * max(1.0, *(float(g.abs().max()) for g in large.values()))


@pytest.mark.parametrize("loss", ["bradley_terry", "all_pairs"])
def test_a_comparison_of_weight_two_counts_as_two_comparisons(tiny_dir, loss):
    one, *others = liked(5, k=2 if loss == "bradley_terry" else 3)
    heavy = [dataclasses.replace(one, weight=2.0), *others]
    given = {"loss": loss, "epochs": 3.0, "micro_tokens": 64, **SMOOTH}
    assert (
        farthest(weights(train(tiny_dir, heavy, **given)), weights(train(tiny_dir, [one, one, *others], **given)))
        < 1e-6
    )


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_gradient_checkpointing_changes_nothing(tiny_dir, lora_rank):
    given = {"model": {"lora_rank": lora_rank}, "epochs": 2.0, **SMOOTH}
    plain, frugal = (weights(train(tiny_dir, liked(16), gradient_checkpointing=on, **given)) for on in (False, True))
    assert farthest(plain, frugal) < 1e-6


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "deberta-v2", "modernbert"])
def test_a_forward_pass_in_training_mode_gives_the_same_twice(tmp_path, name):
    own = {"attention_dropout": 0.5} if name in ("llama", "modernbert") else {}
    base = save_family(tmp_path, name, **own)
    model = create_reward_model(ModelOptions(base=str(base), template="plain", lora_rank=2))
    model.network.train()
    texts = [np.array([4, 5, 6, 7, 8])]
    first, second = (model.network(texts) for _ in range(2))
    assert torch.equal(first, second)
    model.network.eval()
    assert torch.equal(first, model.network(texts))
