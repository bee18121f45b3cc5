"""A model's uncertainty: measured in chunks, and computed in the pass that scores."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
from families import save_family
from reward_models import HELD_OUT, NEW, TRAIN, texts_of
from toys import Good, liked

from guerdon import GuerdonError, Response, Rollouts
from guerdon.api import (
    uncertainty,
)
from guerdon.config import ModelOptions, UncertaintyOptions
from guerdon.contracts import Comparison, as_prompt
from guerdon.formulas.uncertainty import (
    cholesky,
    laplace_information,
    ledoit_wolf,
    mahalanobis,
    moments,
)
from guerdon.models import laplace
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.laplace import features, fit_uncertainty
from guerdon.models.reward_model import ScalarRewardModel
from guerdon.models.scored_pairs import PairScorer, score_comparisons
from guerdon.testing import check_reward_model

OPTIONS = UncertaintyOptions()
GIBBERISH = [") 7 ( ( ; - 0 / ' \" 3 3", "tool tool tool tool tool", "9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9"]


# ---- What is measured ----------------------------------------------------------------------------------------------


def test_features_are_what_the_head_reads(model):
    prompts, responses = texts_of(NEW)
    scores, found = model.score_with_features(prompts, responses)
    head = model.network.classifier.score.weight.detach().numpy()[0].astype(np.float64)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found @ head, scores.value, atol=1e-4)
    np.testing.assert_array_equal(scores.value, model.score(prompts, responses).value)
    np.testing.assert_array_equal(found, features(model, prompts, responses))


def test_uncertainty_is_the_formulas_on_the_models_features(model, uncertain):
    rows = sorted(TRAIN, key=lambda c: c.id)
    found = features(model, *texts_of(rows)).astype(np.float64)
    difference = found[::2] - found[1::2]
    information = laplace_information(difference, score_comparisons(model, rows).margin)
    prior = uncertain.model.uncertainty.provenance["prior_precision"]
    precision = cholesky(information + prior * np.eye(64))
    np.testing.assert_allclose(uncertain.model.uncertainty.precision, precision, rtol=1e-4, atol=1e-4 * precision.max())
    new = features(model, *texts_of(NEW)).astype(np.float64)
    solved = np.linalg.solve(precision, (new[::2] - new[1::2]).T)
    prompts, first, second = zip(*((c.prompt, *c.responses) for c in NEW), strict=True)
    np.testing.assert_allclose(
        raw_std := uncertain.model.margin_std(prompts, first, second), np.linalg.norm(solved, axis=0), rtol=1e-3
    )
    np.testing.assert_allclose(uncertain.margin_std(prompts, first, second), raw_std / 2)  # in nats
    np.testing.assert_allclose(uncertain.margin_std(prompts, second, first), raw_std / 2)


def test_the_chunk_size_does_not_change_the_result(model, uncertain, monkeypatch):
    """The center is another one, and so are the roundings of the features; the scale of the target is that of the first chunk."""
    whole = fit_uncertainty(model, TRAIN, HELD_OUT, OPTIONS)
    monkeypatch.setattr(laplace, "CHUNK", 50)
    parts = fit_uncertainty(model, TRAIN, HELD_OUT, OPTIONS)
    np.testing.assert_allclose(parts.mean, whole.mean, atol=1e-5)
    np.testing.assert_allclose(
        parts.precision @ parts.precision.T, whole.precision @ whole.precision.T, rtol=1e-3, atol=0.05
    )
    np.testing.assert_allclose(parts.distance, whole.distance, rtol=0.1)
    assert len(whole.distance) == 80
    assert (np.diff(whole.distance) >= 0).all()
    assert whole.weight.sum() == pytest.approx(40)


def test_memory_holds_one_chunk_of_features(model, monkeypatch):
    """What is read at once is a chunk's replies, however many comparisons there are."""
    sizes = []
    read = ScalarRewardModel.score_with_features
    monkeypatch.setattr(
        ScalarRewardModel,
        "score_with_features",
        lambda self, p, r, t=None: (sizes.append(len(p)), read(self, p, r, t))[1],
    )
    monkeypatch.setattr(laplace, "CHUNK", 16)
    fit_uncertainty(model, TRAIN, HELD_OUT, OPTIONS)
    assert max(sizes) == 32
    assert sum(sizes) == 2 * (len(TRAIN) + len(HELD_OUT))  # every text once


def test_fewer_comparisons_than_features_are_enough(model):
    found = fit_uncertainty(model, TRAIN[:20], HELD_OUT, OPTIONS)
    assert np.isfinite(found.precision).all()
    assert 0 < found.provenance["directions_decided"] < 20
    assert 0 < found.provenance["shrinkage"] < 1


def test_a_sample_of_the_comparisons_is_weighted_up_to_all(model):
    many = liked(400, seed=5)
    whole, part = (
        fit_uncertainty(model, many, HELD_OUT, UncertaintyOptions(most=most, prior_precision=1.0))
        for most in (400, 200)
    )
    assert (whole.provenance["comparisons_read"], part.provenance["comparisons_read"]) == (400, 200)
    told = [np.trace(each.precision @ each.precision.T) for each in (whole, part)]
    assert told[1] / told[0] == pytest.approx(1, abs=0.15)


def test_rankings_and_attribute_models_are_measured(tiny_dir, model):
    ranked = liked(40, seed=6, k=4)
    found = fit_uncertainty(model, ranked, HELD_OUT, OPTIONS)
    assert found.provenance["replies"] == 160
    several = create_reward_model(ModelOptions(base=str(tiny_dir), attributes=["kind", "true"]))
    known = uncertainty.measure_uncertainty(several, TRAIN, held_out=HELD_OUT)
    assert (known.score(*texts_of(NEW)).std > 0).all()


def test_held_out_replies_may_come_from_a_policy(model):
    prompts, responses = texts_of(HELD_OUT)
    rollouts = Rollouts(tuple(prompts), tuple(responses))
    by_policy, by_pairs = (fit_uncertainty(model, TRAIN, each, OPTIONS) for each in (rollouts, HELD_OUT))
    np.testing.assert_allclose(by_policy.distance, by_pairs.distance)


def test_comparisons_that_were_not_trained_on_are_warned_about(model, caplog):
    known = ScalarRewardModel(model.network, model.text, dataclasses.replace(model.card, data_hash="other"))
    with caplog.at_level(logging.WARNING, "guerdon"):
        fit_uncertainty(known, TRAIN, HELD_OUT, OPTIONS)
    assert "not exactly the comparisons that the model was trained on" in caplog.text


# ---- What is answered ----------------------------------------------------------------------------------------------


def test_a_model_with_uncertainty_fulfills_every_contract(uncertain):
    check_reward_model(uncertain)
    assert isinstance(uncertain, PairScorer)


def test_scores_do_not_change_and_uncertainty_is_batch_invariant(model, uncertain):
    prompts, responses = texts_of(NEW)
    plain, known = model.score(prompts, responses), uncertain.model.score(prompts, responses)
    np.testing.assert_array_equal(known.value, plain.value)
    assert plain.std is None
    assert plain.shift_p is None
    alone = [uncertain.model.score([p], [r]) for p, r in zip(prompts[:10], responses, strict=False)]
    np.testing.assert_allclose([one.std[0] for one in alone], known.std[:10], rtol=1e-3)
    np.testing.assert_allclose([one.shift_p[0] for one in alone], known.shift_p[:10], atol=0.05)


def test_uncertainty_comes_from_the_pass_that_scores(model, uncertain, monkeypatch):
    seen = []
    states = type(model.network.backbone).hidden_states
    monkeypatch.setattr(
        type(model.network.backbone),
        "hidden_states",
        lambda self, texts, *a: (seen.append(len(texts)), states(self, texts, *a))[1],
    )
    pairs = score_comparisons(uncertain, NEW)
    assert sum(seen) == 2 * len(NEW)
    assert pairs.margin_std is not None
    assert (pairs.margin_std > 0).all()
    scores = uncertain.score(*texts_of(NEW))
    np.testing.assert_allclose(np.stack([pairs.first_shift_p, pairs.second_shift_p], axis=1).ravel(), scores.shift_p)
    np.testing.assert_allclose(scores.std, uncertain.model.score(*texts_of(NEW)).std / 2)


def test_shift_p_separates_in_distribution_texts_from_others(uncertain):
    inside = uncertain.score(*texts_of(NEW)).shift_p
    outside = uncertain.score(["write a review of film 1 1"] * 3, GIBBERISH).shift_p
    assert np.mean(inside <= 0.05) < 0.15
    assert np.median(inside) > 0.3
    assert outside.max() < 0.1
    assert inside.min() >= 1 / 41


def test_more_comparisons_of_a_direction_reduce_its_uncertainty(model):
    """Twice the comparisons of the same differences: never more spread, whatever is asked."""
    once, twice = (
        fit_uncertainty(model, rows, HELD_OUT, UncertaintyOptions(prior_precision=1.0))
        for rows in (TRAIN, [*TRAIN, *(dataclasses.replace(c, id=f"{c.id}-again") for c in TRAIN)])
    )
    asked_of = np.random.default_rng(0).normal(size=(50, 64))
    assert (twice.margin_std(asked_of) <= once.margin_std(asked_of) * (1 + 1e-9)).all()


def test_a_model_without_uncertainty_says_how_to_measure_it(model):
    scores, spread = model.score_pairs(*texts_of(NEW), np.array([0]), np.array([1]))
    assert spread is None
    assert scores.std is None
    for each in (model, CalibratedModel(model, Calibration()), CalibratedModel(Good(), Calibration())):
        with pytest.raises(
            GuerdonError, match=r"no uncertainty is stored with this model\. Measure it with `guerdon uncertainty"
        ):
            each.margin_std(["a"], ["b"], ["c"])
    pairs = score_comparisons(CalibratedModel(Good(), Calibration()), NEW)
    assert pairs.margin_std is None
    assert pairs.first_shift_p is None


# ---- On disk -------------------------------------------------------------------------------------------------------


# ---- Refusals ------------------------------------------------------------------------------------------------------


def test_an_unsupported_model_is_refused_in_one_line(model, tiny_dir, tmp_path):
    encoder = create_reward_model(ModelOptions(base=str(save_family(tmp_path, "bert")), template="plain"))
    with pytest.raises(GuerdonError, match=r"pools the text in its own way\. Choose a causal model"):
        fit_uncertainty(encoder, TRAIN, HELD_OUT, OPTIONS)
    with pytest.raises(GuerdonError, match="pools the text in its own way"):
        features(encoder, ["a"], ["b"])
    heads = create_reward_model(ModelOptions(base=str(tiny_dir), heads=3))
    with pytest.raises(GuerdonError, match="must have one head, got 3, which have a spread already"):
        fit_uncertainty(heads, TRAIN, HELD_OUT, OPTIONS)
    adapted = create_reward_model(ModelOptions(base=str(tiny_dir), lora_rank=2))
    with pytest.raises(GuerdonError, match=r"adapters must be merged into the weights\. Save the model"):
        fit_uncertainty(adapted, TRAIN, HELD_OUT, OPTIONS)
    adapted.network.merge()
    assert fit_uncertainty(adapted, TRAIN, HELD_OUT, OPTIONS).distance.size == 80
    with pytest.raises(GuerdonError, match="must be one that Guerdon trained or loaded, got Good"):
        uncertainty.measure_uncertainty(Good(), TRAIN, held_out=HELD_OUT)


def test_held_out_groups_must_be_untrained_and_enough(model):
    with pytest.raises(
        GuerdonError, match=r"must not be trained on, got 1 of 41 among the training comparisons\. Hold out the part"
    ):
        fit_uncertainty(model, TRAIN, [*HELD_OUT, TRAIN[0]], OPTIONS)
    with pytest.raises(
        GuerdonError, match=r"held-out groups must be 19 or more to detect 1 reply in 20, got 18\. Hold out more"
    ):
        fit_uncertainty(model, TRAIN, HELD_OUT[:18], OPTIONS)
    assert fit_uncertainty(model, TRAIN, HELD_OUT[:19], OPTIONS).distance.size == 38


def test_training_comparisons_must_hold_information(model):
    with pytest.raises(GuerdonError, match=r"must hold a comparable pair, got none\. Pass the comparisons"):
        fit_uncertainty(model, [], HELD_OUT, OPTIONS)
    same = [Comparison(as_prompt("a"), (Response("b"), Response("b")), TRAIN[0].preference)] * 3
    with pytest.raises(
        GuerdonError, match=r"must differ in what the model's head reads, got 6 that are all the same\. Check the model"
    ):
        fit_uncertainty(model, same, HELD_OUT, OPTIONS)


def test_a_distance_is_the_formulas_on_the_training_replies(model, uncertain):
    found = features(model, *texts_of(sorted(TRAIN, key=lambda c: c.id))).astype(np.float64)
    sums = moments(found, found.mean(axis=0), found.std(axis=0))
    held = mahalanobis(features(model, *texts_of(HELD_OUT)), sums.mean, cholesky(ledoit_wolf(sums).covariance))
    np.testing.assert_allclose(uncertain.model.uncertainty.distance, np.sort(held), rtol=0.02)
