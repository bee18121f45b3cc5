"""Several models as one: the contract, the common scale, and heads on one backbone."""

from __future__ import annotations

import numpy as np
import pytest
from families import save_family
from reward_models import PROMPTS, RESPONSES
from toys import Constant, Good, as_scores, liked

from guerdon import GuerdonError
from guerdon.config import ModelOptions
from guerdon.contracts import Scores, as_response
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.ensemble import CommonScale, Ensemble, scale_by_comparisons, scale_by_samples
from guerdon.models.ensemble_rules import ensemble_rule
from guerdon.testing import check_reward_model


class Length:
    """One nat per character, plus a constant of its own."""

    def __init__(self, scale=1.0, start=0.0, by_prompt=0.0):
        self.scale, self.start, self.by_prompt = scale, start, by_prompt

    def score(self, prompts, responses):
        return as_scores(
            [
                self.scale * len(as_response(r).text) + self.start + self.by_prompt * len(str(p))
                for p, r in zip(prompts, responses, strict=True)
            ]
        )


# ---- One reward of several -----------------------------------------------------------------------------------------


def test_an_ensemble_fulfills_the_contract():
    ensemble = Ensemble([Length(), Good(), Length(-0.5, 3)], ensemble_rule("soft_min"))
    check_reward_model(ensemble)
    found = ensemble.score(PROMPTS, RESPONSES)
    assert found.members.shape == (3, 3)
    np.testing.assert_allclose(found.std, found.members.std(axis=0))
    np.testing.assert_allclose(found.value, ensemble_rule("soft_min")(found.members))
    np.testing.assert_allclose(
        ensemble.log_odds(PROMPTS, RESPONSES, RESPONSES[::-1]),
        found.value - ensemble.score(PROMPTS, RESPONSES[::-1]).value,
    )


def test_a_member_that_is_not_finite_makes_the_reward_not_finite():
    class Broken(Good):
        def score(self, prompts, responses):
            return as_scores([np.inf, 1.0, np.nan])

    assert np.isfinite(Ensemble([Good(), Broken()], ensemble_rule("min")).score(PROMPTS, RESPONSES).value).tolist() == [
        False,
        True,
        False,
    ]


def test_members_p_values_and_truncation_are_combined():
    class Knows(Good):
        def __init__(self, p, cut):
            super().__init__()
            self.p, self.cut = np.array(p), np.array(cut)

        def score(self, prompts, responses):
            return Scores(super().score(prompts, responses).value, self.cut, shift_p=self.p)

    found = Ensemble([Knows([0.1, 0.9], [True, False]), Knows([0.3, 0.8], [False, False])]).score(
        PROMPTS[:2], RESPONSES[:2]
    )
    assert found.shift_p.tolist() == [0.2, 1.0]
    assert found.truncated.tolist() == [True, False]


def test_a_model_with_members_contributes_each_of_them(heads):
    found = Ensemble([heads, Good()]).score(PROMPTS, RESPONSES)
    assert found.members.shape == (4, 3)
    np.testing.assert_array_equal(found.members[:3], heads.score(PROMPTS, RESPONSES).members)


def test_the_spread_of_a_margin_is_that_of_the_members_margins(heads):
    first, second = np.array([0, 1]), np.array([2, 0])
    for model in (heads, Ensemble([heads]), CalibratedModel(Ensemble([heads]), Calibration(4.0))):
        scores, spread = model.score_pairs(PROMPTS, RESPONSES, first, second)
        np.testing.assert_allclose(spread, (scores.members[:, first] - scores.members[:, second]).std(axis=0))
        firsts, seconds = ([RESPONSES[i] for i in rows] for rows in (first, second))
        apart = model.score([PROMPTS[0]] * 4, firsts + seconds).members
        np.testing.assert_allclose(
            model.margin_std([PROMPTS[0]] * 2, firsts, seconds), (apart[:, :2] - apart[:, 2:]).std(axis=0), rtol=1e-5
        )


# ---- One scale -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["mean", "min", "uncertainty", "soft_min"])
def test_on_a_common_scale_units_do_not_change_a_members_weight(rule):
    same = Ensemble([Length(), Length(100.0, -7.0)], ensemble_rule(rule))
    on_one = scale_by_comparisons(same, liked(30))
    found = on_one.score(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.members[0], found.members[1])
    np.testing.assert_allclose(found.std, 0, atol=1e-9)
    np.testing.assert_allclose(found.value, found.members[0])
    assert on_one.scale.provenance["comparisons"] == 30
    unit = np.sqrt(on_one.scale.spread[0] * on_one.scale.spread[1])
    assert unit / on_one.scale.spread[0] == pytest.approx(10)  # between the two


def test_the_scale_is_that_of_the_samples_within_a_prompt():
    prompts, responses = ["a", "a", "bb", "bb"], ["x", "xxx", "xx", "xxxx"]
    scaled = scale_by_samples(Ensemble([Length(2.0, 1.0, by_prompt=50)]), prompts, responses)
    assert scaled.scale.spread == (pytest.approx(2 * np.sqrt(2)),)  # margins of 2 characters, twice, over sqrt 2
    found = scaled.score(prompts, responses).value
    assert found.mean() == pytest.approx(0)


def test_centered_members_do_not_differ_by_a_constant_per_prompt():
    prompts, responses = ["a", "a", "bbbbbb", "bbbbbb"], ["x", "xxx", "xx", "xxxx"]
    ensemble = scale_by_samples(Ensemble([Length(), Length(1.0, 5.0, by_prompt=3)]), prompts, responses)
    found = ensemble.centered(prompts, responses).score(["a", "bbbbbb"], ["xx", "xx"])
    np.testing.assert_allclose(found.std, 0, atol=1e-9)
    assert ensemble.score(["a", "bbbbbb"], ["xx", "xx"]).std.max() > 1
    with pytest.raises(GuerdonError, match="prompt 'c' has no reference samples"):
        ensemble.centered(prompts, responses).score(["c"], ["x"])


def test_an_impossible_scale_is_refused():
    with pytest.raises(GuerdonError, match=r"member 2 must differ within a prompt, got spread 0\.0\. Leave it out"):
        scale_by_comparisons(Ensemble([Length(), Constant()]), liked(5))
    with pytest.raises(GuerdonError, match="needs prompts with two responses or more"):
        scale_by_samples(Ensemble([Length()]), PROMPTS, RESPONSES)
    with pytest.raises(GuerdonError, match="a spread above 0"):
        CommonScale((0.0,), (0.0,))
    with pytest.raises(GuerdonError, match="one spread per member, got 1 for 2 members"):
        Ensemble([Length(), Good()], scale=CommonScale((0.0,), (1.0,))).score(PROMPTS, RESPONSES)
    with pytest.raises(GuerdonError, match="at least one member, got none"):
        Ensemble([])


# ---- Heads on one backbone --------------------------------------------------------------------------------------------


def test_each_head_equals_the_single_head_of_its_seed(heads, tiny_dir):
    check_reward_model(heads)
    found = heads.score(PROMPTS, RESPONSES)
    for k in range(3):
        alone = create_reward_model(ModelOptions(base=str(tiny_dir)), seed=5 + k).score(PROMPTS, RESPONSES)
        np.testing.assert_allclose(found.members[k], alone.value, atol=1e-6)
        assert alone.members is None
    np.testing.assert_allclose(found.value, found.members.mean(axis=0))


def test_heads_cost_one_pass(heads, monkeypatch):
    passes = []
    states = heads.network.backbone.hidden_states
    monkeypatch.setattr(
        heads.network.backbone, "hidden_states", lambda texts: passes.append(len(texts)) or states(texts)
    )
    heads.score(PROMPTS, RESPONSES)
    assert passes == [3]


def test_heads_that_cannot_share_a_backbone_are_refused(tiny_dir, saved_heads, tmp_path):
    base = save_family(tmp_path / "base", "roberta")
    with pytest.raises(
        GuerdonError, match=r"must be a linear layer .*, got RobertaClassificationHead\. Train members one by one"
    ):
        create_reward_model(ModelOptions(base=str(base), template="plain", heads=2))
    with pytest.raises(GuerdonError, match=r"model.heads must be 1 with model.attributes, .*, got 2"):
        create_reward_model(ModelOptions(base=str(tiny_dir), heads=2, attributes=["kind"]))
    with pytest.raises(GuerdonError, match=r"model.heads must be 1, the number that .*member-1 already has, got 2"):
        create_reward_model(ModelOptions(base=str(saved_heads / "member-1"), heads=2))


# ---- Separate members ----------------------------------------------------------------------------------------------


# ---- Weights averaged ----------------------------------------------------------------------------------------------


def test_the_ensemble_command_refuses_options_that_it_would_ignore(tmp_path):
    from typer.testing import CliRunner

    from guerdon.cli.app import app

    ran = CliRunner().invoke(app, ["ensemble", "a", "b", "--out", str(tmp_path / "e"), "model.max_length=8"])
    assert (
        "override must be an option of imports or audit, which this command reads, got 'model.max_length=8'. Leave"
        in str(ran.exception)
    )
