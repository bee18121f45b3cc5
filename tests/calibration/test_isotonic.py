"""A curve corrects what a temperature cannot, reports where it was not worth it, and is refused on too few pairs."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from toys import Good, comparisons

from guerdon.api import calibration
from guerdon.calibration.isotonic import fit_isotonic_judge
from guerdon.config import CalibrateOptions
from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Preference,
    Response,
    Rollouts,
    as_prompt,
)
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.estimates import estimate_share, percent
from guerdon.models.isotonic import IsotonicJudge

OPTIONS = CalibrateOptions(method="isotonic", bins=10)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(sys.modules[fit_isotonic_judge.__module__], "DRAWS", 100)


def saturating(num=1500, seed=0):
    """Comparisons whose log-odds stop growing at one nat, however many more times a text says good."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(num):
        gap = int(rng.integers(-6, 7))
        texts = ["good " * max(0, gap) + "a", "good " * max(0, -gap) + "b"]
        p = 1 / (1 + np.exp(-np.sign(gap) * min(abs(gap), 1)))
        rows.append(Comparison(as_prompt(f"q{i}"), tuple(map(Response, texts)), Preference(q=float(rng.random() < p))))
    return rows


def titles(report):
    return {finding.title for finding in report.findings}


def test_a_curve_corrects_odds_that_level_off_and_a_temperature_does_not():
    judge, report = fit_isotonic_judge(Good(), saturating(), OPTIONS)
    estimates = report.estimates
    assert estimates["isotonic_gain"].low > 0
    assert estimates["nll_after"].value < estimates["nll_temperature"].value < estimates["nll_before"].value
    assert estimates["isotonic_gain"].value == pytest.approx(
        estimates["nll_temperature"].value - estimates["nll_after"].value
    )
    assert estimates["ece_after"].value < estimates["ece_null_after"].high
    assert not titles(report)
    odds = judge.log_odds(["p"] * 3, ["good", "good good good", "good " * 6], ["no"] * 3)
    assert odds == pytest.approx([1.0, 1.0, 1.0], abs=0.35)


def test_calibrated_odds_gain_nothing_from_a_curve():
    _, report = fit_isotonic_judge(Good(), comparisons(1200, seed=3), OPTIONS)
    assert titles(report) == {"A temperature does as well as the curve"}
    assert not report.estimates["isotonic_gain"].low > 0


def test_preferences_that_the_labels_do_not_support_are_left_undecided():
    rows = [
        Comparison(as_prompt(f"q{i}"), (Response("good " * (1 + 4 * (i % 2))), Response("no")), Preference(q=float(q)))
        for i, q in enumerate(np.random.default_rng(0).random(1400) < np.where(np.arange(1400) % 2, 0.8, 0.45))
    ]
    _, report = fit_isotonic_judge(Good(), rows, OPTIONS)
    assert report.estimates["isotonic_ties"].value == pytest.approx(0.5, abs=0.02)
    evidence = {finding.title: finding.evidence for finding in report.findings}
    ties = report.estimates["isotonic_ties"]
    assert evidence["The curve leaves pairs undecided"].startswith(f"{percent(ties)} of pairs get odds of 1 : 1")
    assert ties == estimate_share((np.arange(1400) % 2 == 0).astype(float), np.arange(1400), None)


def test_calibrating_again_starts_from_the_raw_rewards():
    rows = saturating(1000)
    once, _ = fit_isotonic_judge(Good(), rows, OPTIONS)
    for model in (once, CalibratedModel(Good(), Calibration(7.0))):
        again, _ = fit_isotonic_judge(model, rows, OPTIONS)
        assert isinstance(again.model, Good)
        assert again.as_dict() == once.as_dict()


def test_too_few_pairs_are_refused():
    with pytest.raises(
        GuerdonError, match=r"method=isotonic: comparisons must give at least 1000 pairs, got 300\. Use calibrate"
    ):
        fit_isotonic_judge(Good(), comparisons(300), OPTIONS)


def test_the_api_gives_a_judge_that_no_model_directory_can_hold(tmp_path):
    rows = saturating(1000)
    judge, report = calibration.calibrate(Good(), rows, method="isotonic")
    assert isinstance(judge, IsotonicJudge)
    assert report.title == "Calibration by a curve"
    with pytest.raises(GuerdonError, match=r"must be temperature to be stored, got isotonic.*\. Use"):
        calibration.store_calibration(judge, tmp_path)
    samples = Rollouts((as_prompt("p"),) * 2, (Response("a"), Response("good")))
    with pytest.raises(GuerdonError, match=r"reference must be absent.*\. Leave"):
        calibration.calibrate(Good(), rows, method="isotonic", reference=samples)
