"""A curve mends what a temperature cannot, says where it was not worth it, and is refused where there is too little to bend by."""

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
from guerdon.models.calibrated import CalibratedModel, Calibration
from guerdon.models.isotonic import IsotonicJudge

OPTIONS = CalibrateOptions(method="isotonic", bins=10)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(sys.modules[fit_isotonic_judge.__module__], "DRAWS", 100)


def saturating(num=1500, seed=0):
    """Verdicts whose log-odds stop growing at one nat, whatever the number of goods."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(num):
        gap = int(rng.integers(-6, 7))
        texts = ["good " * max(0, gap) + "a", "good " * max(0, -gap) + "b"]
        p = 1 / (1 + np.exp(-np.sign(gap) * min(abs(gap), 1)))
        made.append(Comparison(as_prompt(f"q{i}"), tuple(map(Response, texts)), Preference(q=float(rng.random() < p))))
    return made


def titles(report):
    return {finding.title for finding in report.findings}


def test_odds_that_level_off_are_mended_by_a_curve_and_not_by_a_temperature():
    judge, report = fit_isotonic_judge(Good(), saturating(), OPTIONS)
    found = report.estimates
    assert found["isotonic_gain"].low > 0
    assert found["nll_after"].value < found["nll_temperature"].value < found["nll_before"].value
    assert found["isotonic_gain"].value == pytest.approx(found["nll_temperature"].value - found["nll_after"].value)
    assert found["ece_after"].value < found["ece_null_after"].high
    assert not titles(report)
    odds = judge.log_odds(["p"] * 3, ["good", "good good good", "good " * 6], ["no"] * 3)
    assert odds == pytest.approx([1.0, 1.0, 1.0], abs=0.35)


def test_honest_odds_are_left_to_a_temperature():
    _, report = fit_isotonic_judge(Good(), comparisons(1200, seed=3), OPTIONS)
    assert titles(report) == {"A temperature does as well as the curve"}
    assert not report.estimates["isotonic_gain"].low > 0


def test_preferences_that_the_verdicts_do_not_bear_out_are_left_undecided():
    rows = [
        Comparison(as_prompt(f"q{i}"), (Response("good " * (1 + 4 * (i % 2))), Response("no")), Preference(q=float(q)))
        for i, q in enumerate(np.random.default_rng(0).random(1400) < np.where(np.arange(1400) % 2, 0.8, 0.45))
    ]
    _, report = fit_isotonic_judge(Good(), rows, OPTIONS)
    assert report.estimates["isotonic_ties"].value == pytest.approx(0.5, abs=0.02)
    assert "The curve leaves pairs undecided" in titles(report)


def test_calibrating_again_starts_from_the_raw_rewards():
    rows = saturating(1000)
    once, _ = fit_isotonic_judge(Good(), rows, OPTIONS)
    for model in (once, CalibratedModel(Good(), Calibration(7.0))):
        again, _ = fit_isotonic_judge(model, rows, OPTIONS)
        assert isinstance(again.model, Good)
        assert again.as_dict() == once.as_dict()


def test_too_few_pairs_bend_nothing():
    with pytest.raises(GuerdonError, match=r"method=isotonic: 300 pairs where a curve needs 1000; remedy: calibrate"):
        fit_isotonic_judge(Good(), comparisons(300), OPTIONS)


def test_the_verb_gives_a_judge_that_no_model_directory_can_hold(tmp_path):
    rows = saturating(1000)
    judge, report = calibration.calibrate(Good(), rows, method="isotonic")
    assert isinstance(judge, IsotonicJudge)
    assert report.title == "Calibration by a curve"
    with pytest.raises(GuerdonError, match="gives a judge, which a saved reward model cannot hold; remedy"):
        calibration.store_calibration(judge, tmp_path)
    samples = Rollouts((as_prompt("p"),) * 2, (Response("a"), Response("good")))
    with pytest.raises(GuerdonError, match="a judge has no scale for a reference; remedy"):
        calibration.calibrate(Good(), rows, method="isotonic", reference=samples)
