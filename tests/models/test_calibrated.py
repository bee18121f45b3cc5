"""A calibration changes units and never an order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import Good, PaddedRows, ThreeMembers

from guerdon.contracts import (
    GuerdonError,
    Judge,
    RewardModel,
)
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.testing import check_judge, check_reward_model

TEXTS = ["good", "good good", "no", "good no good good", "well"]


@given(st.floats(0.02, 100), st.floats(-50, 50), st.lists(st.text(max_size=20), min_size=2, max_size=8))
def test_a_temperature_never_changes_a_ranking_within_a_prompt(temperature, mean, texts):
    raw = Good(by_length=0.3).score(["p"] * len(texts), texts).value
    model = CalibratedModel(Good(by_length=0.3), Calibration(temperature, mean))
    margins = raw[:, None] - raw
    scaled = model.score(["p"] * len(texts), texts).value
    assert np.array_equal(np.sign(np.round(margins, 9)), np.sign(np.round((scaled[:, None] - scaled) * temperature, 9)))


def test_values_with_units_are_scaled_and_the_rest_pass_through():
    raw = ThreeMembers().score(["p"] * 5, TEXTS)
    scaled = CalibratedModel(ThreeMembers(), Calibration(2.0, 0.5)).score(["p"] * 5, TEXTS)
    assert np.allclose(scaled.value, (raw.value - 0.5) / 2)
    assert np.allclose(scaled.members, (raw.members - 0.5) / 2)
    assert np.allclose(scaled.std, raw.std / 2)
    assert np.array_equal(scaled.shift_p, raw.shift_p)
    assert np.array_equal(scaled.attributes["tone"], raw.attributes["tone"])


def test_a_calibrated_model_is_a_reward_model_and_a_judge():
    model = CalibratedModel(PaddedRows(), Calibration(0.5, 1.0))
    assert isinstance(model, RewardModel)
    assert isinstance(model, Judge)
    check_reward_model(model)
    check_judge(model)


def test_swapping_two_responses_flips_the_odds():
    model = CalibratedModel(Good(), Calibration(2.0))
    forth, back = model.log_odds(["p"], ["good good"], ["no"]), model.log_odds(["p"], ["no"], ["good good"])
    assert forth == pytest.approx([1.0])
    assert back == pytest.approx(-forth)


def test_normalized_rewards_have_the_references_mean_and_spread():
    raw = Good().score(["p"] * 5, TEXTS).value
    model = CalibratedModel(Good(), Calibration(3.0, raw.mean(), raw.std(), {"policy": "toy"}))
    normal = model.normalized(["p"] * 5, TEXTS)
    assert normal.mean() == pytest.approx(0)
    assert normal.std() == pytest.approx(1)


def test_normalizing_without_a_reference_is_refused():
    with pytest.raises(GuerdonError, match=r"none were measured\. Calibrate with samples"):
        CalibratedModel(Good(), Calibration()).normalized(["p"], ["x"])
