"""Several models as one: the contract, one scale, directories whose members load alone everywhere, and averaged weights."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from families import save_family
from toys import Constant, Good, as_scores, liked
from transformers import AutoModelForSequenceClassification

from guerdon import GuerdonError
from guerdon.api import (
    calibration,
    saved_models,
    scoring,
    training,
)
from guerdon.config import ModelOptions, TrainOptions
from guerdon.contracts import Scores, as_response
from guerdon.models.averaging import average_weights
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory import shared_backbone
from guerdon.models.directory.doctor import examine
from guerdon.models.directory.loading import create_reward_model, load, load_reward_model
from guerdon.models.directory.saving import save, save_members
from guerdon.models.ensemble import CommonScale, Ensemble, scale_by_comparisons, scale_by_samples
from guerdon.models.ensemble_rules import ensemble_rule
from guerdon.scoring.bulk_scorer import BulkScorer
from guerdon.testing import check_reward_model
from guerdon.training import fit

PROMPTS = ["write a good film review", "is it a sad film ?", "i love the people"]
RESPONSES = ["yes , it is great and we love it very much .", "no", "they love you , and so do we !"]


class Length:
    """A nat a character, from a start of its own."""

    def __init__(self, scale=1.0, start=0.0, by_prompt=0.0):
        self.scale, self.start, self.by_prompt = scale, start, by_prompt

    def score(self, prompts, responses):
        return as_scores(
            [
                self.scale * len(as_response(r).text) + self.start + self.by_prompt * len(str(p))
                for p, r in zip(prompts, responses, strict=True)
            ]
        )


@pytest.fixture(scope="module")
def heads(tiny_dir):
    """A model with three heads on its backbone."""
    return create_reward_model(ModelOptions(base=str(tiny_dir), heads=3), seed=5)


@pytest.fixture(scope="module")
def saved(heads, tmp_path_factory):
    """The same on disk, calibrated, with texts to prove its scores by; read it, do not write into it."""
    folder = tmp_path_factory.mktemp("heads") / "model"
    tested = training.with_self_test(heads, liked(4))
    ensemble = scale_by_comparisons(Ensemble([tested], ensemble_rule("uncertainty", 0.25)), liked(20))
    save(CalibratedModel(ensemble, Calibration(temperature=2.0)), folder)
    return folder


# ---- One reward of several -----------------------------------------------------------------------------------------


def test_an_ensemble_keeps_the_contract():
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


def test_one_member_that_is_not_finite_makes_the_reward_so():
    class Broken(Good):
        def score(self, prompts, responses):
            return as_scores([np.inf, 1.0, np.nan])

    assert np.isfinite(Ensemble([Good(), Broken()], ensemble_rule("min")).score(PROMPTS, RESPONSES).value).tolist() == [
        False,
        True,
        False,
    ]


def test_what_members_know_of_a_text_is_passed_on():
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


def test_a_model_with_members_brings_in_each_of_them(heads):
    found = Ensemble([heads, Good()]).score(PROMPTS, RESPONSES)
    assert found.members.shape == (4, 3)
    np.testing.assert_array_equal(found.members[:3], heads.score(PROMPTS, RESPONSES).members)


def test_the_spread_of_a_margin_is_that_of_the_members_margins(heads):
    first, second = np.array([0, 1]), np.array([2, 0])
    for model in (heads, Ensemble([heads]), CalibratedModel(Ensemble([heads]), Calibration(4.0))):
        scores, spread = model.score_pairs(PROMPTS, RESPONSES, first, second)
        np.testing.assert_allclose(spread, (scores.members[:, first] - scores.members[:, second]).std(axis=0))


# ---- One scale -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["mean", "min", "uncertainty", "soft_min"])
def test_on_one_scale_a_member_in_other_units_does_not_count_more(rule):
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


def test_above_their_baselines_members_differ_by_no_constant_of_the_prompt():
    prompts, responses = ["a", "a", "bbbbbb", "bbbbbb"], ["x", "xxx", "xx", "xxxx"]
    ensemble = scale_by_samples(Ensemble([Length(), Length(1.0, 5.0, by_prompt=3)]), prompts, responses)
    found = ensemble.centered(prompts, responses).score(["a", "bbbbbb"], ["xx", "xx"])
    np.testing.assert_allclose(found.std, 0, atol=1e-9)
    assert ensemble.score(["a", "bbbbbb"], ["xx", "xx"]).std.max() > 1
    with pytest.raises(GuerdonError, match="prompt 'c' has no reference samples"):
        ensemble.centered(prompts, responses).score(["c"], ["x"])


def test_what_gives_no_scale_is_refused():
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


def test_each_head_is_the_one_that_its_seed_draws_alone(heads, tiny_dir):
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


def test_the_backbone_is_written_once_and_linked(saved):
    backbone, head = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    places = [saved / f"member-{k}" for k in (1, 2, 3)]
    assert all(place.joinpath(backbone).samefile(places[0] / backbone) for place in places)
    assert len({place.joinpath(head).read_bytes() for place in places}) == 3
    assert places[0].joinpath(head).stat().st_size < 1000
    assert {path.name for path in saved.iterdir()} == {"ensemble.json", "member-1", "member-2", "member-3"}


def test_what_was_saved_scores_alike_in_one_pass(heads, saved):
    model = saved_models.load(saved)
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


def test_a_member_is_stored_with_its_own_scores_of_the_test_texts(saved):
    for k in (1, 2, 3):
        report = examine(saved / f"member-{k}")
        assert not [finding for finding in report.findings if finding.severity in ("error", "warning")]
    values = {json.loads((saved / f"member-{k}" / "reward.json").read_text())["self_test"][0][2] for k in (1, 2, 3)}
    assert len(values) == 3


def test_a_copy_without_links_is_still_loaded_once(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    assert len(load(tmp_path / "copy").model.models) == 1
    np.testing.assert_allclose(
        load(tmp_path / "copy").score(PROMPTS, RESPONSES).value,
        saved_models.load(saved).score(PROMPTS, RESPONSES).value,
    )


def test_a_member_that_was_replaced_is_loaded_by_itself(saved, tiny_dir, tmp_path, caplog):
    shutil.copytree(saved, tmp_path / "mended")
    other = create_reward_model(ModelOptions(base=str(tiny_dir)), seed=9)
    save(other, tmp_path / "mended" / "member-2")
    found = load(tmp_path / "mended")
    assert "no longer share a backbone" in caplog.text
    assert len(found.model.models) == 3
    raw = Ensemble(found.model.models).score(PROMPTS, RESPONSES).members[1]
    np.testing.assert_allclose(raw, other.score(PROMPTS, RESPONSES).value, atol=1e-5)


def test_a_loaded_ensemble_is_saved_again_as_it_was(saved, tmp_path):
    saved_models.save(saved_models.load(saved), tmp_path / "again")
    one, other = (
        saved_models.load(saved).score(PROMPTS, RESPONSES),
        saved_models.load(tmp_path / "again").score(PROMPTS, RESPONSES),
    )
    np.testing.assert_allclose(one.members, other.members, atol=1e-6)
    np.testing.assert_allclose(one.value, other.value, atol=1e-6)
    assert (saved / "ensemble.json").read_text() == (tmp_path / "again" / "ensemble.json").read_text()


@pytest.mark.parametrize("family", ["gpt_neox", "bert", "granite"])
def test_heads_of_other_families_are_read_back(tmp_path, family):
    base = save_family(tmp_path / "base", family)
    model = create_reward_model(ModelOptions(base=str(base), template="plain", heads=2))
    save(model, tmp_path / "model")
    np.testing.assert_allclose(
        load(tmp_path / "model").score(PROMPTS, RESPONSES).members, model.score(PROMPTS, RESPONSES).members, atol=1e-5
    )


def test_heads_that_cannot_share_a_backbone_are_refused(tiny_dir, saved, tmp_path):
    base = save_family(tmp_path / "base", "roberta")
    with pytest.raises(
        GuerdonError, match=r"must be a linear layer .*, got RobertaClassificationHead\. Train members one by one"
    ):
        create_reward_model(ModelOptions(base=str(base), template="plain", heads=2))
    with pytest.raises(GuerdonError, match=r"model.heads must be 1 with model.attributes, .*, got 2"):
        create_reward_model(ModelOptions(base=str(tiny_dir), heads=2, attributes=["kind"]))
    with pytest.raises(GuerdonError, match=r"model.heads must be 1, the number that .*member-1 already has, got 2"):
        create_reward_model(ModelOptions(base=str(saved / "member-1"), heads=2))


# ---- Separate members ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def members(tiny_dir, tmp_path_factory):
    """Directories of two models, the second calibrated."""
    folder = tmp_path_factory.mktemp("members")
    for seed in (0, 1):
        model = create_reward_model(ModelOptions(base=str(tiny_dir)), seed=seed)
        saved_models.save(CalibratedModel(model, Calibration(temperature=1.0 + seed)), folder / str(seed))
    return [folder / "0", folder / "1"]


def test_members_are_bound_without_writing_their_weights_again(members, tmp_path):
    loaded = [saved_models.load(place) for place in members]
    like = scale_by_comparisons(Ensemble(loaded, ensemble_rule("min")), liked(10))
    save_members(members, tmp_path / "both", like)
    assert (tmp_path / "both/member-2/model.safetensors").samefile(members[1] / "model.safetensors")
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


def test_a_file_is_scored_by_an_ensemble_as_by_any_model(saved, tmp_path):
    rows = [{"prompt": p, "response": r} for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scorer = BulkScorer(saved)
    assert len(scorer.identity()["model"]) > 10
    scoring.score_file(scorer, tmp_path / "rows.jsonl", tmp_path / "out.jsonl")
    told = [json.loads(line)["reward"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(told, saved_models.load(saved).score(PROMPTS, RESPONSES).value, atol=1e-5)


def test_a_directory_of_members_is_named_as_such_where_one_model_is_wanted(saved):
    with pytest.raises(GuerdonError, match=r"is an ensemble, a directory of models\. Use `guerdon.load`"):
        load_reward_model(saved)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 9}, r"newer Guerdon \(format 9, this one reads up to 2\)"),
        ({"members": ["../elsewhere"]}, "names of folders beside it"),
        ({"members": []}, "names of folders beside it"),
        ({"rule": {"name": "median", "strength": None}}, "rule must be .*got 'median'"),
        ({"scale": {"center": [0.0]}}, "not a readable ensemble"),
        ({"scale": {"center": [0.0], "spread": [-1.0], "provenance": {}}}, "spread above 0"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(saved, tmp_path, change, said):
    manifest = json.loads((saved / "ensemble.json").read_text()) | change
    (tmp_path / "ensemble.json").write_text(json.dumps(manifest))
    with pytest.raises(GuerdonError, match=said):
        load(tmp_path)


def test_a_killed_save_leaves_the_old_ensemble(heads, tmp_path, monkeypatch):
    save(heads, tmp_path / "model")
    before = (tmp_path / "model/ensemble.json").read_bytes()
    monkeypatch.setattr(
        shared_backbone, "link_files", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(GuerdonError, match=r"cannot write .*No space left"):
        save(heads, tmp_path / "model")
    assert (tmp_path / "model/ensemble.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_that_is_not_ours_cannot_be_saved(members, tmp_path):
    with pytest.raises(GuerdonError, match="member 2 must be a model that Guerdon trained or loaded, got Good"):
        save(Ensemble([saved_models.load(members[0]), Good()]), tmp_path / "x")


def test_files_are_copied_where_the_disk_knows_no_links(heads, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(shared_backbone.os, "link", refused)
    save(heads, tmp_path / "model")
    np.testing.assert_allclose(
        load(tmp_path / "model").score(PROMPTS, RESPONSES).members, heads.score(PROMPTS, RESPONSES).members, atol=1e-6
    )


# ---- Weights averaged ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tuned(tiny_dir):
    """Two trainings from one start."""
    made = []
    for seed in (0, 1):
        model = create_reward_model(ModelOptions(base=str(tiny_dir)), seed=3)
        made.append(fit(model, liked(32), TrainOptions(lr=1e-3, save_every=0, seed=seed, batch_size=16)).model)
    return made


def test_the_average_is_that_of_every_weight(tuned):
    one, other = (dict(model.network.named_parameters()) for model in tuned)
    found = dict(average_weights(tuned, [0.25, 0.75]).network.named_parameters())
    for name, value in found.items():
        torch.testing.assert_close(value, 0.25 * one[name] + 0.75 * other[name])
    assert any((one[name] != other[name]).any() for name in one)


def test_the_average_of_a_model_with_itself_is_the_model(tuned):
    same = average_weights([tuned[0]] * 3)
    np.testing.assert_array_equal(same.score(PROMPTS, RESPONSES).value, tuned[0].score(PROMPTS, RESPONSES).value)
    assert same.card.calibration == Calibration()


def test_to_first_order_the_average_predicts_as_the_ensemble(tiny_dir):
    """Weights a step of size e apart: the two differ by order e squared, while the members differ by order e."""
    gaps = []
    for size in (1e-2, 1e-3):
        models = []
        for seed in (0, 1):
            moved = create_reward_model(ModelOptions(base=str(tiny_dir)), seed=3)
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for value in moved.network.double().parameters():
                    value += size * torch.randn(value.shape, generator=generator)
            models.append(moved)
        average = average_weights(models).score(PROMPTS, RESPONSES).value
        gaps.append(np.abs(average - Ensemble(models).score(PROMPTS, RESPONSES).value).max())
        apart = np.ptp(Ensemble(models).score(PROMPTS, RESPONSES).members, axis=0).max()
        assert gaps[-1] < apart
    assert gaps[1] < gaps[0] / 30


def test_models_whose_weights_mean_something_else_are_refused_by_what_differs(tuned, tiny_dir, tmp_path):
    other = create_reward_model(ModelOptions(base=str(save_family(tmp_path / "gpt2", "gpt2")), template="plain"))
    with pytest.raises(GuerdonError, match="member 2 must be a llama like the first, got gpt2"):
        average_weights([tuned[0], other])
    wide = create_reward_model(ModelOptions(base=str(save_family(tmp_path / "llama", "llama")), template="plain"))
    with pytest.raises(
        GuerdonError,
        match=r"member 2: weight model.embed_tokens.weight must have shape \(\d+, 64\) like the first, got \(\d+, 32\)",
    ):
        average_weights([tuned[0], wide])
    several = create_reward_model(ModelOptions(base=str(tiny_dir), heads=2))
    with pytest.raises(
        GuerdonError, match=r"member 3: weight score.weight must have shape \(1, 64\) like the first, got \(2, 64\)"
    ):
        average_weights([*tuned, several])
    plain = create_reward_model(ModelOptions(base=str(tiny_dir), system="be kind"))
    with pytest.raises(GuerdonError, match=r"member 2 must have template_hash .* like the first, got"):
        average_weights([tuned[0], plain])
    with pytest.raises(GuerdonError, match="two or more models, and shares that sum to 1, got 1"):
        average_weights(tuned[:1])
    with pytest.raises(GuerdonError, match=r"shares that sum to 1, got 2 and \[0\.5, 0\.6\]"):
        average_weights(tuned, [0.5, 0.6])


def test_the_command_refuses_options_that_it_would_ignore(tmp_path):
    from typer.testing import CliRunner

    from guerdon.cli.app import app

    ran = CliRunner().invoke(app, ["ensemble", "a", "b", "--out", str(tmp_path / "e"), "model.max_length=8"])
    assert "ensemble: options must be audit.*, got model.max_length=8. Leave" in str(ran.exception)
