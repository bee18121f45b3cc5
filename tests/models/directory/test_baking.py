"""Calibration in the weights: plain transformers gives the calibrated rewards, but for one constant."""

from __future__ import annotations

import numpy as np
import pytest
from shell import guerdon

from guerdon import GuerdonError
from guerdon.api import saved_models
from guerdon.config import ModelOptions
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory import reader_program
from guerdon.models.directory.loading import create_reward_model, load
from guerdon.models.directory.saving import save
from guerdon.models.engine.pretrained import quiet
from guerdon.models.ensemble import CommonScale, Ensemble
from guerdon.models.ensemble_rules import ensemble_rule

CALIBRATION = Calibration(temperature=0.4, reference_mean=-1.5, reference_spread=0.8, provenance={"policy": "p"})
CHATS = [("is it good ?", "no"), ("write a film review", "it is great"), ("do they love you ?", "yes , very much")]
PROMPTS, RESPONSES = zip(*CHATS, strict=True)


def plain_scores(folder):
    """What AutoModelForSequenceClassification gives."""
    turns = [[{"role": "user", "content": a}, {"role": "assistant", "content": b}] for a, b in CHATS]
    request = {"folder": str(folder), "conversations": turns, "is_encoder": False, "known": []}
    with quiet():
        return np.array(next(iter(reader_program.results(request)))["scores"])


@pytest.fixture
def single(tiny_dir, tmp_path):
    model = create_reward_model(ModelOptions(base=str(tiny_dir)), seed=4)
    test = (("a", "b", float(model.score(["a"], ["b"]).value[0])),)
    save(model.with_card(calibration=CALIBRATION, self_test=test), tmp_path / "model")
    return tmp_path / "model"


def test_plain_transformers_gives_nats_up_to_the_constant(single, tmp_path):
    wanted = load(single).score(PROMPTS, RESPONSES).value
    calibration = saved_models.bake(single, tmp_path / "baked")
    assert calibration.reference_mean == pytest.approx(-1.5 / 0.4)
    assert calibration.reference_spread == pytest.approx(0.8 / 0.4)
    assert plain_scores(tmp_path / "baked") - calibration.reference_mean == pytest.approx(wanted, abs=2e-5)
    assert load(tmp_path / "baked").score(PROMPTS, RESPONSES).value == pytest.approx(wanted, abs=2e-5)
    assert not [finding for finding in saved_models.doctor(tmp_path / "baked").findings if finding.severity == "error"]


def test_heads_on_one_backbone_become_their_mean_on_the_common_scale(tiny_dir, tmp_path):
    heads = create_reward_model(ModelOptions(base=str(tiny_dir), heads=3), seed=5)
    scale = CommonScale((0.5, -0.25, 0.0), (1.0, 2.0, 0.5))
    member = CalibratedModel(heads, Calibration(temperature=2.0, reference_mean=0.125))
    save(CalibratedModel(Ensemble([member], scale=scale), CALIBRATION), tmp_path / "heads")
    wanted = load(tmp_path / "heads").score(PROMPTS, RESPONSES)
    assert wanted.std is not None
    constant = saved_models.bake(tmp_path / "heads", tmp_path / "baked").reference_mean
    assert plain_scores(tmp_path / "baked") - constant == pytest.approx(wanted.value, abs=2e-5)
    assert not (tmp_path / "baked" / "ensemble.json").exists()


def test_what_is_not_affine_in_one_backbone_is_refused(tiny_dir, tmp_path, single):
    heads = create_reward_model(ModelOptions(base=str(tiny_dir), heads=2))
    save(CalibratedModel(Ensemble([heads], ensemble_rule("min")), Calibration()), tmp_path / "min")
    with pytest.raises(GuerdonError, match="the rule must be mean"):
        saved_models.bake(tmp_path / "min", tmp_path / "new")
    other = create_reward_model(ModelOptions(base=str(tiny_dir)), seed=9)
    save(CalibratedModel(Ensemble([load(single).model, other]), Calibration()), tmp_path / "two")
    with pytest.raises(GuerdonError, match="the members must share one backbone"):
        saved_models.bake(tmp_path / "two", tmp_path / "new")
    save(create_reward_model(ModelOptions(base=str(tiny_dir), attributes=["kind", "right"])), tmp_path / "rated")
    with pytest.raises(GuerdonError, match="must have one label, got 2 attributes"):
        saved_models.bake(tmp_path / "rated", tmp_path / "new")
    with pytest.raises(GuerdonError):
        saved_models.bake(single, single)
    assert not (tmp_path / "new").exists()


def test_the_command_prints_the_constant_and_vllms_option(single, tmp_path):
    ran = guerdon("bake", single, "--out", tmp_path / "baked", "--json")
    assert ran.code == 0
    assert '--pooler-config \'{\\"logit_mean\\": -3.75, \\"logit_sigma\\": 1.0}\'' in ran.out


def test_a_constant_of_zero_has_no_sign(tiny_dir, tmp_path):
    save(create_reward_model(ModelOptions(base=str(tiny_dir), heads=2), seed=5), tmp_path / "heads")
    ran = guerdon("bake", tmp_path / "heads", "--out", tmp_path / "baked", "--json")
    assert (ran.code, "-0.0" in ran.out) == (0, False)


def test_a_baked_model_replaces_models_and_nothing_else_that_guerdon_wrote(single, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "state.json").write_text('{"step": 3}')
    (checkpoint / "tensors.safetensors").write_bytes(b"moments")
    with pytest.raises(
        GuerdonError, match=r"must be a new folder or an older export, got another without reward\.json"
    ):
        saved_models.bake(single, checkpoint)
    assert (checkpoint / "tensors.safetensors").read_bytes() == b"moments"
    saved_models.bake(single, tmp_path / "baked")
    saved_models.bake(single, tmp_path / "baked")
