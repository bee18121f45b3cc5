"""The reward after every token of a reply: read in one pass, equal to the reward of each prefix, summing to the reply's reward."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from families import save_family
from reward_models import PROMPTS, RESPONSES

from guerdon import GuerdonError, Response
from guerdon.config import ModelOptions
from guerdon.contracts import as_prompt, as_response
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.ensemble import Ensemble
from guerdon.models.token_rewards import TokenRewards, TokenScorer, reply_tokens


@pytest.fixture(scope="module")
def model(tiny_dir):
    return create_reward_model(ModelOptions(base=str(tiny_dir)))


@pytest.mark.parametrize("is_calibrated", [False, True])
def test_the_start_and_the_gains_sum_to_the_reward_of_the_reply(model, is_calibrated):
    chosen = CalibratedModel(model, Calibration(temperature=0.3, reference_mean=0.7)) if is_calibrated else model
    replies = TokenScorer(chosen).score_tokens(PROMPTS, RESPONSES)
    whole = chosen.score(PROMPTS, RESPONSES).value
    for own, reward in zip(replies, whole, strict=True):
        assert own.start + own.gains.sum() == pytest.approx(own.reward, abs=1e-12)
        assert own.reward == pytest.approx(reward, rel=1e-6, abs=1e-6)  # another pass: equal up to rounding in float32
        assert np.abs(own.gains).max() > 1e-3


def test_the_reward_after_a_token_is_that_of_the_text_up_to_it(model):
    """The independent way: one pass for each prefix of the token ids, read at its last token."""
    ids = model.text.encode(PROMPTS[:1], RESPONSES[:1])[0].ids
    (own,) = TokenScorer(model).score_tokens(PROMPTS[:1], RESPONSES[:1])
    prefixes = [ids[:size] for size in range(len(ids) - len(own.tokens), len(ids) + 1)]
    expected = model.network(prefixes)[:, 0].detach().numpy()
    np.testing.assert_allclose([own.start, *own.rewards], expected, atol=1e-6)


def test_the_tokens_are_the_reply_with_what_the_template_puts_behind_it(model):
    for own, response in zip(TokenScorer(model).score_tokens(PROMPTS, RESPONSES), RESPONSES, strict=True):
        assert "".join(own.tokens) == f"{response}<|im_end|>"  # the tiny tokenizer drops the line's end
        assert [token.strip() for token in own.tokens] == [*response.split(), "<|im_end|>"]


def test_a_reply_that_was_cut_ends_at_its_last_token(model):
    cut = Response("yes it is", finish="length")
    (own,) = TokenScorer(model).score_tokens(["is it a film ?"], [cut])
    assert [token.strip() for token in own.tokens] == ["yes", "it", "is"]
    assert own.reward == pytest.approx(model.score(["is it a film ?"], [cut]).value[0], abs=1e-6)


def test_an_empty_reply_has_the_tokens_of_the_template_alone(model):
    (own,) = TokenScorer(model).score_tokens(["is it a film ?"], [""])
    assert own.tokens == ("<|im_end|>",)
    assert TokenScorer(model).score_tokens([], []) == []


def test_several_heads_give_their_mean_and_attributes_their_weighted_sum(tiny_dir):
    for options in ({"heads": 3}, {"attributes": ["kind", "true"]}):
        model = create_reward_model(ModelOptions(base=str(tiny_dir), **options))
        if "attributes" in options:
            model = model.with_card(attribute_weights=(2.0, -1.0))
        rewards = [own.reward for own in TokenScorer(model).score_tokens(PROMPTS, RESPONSES)]
        np.testing.assert_allclose(rewards, model.score(PROMPTS, RESPONSES).value, atol=1e-6)


def test_a_truncated_text_has_the_tokens_that_the_model_reads(model):
    prompt, reply = "a good film review " * 3, "we love it . " * 4
    whole = len(model.text.encode([prompt], [reply])[0].ids)
    for size in (whole - 3, 8):  # the second cuts into the reply
        short = model.with_card()
        short.text = dataclasses.replace(model.text, max_length=size, truncation="left")
        (own,) = TokenScorer(short).score_tokens([prompt], [reply])
        assert own.truncated
        assert len(own.tokens) == min(17, size - 1)
        assert f"{reply}<|im_end|>".endswith("".join(own.tokens))
        assert own.reward == pytest.approx(short.score([prompt], [reply]).value[0], abs=1e-6)


def test_characters_of_several_tokens_belong_to_the_first_of_them(tiny_dir):
    """Byte-level tokens: an emoji is four, three of which have no text; joined, nothing of the reply is lost."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    backend = ByteLevelBPETokenizer(add_prefix_space=False, trim_offsets=True)
    backend.train_from_iterator(["a good film"], vocab_size=260, show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend._tokenizer)
    model = create_reward_model(ModelOptions(base=str(tiny_dir)))
    tokenizer.chat_template = model.text.chat_template
    text = dataclasses.replace(model.text, tokenizer=tokenizer, vocabulary=None)
    reply = "so  good 😀\u202e\ud800 film"
    prompt = as_prompt("say 😀")
    size = len(text.encode([prompt], [reply])[0].ids)
    tokens = reply_tokens(text, prompt, as_response(reply), size)
    assert "".join(tokens) == reply.replace("\ud800", "\ufffd") + "<|im_end|>\n"
    place = tokens.index("😀")
    assert tokens[place + 1 : place + 4] == ("", "", "")


def test_models_without_one_causal_network_are_refused(model, tmp_path):
    with pytest.raises(GuerdonError, match=r"one model on this machine, got Ensemble\. Score with one member"):
        TokenScorer(Ensemble([model, model]))
    encoder = create_reward_model(ModelOptions(base=str(save_family(tmp_path, "bert")), template="plain"))
    with pytest.raises(GuerdonError, match=r"needs a causal model, .*, got an encoder\. Choose"):
        TokenScorer(encoder)


def test_the_gains_of_a_reply_are_worked_by_hand():
    own = TokenRewards(("a", "b", "c"), np.array([1.0, 0.5, 2.0]), 0.25)
    assert own.gains.tolist() == [0.75, -0.5, 1.5]
    assert own.as_row() == {"start": 0.25, "tokens": ["a", "b", "c"], "rewards": [1.0, 0.5, 2.0]}
