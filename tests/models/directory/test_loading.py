"""A reward model is loaded as it was saved; what is not one is refused in one line."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from reward_models import scores
from safetensors.torch import load_file, save_file

from guerdon import (
    GuerdonError,
)
from guerdon.config import ModelOptions, PolicyOptions
from guerdon.models.directory.formats import card_as_json, card_from_json
from guerdon.models.directory.loading import create_reward_model, load_reward_model
from guerdon.models.directory.policies import load_policy
from guerdon.models.directory.saving import save


def test_training_a_saved_model_starts_from_its_own_head(model, saved):
    np.testing.assert_allclose(
        scores(create_reward_model(ModelOptions(base=str(saved)), seed=9)), scores(model), atol=1e-6
    )


def test_options_set_at_loading_override_stored_ones(saved):
    assert load_reward_model(saved, ModelOptions(truncation="left", max_length=40)).text.max_length == 40
    assert load_reward_model(saved).text.truncation == "refuse"


def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_weights_that_are_not_finite_are_refused_by_name(saved, tmp_path):
    folder = copied(saved, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        GuerdonError,
        match=r"weight model.layers.1.mlp.up_proj.weight must be finite, it holds NaN or infinity\. Take an earlier checkpoint",
    ):
        load_reward_model(folder)


def shifted(saved: Path, folder: Path, num_bytes: int) -> Path:
    """A copy whose weights begin so many bytes later in their file."""
    shutil.copytree(saved, folder)
    file = folder / "model.safetensors"
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = content[8:end] + b" " * num_bytes
    file.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])
    return folder


def test_scores_do_not_depend_on_where_weights_begin_in_their_file(saved, tiny_dir, tmp_path):
    expected = None
    for num_bytes in range(0, 64, 8):
        model = load_reward_model(shifted(saved, tmp_path / f"reward-{num_bytes}", num_bytes))
        policy = load_policy(PolicyOptions(base=str(shifted(tiny_dir, tmp_path / f"policy-{num_bytes}", num_bytes))))
        for module in (model.network, policy.model):
            assert {weight.data_ptr() % 64 for weight in module.parameters()} == {0}
        ids = np.arange(40, 60, dtype=np.int32)
        both = scores(model).tolist(), policy.token_log_probs([ids], [ids]).tolist()
        expected = expected or both
        assert both == expected


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
        (without_head, "1 weight is missing, the first score.weight: .* Run `guerdon doctor`"),
        (with_text("model.safetensors", "half"), r"model\.safetensors: not readable .*\. Copy the file again"),
        (with_text("config.json", "{"), r"config\.json: not valid JSON .*\. Restore it"),
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
def test_a_directory_that_is_not_a_reward_model_is_refused_in_one_line(saved, tmp_path, break_it, complaint):
    folder = copied(saved, tmp_path)
    break_it(folder)
    with pytest.raises(GuerdonError, match=complaint) as refusal:
        load_reward_model(folder)
    assert str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_a_missing_directory_and_a_language_model_are_refused(tiny_dir, tmp_path):
    (tmp_path / "file").write_text("hello")
    with pytest.raises(GuerdonError, match=r"a reward model must be a directory, this is a file\. Pass the folder"):
        load_reward_model(tmp_path / "file")
    with pytest.raises(GuerdonError, match="not a directory, and no model from the hub"):
        load_reward_model(tmp_path / "missing")
    with pytest.raises(GuerdonError, match=r"no such directory\. Pass .* or a hub name such as org/model"):
        load_reward_model("missing")
    with pytest.raises(GuerdonError, match=r"LlamaForCausalLM has no reward head\. Train one with `guerdon train`"):
        load_reward_model(tiny_dir)


def test_a_tokenizer_without_chat_template_is_refused_with_advice(tiny_dir, tmp_path):
    folder = Path(shutil.copytree(tiny_dir, tmp_path / "bare"))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(
        GuerdonError, match=r"bare: the tokenizer must have a chat template, got none\. Set model\.template=plain"
    ):
        create_reward_model(ModelOptions(base=str(folder)))
    model = create_reward_model(ModelOptions(base=str(folder), template="plain"))
    save(model, tmp_path / "model")
    np.testing.assert_allclose(scores(load_reward_model(tmp_path / "model")), scores(model), atol=1e-6)


def test_a_missing_device_is_refused(tiny_dir):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(
        GuerdonError,
        match=r"model\.device must be a device of this machine, got cuda without CUDA\. Set model\.device=cpu",
    ):
        create_reward_model(ModelOptions(base=str(tiny_dir), device="cuda"))


def test_every_field_of_a_card_survives_a_round_trip(model, tmp_path):
    card = dataclasses.replace(
        model.card, tie_threshold=0.5, self_test=(("a", "b", 1.0),), attributes=("x",), attribute_weights=(1.0,)
    )
    assert card_from_json(json.loads(json.dumps(card_as_json(card))), "here") == card
