"""Rewards from the scores of steps: by hand, at their ends, and as a reward model like any other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from guerdon import GuerdonError
from guerdon.config import ModelOptions
from guerdon.contracts import Message, Response, Scores, ToolCall
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.step_reward import StepReward, combine_steps, up_to_each_step
from guerdon.testing import check_reward_model


class ByLastStep:
    """The number that a text ends with, in nats."""

    fingerprint = "by last step"

    def score(self, prompts, responses):
        value = np.array([float(response.text.split()[-1]) for response in responses])
        return Scores(value, np.array(["cut" in response.text for response in responses]))


def test_rules_are_worked_by_hand():
    """Odds of 3, 1 and 4: the lowest is 1; probabilities 3/4, 1/2, 4/5 have the product 3/10."""
    scores = np.log(np.array([3.0, 1.0, 4.0]))
    assert combine_steps(scores, "min") == pytest.approx(0)
    assert combine_steps(scores, "product") == pytest.approx(math.log(0.3))
    assert combine_steps(scores, "last") == pytest.approx(math.log(4))
    assert combine_steps(np.array([-1e4, 1e4]), "product") == pytest.approx(-1e4)


def test_steps_are_what_blank_lines_part_and_the_text_stays_as_it_is():
    def texts(text):
        return [step.text for step in up_to_each_step(Response(text))]

    assert texts("a\n\nb\nc\n\n d") == ["a", "a\n\nb\nc", "a\n\nb\nc\n\n d"]
    assert texts("a\n\n\n\n \n\nb\n\n") == ["a", "a\n\n\n\n \n\nb\n\n"]
    assert [texts(""), texts("\n\n"), texts("a")] == [[""], ["\n\n"], ["a"]]
    call = Message("assistant", "a\n\nb", (ToolCall("f", "{}"),))
    several = Response(messages=(call, Message("tool", "c"), Message("assistant", "d")))
    assert up_to_each_step(several) == [several]


def test_each_response_is_scored_by_its_own_steps():
    prompts, responses = ["p", "q", "r"], ["2\n\n-1\n\n3", "5", "cut 1\n\n4"]
    lowest, last = (StepReward(ByLastStep(), rule).score(prompts, responses) for rule in ("min", "last"))
    assert lowest.value.tolist() == [-1, 5, 1]
    assert last.value.tolist() == [3, 5, 4]
    assert lowest.truncated.tolist() == [False, False, True]
    assert not len(StepReward(ByLastStep()).score([], []).value)
    assert StepReward(ByLastStep(), "min").fingerprint != StepReward(ByLastStep(), "last").fingerprint


@pytest.mark.parametrize("rule", ["min", "product", "last"])
def test_a_model_with_a_rule_fulfills_the_contract(tiny_dir, rule):
    model = create_reward_model(ModelOptions(base=str(tiny_dir)))
    check_reward_model(StepReward(model, rule))
    whole = model.score(["q"], ["a b\n\nc d"]).value
    if rule == "last":
        np.testing.assert_allclose(StepReward(model, rule).score(["q"], ["a b\n\nc d"]).value, whole, atol=1e-6)


def test_what_is_no_rule_is_refused():
    with pytest.raises(GuerdonError, match="rule must be one of min, product, last, got 'mean'"):
        StepReward(ByLastStep(), "mean")
    with pytest.raises(GuerdonError, match="there must be one prompt per response, got 1 for 2"):
        StepReward(ByLastStep()).score(["p"], ["1", "2"])
