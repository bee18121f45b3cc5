"""Rewards normalized per prompt: relative to reference samples of the same prompt, by every rule."""

from __future__ import annotations

import numpy as np
import pytest
from toys import Good, ThreeMembers, as_scores

from guerdon.contracts import (
    GuerdonError,
)
from guerdon.models.prompt_normalized import per_prompt_baseline
from guerdon.testing import check_reward_model


def test_a_baseline_is_the_mean_over_the_prompts_own_samples():
    model = per_prompt_baseline(Good(), ["p", "q", "p", "q"], ["good", "good good", "no", "good good good good"])
    assert model.score(["p", "q"], ["good good good", "nothing"]).value == pytest.approx([3 - 0.5, 0 - 3])


def test_a_reference_sample_is_left_out_of_its_own_baseline():
    model = per_prompt_baseline(Good(), ["p"] * 3, ["good good good", "good", "no"])
    assert model.score(["p"], ["good good good"]).value == pytest.approx([3 - 0.5])


def test_each_member_has_its_own_baseline():
    model = per_prompt_baseline(ThreeMembers(), ["p"] * 3, ["abc", "defgh", "ij"])
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
def test_every_rule_depends_only_on_the_distance_from_the_prompts_samples(rule):
    model = within(rule)
    check_reward_model(model, ["p", "q", "p"], ["good b", "good good good b", "a"])
    low, high = model.score(["p", "q"], ["good b", "good good good b"]).value
    assert low == pytest.approx(high)
    ordered = model.score(["p"] * 4, ["a", "good b", "good good b", "good good good b"]).value
    assert (np.diff(ordered) > 0).all()


def test_each_rule_computes_what_it_is_named_after():
    at = (["p"], ["good good good good x"])  # 4, where the samples are 0, 1, 2, 3
    spread = np.sqrt((4 * 5 / 3 + 4 * 5 / 4) / 8)
    assert within("center").score(*at).value == pytest.approx([2.5])
    assert within("zscore").score(*at).value == pytest.approx([2.5 / spread])
    assert within("quantile").score(*at).value == pytest.approx([0.9])
    assert within("logsigmoid").score(*at).value == pytest.approx([-np.log1p(np.exp(-2.5))])


def test_every_rule_leaves_a_sample_out_of_its_own_reference():
    assert within("quantile").score(["p"], ["good good good"]).value == pytest.approx([(3 + 0.5) / 4])
    assert within("zscore").score(["p"], ["no"]).value < within("zscore").score(["p"], ["nought"]).value


def test_std_keeps_its_units_or_is_absent():
    prompts, texts = ["p"] * 3, ["abc", "defgh", "ij"]
    raw = ThreeMembers().score(["p"], ["xyz"])
    by = {rule: per_prompt_baseline(ThreeMembers(), prompts, texts, rule).score(["p"], ["xyz"]) for rule in
          ("center", "zscore", "quantile", "logsigmoid")}  # fmt: skip
    assert by["center"].std == pytest.approx(raw.std)
    shifted = per_prompt_baseline(ThreeMembers(), prompts, texts, "zscore").score(["p"], ["xyzz"])
    per_unit = (shifted.value - by["zscore"].value) / (ThreeMembers().score(["p"], ["xyzz"]).value - raw.value)
    assert by["zscore"].std == pytest.approx(raw.std * per_unit)
    assert by["zscore"].members.shape == raw.members.shape
    assert by["quantile"].std is None
    assert by["logsigmoid"].std is None


def test_an_unknown_rule_and_equal_samples_are_refused():
    with pytest.raises(GuerdonError, match="rule must be one of center, zscore, quantile, logsigmoid, got 'rank'"):
        per_prompt_baseline(Good(), ["p", "p"], ["a", "b"], "rank")
    with pytest.raises(GuerdonError, match=r"they are equal for every prompt\. Use rule='center'"):
        per_prompt_baseline(Good(), ["p", "p"], ["a", "b"], "zscore").score(["p"], ["good"])
