"""A scalar reward model fulfills its contract over every kind of backbone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from families import DECODERS, ENCODERS, FAMILIES
from reward_models import PROMPTS, RESPONSES, scores
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from guerdon import (
    GuerdonError,
    Message,
    Response,
    RewardModel,
)
from guerdon.config import ModelOptions
from guerdon.contracts import as_prompt, as_response
from guerdon.models.chat import ChatTokenizer
from guerdon.models.directory.loading import create_reward_model, load_reward_model
from guerdon.models.directory.saving import save
from guerdon.models.engine import tree_attention
from guerdon.models.engine.backbone import pad
from guerdon.models.engine.classifier import reward_head
from guerdon.models.engine.pretrained import quiet
from guerdon.models.reward_model import ScalarRewardModel, init_head
from guerdon.testing import check_reward_model
from tiny import tiny_tokenizer

END = "<|im_end|>"


def encode_as_others_do(model: ScalarRewardModel, folder: Path, side: str):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = side
    texts = [model.text.render(as_prompt(p), as_response(r)) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    return tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=model.text.encoder)


# ---- The contract, over every family -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_fulfills_the_contract(families, name):
    model = create_reward_model(ModelOptions(base=str(families(name)), template="plain"))
    check_reward_model(model)
    assert model.score(PROMPTS, RESPONSES).value.std() > 0.01
    assert model.card.read_out == ("family_pooling" if name in ENCODERS else "last_token")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_scores_the_same_after_saving_here_and_in_plain_transformers(families, name, tmp_path):
    model = create_reward_model(ModelOptions(base=str(families(name)), template="plain"))
    save(model, tmp_path / "model")
    again = load_reward_model(tmp_path / "model")
    np.testing.assert_allclose(scores(again), scores(model), atol=1e-6)  # weights lie elsewhere in memory
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    batch = encode_as_others_do(again, tmp_path / "model", "right")
    with torch.inference_mode():
        logits = plain(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert logits.shape == (3, 1)
    np.testing.assert_allclose(logits[:, 0].numpy(), scores(model), atol=1e-5)


def test_plain_transformers_gives_the_same_scores_with_either_padding_side(model, saved):
    plain = AutoModelForSequenceClassification.from_pretrained(saved).eval()
    for side in ("left", "right"):
        with torch.inference_mode():
            logits = plain(**encode_as_others_do(model, saved, side)).logits[:, 0]
        np.testing.assert_allclose(logits.numpy(), scores(model), atol=1e-5)


def test_a_family_without_language_model_or_classifier_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip_vision_model", "architectures": ["CLIPVisionModel"]}')
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(GuerdonError, match=r"clip_vision_model.*Choose a text model"):
        create_reward_model(ModelOptions(base=str(tmp_path)))


# ---- Planted faults ------------------------------------------------------------------------------------------------


def hidden_states(network, input_ids, attention_mask):
    return network.backbone.base_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def ignores_the_mask(network, texts):
    """Pads on the left and attends to the padding."""
    network.backbone.set_attention("sdpa")
    ids, _ = pad([row[::-1] for row in texts], 3)
    return network.classifier.score(hidden_states(network, ids.flip(1), None)[:, -1])


def reads_the_last_column(network, texts):
    network.backbone.set_attention("sdpa")
    return network.classifier.score(hidden_states(network, *pad(texts, 3))[:, -1])


def centers_the_batch(network, texts):
    rewards = type(network).forward(network, texts)
    return rewards - rewards.mean()


@pytest.mark.parametrize("fault", [ignores_the_mask, reads_the_last_column, centers_the_batch])
def test_the_conformance_check_finds_a_planted_fault_in_the_real_model(model, fault, monkeypatch):
    check_reward_model(model)
    monkeypatch.setattr(model.network, "forward", lambda *given: fault(model.network, *given))
    with pytest.raises(AssertionError, match="a score changed by"):
        check_reward_model(model)
    model.network.backbone.set_attention(tree_attention.ATTENTION_NAME)


# ---- What is scored ------------------------------------------------------------------------------------------------


def test_strings_messages_mappings_and_responses_score_the_same(model):
    ways = [
        ("a good film ?", "yes"),
        ([Message("user", "a good film ?")], Response("yes")),
        ([{"role": "user", "content": "a good film ?"}], Response("yes", finish="stop", author="a")),
    ]
    found = [model.score([prompt], [response]).value[0] for prompt, response in ways]
    assert found[0] == found[1] == found[2]
    assert isinstance(model, RewardModel)
    assert model.score([], []).value.shape == (0,)
    odds = model.log_odds(PROMPTS, RESPONSES, RESPONSES[::-1])
    np.testing.assert_allclose(odds, -model.log_odds(PROMPTS, RESPONSES[::-1], RESPONSES), atol=1e-6)


def test_unequal_numbers_of_prompts_and_responses_are_refused(model):
    with pytest.raises(GuerdonError, match="2 prompts but 1 responses"):
        model.score(["a", "b"], ["c"])


@pytest.mark.parametrize("text", ["we love it", "we love it  ", "\n we love it", "a", "m", "end", "yes " * 20])
def test_a_cut_response_is_left_open(model, text):
    prompt = as_prompt("write")
    whole, cut = (model.text.render(prompt, Response(text, finish=finish)) for finish in ("stop", "length"))
    assert END in whole[len("<|im_start|>user\nwrite<|im_end|>") :]
    assert cut.rstrip().endswith(text.strip())
    assert whole.startswith(cut.rstrip())
    assert model.score(["write"], [Response(text, finish="length")]).value != model.score(["write"], [text]).value


def test_an_empty_cut_response_still_scores(model):
    assert np.isfinite(model.score(["write"], [Response("", finish="length")]).value).all()


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_the_plain_template_names_the_speakers(families, finish):
    text = ChatTokenizer(AutoTokenizer.from_pretrained(families("gpt2")), template="plain")
    assert text.render(as_prompt("hi"), Response("yes", finish=finish)) == "User: hi\n\nAssistant: yes"


def test_a_system_message_stands_before_prompts_that_have_none_and_is_stored(tiny_dir, tmp_path):
    spoken = create_reward_model(ModelOptions(base=str(tiny_dir), system="be kind"))
    bare = create_reward_model(ModelOptions(base=str(tiny_dir)))
    own = [Message("system", "be kind"), Message("user", "write")]
    assert spoken.score(["write"], ["yes"]).value == bare.score([own], ["yes"]).value
    assert spoken.score([own], ["yes"]).value == bare.score([own], ["yes"]).value
    assert spoken.card.template_hash != bare.card.template_hash
    save(spoken, tmp_path / "model")
    again = load_reward_model(tmp_path / "model").score(["write"], ["yes"]).value
    np.testing.assert_allclose(again, bare.score([own], ["yes"]).value, atol=1e-5)


def test_too_long_texts_are_refused_with_their_count(tiny_dir):
    model = create_reward_model(ModelOptions(base=str(tiny_dir), max_length=16))
    with pytest.raises(
        GuerdonError, match=r"max_length=16: 2 of 3 texts are longer \(longest \d+ tokens\)\. Set model"
    ):
        model.score(["a", "a " * 20, "a " * 30], ["b", "b", "b"])


@pytest.mark.parametrize("truncation", ["left", "drop"])
def test_a_truncated_prompt_loses_its_beginning_and_is_reported(tiny_dir, truncation):
    model = create_reward_model(ModelOptions(base=str(tiny_dir), max_length=16, truncation=truncation))
    long, short = model.text.encode(["film " * 20 + "is it good ?", "a"], ["yes", "b"])
    assert (long.truncated, short.truncated) == (True, False)
    assert len(long.ids) == 16
    tokenizer = model.text.tokenizer
    assert long.ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(long.ids).split()[-3:] == ["assistant", "yes", END]
    found = model.score(["film " * 20, "a"], ["yes", "b"])
    assert found.truncated.tolist() == [True, False]


def test_a_prompt_longer_than_the_models_context_is_refused(tiny_dir):
    with pytest.raises(
        GuerdonError, match=r"must be at most 512, the context of .*, got 513\. Set model\.max_length=512"
    ):
        create_reward_model(ModelOptions(base=str(tiny_dir), max_length=513))


def test_a_template_that_refuses_a_conversation_says_which(tiny_dir):
    model = create_reward_model(ModelOptions(base=str(tiny_dir)))
    model.text.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(GuerdonError, match=r"roles user,assistant: roles must alternate\. Reorder"):
        model.score(["a"], ["b"])


def test_a_response_cannot_change_the_scores_of_its_batch(model):
    """Padding is masked, so a text that holds the pad token itself is still read to its end."""
    forged, plain = model.score(["a", "a"], ["yes <pad> <pad>", "yes"]).value
    assert forged != plain
    alone = model.score(["a"], ["yes <pad> <pad>"]).value[0]
    assert forged == pytest.approx(alone, abs=1e-6)


# ---- The head ------------------------------------------------------------------------------------------------------


def test_a_new_head_has_the_published_spread_and_its_own_generator():
    head = nn.Linear(1023, 256)
    init_head(head, 0)
    assert head.weight.std().item() == pytest.approx(1 / 32, rel=0.01)
    assert not head.bias.any()
    before = torch.random.get_rng_state()
    init_head(head, 1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_smaller_scale_draws_the_same_head_smaller():
    head, small = nn.Linear(63, 8), nn.Linear(63, 8)
    init_head(head, 3)
    init_head(small, 3, 0.02)
    assert torch.allclose(small.weight, 0.02 * head.weight)


@pytest.mark.parametrize("name", ["llama", "bert", "roberta", "deberta-v2", "modernbert"])
def test_the_seed_draws_the_head_and_leaves_the_global_generator_alone(families, name):
    options = ModelOptions(base=str(families(name)), template="plain")
    before = torch.random.get_rng_state()
    first, again, other = (scores(create_reward_model(options, seed=seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_head_and_scores_are_float32_over_a_bfloat16_backbone(tiny_dir, tmp_path):
    model = create_reward_model(ModelOptions(base=str(tiny_dir), dtype="bfloat16"))
    dtypes = {p.dtype for p in model.network.classifier.model.parameters()}
    assert dtypes == {torch.bfloat16}
    assert reward_head(model.network.classifier).weight.dtype == torch.float32
    save(model, tmp_path / "model")
    again = load_reward_model(tmp_path / "model", ModelOptions(dtype="bfloat16"))
    assert {p.dtype for p in again.network.classifier.model.parameters()} == {torch.bfloat16}
    np.testing.assert_allclose(scores(again), scores(model), atol=1e-6)  # weights lie elsewhere in memory
    on_a_cpu = load_reward_model(
        tmp_path / "model", ModelOptions(device="cpu")
    )  # bfloat16 scores would depend on their batch
    assert {p.dtype for p in on_a_cpu.network.classifier.model.parameters()} == {torch.float32}
    np.testing.assert_allclose(scores(on_a_cpu), scores(model), atol=0.05)
    check_reward_model(on_a_cpu)
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert stored["score.weight"].dtype == torch.float32
    assert torch.equal(stored["score.weight"], model.network.classifier.score.weight)


def test_each_attribute_has_a_head_and_their_mean_is_the_reward(tiny_dir, tmp_path):
    model = create_reward_model(ModelOptions(base=str(tiny_dir), attributes=["helpful", "honest"]))
    save(model, tmp_path / "model")
    found = load_reward_model(tmp_path / "model").score(PROMPTS, RESPONSES)
    assert list(found.attributes) == ["helpful", "honest"]
    np.testing.assert_allclose(found.value, scores(model), atol=1e-6)
    np.testing.assert_allclose(found.value, (found.attributes["helpful"] + found.attributes["honest"]) / 2)


# ---- The directory -------------------------------------------------------------------------------------------------


# ---- What is no reward model ---------------------------------------------------------------------------------------


def test_scores_that_are_not_finite_are_refused(model, monkeypatch):
    monkeypatch.setattr(model.network, "forward", lambda texts: torch.full((len(texts), 1), float("inf")))
    with pytest.raises(
        GuerdonError,
        match=r"the reward of response 0 must be finite, got inf\. Check the weights with `guerdon doctor DIR`",
    ):
        model.score(["a"], ["b"])


def without_pad_token(tiny_dir: Path, folder: Path, vocabulary: int = 0) -> Path:
    """A model whose tokenizer pads with its end token, and knows no word that could serve instead."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    for old, new in (("<pad>", "<other>"), ("<unk>", "<what>")):
        state["model"]["vocab"][new] = state["model"]["vocab"].pop(old)
    state["model"]["unk_token"] = "<what>"
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] not in ("<pad>", "<unk>")]
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    changed = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        bos_token="<|im_start|>",
        eos_token=END,
        pad_token=END,
        model_max_length=512,
    )
    changed.chat_template = tokenizer.chat_template
    config = LlamaConfig.from_pretrained(tiny_dir)
    config.vocab_size = max(len(changed), vocabulary)
    config.pad_token_id = changed.pad_token_id
    with quiet():
        LlamaForCausalLM(config).save_pretrained(folder)
    changed.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("spare_rows", [0, 64])
def test_a_tokenizer_whose_pad_token_ends_texts_gets_another(tiny_dir, tmp_path, spare_rows):
    size = len(tiny_tokenizer())
    base = without_pad_token(tiny_dir, tmp_path / "base", size + spare_rows)
    model = create_reward_model(ModelOptions(base=str(base)))
    tokenizer = model.text.tokenizer
    assert tokenizer.pad_token_id == size
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    rows = model.network.classifier.get_input_embeddings().weight.shape[0]
    assert rows == max(size + 1, size + spare_rows)  # a vocabulary with rows to spare is never cut
    check_reward_model(model)
    save(model, tmp_path / "model")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    with torch.inference_mode():
        logits = plain(**encode_as_others_do(model, tmp_path / "model", "right")).logits[:, 0]
    np.testing.assert_allclose(logits.numpy(), scores(model), atol=1e-5)
    np.testing.assert_allclose(scores(create_reward_model(ModelOptions(base=str(base)))), scores(model), atol=1e-6)


def test_decoders_without_a_classifier_class_get_one():
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as known

    assert sum(name not in known for name in DECODERS) >= 2


def test_a_lone_surrogate_is_scored_and_saved(tiny_dir, tmp_path):
    model = create_reward_model(ModelOptions(base=str(tiny_dir)))
    model.card = dataclasses.replace(model.card, self_test=(("is \ud800 good", "yes", 0.0),))
    save(model, tmp_path / "model")
    half, mark = (
        load_reward_model(tmp_path / "model").score([f"is {c} good"], ["yes"]).value for c in ("\ud800", "\ufffd")
    )
    assert half == mark
