"""Likelihoods are those of padded rows through the whole model, whatever else is in the batch."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from families import save_family

from guerdon.config import PolicyOptions
from guerdon.contracts import (
    GuerdonError,
    Response,
    Rollouts,
    as_prompt,
)
from guerdon.models import likelihood as module
from guerdon.models.directory.policies import load_policy
from guerdon.models.likelihood import (
    continuation_likelihood,
    opening_ids,
    pair_likelihood,
    split_token_ids,
    text_likelihood,
)

CONTEXTS = ["the film was", "the film was", "people love the", ""]
CONTINUATIONS = [" very good .", " bad", " answer", "we see the film ."]


@pytest.fixture(scope="module")
def policy(tiny_dir):
    return load_policy(PolicyOptions(base=str(tiny_dir)))


@pytest.fixture(scope="module")
def plain(tiny_dir):
    """The same weights, run by transformers alone."""
    return load_policy(PolicyOptions(base=str(tiny_dir))).model


def by_hand(model, before, after):
    """Nats of the continuation, and whether each of its tokens is the most likely one."""
    ids = torch.from_numpy(np.concatenate([before, after]).astype(np.int64))
    with torch.no_grad():
        rows = model(ids[None]).logits[0, len(before) - 1 : -1].double().log_softmax(-1)
    target = ids[len(before) :]
    return float(rows.gather(1, target[:, None]).sum()), bool((rows.argmax(-1) == target).all())


def test_continuations_have_the_likelihood_of_the_whole_model(policy, plain):
    found = continuation_likelihood(policy, CONTEXTS, CONTINUATIONS)
    tokens = policy.tokenizer(CONTINUATIONS, add_special_tokens=False)["input_ids"]
    assert found.num_tokens.tolist() == [len(ids) for ids in tokens]
    for nats, pair in zip(found.log_prob, split_token_ids(policy, CONTEXTS, CONTINUATIONS), strict=True):
        assert nats == pytest.approx(by_hand(plain, *pair)[0], abs=1e-4)
    np.testing.assert_allclose(found.per_token, found.log_prob / found.num_tokens)


@pytest.mark.parametrize("name", ["gpt2", "gemma3", "olmoe"])
def test_every_family_gives_the_same_as_transformers(tmp_path, name):
    policy = load_policy(PolicyOptions(base=str(save_family(tmp_path, name))))
    other = load_policy(PolicyOptions(base=str(tmp_path))).model
    found = continuation_likelihood(policy, CONTEXTS, CONTINUATIONS)
    expected = [by_hand(other, *pair)[0] for pair in split_token_ids(policy, CONTEXTS, CONTINUATIONS)]
    np.testing.assert_allclose(found.log_prob, expected, atol=2e-3)


@pytest.mark.parametrize("micro_tokens", [16, 60, 4096])
def test_the_likelihood_of_a_text_does_not_depend_on_its_batch(policy, micro_tokens):
    together = continuation_likelihood(policy, CONTEXTS, CONTINUATIONS, micro_tokens=micro_tokens).log_prob
    alone = [
        continuation_likelihood(policy, [c], [t]).log_prob[0] for c, t in zip(CONTEXTS, CONTINUATIONS, strict=True)
    ]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_context_and_continuation_split_the_tokens_of_the_text(policy):
    whole, first, second = continuation_likelihood(
        policy, ["we", "we", "we see"], [" see the film .", " see", " the film ."]
    ).log_prob
    assert whole == pytest.approx(first + second, abs=1e-4)
    assert continuation_likelihood(policy, ["we see "], ["the film ."]).log_prob[0] == pytest.approx(second, abs=1e-4)
    alone = continuation_likelihood(policy, [""], ["we see the film ."]).log_prob
    assert text_likelihood(policy, ["we see the film ."]).log_prob == pytest.approx(alone, abs=1e-4)


def test_a_chat_is_rendered_by_the_template_and_ends_where_the_text_does(policy):
    asked = [as_prompt("write a review"), as_prompt("the film")]
    replies = ["a good film .", "we love it"]
    cut = Rollouts(tuple(asked), tuple(Response(text, finish="length") for text in replies))
    np.testing.assert_allclose(
        continuation_likelihood(policy, asked, replies).log_prob, policy.log_probs(cut), atol=1e-4
    )


def test_only_greedy_continuations_count_as_greedy(policy, plain):
    prompts = [policy.encode(as_prompt(text)) for text in ("write a review", "the film", "why", "people love")]
    said = policy.generate(prompts, 1, 6, temperature=0.0).replies
    rng = np.random.default_rng(0)
    pairs = [*zip(prompts, said, strict=True)]
    for prompt, reply in zip(prompts * 6, said * 6, strict=True):
        changed = reply.copy()
        changed[rng.integers(len(changed))] = rng.integers(8, len(policy.tokenizer))
        pairs.append((prompt, changed))
    found = pair_likelihood(policy, pairs, greedy=True).is_greedy
    assert found.tolist() == [by_hand(plain, *pair)[1] for pair in pairs]
    assert found[:4].all()
    assert not found.all()


def test_undecided_continuations_are_checked_by_decoding(policy):
    """In a wide distribution the most likely token has a probability far below 1/2."""
    contexts = [policy.encode(as_prompt(str(i))) for i in range(9)]
    with torch.inference_mode():
        first = [policy.generate([c], 1, 1, temperature=0.0).replies[0] for c in contexts]
        likeliest = policy.forward(contexts, first).log_prob
    assert (likeliest < np.log(0.5)).any()
    assert pair_likelihood(policy, [*zip(contexts, first, strict=True)], greedy=True).is_greedy.all()


def test_a_long_text_is_read_in_windows_in_which_every_token_is_predicted_once(policy, plain, monkeypatch):
    text = " ".join(["we see the film", "people love it", "it was bad"] * 8)
    ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
    whole = text_likelihood(policy, [text])
    assert whole.num_tokens[0] == len(ids)
    assert whole.log_prob[0] == pytest.approx(by_hand(plain, [policy.tokenizer.bos_token_id], ids)[0], abs=1e-3)
    monkeypatch.setattr(module, "MAX_WINDOW", 30)
    cut = text_likelihood(policy, [text, "we"])
    assert cut.num_tokens.tolist() == [len(ids), 1]
    ends = [*range(30, len(ids), 30), len(ids)]
    expected = by_hand(plain, [policy.tokenizer.bos_token_id], ids[:30])[0]
    expected += sum(by_hand(plain, ids[end - 31 : at], ids[at:end])[0] for at, end in pairwise(ends))
    assert cut.log_prob[0] == pytest.approx(expected, abs=1e-3)


def test_a_text_that_does_not_fit_loses_its_beginning(policy, monkeypatch):
    monkeypatch.setattr(module, "MAX_WINDOW", 5)
    ((before, after),) = split_token_ids(policy, ["the film was so very bad"], [" and sad ."])
    assert policy.tokenizer.decode(before) == "so very bad"
    assert policy.tokenizer.decode(after) == "and sad ."
    ((before, after),) = split_token_ids(policy, [as_prompt("why")], ["we see the film and people love it ."])
    assert (len(before), len(after)) == (1, 5)


def test_a_text_opens_with_the_tokens_of_its_tokenizer(policy):
    class Begins:
        """A tokenizer that puts token 1 first by itself."""

        bos_token_id, eos_token_id = 1, 2

        def __call__(self, text, add_special_tokens=True):
            return {"input_ids": [1, 7] if add_special_tokens else [7]}

    class Bare(Begins):
        bos_token_id = eos_token_id = None

        def __call__(self, text, add_special_tokens=True):
            return {"input_ids": [7]}

    assert opening_ids(Begins(), needed=False) == [1]
    assert opening_ids(policy.tokenizer, needed=False) == []
    assert opening_ids(policy.tokenizer, needed=True) == [policy.tokenizer.bos_token_id]
    assert opening_ids(Bare(), needed=False) == []
    with pytest.raises(GuerdonError, match="must have a bos_token or an eos_token to open a text with, got neither"):
        opening_ids(Bare(), needed=True)


def test_no_texts_and_empty_texts_are_handled(policy):
    assert len(continuation_likelihood(policy, [], []).log_prob) == 0
    found = continuation_likelihood(policy, ["the film", "the film"], ["", " was"])
    assert (found.log_prob[0], found.num_tokens.tolist(), found.per_token[0]) == (0.0, [0, 1], 0.0)
    assert text_likelihood(policy, [""]).log_prob.tolist() == [0.0]
