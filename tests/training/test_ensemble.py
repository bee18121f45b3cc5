"""Members of an ensemble: heads with separate losses on one backbone, bootstrap samples, runs that resume."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from shell import guerdon
from toys import liked

from guerdon import GuerdonError
from guerdon.api import data, ensembles, saved_models
from guerdon.config import Config, ModelOptions, TrainOptions
from guerdon.models.directory.loading import create_reward_model
from guerdon.training import fit
from guerdon.training.dataset import bootstrap_counts, tokenize_comparisons
from guerdon.training.ensemble import member_configs
from guerdon.training.steps import TrainingNetwork, accumulate_gradients

FAST = {"lr": 3e-3, "batch_size": 16, "micro_tokens": 1024, "save_every": 0}
PROMPTS, ANSWERS = ["write a review"] * 3, ["a good and great film", "a sad film", "the film was so so"]
HEAD = "classifier.score.weight"


def gradients(base, comparisons, *, heads=1, seed=0, **options):
    """Loss and gradients of one step over all the comparisons, and the weight that the step is divided by."""
    model = create_reward_model(ModelOptions(base=str(base), heads=heads), seed=seed)
    chosen = TrainOptions(**{**FAST, "seed": seed, **options})
    table = tokenize_comparisons(model.text, comparisons, chosen, (), heads if chosen.bootstrap else 0)
    model.network.train()
    training = TrainingNetwork(model.network, model.network, Accelerator(cpu=True), chosen, model.autocast)
    value = accumulate_gradients(training, table, np.arange(len(table)))
    found = {n: p.grad.double() for n, p in model.network.named_parameters() if p.grad is not None}
    return value, found, float(table.weight.sum())


# ---- Bootstrap -----------------------------------------------------------------------------------------------------


def test_counts_are_those_of_a_poisson_bootstrap():
    found = bootstrap_counts([f"c{i}" for i in range(4000)], 3, seed=0)
    assert found.mean(axis=0) == pytest.approx([1, 1, 1], abs=0.05)
    assert found.var(axis=0) == pytest.approx([1, 1, 1], abs=0.1)
    assert (found == 0).mean() == pytest.approx(np.exp(-1), abs=0.02)
    assert np.abs(np.corrcoef(found.T) - np.eye(3)).max() < 0.05
    assert np.issubdtype(found.dtype, np.floating)
    assert (found == np.round(found)).all()


def test_a_count_depends_only_on_the_comparison_its_head_and_the_seed():
    ids = [f"c{i}" for i in range(50)]
    whole = bootstrap_counts(ids, 3, seed=7)
    np.testing.assert_array_equal(bootstrap_counts(ids[::-1], 3, seed=7)[::-1], whole)
    np.testing.assert_array_equal(bootstrap_counts(ids[10:12], 3, seed=7), whole[10:12])
    np.testing.assert_array_equal(
        bootstrap_counts(ids, 1, seed=8)[:, 0], whole[:, 1]
    )  # a run of its own with the next seed
    assert (bootstrap_counts(ids, 3, seed=8) != whole).any()


def test_training_on_a_bootstrap_sample_is_training_with_its_counts_as_weights(tiny_dir):
    rows = liked(32)
    count = bootstrap_counts([row.id for row in rows], 1, seed=0)[:, 0]
    weighed = [dataclasses.replace(r, weight=float(n)) for r, n in zip(rows, count, strict=True) if n > 0]
    assert 10 < len(weighed) < 30
    trained = [
        fit(
            create_reward_model(ModelOptions(base=str(tiny_dir))), given, TrainOptions(**FAST, bootstrap=resample)
        ).model
        for given, resample in ((rows, True), (weighed, False))
    ]
    one, other = (model.network.state_dict() for model in trained)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=1e-6)


def test_held_out_comparisons_are_never_bootstrapped(tiny_dir):
    options = TrainOptions(**{**FAST, "lr": 1e-12}, bootstrap=True)
    held = [
        fit(create_reward_model(ModelOptions(base=str(tiny_dir))), liked(16), chosen, held_out=liked(12, 1)).held_out
        for chosen in (options, options.model_copy(update={"bootstrap": False}))
    ]
    assert held[0].loss.n == 12
    assert held[0].loss.value == pytest.approx(held[1].loss.value, abs=1e-5)


def test_an_empty_bootstrap_sample_is_refused(tiny_dir):
    rows = liked(30)
    none = [row for row, n in zip(rows, bootstrap_counts([r.id for r in rows], 1, 0)[:, 0], strict=True) if n == 0]
    with pytest.raises(
        GuerdonError,
        match=r"train.bootstrap=True: the bootstrap sample must hold a comparison, got none of \d+\. Give more",
    ):
        fit(create_reward_model(ModelOptions(base=str(tiny_dir))), none, TrainOptions(**FAST, bootstrap=True))


# ---- Heads on one backbone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["bradley_terry", "rao_kupper", "plackett_luce", "all_pairs"])
def test_a_head_learns_from_its_own_loss_and_the_backbone_from_the_mean(tiny_dir, loss):
    rows = liked(10, k=2 if loss in ("bradley_terry", "rao_kupper") else 4)
    value, together, _ = gradients(tiny_dir, rows, heads=3, seed=5, loss=loss)
    alone = [gradients(tiny_dir, rows, seed=5 + k, loss=loss) for k in range(3)]
    assert value == pytest.approx(np.mean([one for one, _, _ in alone]), rel=1e-5)
    for name, found in together.items():
        each = [grads[name] for _, grads, _ in alone]
        expected = torch.cat(each) / 3 if name == HEAD else torch.stack(each).mean(0)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_each_head_learns_from_its_own_bootstrap_sample(tiny_dir):
    rows = liked(20)
    _, together, divisor = gradients(tiny_dir, rows, heads=3, seed=5, bootstrap=True)
    for k in range(3):
        _, alone, own = gradients(tiny_dir, rows, seed=5 + k, bootstrap=True)
        torch.testing.assert_close(together[HEAD][k] * divisor * 3, alone[HEAD][0] * own, rtol=1e-4, atol=1e-4)


def test_micro_batches_change_nothing_for_bootstrapped_heads(tiny_dir):
    rows = liked(14)
    rows[3] = dataclasses.replace(rows[3], weight=2.5)
    whole, large, _ = gradients(tiny_dir, rows, heads=3, bootstrap=True, micro_tokens=10**6)
    for tokens in (16, 120):
        value, small, _ = gradients(tiny_dir, rows, heads=3, bootstrap=True, micro_tokens=tokens)
        assert value == pytest.approx(whole, rel=1e-6)
        for name, grad in small.items():
            torch.testing.assert_close(grad, large[name], rtol=0, atol=1e-5)


def test_on_a_frozen_backbone_heads_trained_together_equal_heads_trained_alone(tiny_dir):
    options = TrainOptions(**{**FAST, "lr": 0.02, "eps": 1e-12, "clip": 0.0, "epochs": 3.0})

    def trained(heads, seed):
        model = create_reward_model(ModelOptions(base=str(tiny_dir), heads=heads), seed=seed)
        for parameter in model.network.backbone.base_model.parameters():
            parameter.requires_grad_(False)
        return fit(model, liked(32), options).model.score(PROMPTS, ANSWERS)

    together = trained(3, 5)
    for k in range(3):
        np.testing.assert_allclose(together.members[k], trained(1, 5 + k).value, atol=1e-4)


def test_heads_learn_and_are_measured_by_their_mean(tiny_dir):
    model = create_reward_model(ModelOptions(base=str(tiny_dir), heads=3))
    result = fit(model, liked(48), TrainOptions(**{**FAST, "epochs": 4.0}, bootstrap=True), held_out=liked(40, 1))
    assert result.held_out.accuracy.value > 0.9
    found = result.model.score(PROMPTS, ANSWERS)
    assert found.members.shape == (3, 3)
    assert (found.members[:, 0] > found.members[:, 1]).all()
    assert np.ptp(found.members - found.members[:, :1], axis=0)[1] > 0.1  # they differ


def test_a_run_of_other_heads_is_another_run(tiny_dir, tmp_path):
    options = TrainOptions(**{**FAST, "save_every": 1}, max_steps=1)
    for heads in (2, 3):
        model = create_reward_model(ModelOptions(base=str(tiny_dir), heads=heads))
        if heads == 2:
            fit(model, liked(16), options, folder=tmp_path)
            continue
        with pytest.raises(GuerdonError, match=r"belongs to a run that differs in model\."):
            fit(model, liked(16), options, folder=tmp_path)


def test_several_heads_with_rated_attributes_are_refused(tiny_dir):
    model = create_reward_model(ModelOptions(base=str(tiny_dir), heads=2))
    with pytest.raises(
        GuerdonError, match=r"model.heads must be 1 with train.loss=attributes, .*, got 2\. Set model.heads=1"
    ):
        fit(model, liked(8), TrainOptions(**FAST, loss="attributes"))


# ---- Whole ensembles -----------------------------------------------------------------------------------------------


def make(tiny_dir, **given):
    return ensembles.train_ensemble(
        liked(32), base=str(tiny_dir), **{"members": 2, "held_out": liked(16, 1), **FAST, **given}
    )


@pytest.mark.parametrize("by", ["seed", "bootstrap", "heads"])
def test_an_ensemble_is_trained_saved_and_loaded(tiny_dir, tmp_path, by):
    model = make(tiny_dir, by=by, out=tmp_path, rule="min")
    found, again = (m.score(PROMPTS, ANSWERS) for m in (model, saved_models.load(tmp_path / "model")))
    np.testing.assert_allclose(again.members, found.members, atol=1e-5)
    np.testing.assert_allclose(again.value, found.members.min(axis=0), atol=1e-5)
    assert model.model.scale.provenance["from"] == "held-out comparisons"
    assert found.std.max() > 0
    member = saved_models.load(tmp_path / "model" / "member-2").score(PROMPTS, ANSWERS).value
    scale = model.model.scale
    unit = np.sqrt(np.prod(scale.spread))
    np.testing.assert_allclose((member - scale.center[1]) / scale.spread[1] * unit, found.members[1], atol=1e-5)
    runs_of = {"heads": {"config.yaml", "metrics.jsonl", "model"}}.get(by, {"member-1", "member-2", "model"})
    assert {path.name for path in tmp_path.iterdir()} == runs_of


def test_finished_members_are_not_trained_again(tiny_dir, tmp_path):
    make(tiny_dir, out=tmp_path, max_steps=1)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("member-*/model/model.safetensors")}
    (tmp_path / "member-2" / "done.json").unlink()  # as if killed before the second was whole
    three = make(tiny_dir, out=tmp_path, members=3, max_steps=1)
    after = {p: p.stat().st_mtime_ns for p in tmp_path.glob("member-*/model/model.safetensors")}
    kept = tmp_path / "member-1/model/model.safetensors"
    assert len(after) == 3
    assert after[kept] == before[kept]
    fresh = make(tiny_dir, members=3, max_steps=1)
    np.testing.assert_allclose(three.score(PROMPTS, ANSWERS).members, fresh.score(PROMPTS, ANSWERS).members, atol=1e-5)
    with pytest.raises(
        GuerdonError,
        match=r"member-1: belongs to a run that differs in options or data\. Delete it to start over, or pass another path",
    ):
        make(tiny_dir, out=tmp_path, lr=1e-3, max_steps=1)


def test_without_held_out_comparisons_the_scale_names_the_training_comparisons(tiny_dir):
    model = make(tiny_dir, held_out=(), max_steps=1)
    assert model.model.scale.provenance["from"] == "comparisons of the training"


def test_each_run_has_its_own_seed_and_heads_are_one_run():
    config = Config(train=TrainOptions(seed=4))
    assert [run.train.seed for run in member_configs(config, 3, "seed")] == [4, 5, 6]
    assert not any(run.train.bootstrap for run in member_configs(config, 3, "seed"))
    assert all(run.train.bootstrap for run in member_configs(config, 3, "bootstrap"))
    (only,) = member_configs(config, 3, "heads")
    assert (only.model.heads, only.train.bootstrap) == (3, False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"by": "luck"}, r"by must be one of seed, bootstrap, heads, got 'luck'\. Choose"),
        ({"members": 1}, r"members must be at least 2, got 1\. Train more"),
        ({"heads": 2}, r"model.heads must be 1 for members by seed, got 2\. Leave it out"),
        (
            {"by": "heads", "attributes": ["kind"], "loss": "attributes"},
            r"model.heads must be 1 with model.attributes, .*, got 2",
        ),
        ({"by": "heads", "loss": "attributes"}, r"model.heads must be 1 with train.loss=attributes, .*, got 2\. Set"),
        ({"rule": "sum"}, "ensemble: rule must be one of mean, min"),
    ],
)
def test_an_invalid_ensemble_is_refused(tiny_dir, given, said):
    with pytest.raises(GuerdonError, match=said):
        make(tiny_dir, **given)


# ---- The command ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(tiny_dir, tmp_path_factory):
    """Two trained models and held-out comparisons, to read only."""
    place = tmp_path_factory.mktemp("desk")
    for seed in (0, 1):
        model = create_reward_model(ModelOptions(base=str(tiny_dir)), seed=0)
        saved_models.save(fit(model, liked(48), TrainOptions(**FAST, seed=seed)).model, place / str(seed))
    data.write(place / "held.jsonl", liked(60, 3))
    return place


def test_the_command_binds_models_and_reports_what_that_gains(desk, tmp_path):
    ran = guerdon("--quiet", "ensemble", desk / "0", desk / "1", "audit.draws=100", "--out", tmp_path / "both",
                "--data", desk / "held.jsonl", "--rule", "uncertainty", "--strength", 0.1)  # fmt: skip
    assert ran.code == 0, ran.err
    assert "correlation of errors" in ran.out
    model = saved_models.load(tmp_path / "both")
    assert model.model.rule.strength == 0.1
    assert model.model.scale.provenance["comparisons"] == 60
    ran = guerdon(
        "--quiet", "score", tmp_path / "both", "--prompt", "write", "--response", "a good film", "--response", "bad"
    )
    assert ran.code == 0, ran.err


def test_the_command_says_that_members_without_comparisons_meet_as_they_are(desk, tmp_path):
    ran = guerdon("--quiet", "ensemble", desk / "0", desk / "1", "--out", tmp_path / "both")
    assert ran.code == 0, ran.err
    assert "The members are not on one scale" in ran.out
    assert saved_models.load(tmp_path / "both").model.scale is None


def test_the_command_averages_weights_and_measures_whether_it_may(desk, tmp_path):
    ran = guerdon("--quiet", "ensemble", desk / "0", desk / "1", "--out", tmp_path / "average",
                "--data", desk / "held.jsonl", "--average")  # fmt: skip
    assert ran.code == 0, ran.err
    assert (tmp_path / "average/config.json").is_file()
    average = saved_models.load(tmp_path / "average").score(PROMPTS, ANSWERS)
    assert average.members is None
    assert average.value[0] > average.value[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{0}",), "models must be two or more different ones"),
        (("{0}", "{0}"), "models must be two or more different ones"),
        (("{0}", "{1}", "--average"), "must be checked on held-out comparisons, got none. Pass --data FILE"),
        (
            ("{0}", "{1}", "--average", "--data", "{held}", "--rule", "min"),
            "must be absent with --average, got --rule min. Leave",
        ),
        (("{0}", "{1}", "--rule", "median"), "rule must be one of mean"),
        (("{0}", "{1}", "--strength", "1"), "rule mean takes no strength, got 1.0. Leave it out"),
        (("{0}", "nowhere"), "nowhere: no such directory"),
    ],
)
def test_a_mistake_of_the_command_is_one_line(desk, tmp_path, words, said):
    places = {"{0}": desk / "0", "{1}": desk / "1", "{held}": desk / "held.jsonl"}
    ran = guerdon("--quiet", "ensemble", *(places.get(word, word) for word in words), "--out", tmp_path / "x")
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()
