"""A measured uncertainty is stored beside the weights, belongs to its model, and survives recalibration."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from reward_models import HELD_OUT, NEW, TRAIN, texts_of
from safetensors.numpy import load_file
from shell import guerdon

from guerdon import GuerdonError
from guerdon.api import (
    calibration,
    data,
    saved_models,
)
from guerdon.config import ModelOptions
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory import uncertainty_file
from guerdon.models.directory.loading import create_reward_model, load_reward_model
from guerdon.models.directory.saving import save
from guerdon.models.directory.uncertainty_file import UNCERTAINTY_FILE


@pytest.fixture(scope="module")
def saved(uncertain, tmp_path_factory) -> Path:
    """Its directory. Read it; do not write into it."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    saved_models.save(uncertain, folder)
    return folder


def test_a_loaded_model_has_the_uncertainty_that_was_saved(uncertain, saved):
    again = saved_models.load(saved)
    here, there = uncertain.score(*texts_of(NEW)), again.score(*texts_of(NEW))
    np.testing.assert_allclose(there.std, here.std, rtol=1e-3)
    np.testing.assert_allclose(there.shift_p, here.shift_p, atol=0.05)
    assert again.model.uncertainty.provenance == uncertain.model.uncertainty.provenance
    card = json.loads((saved / "reward.json").read_text("utf-8"))
    assert card["uncertainty"]["comparisons"] == len(TRAIN)
    assert saved_models.load(saved, with_uncertainty=False).score(*texts_of(NEW)).std is None


def test_readers_of_weights_do_not_see_the_file(saved):
    """vLLM and SGLang take every *.safetensors of the directory itself for weights."""
    assert [path.name for path in saved.glob("*.safetensors")] == ["model.safetensors"]
    assert set(load_file(saved / UNCERTAINTY_FILE)) == {"mean", "precision", "covariance", "distance", "weight"}
    assert (saved / UNCERTAINTY_FILE).stat().st_mode & 0o777 == 0o644


def test_a_model_without_uncertainty_has_no_file_and_no_key(model, tmp_path):
    save(model, tmp_path / "model")
    assert "uncertainty" not in json.loads((tmp_path / "model/reward.json").read_text("utf-8"))
    assert not (tmp_path / "model" / UNCERTAINTY_FILE).exists()
    assert load_reward_model(tmp_path / "model").uncertainty is None


def test_recalibration_keeps_it_and_further_training_drops_it(uncertain, saved, tmp_path):
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    loaded = saved_models.load(folder)
    calibration.store_calibration(CalibratedModel(loaded.model, Calibration(4.0)), folder)
    again = saved_models.load(folder)
    np.testing.assert_allclose(again.score(*texts_of(NEW)).std, uncertain.score(*texts_of(NEW)).std / 2, rtol=1e-3)
    assert create_reward_model(ModelOptions(base=str(folder))).uncertainty is None


@pytest.mark.parametrize("change", ["backbone", "head", "template"])
def test_uncertainty_of_another_model_is_refused(saved, tmp_path, change):
    folder = tmp_path / "copy"
    other = load_reward_model(saved)
    parts = {"backbone": other.network.classifier.model.layers[0].mlp.up_proj, "head": other.network.classifier.score}
    if change in parts:
        with torch.no_grad():
            parts[change].weight[0, 5] += 0.1
    else:
        other.text.tokenizer.chat_template += " "
    other.uncertainty = None
    save(other, folder)
    shutil.copy(saved / UNCERTAINTY_FILE, folder / UNCERTAINTY_FILE)
    with pytest.raises(GuerdonError, match=r"was measured on other weights or with another chat template\. Delete it"):
        load_reward_model(folder)
    assert load_reward_model(folder, with_uncertainty=False).uncertainty is None


def test_another_dtype_is_the_same_model(saved):
    rounded = load_reward_model(saved, ModelOptions(dtype="bfloat16"))
    assert rounded.uncertainty is not None
    assert (rounded.score(*texts_of(NEW)).std > 0).all()


def test_an_unreadable_file_is_refused_and_a_missing_one_is_warned_about(saved, tmp_path, caplog):
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    (folder / UNCERTAINTY_FILE).write_bytes(b"half")
    with pytest.raises(GuerdonError, match=r"uncertainty.safetensors: not readable \(.*\)\. Delete it"):
        load_reward_model(folder)
    (folder / UNCERTAINTY_FILE).unlink()
    with caplog.at_level(logging.WARNING, "guerdon"):
        assert load_reward_model(folder).uncertainty is None
    assert "reward.json names it" in caplog.text


def test_a_newer_file_is_refused(uncertain, saved, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    monkeypatch.setattr(uncertainty_file, "UNCERTAINTY_FORMAT", 1)
    with pytest.raises(
        GuerdonError,
        match=r"written by a newer Guerdon \(format 3, this one reads up to 1\)\. Upgrade with `pip install -U guerdon`\.",
    ):
        load_reward_model(folder)


def test_the_command_stores_it_in_place_and_replaces_a_stale_one(model, tmp_path):
    folder = tmp_path / "model"
    save(model, folder)
    weights = (folder / "model.safetensors").read_bytes()
    for name, rows in (("train", TRAIN), ("held", HELD_OUT)):
        data.write(tmp_path / f"{name}.jsonl", rows)
    command = (
        "uncertainty",
        folder,
        "--data",
        tmp_path / "train.jsonl",
        "--held-out",
        tmp_path / "held.jsonl",
        "--json",
    )
    first = guerdon(*map(str, command))
    assert first.code == 0, first.err
    assert json.loads(first.out)["comparisons"] == len(TRAIN)
    assert (folder / "model.safetensors").read_bytes() == weights
    known = saved_models.load(folder)
    assert known.score(*texts_of(NEW)).shift_p is not None
    with torch.no_grad():
        known.model.network.classifier.score.weight[0, 0] += 1.0
    known.model.uncertainty = None
    other = tmp_path / "other"
    saved_models.save(known, other)
    shutil.copy(folder / UNCERTAINTY_FILE, other / UNCERTAINTY_FILE)
    again = guerdon(*map(str, ("uncertainty", other, *command[2:])))
    assert again.code == 0, again.err
    assert saved_models.load(other).score(*texts_of(NEW)).std is not None
