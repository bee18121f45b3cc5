"""A scalar reward model keeps its contract over every kind of backbone, and its directory is one that others read."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from families import DECODERS, ENCODERS, FAMILIES, save_family
from safetensors.torch import load_file, save_file
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
from guerdon.models.directory.formats import card_as_json, card_from_json
from guerdon.models.directory.loading import create_reward_model, load_reward_model
from guerdon.models.directory.saving import save
from guerdon.models.engine import tree_attention
from guerdon.models.engine.backbone import pad
from guerdon.models.engine.classifier import reward_head
from guerdon.models.engine.pretrained import quiet
from guerdon.models.reward_model import ScalarRewardModel, init_head
from guerdon.testing import check_reward_model
from tiny import tiny_tokenizer

PROMPTS = ["write a good film review", "is it a sad film ?", "i love the people"]
RESPONSES = ["yes , it is great and we love it very much .", "no", "they love you , and so do we !"]
END = "<|im_end|>"


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """Name -> directory of a tiny model of that family, made when first asked for."""
    made: dict[str, Path] = {}

    def family(name: str) -> Path:
        if name not in made:
            made[name] = save_family(tmp_path_factory.mktemp(name), name)
        return made[name]

    return family


@pytest.fixture(scope="module")
def model(tiny_dir):
    return create_reward_model(ModelOptions(base=str(tiny_dir)))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """A saved directory; read it, do not write into it."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save(model, folder)
    return folder


def scores(model):
    return model.score(PROMPTS, RESPONSES).value


def encode_as_others_do(model: ScalarRewardModel, folder: Path, side: str):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = side
    texts = [model.text.render(as_prompt(p), as_response(r)) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    return tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=model.text.encoder)


# ---- The contract, over every family -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_keeps_the_contract(families, name):
    model = create_reward_model(ModelOptions(base=str(families(name)), template="plain"))
    check_reward_model(model)
    assert model.score(PROMPTS, RESPONSES).value.std() > 0.01
    assert model.card.read_out == ("family_pooling" if name in ENCODERS else "last_token")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_read_back_by_us_and_by_plain_transformers(families, name, tmp_path):
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


def test_plain_transformers_gives_the_same_scores_whatever_side_it_pads(model, saved):
    plain = AutoModelForSequenceClassification.from_pretrained(saved).eval()
    for side in ("left", "right"):
        with torch.inference_mode():
            logits = plain(**encode_as_others_do(model, saved, side)).logits[:, 0]
        np.testing.assert_allclose(logits.numpy(), scores(model), atol=1e-5)


def test_a_family_that_neither_speaks_nor_classifies_is_refused(tmp_path):
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


def test_strings_messages_mappings_and_responses_score_alike(model):
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


def test_prompts_and_responses_of_unequal_number_are_refused(model):
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
def test_a_cut_prompt_loses_its_beginning_and_says_so(tiny_dir, truncation):
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


def test_a_response_cannot_forge_a_score_by_its_company(model):
    """Padding is masked, so a text that holds the pad token itself is still read to its end."""
    forged, plain = model.score(["a", "a"], ["yes <pad> <pad>", "yes"]).value
    assert forged != plain
    alone = model.score(["a"], ["yes <pad> <pad>"]).value[0]
    assert forged == pytest.approx(alone, abs=1e-6)


# ---- The head ------------------------------------------------------------------------------------------------------


def test_a_fresh_head_has_the_published_spread_and_its_own_generator():
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


def test_attributes_have_a_head_each_and_their_mean_is_the_reward(tiny_dir, tmp_path):
    model = create_reward_model(ModelOptions(base=str(tiny_dir), attributes=["helpful", "honest"]))
    save(model, tmp_path / "model")
    found = load_reward_model(tmp_path / "model").score(PROMPTS, RESPONSES)
    assert list(found.attributes) == ["helpful", "honest"]
    np.testing.assert_allclose(found.value, scores(model), atol=1e-6)
    np.testing.assert_allclose(found.value, (found.attributes["helpful"] + found.attributes["honest"]) / 2)


# ---- The directory -------------------------------------------------------------------------------------------------


def test_the_directory_speaks_to_old_and_new_readers(saved):
    config = json.loads((saved / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["id2label"] == {"0": "LABEL_0"}
    assert config["label2id"] == {"LABEL_0": 0}
    assert config["problem_type"] == "regression"
    assert config["pad_token_id"] == 3
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert config["torch_dtype"] == config["dtype"] == "float32"
    assert config["value_head_prefix"] == "score"
    tokenizer = json.loads((saved / "tokenizer_config.json").read_text("utf-8"))
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokenizer["chat_template"] == (saved / "chat_template.jinja").read_text("utf-8")
    assert not (saved / "generation_config.json").exists()
    assert saved.stat().st_mode & 0o777 == 0o755


def test_two_rope_bases_are_both_written_for_old_readers(families, tmp_path):
    save(create_reward_model(ModelOptions(base=str(families("gemma3")), template="plain")), tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text("utf-8"))
    assert config["rope_theta"] == 1_000_000.0
    assert config["rope_local_base_freq"] == 10_000.0


def test_a_saved_model_may_be_trained_on_with_the_head_it_has(model, saved):
    np.testing.assert_allclose(
        scores(create_reward_model(ModelOptions(base=str(saved)), seed=9)), scores(model), atol=1e-6
    )


def test_options_given_at_loading_go_before_stored_ones(saved):
    assert load_reward_model(saved, ModelOptions(truncation="left", max_length=40)).text.max_length == 40
    assert load_reward_model(saved).text.truncation == "refuse"


def test_a_save_that_is_killed_leaves_a_model(saved, tmp_path):
    """Killed while weights are written, and between the two renames: the old model loads, with its scores."""
    for at in ("weights", "renames"):
        folder = tmp_path / at
        shutil.copytree(saved, folder)
        child = textwrap.dedent(f"""
            import os, pathlib, signal
            from guerdon.models.directory import layout, loading, saving
            from guerdon.models.engine.classifier import reward_head
            model = loading.load_reward_model({str(folder)!r})
            reward_head(model.network.classifier).weight.data.zero_()
            die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            if {at!r} == "weights":
                layout.write_tokenizer = die
            else:
                rename = pathlib.Path.rename
                pathlib.Path.rename = lambda old, new: die() if new == pathlib.Path({str(folder)!r}) else rename(old, new)
            saving.save(model, {str(folder)!r})
        """)
        done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=False)
        assert done.returncode == -9, done.stderr
        np.testing.assert_allclose(scores(load_reward_model(folder)), scores(load_reward_model(saved)), atol=1e-6)
        for left in tmp_path.glob(f".{at}.*"):
            os.utime(left, (0, 0))  # as if the kill was long ago
        save(load_reward_model(folder), folder)
        np.testing.assert_allclose(scores(load_reward_model(folder)), scores(load_reward_model(saved)), atol=1e-6)
        assert not list(tmp_path.glob(".*"))


def test_saving_replaces_a_model_and_nothing_else(model, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to_ada.txt").write_text("dear Ada")
    (tmp_path / "file").write_text("mine")
    for name in ("letters", "file"):
        with pytest.raises(GuerdonError, match=r"is not a model, so it is not replaced\. Write elsewhere"):
            save(model, tmp_path / name)
    assert (tmp_path / "letters" / "to_ada.txt").read_text() == "dear Ada"
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        save(model, tmp_path / "empty")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "letters"]


@pytest.mark.parametrize("name", ["/proc/nobody/model", "file/model"])
def test_a_place_that_cannot_be_written_is_named(model, tmp_path, name):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GuerdonError, match=r"cannot write .*\. Free space, or write elsewhere"):
        save(model, tmp_path / name)


# ---- What is no reward model ---------------------------------------------------------------------------------------


def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_weights_that_are_no_numbers_are_refused_by_name(saved, tmp_path):
    folder = copied(saved, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        GuerdonError,
        match=r"weight model.layers.1.mlp.up_proj.weight must be finite, it holds NaN or infinity\. Take an earlier checkpoint",
    ):
        load_reward_model(folder)


def test_scores_that_are_no_numbers_are_refused(model, monkeypatch):
    monkeypatch.setattr(model.network, "forward", lambda texts: torch.full((len(texts), 1), float("inf")))
    with pytest.raises(
        GuerdonError,
        match=r"the reward of response 0 must be finite, got inf\. Check the weights with `guerdon doctor DIR`",
    ):
        model.score(["a"], ["b"])


def without(name: str):
    return lambda folder: (folder / name).unlink()


def with_key(name: str, **values):
    def change(folder: Path) -> None:
        body = json.loads((folder / name).read_text("utf-8"))
        (folder / name).write_text(json.dumps(body | values), "utf-8")

    return change


def with_text(name: str, text: str):
    return lambda folder: (folder / name).write_text(text, "utf-8")


def without_head(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["score.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("break_it", "complaint"),
    [
        (without("config.json"), r"holds no config.json, so it is not a model\. Pass the folder"),
        (without("model.safetensors"), r"not a readable model: .*\. Pass a directory"),
        (without("tokenizer.json"), r"no usable tokenizer .*\. Copy the base model"),
        (without_head, "1 weights are missing, the first score.weight: .* Run `guerdon doctor`"),
        (with_text("model.safetensors", "half"), r"not a readable model: .*\. Pass a directory"),
        (with_text("config.json", "{"), r"not a readable model: .*\. Pass a directory"),
        (with_key("config.json", model_type="no_such_type"), r"not a readable model: .*\. Pass a directory"),
        (
            with_key("config.json", architectures=["LlamaForCausalLM"]),
            r"LlamaForCausalLM has no reward head\. Train one",
        ),
        (with_text("reward.json", "{"), r"reward.json: not valid JSON .*\. Restore it"),
        (with_text("reward.json", "[]"), r"reward.json: must hold an object, got \[\]\. Restore it"),
        (
            with_key("reward.json", version=99),
            r"reward.json: was written by a newer Guerdon \(format 99, this one reads up to 2\)\. Upgrade with `pip install -U guerdon`",
        ),
        (with_key("reward.json", color="red"), r"reward.json: unknown key 'color'\. Delete it, or upgrade"),
    ],
)
def test_a_directory_that_is_no_reward_model_is_refused_in_one_line(saved, tmp_path, break_it, complaint):
    folder = copied(saved, tmp_path)
    break_it(folder)
    with pytest.raises(GuerdonError, match=complaint) as refusal:
        load_reward_model(folder)
    assert str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_a_missing_directory_and_a_language_model_are_no_reward_model(tiny_dir, tmp_path):
    (tmp_path / "file").write_text("hello")
    with pytest.raises(GuerdonError, match=r"a reward model must be a directory, this is a file\. Pass the folder"):
        load_reward_model(tmp_path / "file")
    with pytest.raises(GuerdonError, match="not a directory, and no model from the hub"):
        load_reward_model(tmp_path / "missing")
    with pytest.raises(GuerdonError, match=r"no such directory\. Pass .* or a hub name such as org/model"):
        load_reward_model("missing")
    with pytest.raises(GuerdonError, match=r"LlamaForCausalLM has no reward head\. Train one with `guerdon train`"):
        load_reward_model(tiny_dir)


def test_a_tokenizer_without_chat_template_is_refused_with_the_way_out(tiny_dir, tmp_path):
    folder = Path(shutil.copytree(tiny_dir, tmp_path / "bare"))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(
        GuerdonError, match=r"bare: the tokenizer must have a chat template, got none\. Set model\.template=plain"
    ):
        create_reward_model(ModelOptions(base=str(folder)))
    model = create_reward_model(ModelOptions(base=str(folder), template="plain"))
    save(model, tmp_path / "model")
    np.testing.assert_allclose(scores(load_reward_model(tmp_path / "model")), scores(model), atol=1e-6)


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
def test_a_tokenizer_that_pads_with_its_end_gets_a_pad_token_of_its_own(tiny_dir, tmp_path, spare_rows):
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


def test_a_device_that_is_not_there_is_refused(tiny_dir):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(
        GuerdonError,
        match=r"model\.device must be a device of this machine, got cuda without CUDA\. Set model\.device=cpu",
    ):
        create_reward_model(ModelOptions(base=str(tiny_dir), device="cuda"))


def test_every_option_of_a_card_survives_the_disk(model, tmp_path):
    card = dataclasses.replace(
        model.card, tie_threshold=0.5, self_test=(("a", "b", 1.0),), attributes=("x",), attribute_weights=(1.0,)
    )
    assert card_from_json(json.loads(json.dumps(card_as_json(card))), "here") == card


def test_decoders_without_a_classifier_of_their_own_get_one():
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as known

    assert sum(name not in known for name in DECODERS) >= 2


def test_half_a_character_is_scored_and_saved(tiny_dir, tmp_path):
    model = create_reward_model(ModelOptions(base=str(tiny_dir)))
    model.card = dataclasses.replace(model.card, self_test=(("is \ud800 good", "yes", 0.0),))
    save(model, tmp_path / "model")
    half, mark = (
        load_reward_model(tmp_path / "model").score([f"is {c} good"], ["yes"]).value for c in ("\ud800", "\ufffd")
    )
    assert half == mark
