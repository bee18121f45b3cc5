"""A temperature corrects odds that are off by a scale, leaves correct ones alone, and reports what it cannot correct."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from toys import Constant, Good, comparisons

from guerdon.calibration import fit_calibrated_model
from guerdon.config import CalibrateOptions
from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Preference,
    Response,
    as_prompt,
)
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration, Card
from guerdon.models.directory.formats import card_as_json, card_from_json
from guerdon.models.estimates import percent
from guerdon.reporting.card import model_card
from guerdon.reporting.words import headline

OPTIONS = CalibrateOptions(bins=10)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(sys.modules[fit_calibrated_model.__module__], "DRAWS", 60)


def titles(report):
    return {finding.title for finding in report.findings}


@pytest.mark.parametrize("scale", [0.25, 1.0, 8.0])
def test_the_temperature_is_recovered_and_the_odds_are_corrected(scale):
    model, report = fit_calibrated_model(Good(scale), comparisons(600, seed=2), OPTIONS)
    estimates = report.estimates
    fitted = estimates["temperature_fitted" if scale == 1.0 else "temperature"]
    assert fitted.low < scale < fitted.high
    assert model.calibration.temperature == estimates["temperature"].value == pytest.approx(scale, rel=0.2)
    assert estimates["nll_after"].value <= estimates["nll_before"].value
    assert estimates["ece_after"].value < estimates["ece_null_after"].high
    assert titles(report) == ({"No temperature is stored"} if scale == 1.0 else set())


def test_the_temperature_scales_with_the_rewards():
    rows = comparisons(300)
    one, ten = (fit_calibrated_model(Good(scale), rows, OPTIONS)[0].calibration.temperature for scale in (3.0, 30.0))
    assert ten == pytest.approx(10 * one)


def test_calibrating_twice_starts_from_the_raw_rewards():
    rows = comparisons(200)
    once, _ = fit_calibrated_model(Good(3.0), rows, OPTIONS)
    twice, _ = fit_calibrated_model(once, rows, OPTIONS)
    assert twice.calibration == once.calibration
    assert twice.model is once.model
    again, _ = fit_calibrated_model(CalibratedModel(Good(), Calibration(7.0)), rows, OPTIONS)
    assert isinstance(again.model, Good)


STORED = Calibration(4.07, -0.23, 2.76, {"policy": "policy-1", "n": 40})


def hardly_better_than_a_coin():
    """Of thirty pairs seventeen are ordered correctly: the interval of a temperature spans orders of magnitude."""
    texts = (Response("good good good"), Response("no"))
    return [Comparison(as_prompt(f"p{i}"), texts, Preference(q=float(i > 12))) for i in range(30)]


def test_data_that_determine_no_temperature_change_nothing_of_a_stored_calibration():
    model, report = fit_calibrated_model(CalibratedModel(Good(0.1), STORED), hardly_better_than_a_coin(), OPTIONS)
    assert model.calibration == STORED
    assert report.estimates["temperature"].value == 4.07
    assert headline(report).startswith("The stored temperature, 4.07, is kept: the data do not determine a temperature")
    assert "The stored temperature is kept" in titles(report)
    before, after = (report.estimates[f"nll_{when}"].value for when in ("before", "after"))
    assert before == after == pytest.approx(nll_at(0.3 / 4.07, share=17 / 30))


def nll_at(margin, share):
    return share * np.log1p(np.exp(-margin)) + (1 - share) * np.log1p(np.exp(margin))


def test_without_a_new_reference_the_stored_mean_and_spread_are_kept_in_raw_units():
    model, report = fit_calibrated_model(CalibratedModel(Good(3.0), STORED), comparisons(200), OPTIONS)
    assert model.calibration.temperature == pytest.approx(3.0, rel=0.3)
    assert model.calibration == replace(STORED, temperature=model.calibration.temperature)
    assert "are kept" in report.about["reference"]


def test_a_temperature_that_is_not_fitted_stays_as_it_is_stored():
    model, _ = fit_calibrated_model(
        CalibratedModel(Good(3.0), STORED), comparisons(50), CalibrateOptions(temperature=False)
    )
    assert model.calibration == STORED


@pytest.mark.parametrize("stored", [Calibration(), STORED])
def test_a_temperature_that_raises_the_cross_fitted_loss_is_not_stored(stored):
    """The rewards are at the stored scale already: what is fitted differs by noise alone, and costs log loss on other groups."""
    scaled = Good(stored.temperature)
    model, report = fit_calibrated_model(CalibratedModel(scaled, stored), comparisons(600, seed=2), OPTIONS)
    assert model.calibration.temperature == stored.temperature
    assert report.estimates["nll_after"] == report.estimates["nll_before"]
    (finding,) = report.findings
    assert finding.severity == "note"
    assert "does not lower the cross-fitted log loss" in finding.evidence
    assert finding.evidence.endswith(f"so {stored.temperature:.3g} is kept")
    assert bool(model.calibration.note) == (stored.temperature == 1.0)


@pytest.mark.parametrize(("scale", "bound"), [(-1.0, "upper bound, 148"), (1.0, "lower bound, 0.0183")])
def test_a_temperature_at_its_bound_is_described_as_one(scale, bound):
    texts = (Response("good"), Response("no"))
    rows = [Comparison(as_prompt(f"p{i}"), texts, Preference(q=1.0)) for i in range(30)]
    model, report = fit_calibrated_model(Good(scale), rows, OPTIONS)
    assert model.calibration.temperature == 1.0
    assert f"beyond its {bound}" in model.calibration.note
    assert f"beyond its {bound}" in headline(report)
    assert not any("within a factor of" in finding.remedy or "[" in finding.evidence for finding in report.findings[:1])
    assert "No temperature is stored" not in titles(report)
    assert "log loss goes" not in headline(report)
    assert np.isnan(report.estimates["temperature_fitted"].high)


def test_rankings_fit_the_same_temperature_as_their_pairs():
    texts = tuple(Response("good " * i) for i in range(3))
    rankings, pairs = [], []
    for i, order in enumerate([((2,), (1,), (0,)), ((1,), (2,), (0,)), ((0,), (1,), (2,))] * 10):
        rankings.append(Comparison(as_prompt(f"p{i}"), texts, Preference(groups=order)))
        rank = {response: position for position, (response,) in enumerate(order)}
        for a, b in ((0, 1), (0, 2), (1, 2)):
            q = float(rank[a] < rank[b])
            pairs.append(Comparison(as_prompt(f"p{i}"), (texts[a], texts[b]), Preference(q=q)))
    of_rankings, of_pairs = (
        fit_calibrated_model(Good(), rows, OPTIONS)[0].calibration.temperature for rows in (rankings, pairs)
    )
    assert of_rankings == pytest.approx(of_pairs)


def test_margins_that_do_not_predict_the_labels_are_reported():
    _, report = fit_calibrated_model(Good(-1.0), comparisons(200), OPTIONS)
    assert "The margins do not predict the labels" in titles(report)


def test_margins_without_a_mistake_are_reported():
    rows = [Comparison(as_prompt(f"p{i}"), (Response("good"), Response("no")), Preference(q=1.0)) for i in range(30)]
    _, report = fit_calibrated_model(Good(), rows, OPTIONS)
    assert "The margins separate every pair" in titles(report)


def test_a_temperature_that_the_data_do_not_determine_is_not_stored():
    model, report = fit_calibrated_model(Good(0.1), hardly_better_than_a_coin(), OPTIONS)
    fitted = report.estimates["temperature_fitted"]
    assert fitted.high > 10 * fitted.low
    assert model.calibration.temperature == report.estimates["temperature"].value == 1.0
    assert "the data do not determine a temperature: fitted" in model.calibration.note
    assert "No temperature is stored" in titles(report)
    assert "no temperature is stored" in headline(report).lower()
    assert report.estimates["nll_after"] == report.estimates["nll_before"]
    stored = model.calibration.as_dict()
    assert card_from_json(card_as_json(Card(model.calibration)), "reward.json").calibration == model.calibration
    assert model.calibration.note in model_card(report, {"calibration": stored})


def test_a_temperature_that_is_stored_has_no_note():
    model, report = fit_calibrated_model(Good(2.0), comparisons(200), OPTIONS)
    assert model.calibration.note == ""
    assert "note" not in model.calibration.as_dict()
    assert "temperature_fitted" not in report.estimates


def test_few_groups_are_reported():
    _, report = fit_calibrated_model(Good(), comparisons(12), OPTIONS)
    assert "Too few groups to trust the temperature" in titles(report)


def test_odds_that_one_temperature_cannot_correct_are_reported():
    class Uneven(Good):
        """Overconfident on half of the prompts and underconfident on the others."""

        def score(self, prompts, responses):
            scores = super().score(prompts, responses)
            is_odd = np.array([int(p[-1].content.split()[-1]) % 2 for p in prompts])
            return type(scores)(scores.value * np.where(is_odd, 12.0, 0.1), scores.truncated)

    _, report = fit_calibrated_model(Uneven(), comparisons(600), OPTIONS)
    evidence = {finding.title: finding.evidence for finding in report.findings}
    assert percent(report.estimates["ece_after"]) in evidence["One temperature does not correct the odds"]


@pytest.mark.parametrize(
    ("model", "rows", "message"),
    [
        (Good(), [], r"no comparisons.*remedy|got no.*\. [A-Z]"),
        (Constant(), comparisons(30), r"margins must differ from 0, got 30 margins that are all 0\. Train"),
        (
            Good(),
            [Comparison(as_prompt("p"), (Response("a"), Response("good")), Preference(q=0.5))],
            r"got 1 pair that is all ties\. Add",
        ),
    ],
)
def test_comparisons_that_fit_no_temperature_are_refused(model, rows, message):
    with pytest.raises(GuerdonError, match=message):
        fit_calibrated_model(model, rows, OPTIONS)


def test_a_judge_cannot_be_scaled():
    class Judge:
        def log_odds(self, prompts, first, second):
            return np.zeros(len(prompts))

    with pytest.raises(GuerdonError, match=r"model must give scores, got Judge\. Give a reward model"):
        fit_calibrated_model(Judge(), comparisons(30), OPTIONS)


def test_without_a_temperature_the_scale_stays():
    model, report = fit_calibrated_model(Good(5.0), comparisons(50), CalibrateOptions(temperature=False))
    assert model.calibration.temperature == 1.0
    assert not report.estimates
