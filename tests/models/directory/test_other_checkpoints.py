"""Checkpoints of other trainers are read with the scores they were saved with, or refused in one line; nothing is made up."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, OTHERS, STATEFUL, UNUSUAL, save_family
from safetensors.torch import load_file, save_file

from guerdon import GuerdonError
from guerdon.api import saved_models
from guerdon.config import ModelOptions
from guerdon.models.directory import loading
from guerdon.models.directory.doctor import examine
from guerdon.models.directory.loading import create_reward_model, load_reward_model
from guerdon.models.engine.loaded_weights import TESTED_FAMILIES
from guerdon.models.engine.pretrained import quiet
from tiny import faults, tiny_config, tiny_tokenizer

PROMPTS, RESPONSES = ["is it a sad film ?", "write a good film review"], ["no", "yes , it is great"]


def by_hand(folder: Path) -> np.ndarray:
    """What plain transformers gives for the texts, one at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scores = []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), return_tensors="pt").input_ids
        with torch.inference_mode():
            scores.append(model(ids).logits[0, 0].item())
    return np.array(scores)


def classifier(folder: Path, tokenizer=None, labels: int = 1, spare_rows: int = 0) -> Path:
    """A tiny classifier as plain transformers saves it."""
    from transformers import LlamaForSequenceClassification

    tokenizer = tokenizer or tiny_tokenizer()
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(3)
        config = tiny_config(tokenizer, num_labels=labels, initializer_range=0.2)
        config.vocab_size += spare_rows
        LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def edit_config(folder: Path, **values) -> None:
    """Set keys of config.json; None takes a key away."""
    body = json.loads((folder / "config.json").read_text("utf-8")) | values
    (folder / "config.json").write_text(json.dumps({k: v for k, v in body.items() if v is not None}), "utf-8")


def edit_tensors(folder: Path, without: str = "", **tensors: torch.Tensor) -> None:
    """Add tensors (a__b is a.b), and take one away."""
    stored = load_file(folder / "model.safetensors")
    stored.pop(without, None)
    named = {name.replace("__", "."): value for name, value in tensors.items()}
    save_file(stored | named, folder / "model.safetensors", {"format": "pt"})


def refusals(folder: Path) -> set[str]:
    """What loading the directory and training from it say, without its name."""
    errors = set()
    for read in (load_reward_model, lambda path: create_reward_model(ModelOptions(base=str(path)))):
        with pytest.raises(GuerdonError) as refusal:
            read(folder)
        assert "\n" not in str(refusal.value)
        errors.add(str(refusal.value).replace(str(folder), "DIR"))
    return errors


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"id2label": None, "label2id": None},
        {"architectures": ["LlamaForRewardModel"]},
    ],
)
def test_a_classifier_of_one_row_keeps_its_scores_whatever_its_config_calls_it(tmp_path, change):
    folder = classifier(tmp_path / "theirs")
    scores = by_hand(folder)
    edit_config(folder, **change)
    np.testing.assert_allclose(load_reward_model(folder).score(PROMPTS, RESPONSES).value, scores, atol=1e-5)


def test_a_head_of_several_rows_is_refused_unless_they_are_named(tmp_path):
    folder = classifier(tmp_path / "theirs", labels=2)
    (error,) = refusals(folder)
    assert error.startswith("DIR: its head has 2 rows, and a reward is 1 number. Name the rows with model.attributes=")
    named = load_reward_model(folder, ModelOptions(attributes=["good", "kind"]))
    rows = named.score(PROMPTS, RESPONSES)
    np.testing.assert_allclose(rows.value, (rows.attributes["good"] + rows.attributes["kind"]) / 2)
    np.testing.assert_allclose(rows.attributes["good"], by_hand(folder), atol=1e-5)


def test_the_bias_of_a_head_is_part_of_its_scores(tmp_path):
    folder = classifier(tmp_path / "theirs")
    scores = by_hand(folder)
    edit_tensors(folder, score__bias=torch.tensor([3.0]))
    np.testing.assert_allclose(saved_models.load(folder).score(PROMPTS, RESPONSES).value, scores + 3.0, atol=1e-5)
    saved_models.repair(folder, tmp_path / "ours")
    assert faults(examine(tmp_path / "ours")) == []
    again = saved_models.load(tmp_path / "ours")
    np.testing.assert_allclose(again.score(PROMPTS, RESPONSES).value, scores + 3.0, atol=1e-5)


def test_a_head_of_several_layers_is_refused(tmp_path):
    folder = classifier(tmp_path / "theirs")
    last = load_file(folder / "model.safetensors")["score.weight"]
    edit_tensors(folder, "score.weight", score__0__weight=torch.randn(64, 64), score__2__weight=last)
    (error,) = refusals(folder)
    assert error.startswith("DIR: its reward head must be one linear layer, got score.0.weight, score.2.weight. Score")


def test_training_from_a_value_head_starts_from_that_head(tiny_dir, tmp_path):
    folder = Path(shutil.copytree(tiny_dir, tmp_path / "theirs"))
    weight = torch.randn(1, 64, generator=torch.Generator().manual_seed(2))
    edit_tensors(folder, v_head__summary__weight=weight, v_head__summary__bias=torch.tensor([0.5]))
    model = create_reward_model(ModelOptions(base=str(folder)))
    torch.testing.assert_close(model.network.classifier.score.weight.detach(), weight)
    with pytest.raises(GuerdonError, match=r"its reward head v_head\.summary is not where .*doctor .*--repair OUT"):
        load_reward_model(folder)


def test_tensors_that_nothing_reads_are_named(tiny_dir, tmp_path):
    base, model = Path(shutil.copytree(tiny_dir, tmp_path / "base")), classifier(tmp_path / "model")
    for folder in (base, model):
        stored = load_file(folder / "model.safetensors")
        third = {name.replace("layers.1.", "layers.2."): t.clone() for name, t in stored.items() if "layers.1." in name}
        save_file(stored | third, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(
            GuerdonError,
            match=r"config\.json must describe every tensor next to it, got 9 that .*: model\.layers\.2\.input_layernorm\.weight",
        ):
            create_reward_model(ModelOptions(base=str(folder)))


def test_the_shape_that_does_not_fit_is_named(tmp_path):
    folder = classifier(tmp_path / "theirs")
    edit_config(folder, intermediate_size=256)
    (error,) = refusals(folder)
    assert error.startswith(
        "DIR: model.layers.0.mlp.down_proj.weight must have the shape that config.json gives, [64, 256], got [64, 128]."
    )


def test_a_config_of_a_far_larger_model_is_refused_before_memory_is_taken(tmp_path):
    folder = classifier(tmp_path / "theirs")
    edit_config(folder, intermediate_size=2**40)
    (error,) = refusals(folder)
    assert error.startswith("DIR: config.json must describe the weights next to it, got ")


def test_tokens_that_the_embedding_lacks_are_refused_by_name(tmp_path):
    tokenizer = tiny_tokenizer()
    folder = classifier(tmp_path / "theirs", tokenizer, spare_rows=3)
    scores = load_reward_model(folder).score(PROMPTS, RESPONSES).value
    np.testing.assert_allclose(scores, by_hand(folder), atol=1e-5)
    tokenizer.add_tokens(["<aaa>", "<bbb>", "<ccc>", "<ddd>"])
    tokenizer.save_pretrained(folder)  # now the last of them has no row
    model = load_reward_model(folder)
    np.testing.assert_array_equal(model.score(PROMPTS, RESPONSES).value, scores)
    with pytest.raises(
        GuerdonError, match=r"its token '<ddd>' has id \d+, but the model's embedding has \d+ rows\. Copy"
    ):
        model.score(["is it <ddd> ?"], ["no"])
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<ddd>{% endfor %}"
    tokenizer.save_pretrained(folder)
    (error,) = refusals(folder)
    assert "its token '<ddd>' has id" in error


@pytest.mark.parametrize("pad", ["<|im_end|>", None])
def test_padding_with_the_end_token_or_with_none_changes_no_score(tmp_path, pad):
    folder = classifier(tmp_path / "theirs")
    scores = by_hand(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = pad
    tokenizer.save_pretrained(folder)
    edit_config(folder, pad_token_id=tokenizer.pad_token_id)
    model = load_reward_model(folder)
    np.testing.assert_allclose(model.score(PROMPTS, RESPONSES).value, scores, atol=1e-5)
    np.testing.assert_allclose(model.score(PROMPTS[:1], RESPONSES[:1]).value, scores[:1], atol=1e-5)


def save_adapter(base: Path, folder: Path, *, with_head: bool) -> Path:
    """A LoRA adapter of a reward model as peft saves it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng(devices=[]), quiet():
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
        kind = "SEQ_CLS" if with_head else None  # for which peft saves the head too
        get_peft_model(model, LoraConfig(r=2, task_type=kind, target_modules=["q_proj"])).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("with_config", [False, True])
@pytest.mark.parametrize("with_head", [False, True])
def test_an_adapter_is_refused_and_says_whether_it_holds_the_head(tiny_dir, tmp_path, with_head, with_config):
    folder = save_adapter(tiny_dir, tmp_path / "adapter", with_head=with_head)
    if with_config:
        shutil.copy(tiny_dir / "config.json", folder)
    (error,) = refusals(folder)
    if with_head:
        assert error.startswith("DIR: is a LoRA adapter with a reward head, not a model. Merge it into ")
    else:
        assert error.startswith("DIR: is a LoRA adapter of ")
        assert error.endswith('modules_to_save=["score"], or pass a merged model that has its head.')
    with pytest.raises(GuerdonError, match="is a LoRA adapter"):
        saved_models.load(folder)


def test_an_adapter_beside_whole_weights_is_ambiguous(tmp_path):
    folder = classifier(tmp_path / "theirs")
    (folder / "adapter_config.json").write_text("{}")
    (error,) = refusals(folder)
    assert error.endswith("Delete adapter_config.json if the adapter is merged into them.")


def test_an_encoder_of_others_is_read_with_a_warning_that_it_gets_one_text(tmp_path, caplog):
    folder = save_family(tmp_path / "base", "bert")
    saved_models.save(create_reward_model(ModelOptions(base=str(folder))), tmp_path / "model")
    with caplog.at_level(logging.WARNING, logger="guerdon"):
        load_reward_model(tmp_path / "model")
    assert not caplog.records
    (tmp_path / "model/reward.json").unlink()
    with caplog.at_level(logging.WARNING, logger="guerdon"):
        load_reward_model(tmp_path / "model")
    assert "trained on pairs (question, answer) scores wrongly here, because it is given one text" in caplog.text


@pytest.mark.parametrize("name", {**FAMILIES, **UNUSUAL, **STATEFUL, **OTHERS})
def test_every_load_of_a_family_gives_the_same_scores(tmp_path, name):
    base = save_family(tmp_path / "base", name)
    assert json.loads((base / "config.json").read_text("utf-8"))["model_type"] in TESTED_FAMILIES
    saved_models.save(create_reward_model(ModelOptions(base=str(base))), tmp_path / "model")
    scores = [load_reward_model(tmp_path / "model").score(PROMPTS, RESPONSES).value for _ in range(2)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert np.isfinite(scores[0]).all()


def test_the_list_of_tested_families_holds_no_other(tmp_path):
    import transformers

    configs = [getattr(transformers, config) for config, _, _ in {**FAMILIES, **UNUSUAL, **STATEFUL, **OTHERS}.values()]
    assert {config.model_type for config in configs} == TESTED_FAMILIES


def test_another_family_is_loaded_twice_and_refused_if_its_scores_differ(tiny_dir, monkeypatch):
    monkeypatch.setattr(loading, "TESTED_FAMILIES", frozenset())
    model = create_reward_model(ModelOptions(base=str(tiny_dir)))
    torch.testing.assert_close(
        model.network.classifier.score.weight,
        create_reward_model(ModelOptions(base=str(tiny_dir))).network.classifier.score.weight,
    )
    from transformers import LlamaForSequenceClassification

    load = LlamaForSequenceClassification.from_pretrained.__func__

    def load_noise(cls, *args, **more):
        model, info = load(cls, *args, **more)
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight += torch.randn(1, generator=noise)
        return model, info

    noise = torch.Generator().manual_seed(0)
    monkeypatch.setattr(LlamaForSequenceClassification, "from_pretrained", classmethod(load_noise))
    with pytest.raises(
        GuerdonError, match=r"family llama must give the same finite scores at every load, got .*\. Choose"
    ):
        create_reward_model(ModelOptions(base=str(tiny_dir)))


def test_falcon_h1_scores_the_same_at_every_load(tmp_path):
    """Its mup_vector is in no file, and transformers 5 leaves it uninitialized in a classifier."""
    base = save_family(tmp_path / "base", "falcon_h1")
    edit_config(base, ssm_multipliers=[0.5, 2.0, 0.25, 1.5, 0.75])
    saved_models.save(create_reward_model(ModelOptions(base=str(base))), tmp_path / "model")
    scores = []
    for _ in range(2):
        memory = [torch.full((4096,), torch.nan) for _ in range(64)]  # what an uninitialized buffer may then hold
        del memory
        scores.append(load_reward_model(tmp_path / "model").score(PROMPTS, RESPONSES).value)
    np.testing.assert_array_equal(scores[0], scores[1])
    classifier = load_reward_model(tmp_path / "model").network.classifier
    vector = classifier.model.layers[0].mamba.mup_vector.flatten()
    assert sorted(set(vector.tolist())) == [0.25, 0.5, 0.75, 1.5, 2.0]
