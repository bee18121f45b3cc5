"""What is optimized: weights and rules compute what they should, and a bad number of a user's function never gets through."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toys import Good

from guerdon.contracts import (
    GuerdonError,
    Message,
    Response,
    Scores,
)
from guerdon.optimization.rewards import Reward, combined, ensemble_rule

ROWS = (["p"] * 3, ["good", "bad", "good good"])
STRENGTHS = [("mean", None), ("min", None), ("uncertainty", 0.7), ("soft_min", 0.7)]
MEMBERS = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-20, 20))


class Ensemble:
    """An ensemble with given members; the value is their mean."""

    def __init__(self, *members, std=None, shift_p=None):
        self.members = np.array(members, dtype=np.float64)
        self.std, self.shift_p = std, shift_p

    def score(self, prompts, responses):
        n = len(responses)
        members = self.members[:, :n]
        return Scores(
            members.mean(axis=0), np.zeros(n, dtype=bool), std=self.std, members=members, shift_p=self.shift_p
        )


def length(prompts, responses):
    return [len(response.text) for response in responses]


def constant(*values):
    def fixed(prompts, responses):
        return values

    return fixed


# ---- Rules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "strength"), STRENGTHS)
@given(member=arrays(np.float64, 4, elements=st.floats(-1e6, 1e6)), k=st.integers(1, 5))
def test_identical_members_give_the_member(name, strength, member, k):
    np.testing.assert_allclose(ensemble_rule(name, strength)(np.stack([member] * k)), member, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(("name", "strength"), STRENGTHS)
@given(members=MEMBERS, seed=st.integers(0, 9))
def test_the_order_of_members_changes_nothing(name, strength, members, seed):
    rule = ensemble_rule(name, strength)
    shuffled = np.random.default_rng(seed).permutation(members)
    np.testing.assert_allclose(rule(shuffled), rule(members), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "strength"), STRENGTHS)
@given(members=MEMBERS, shift=st.floats(-50, 50))
def test_a_shift_of_all_members_shifts_the_reward(name, strength, members, shift):
    rule = ensemble_rule(name, strength)
    np.testing.assert_allclose(rule(members + shift), rule(members) + shift, atol=1e-7)


@pytest.mark.parametrize(("name", "strength"), STRENGTHS)
@given(members=MEMBERS, scale=st.floats(0.1, 10))
def test_a_scale_of_members_and_of_the_rules_own_unit_scales_the_reward(name, strength, members, scale):
    """The unit of soft_min's strength is the reward's; that of uncertainty's is one over it."""
    scaled = None if strength is None else strength * scale if name == "soft_min" else strength / scale
    found = ensemble_rule(name, scaled)(members * scale)
    np.testing.assert_allclose(found, ensemble_rule(name, strength)(members) * scale, rtol=1e-6, atol=1e-6)


@given(members=MEMBERS)
def test_soft_min_lies_between_min_and_mean_and_reaches_both(members):
    least, mean = ensemble_rule("min")(members), ensemble_rule("mean")(members)
    soft = ensemble_rule("soft_min", 1.0)(members)
    assert (least - 1e-9 <= soft).all()
    assert (soft <= mean + 1e-9).all()
    np.testing.assert_allclose(ensemble_rule("soft_min", 1e-6)(members), least, atol=1e-4)
    np.testing.assert_allclose(ensemble_rule("soft_min", 1e8)(members), mean, atol=1e-4)


def test_the_rules_of_two_members_by_hand():
    """Rewards 0 and 2: mean 1, least 0, variance 1 (divided by 2), and -log((1 + e^-2) / 2) = 0.5662."""
    members = np.array([[0.0], [2.0]])
    found = {name: float(ensemble_rule(name)(members)[0]) for name in ("mean", "min", "uncertainty", "soft_min")}
    assert found == pytest.approx({"mean": 1, "min": 0, "uncertainty": 0.5, "soft_min": 0.566219}, abs=1e-6)


def test_soft_min_is_the_uncertainty_rule_to_second_order():
    members = np.random.default_rng(0).normal(size=(4, 6)) * 0.01
    soft, cautious = ensemble_rule("soft_min", 1.0)(members), ensemble_rule("uncertainty", 0.5)(members)
    np.testing.assert_allclose(soft, cautious, atol=1e-6)
    assert np.abs(soft - members.mean(axis=0)).max() > 1e-5


@pytest.mark.parametrize(
    ("name", "strength", "error"),
    [
        ("median", None, r"rule must be sum, mean, min, .*got 'median'"),
        ("mean", 0.5, r"rule mean takes no strength, got 0\.5\. Leave it out"),
        ("soft_min", 0.0, "strength of rule soft_min must be a finite number above 0, got 0.0"),
        ("uncertainty", -1.0, "strength of rule uncertainty must be a finite number above 0, got -1.0"),
        ("uncertainty", math.nan, "strength of rule uncertainty must be a finite number above 0, got nan"),
    ],
)
def test_an_invalid_rule_or_strength_is_refused(name, strength, error):
    with pytest.raises(GuerdonError, match=error):
        ensemble_rule(name, strength)


# ---- Sources -----------------------------------------------------------------------------------------------------


def test_one_model_is_its_own_reward():
    found = combined(Good()).score(*ROWS)
    assert found.value.tolist() == [1, 0, 2]
    assert found.value.dtype == np.float64
    assert found.usable.all()
    assert (found.std, found.shift_p, list(found.parts)) == (None, None, ["Good"])


def test_sources_are_added_by_their_weights_and_kept_apart():
    found = combined({"good": Good(), "length": length, "seen": constant(7, 8, 9)}, [2.0, -0.5, 0.0]).score(*ROWS)
    assert found.value.tolist() == [2 - 2, 0 - 1.5, 4 - 4.5]
    assert {name: part.tolist() for name, part in found.parts.items()} == {
        "good": [1, 0, 2],
        "length": [4, 3, 9],
        "seen": [7, 8, 9],
    }


def test_weights_may_go_by_name_and_names_come_from_the_sources():
    reward = combined([Good(), Good(3.0), length])
    assert list(reward.sources) == ["Good", "Good 2", "length"]
    one = combined({"a": Good(), "b": length}, {"b": 0.5, "a": 1.0})
    assert one.score(*ROWS).value.tolist() == combined([Good(), length], [1.0, 0.5]).score(*ROWS).value.tolist()


@pytest.mark.parametrize("rule", ["mean", "min", "uncertainty", "soft_min", ensemble_rule("soft_min", 0.3)])
def test_a_rule_gives_the_same_for_several_models_and_for_the_members_of_one(rule):
    rng = np.random.default_rng(1)
    members = rng.normal(size=(3, 4))
    rows = (["p"] * 4, ["a", "b", "c", "d"])
    apart = combined([constant(*row) for row in members], rule=rule).score(*rows)
    within = combined(Ensemble(*members), members=rule).score(*rows)
    np.testing.assert_allclose(apart.value, within.value)
    np.testing.assert_allclose(apart.std, members.std(axis=0))
    np.testing.assert_allclose(within.std, members.std(axis=0))


def test_without_a_rule_an_ensemble_counts_with_its_own_value():
    found = combined([Ensemble([0, 0, 0], [2, 4, 6]), length]).score(*ROWS)
    assert found.value.tolist() == [1 + 4, 2 + 3, 3 + 9]
    assert found.std.tolist() == [1, 2, 3]


def test_uncertainties_are_combined_and_the_smallest_p_value_is_corrected_for_its_selection():
    one = Ensemble([1, 2, 3], std=np.array([3.0, 0.0, 1.0]), shift_p=np.array([0.4, 0.9, 0.01]))
    two = Ensemble([1, 2, 3], std=np.array([4.0, 1.0, 0.0]), shift_p=np.array([0.1, 0.8, 0.5]))
    single = combined(one).score(*ROWS)
    assert (single.std.tolist(), single.shift_p.tolist()) == ([3, 0, 1], [0.4, 0.9, 0.01])
    both = combined([one, two]).score(*ROWS)
    assert both.std.tolist() == [5, 1, 1]
    assert both.shift_p.tolist() == pytest.approx([0.2, 1.0, 0.02])


def test_a_text_is_truncated_if_any_source_truncated_it():
    class Cut(Good):
        def score(self, prompts, responses):
            return Scores(np.zeros(3), np.array([False, True, False]))

    assert combined([Cut(), length]).score(*ROWS).truncated.tolist() == [False, True, False]


def test_clipping_comes_last():
    assert combined(constant(9, -9, 1), clip=2.0).score(*ROWS).value.tolist() == [2, -2, 1]
    assert combined([constant(9, -9, 1), constant(-9, 9, 0)], clip=2.0).score(*ROWS).value.tolist() == [0, 0, 1]


def test_a_function_sees_messages_and_whether_a_reply_was_cut():
    seen = []

    def spy(prompts, responses):
        seen.extend(zip(prompts, responses, strict=True))
        return [0.0, 0.0]

    combined(spy).score(["a", [{"role": "user", "content": "b"}]], ["c", Response("d", finish="length")])
    assert [prompt for prompt, _ in seen] == [(Message("user", "a"),), (Message("user", "b"),)]
    assert [(response.text, response.finish) for _, response in seen] == [("c", None), ("d", "length")]


@pytest.mark.parametrize(
    "given",
    [[1, 2, 3], (1.0, True, np.float32(3)), np.array([1, 2, 3]), torch.tensor([1.0, 2, 3]), {1: 0, 2: 0, 3: 0}.keys()],
)
def test_any_list_of_numbers_is_accepted(given):
    found = combined(lambda prompts, responses: given).score(*ROWS)
    assert found.value.dtype == np.float64
    assert found.value[[0, 2]].tolist() == [1, 3]


def test_no_responses_have_no_rewards_and_no_source_is_called():
    found = combined([Good(), lambda prompts, responses: 1 / 0]).score([], [])
    assert found.value.shape == found.usable.shape == (0,)
    assert list(found.parts) == ["Good", "<lambda>"]


# ---- What goes wrong ---------------------------------------------------------------------------------------------


def test_a_function_that_raises_is_named_and_its_error_is_chained():
    def picky(prompts, responses):
        raise KeyError("no\nsuch thing")

    with pytest.raises(GuerdonError, match=r"^reward picky: raised KeyError \('no.nsuch thing'\) for 3") as raised:
        combined([Good(), picky]).score(*ROWS)
    assert isinstance(raised.value.__cause__, KeyError)
    assert "\n" not in str(raised.value)


def test_a_guerdon_error_of_a_source_passes_through():
    def strict(prompts, responses):
        raise GuerdonError("row 3 must be shorter. Cut it.")

    with pytest.raises(GuerdonError, match=r"^row 3 must be shorter\. Cut it\.$"):
        combined(strict).score(*ROWS)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ([1.0, 2.0], "must return one number for each of 3 responses, got 2"),
        ([], "must return one number for each of 3 responses, got 0"),
        (1.0, r"must return a list of numbers, got float \(1\.0\)"),
        (None, r"must return a list of numbers, got NoneType \(None\)"),
        ("123", "must return a list of numbers, got str"),
        ({"a": 1.0, "b": 2.0, "c": 3.0}, "must return a list of numbers, got dict"),
        ([1.0, None, 3.0], r"must return numbers, got NoneType \(None\) for response 1"),
        ([1.0, "2", 3.0], r"must return numbers, got str \('2'\) for response 1"),
        ([[1.0], [2.0], [3.0]], r"must return numbers, got list \(\[1\.0\]\) for response 0"),
        (np.ones((3, 1)), "must return numbers, got ndarray .* for response 0"),
        (np.array(1.0), "must return a list of numbers, got ndarray"),
        (torch.ones(3, 2), "must return numbers, got Tensor .* for response 0"),
    ],
)
def test_anything_but_a_list_of_numbers_is_refused(given, error):
    with pytest.raises(
        GuerdonError, match=rf"^reward <lambda>: {error}.*\. Return a list of one number per response\.$"
    ):
        combined(lambda prompts, responses: given).score(*ROWS)


def test_a_model_that_scores_too_few_is_named():
    class Short(Good):
        def score(self, prompts, responses):
            return super().score(prompts[:1], responses[:1])

    with pytest.raises(GuerdonError, match=r"^reward Short: must score each of 3 responses, got scores of shape \[1\]"):
        combined(Short()).score(*ROWS)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rule", ["sum", "mean", "min", "uncertainty", "soft_min"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_number_that_is_not_finite_is_unusable(bad, rule, clip):
    """Clipping does not turn infinity into a number, and a minimum does not hide it."""
    found = combined([constant(1, bad, 3), constant(0, 0, 0)], rule=rule, clip=clip).score(*ROWS)
    assert found.usable.tolist() == [True, False, True]
    assert np.isnan(found.value).tolist() == [False, True, False]
    assert found.num_unusable == 1


def test_a_source_with_weight_0_changes_nothing():
    found = combined([Good(), constant(math.nan, 1, 1)], [1.0, 0.0]).score(*ROWS)
    assert found.value.tolist() == [1, 0, 2]
    assert math.isnan(found.parts["fixed"][0])


def test_a_broken_member_makes_the_response_unusable():
    found = combined(Ensemble([1, math.inf, 1], [1, 1, 1]), members="min").score(*ROWS)
    assert found.usable.tolist() == [True, False, True]


def test_no_usable_reward_at_all_is_an_error_with_the_first_number():
    with pytest.raises(
        GuerdonError,
        match=r"^reward broken: some of 3 responses must get a finite number, got nan for the first\. Check",
    ):
        combined({"broken": constant(math.nan, math.inf, math.nan)}).score(*ROWS)


@pytest.mark.parametrize(
    ("sources", "options", "error"),
    [
        ([], {}, "must have at least one source, got none"),
        ({}, {}, "must have at least one source, got none"),
        (3, {}, r"reward int: must be a reward model, or a function .*, got int\. Give one"),
        ([Good(), "length"], {}, "reward str: must be a reward model, .* got str"),
        ([Good(), length], {"weights": [1.0]}, "weights must be one for each of 2 sources, got 1"),
        ({"a": Good()}, {"weights": {"b": 1.0}}, "weights must name the sources a, got b"),
        (Good(), {"weights": [math.nan]}, "weight must be a finite number, got nan"),
        (Good(), {"weights": [0.0]}, "some weight must not be 0, got 0 for every source"),
        (
            [Good(), length],
            {"weights": [1.0, -1.0], "rule": "min"},
            "reward length: weight must be above 0 for an ensemble's rule, got -1.0",
        ),
        (Good(), {"rule": "best"}, "rule must be sum, .*got 'best'"),
        (Good(), {"clip": 0.0}, "clip must be a finite number above 0"),
        (Good(), {"clip": math.inf}, "clip must be a finite number above 0"),
    ],
)
def test_what_cannot_be_combined_is_refused_in_one_line(sources, options, error):
    with pytest.raises(GuerdonError, match=error):
        combined(sources, **options)


def test_a_rule_for_members_needs_an_ensemble():
    with pytest.raises(GuerdonError, match="members needs a source that is an ensemble, got none"):
        combined([Good(), length], members="min").score(*ROWS)


def test_prompts_and_responses_must_have_the_same_length():
    with pytest.raises(GuerdonError, match="one prompt per response, got 2 prompts and 1 responses"):
        Reward({"good": Good()}, {"good": 1.0}).score(["a", "b"], ["c"])
