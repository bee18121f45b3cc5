"""Whatever changes a score changes the fingerprint, wherever in the model it is; loading the same files again does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from guerdon.api import saved_models
from guerdon.config import ModelOptions, PolicyOptions
from guerdon.models.directory.loading import load_reward_model
from guerdon.models.directory.policies import load_policy
from guerdon.models.fingerprint import rounded_fingerprint, weights_fingerprint
from guerdon.models.laplace import uncertainty_fingerprint


def set_key(name: str, key: str, value: object):
    def change(folder: Path) -> None:
        body = json.loads((folder / name).read_text("utf-8"))
        assert key in body
        (folder / name).write_text(json.dumps(body | {key: value}), "utf-8")

    return change


def shift_weight(name: str, row: int, column: int):
    def change(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors[name][row, column] += 0.5
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return change


def swap_two_words(folder: Path) -> None:
    body = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    words = body["model"]["vocab"]
    words["sad"], words["film"] = words["film"], words["sad"]
    (folder / "tokenizer.json").write_text(json.dumps(body), "utf-8")


CHANGES = [
    set_key("config.json", "rms_norm_eps", 0.01),
    set_key("config.json", "rope_parameters", {"rope_theta": 500.0, "rope_type": "default"}),
    shift_weight("model.layers.1.mlp.down_proj.weight", 50, 100),  # far behind the first values
    shift_weight("score.weight", 0, 63),
    swap_two_words,
]


@pytest.mark.parametrize("change", [*CHANGES, set_key("reward.json", "max_length", 100)])
def test_a_change_of_any_file_changes_the_fingerprint(saved, tmp_path, change):
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    before = saved_models.load(folder).fingerprint
    assert saved_models.load(folder).fingerprint == before
    change(folder)
    assert saved_models.load(folder).fingerprint != before


@pytest.mark.parametrize("change", CHANGES)
def test_a_measured_uncertainty_belongs_to_the_whole_model_in_any_type(saved, tmp_path, change):
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    before = uncertainty_fingerprint(load_reward_model(folder))
    half = load_reward_model(folder, ModelOptions(dtype="bfloat16"))
    assert uncertainty_fingerprint(half) == before
    change(folder)
    assert uncertainty_fingerprint(load_reward_model(folder)) != before


def test_a_policys_last_weight_counts(tiny_dir, tmp_path):
    folder = Path(shutil.copytree(tiny_dir, tmp_path / "copy"))
    before = load_policy(PolicyOptions(base=str(folder))).fingerprint
    assert load_policy(PolicyOptions(base=str(folder))).fingerprint == before
    shift_weight("model.layers.1.self_attn.o_proj.weight", 63, 63)(folder)
    assert load_policy(PolicyOptions(base=str(folder))).fingerprint != before


def test_a_kept_hash_ends_with_the_weights_it_was_taken_of():
    layer = torch.nn.Linear(100, 100)
    before = weights_fingerprint(layer)
    assert weights_fingerprint(layer) == before
    with torch.no_grad():
        layer.weight[99, 99] += 1.0
    after = weights_fingerprint(layer)
    assert after != before
    layer.weight.data[0, 0] += 1.0  # which counts no version
    assert weights_fingerprint(layer) != after
    assert rounded_fingerprint(layer) == rounded_fingerprint(layer.to(torch.bfloat16))
