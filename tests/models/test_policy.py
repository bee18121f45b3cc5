"""A policy keeps its contract, says why each response ended, and draws from the plain distribution."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from families import save_family

from assay import AssayError, Message
from assay.config import ModelOptions
from assay.models.policy import load_policy
from assay.testing import check_policy


@pytest.fixture(scope="module")
def policy(tiny_dir):
    return load_policy(ModelOptions(base=str(tiny_dir)))


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "olmoe"])
def test_every_family_keeps_the_contract(tmp_path, name):
    check_policy(load_policy(ModelOptions(base=str(save_family(tmp_path, name)))))


def test_a_response_that_ended_stops_and_one_that_was_cut_says_length(policy):
    drawn = policy.sample(["write"], 300, 3, seed=1)
    finishes = Counter(response.finish for response in drawn.responses)
    assert finishes["stop"] > 0
    assert finishes["length"] > 0
    assert all(len(response.text.split()) <= 3 for response in drawn.responses)
    assert "<|im_end|>" not in " ".join(response.text for response in drawn.responses)


def test_the_first_token_is_drawn_from_the_models_own_distribution(policy):
    text = "<|im_start|>user\nwrite<|im_end|>\n<|im_start|>assistant\n"
    ids = policy.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        p = policy.model(ids).logits[0, -1].double().softmax(0)
    drawn = policy.sample(["write"], 4000, 1, seed=0)
    word = int(p[8:].argmax()) + 8
    share = np.mean([r.text == policy.tokenizer.decode(word) for r in drawn.responses])
    expected = float(p[word])
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 4000) ** 0.5)


def test_the_seed_fixes_the_draws_and_leaves_the_global_generator_alone(policy):
    before = torch.random.get_rng_state()
    one, same, other = (policy.sample(["write", "a"], 4, 6, seed=seed).responses for seed in (1, 1, 2))
    assert one == same != other
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_system_message_is_said_before_prompts_that_have_none(tiny_dir, policy):
    spoken = load_policy(ModelOptions(base=str(tiny_dir), system="be kind"))
    own = [Message("system", "be kind"), Message("user", "write")]
    assert spoken.sample(["write"], 4, 6).responses == policy.sample([own], 4, 6).responses
    assert spoken.sample([own], 4, 6).responses == policy.sample([own], 4, 6).responses


def test_what_cannot_be_sampled_is_refused(policy):
    with pytest.raises(AssayError, match=r"n, max_tokens and temperature are above 0, got 0, 4, 1.0; remedy"):
        policy.sample(["a"], 0, 4)
