"""A calibration changes units, never an order; and says where its units come from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import Good, PaddedRows, as_scores

from guerdon.contracts import (
    GuerdonError,
    Judge,
    RewardModel,
    Scores,
)
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.prompt_normalized import per_prompt_baseline
from guerdon.testing import check_judge, check_reward_model

TEXTS = ["good", "good good", "no", "good no good good", "well"]


class Members:
    """Three members and a spread, so that every field has something to pass on."""

    def score(self, prompts, responses):
        base = PaddedRows().score(prompts, responses).value
        members = np.stack([base, base + 1, 2 * base])
        return Scores(base, base > 0, members.std(axis=0), members, np.full(len(base), 0.5), {"tone": base * 3})


@given(st.floats(0.02, 100), st.floats(-50, 50), st.lists(st.text(max_size=20), min_size=2, max_size=8))
def test_a_temperature_never_changes_a_ranking_within_a_prompt(temperature, mean, texts):
    raw = Good(by_length=0.3).score(["p"] * len(texts), texts).value
    model = CalibratedModel(Good(by_length=0.3), Calibration(temperature, mean))
    margins = raw[:, None] - raw
    scaled = model.score(["p"] * len(texts), texts).value
    assert np.array_equal(np.sign(np.round(margins, 9)), np.sign(np.round((scaled[:, None] - scaled) * temperature, 9)))


def test_everything_that_has_a_unit_is_scaled_and_the_rest_passes():
    raw = Members().score(["p"] * 5, TEXTS)
    scaled = CalibratedModel(Members(), Calibration(2.0, 0.5)).score(["p"] * 5, TEXTS)
    assert np.allclose(scaled.value, (raw.value - 0.5) / 2)
    assert np.allclose(scaled.members, (raw.members - 0.5) / 2)
    assert np.allclose(scaled.std, raw.std / 2)
    assert np.array_equal(scaled.shift_p, raw.shift_p)
    assert np.array_equal(scaled.attributes["tone"], raw.attributes["tone"])


def test_a_scaled_model_keeps_both_contracts():
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


def test_without_a_reference_there_is_no_normalizing():
    with pytest.raises(GuerdonError, match=r"none were measured\. Calibrate with samples"):
        CalibratedModel(Good(), Calibration()).normalized(["p"], ["x"])


def test_a_calibration_survives_its_dictionary():
    calibration = Calibration(2.5, -1.0, 0.7, {"policy": "toy", "n": 4})
    assert Calibration.from_dict(calibration.as_dict()) == calibration


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temprature": 1.0}, "unknown key 'temprature'"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"temperature": "2"}, "temperature must be a finite number, got '2'"),
        ({"reference_spread": float("nan")}, "reference_spread must be a finite number, got nan"),
        ({"provenance": "toy"}, "provenance must be an object, got 'toy'"),
    ],
)
def test_a_bad_calibration_is_refused_by_name(change, said):
    with pytest.raises(GuerdonError, match=said):
        Calibration.from_dict(Calibration().as_dict() | change)


def test_a_missing_key_is_refused_by_name():
    values = Calibration().as_dict()
    del values["reference_mean"]
    with pytest.raises(GuerdonError, match="reference_mean is missing"):
        Calibration.from_dict(values)


def test_a_baseline_is_the_mean_over_the_prompts_own_samples():
    model = per_prompt_baseline(Good(), ["p", "q", "p", "q"], ["good", "good good", "no", "good good good good"])
    assert model.score(["p", "q"], ["good good good", "nothing"]).value == pytest.approx([3 - 0.5, 0 - 3])


def test_a_response_in_the_bank_is_left_out_of_its_own_baseline():
    model = per_prompt_baseline(Good(), ["p"] * 3, ["good good good", "good", "no"])
    assert model.score(["p"], ["good good good"]).value == pytest.approx([3 - 0.5])


def test_each_member_has_its_own_baseline():
    model = per_prompt_baseline(Members(), ["p"] * 3, ["abc", "defgh", "ij"])
    scores = model.score(["p"], ["xyz"])
    assert scores.members[1] == pytest.approx(scores.members[0])  # a member's constant goes
    assert scores.members[2] == pytest.approx(2 * scores.members[0])
    assert scores.value == pytest.approx(scores.members[0])


def test_an_unknown_prompt_has_no_baseline():
    model = per_prompt_baseline(Good(), ["p", "p"], ["a", "b"])
    with pytest.raises(GuerdonError, match="prompt 'other' has no reference samples"):
        model.score(["other"], ["a"])
    with pytest.raises(GuerdonError, match="prompt 'q' must have 2 reference samples or more, got 1"):
        per_prompt_baseline(Good(), ["p", "p", "q"], ["a", "b", "c"])
    assert model.score([], []).value.shape == as_scores([]).value.shape


def within(rule, **texts):
    """A baseline of four samples each of two prompts, of which the second's are all two nats higher."""
    low, high = ["no", "good", "good good", "good good good"], ["good " * n for n in (2, 3, 4, 5)]
    return per_prompt_baseline(Good(), ["p"] * 4 + ["q"] * 4, [*low, *high], rule)


@pytest.mark.parametrize("rule", ["center", "zscore", "quantile", "logsigmoid"])
def test_every_rule_gives_the_same_place_to_the_same_distance_from_a_prompts_samples(rule):
    model = within(rule)
    check_reward_model(model, ["p", "q", "p"], ["good b", "good good good b", "a"])
    low, high = model.score(["p", "q"], ["good b", "good good good b"]).value
    assert low == pytest.approx(high)
    ordered = model.score(["p"] * 4, ["a", "good b", "good good b", "good good good b"]).value
    assert (np.diff(ordered) > 0).all()


def test_rules_give_the_numbers_that_they_name():
    at = (["p"], ["good good good good x"])  # 4, where the samples are 0, 1, 2, 3
    spread = np.sqrt((4 * 5 / 3 + 4 * 5 / 4) / 8)
    assert within("center").score(*at).value == pytest.approx([2.5])
    assert within("zscore").score(*at).value == pytest.approx([2.5 / spread])
    assert within("quantile").score(*at).value == pytest.approx([0.9])
    assert within("logsigmoid").score(*at).value == pytest.approx([-np.log1p(np.exp(-2.5))])


def test_a_sample_is_left_out_of_its_own_yardstick_by_every_rule():
    assert within("quantile").score(["p"], ["good good good"]).value == pytest.approx([(3 + 0.5) / 4])
    assert within("zscore").score(["p"], ["no"]).value < within("zscore").score(["p"], ["nought"]).value


def test_a_spread_stays_in_its_units_or_is_not_given():
    prompts, texts = ["p"] * 3, ["abc", "defgh", "ij"]
    raw = Members().score(["p"], ["xyz"])
    by = {rule: per_prompt_baseline(Members(), prompts, texts, rule).score(["p"], ["xyz"]) for rule in
          ("center", "zscore", "quantile", "logsigmoid")}  # fmt: skip
    assert by["center"].std == pytest.approx(raw.std)
    shifted = per_prompt_baseline(Members(), prompts, texts, "zscore").score(["p"], ["xyzz"])
    per_unit = (shifted.value - by["zscore"].value) / (Members().score(["p"], ["xyzz"]).value - raw.value)
    assert by["zscore"].std == pytest.approx(raw.std * per_unit)
    assert by["zscore"].members.shape == raw.members.shape
    assert by["quantile"].std is None
    assert by["logsigmoid"].std is None


def test_an_unknown_rule_and_samples_without_a_spread_are_refused():
    with pytest.raises(GuerdonError, match="rule must be one of center, zscore, quantile, logsigmoid, got 'rank'"):
        per_prompt_baseline(Good(), ["p", "p"], ["a", "b"], "rank")
    with pytest.raises(GuerdonError, match=r"they are equal for every prompt\. Use rule='center'"):
        per_prompt_baseline(Good(), ["p", "p"], ["a", "b"], "zscore").score(["p"], ["good"])
