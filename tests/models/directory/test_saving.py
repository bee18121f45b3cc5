"""Saved ensembles of separate models: linked without rewriting weights, calibrated as a whole and in place."""

from __future__ import annotations

import numpy as np
import pytest
from reward_models import PROMPTS, RESPONSES
from toys import Good, liked

from guerdon import GuerdonError
from guerdon.api import (
    calibration,
    saved_models,
)
from guerdon.config import ModelOptions
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model, load
from guerdon.models.directory.saving import save, save_members
from guerdon.models.ensemble import Ensemble, scale_by_comparisons
from guerdon.models.ensemble_rules import ensemble_rule


@pytest.fixture(scope="module")
def members(tiny_dir, tmp_path_factory):
    """Directories of two models, the second calibrated."""
    folder = tmp_path_factory.mktemp("members")
    for seed in (0, 1):
        model = create_reward_model(ModelOptions(base=str(tiny_dir)), seed=seed)
        saved_models.save(CalibratedModel(model, Calibration(temperature=1.0 + seed)), folder / str(seed))
    return [folder / "0", folder / "1"]


def test_members_are_copies_that_another_tool_may_rewrite(members, tmp_path):
    loaded = [saved_models.load(place) for place in members]
    like = scale_by_comparisons(Ensemble(loaded, ensemble_rule("min")), liked(10))
    save_members(members, tmp_path / "both", like)
    for name in ("model.safetensors", "config.json", "reward.json"):
        copy, source = tmp_path / "both/member-2" / name, members[1] / name
        assert not copy.samefile(source)
        assert copy.read_bytes() == source.read_bytes()
    found = saved_models.load(tmp_path / "both").score(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.members, like.score(PROMPTS, RESPONSES).members, atol=1e-5)
    np.testing.assert_allclose(found.value, found.members.min(axis=0))
    save(like, tmp_path / "written")
    np.testing.assert_allclose(load(tmp_path / "written").score(PROMPTS, RESPONSES).value, found.value, atol=1e-5)


def test_an_ensemble_is_calibrated_as_a_whole_and_in_place(members, tmp_path):
    save_members(members, tmp_path / "both", Ensemble([saved_models.load(place) for place in members]))
    raw = saved_models.load(tmp_path / "both")
    calibration.store_calibration(CalibratedModel(raw.model, Calibration(temperature=3.0)), tmp_path / "both")
    found, before = (model.score(PROMPTS, RESPONSES) for model in (saved_models.load(tmp_path / "both"), raw))
    np.testing.assert_allclose(found.value, before.value / 3, atol=1e-6)
    np.testing.assert_allclose(found.members, before.members / 3, atol=1e-6)


def test_a_member_of_another_library_cannot_be_saved(members, tmp_path):
    with pytest.raises(GuerdonError, match="member 2 must be a model that Guerdon trained or loaded, got Good"):
        save(Ensemble([saved_models.load(members[0]), Good()]), tmp_path / "x")
