"""Heads on one backbone: one linked file on disk, one pass when loaded, and members that each load alone everywhere."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from families import save_family
from reward_models import PROMPTS, RESPONSES
from transformers import AutoModelForSequenceClassification

from guerdon import GuerdonError
from guerdon.api import (
    saved_models,
    scoring,
)
from guerdon.config import ModelOptions
from guerdon.models.directory import shared_backbone
from guerdon.models.directory.doctor import examine
from guerdon.models.directory.loading import create_reward_model, load, load_reward_model
from guerdon.models.directory.saving import save
from guerdon.models.ensemble import Ensemble
from guerdon.scoring.bulk_scorer import BulkScorer
from guerdon.testing import check_reward_model
from tiny import faults


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_every_member_loads_alone_in_plain_transformers(heads, tiny_dir, tmp_path, lora_rank):
    model = create_reward_model(ModelOptions(base=str(tiny_dir), heads=3, lora_rank=lora_rank), seed=5)
    save(model, tmp_path / "model")
    members = heads.score(PROMPTS, RESPONSES).members  # fresh adapters change nothing
    for k in range(3):
        place = tmp_path / "model" / f"member-{k + 1}"
        plain = AutoModelForSequenceClassification.from_pretrained(place).eval()
        assert plain.config.num_labels == 1
        for row, ids in enumerate(heads.text.encode(PROMPTS, RESPONSES)):
            with torch.inference_mode():
                logit = plain(input_ids=torch.from_numpy(ids.ids.astype(np.int64))[None]).logits[0, 0].item()
            assert logit == pytest.approx(members[k, row], abs=1e-5)
        np.testing.assert_allclose(load_reward_model(place).score(PROMPTS, RESPONSES).value, members[k], atol=1e-5)
        assert not [found for found in examine(place).findings if found.severity == "error"]


def test_the_backbone_is_written_once_and_linked(saved_heads):
    backbone, head = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    places = [saved_heads / f"member-{k}" for k in (1, 2, 3)]
    assert all(place.joinpath(backbone).samefile(places[0] / backbone) for place in places)
    assert len({place.joinpath(head).read_bytes() for place in places}) == 3
    assert places[0].joinpath(head).stat().st_size < 1000
    assert {path.name for path in saved_heads.iterdir()} == {
        "ensemble.json", "guerdon", "member-1", "member-2", "member-3",
    }  # fmt: skip


def test_a_saved_ensemble_scores_the_same_in_one_pass(heads, saved_heads):
    model = saved_models.load(saved_heads)
    (inner,) = model.model.models
    assert inner.model.heads == 3
    raw = heads.score(PROMPTS, RESPONSES).members
    scale = model.model.scale
    expected = (raw - np.array(scale.center)[:, None]) / np.array(scale.spread)[:, None]
    expected *= np.exp(np.log(scale.spread).mean())
    np.testing.assert_allclose(model.score(PROMPTS, RESPONSES).members, expected / 2, atol=1e-5)
    np.testing.assert_allclose(
        model.score(PROMPTS, RESPONSES).value, (expected.mean(0) - 0.25 * expected.var(0)) / 2, atol=1e-5
    )
    check_reward_model(model)


def test_each_member_stores_its_own_self_test_scores(saved_heads):
    for k in (1, 2, 3):
        assert faults(examine(saved_heads / f"member-{k}")) == []
    values = {
        json.loads((saved_heads / f"member-{k}" / "reward.json").read_text())["self_test"][0][2] for k in (1, 2, 3)
    }
    assert len(values) == 3


def test_a_copy_without_links_still_loads_one_backbone(saved_heads, tmp_path):
    shutil.copytree(saved_heads, tmp_path / "copy")
    assert len(load(tmp_path / "copy").model.models) == 1
    np.testing.assert_allclose(
        load(tmp_path / "copy").score(PROMPTS, RESPONSES).value,
        saved_models.load(saved_heads).score(PROMPTS, RESPONSES).value,
    )


def test_a_replaced_member_is_loaded_separately(saved_heads, tiny_dir, tmp_path, caplog):
    shutil.copytree(saved_heads, tmp_path / "mended")
    other = create_reward_model(ModelOptions(base=str(tiny_dir)), seed=9)
    save(other, tmp_path / "mended" / "member-2")
    found = load(tmp_path / "mended")
    assert "no longer share a backbone" in caplog.text
    assert len(found.model.models) == 3
    raw = Ensemble(found.model.models).score(PROMPTS, RESPONSES).members[1]
    np.testing.assert_allclose(raw, other.score(PROMPTS, RESPONSES).value, atol=1e-5)


def test_saving_a_loaded_ensemble_changes_nothing(saved_heads, tmp_path):
    saved_models.save(saved_models.load(saved_heads), tmp_path / "again")
    one, other = (
        saved_models.load(saved_heads).score(PROMPTS, RESPONSES),
        saved_models.load(tmp_path / "again").score(PROMPTS, RESPONSES),
    )
    np.testing.assert_allclose(one.members, other.members, atol=1e-6)
    np.testing.assert_allclose(one.value, other.value, atol=1e-6)
    assert (saved_heads / "ensemble.json").read_text() == (tmp_path / "again" / "ensemble.json").read_text()


@pytest.mark.parametrize("family", ["gpt_neox", "bert", "granite"])
def test_heads_of_other_families_survive_a_round_trip(tmp_path, family):
    base = save_family(tmp_path / "base", family)
    model = create_reward_model(ModelOptions(base=str(base), template="plain", heads=2))
    save(model, tmp_path / "model")
    np.testing.assert_allclose(
        load(tmp_path / "model").score(PROMPTS, RESPONSES).members, model.score(PROMPTS, RESPONSES).members, atol=1e-5
    )


def test_an_ensemble_scores_a_file(saved_heads, tmp_path):
    rows = [{"prompt": p, "response": r} for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scorer = BulkScorer(saved_heads)
    assert len(scorer.identity()["model"]) > 10
    scoring.score_file(scorer, tmp_path / "rows.jsonl", tmp_path / "out.jsonl")
    told = [json.loads(line)["reward"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(told, saved_models.load(saved_heads).score(PROMPTS, RESPONSES).value, atol=1e-5)


def test_an_ensemble_is_refused_where_a_single_model_is_expected(saved_heads):
    with pytest.raises(GuerdonError, match=r"is an ensemble, a directory of models\. Use `guerdon.load`"):
        load_reward_model(saved_heads)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 9}, r"newer Guerdon \(format 9, this one reads up to 2\)"),
        ({"members": ["../elsewhere"]}, "names of folders next to it"),
        ({"members": []}, "names of folders next to it"),
        ({"rule": {"name": "median", "strength": None}}, "rule must be .*got 'median'"),
        ({"scale": {"center": [0.0]}}, r"scale\.spread is missing\. Restore it"),
        ({"scale": {"center": [0.0], "spread": [-1.0], "provenance": {}}}, "spread above 0"),
    ],
)
def test_an_invalid_manifest_is_refused(saved_heads, tmp_path, change, message):
    manifest = json.loads((saved_heads / "ensemble.json").read_text()) | change
    (tmp_path / "ensemble.json").write_text(json.dumps(manifest))
    with pytest.raises(GuerdonError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("values", ["ab", [], None])
def test_a_manifest_that_is_not_an_object_is_refused(tmp_path, values):
    (tmp_path / "ensemble.json").write_text(json.dumps(values))
    with pytest.raises(GuerdonError, match=r"ensemble.json: must hold an object, got .*\. Restore it from"):
        load(tmp_path)


def test_a_failed_save_leaves_the_old_ensemble(heads, tmp_path, monkeypatch):
    save(heads, tmp_path / "model")
    before = (tmp_path / "model/ensemble.json").read_bytes()
    monkeypatch.setattr(
        shared_backbone, "link_files", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(GuerdonError, match=r"cannot write .*No space left"):
        save(heads, tmp_path / "model")
    assert (tmp_path / "model/ensemble.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_files_are_copied_if_the_file_system_has_no_links(heads, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(shared_backbone.os, "link", refused)
    save(heads, tmp_path / "model")
    np.testing.assert_allclose(
        load(tmp_path / "model").score(PROMPTS, RESPONSES).members, heads.score(PROMPTS, RESPONSES).members, atol=1e-6
    )
