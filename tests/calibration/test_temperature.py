"""A temperature corrects odds that are off by a scale, leaves correct ones alone, and reports what it cannot correct."""

from __future__ import annotations

import sys

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
    assert estimates["temperature"].low < scale < estimates["temperature"].high
    assert model.calibration.temperature == estimates["temperature"].value
    assert estimates["nll_after"].value < estimates["nll_before"].value + 0.005
    assert estimates["ece_after"].value < estimates["ece_null_after"].high
    assert not titles(report)


def test_the_temperature_scales_with_the_rewards():
    rows = comparisons(300)
    one, ten = (fit_calibrated_model(Good(scale), rows, OPTIONS)[0].calibration.temperature for scale in (1.0, 10.0))
    assert ten == pytest.approx(10 * one)


def test_calibrating_twice_starts_from_the_raw_rewards():
    rows = comparisons(200)
    once, _ = fit_calibrated_model(Good(3.0), rows, OPTIONS)
    twice, _ = fit_calibrated_model(once, rows, OPTIONS)
    assert twice.calibration == once.calibration
    assert twice.model is once.model
    again, _ = fit_calibrated_model(CalibratedModel(Good(), Calibration(7.0)), rows, OPTIONS)
    assert isinstance(again.model, Good)


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
    """Of thirty pairs seventeen are ordered correctly, hardly more than by a coin: the interval spans orders of magnitude."""
    texts = (Response("good good good"), Response("no"))
    rows = [Comparison(as_prompt(f"p{i}"), texts, Preference(q=float(i > 12))) for i in range(30)]
    model, report = fit_calibrated_model(Good(0.1), rows, OPTIONS)
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
            r"got 1 pairs that are all ties\. Add",
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
