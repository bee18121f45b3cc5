"""A temperature mends odds that are off by a scale, leaves honest ones alone, and says when it cannot help."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from toys import Constant, Good, comparisons

from guerdon.calibration import fit
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

OPTIONS = CalibrateOptions(bins=10)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(sys.modules[fit.__module__], "DRAWS", 60)


def titles(report):
    return {finding.title for finding in report.findings}


@pytest.mark.parametrize("scale", [0.25, 1.0, 8.0])
def test_the_temperature_is_recovered_and_the_odds_are_mended(scale):
    model, report = fit(Good(scale), comparisons(600, seed=2), OPTIONS)
    found = report.estimates
    assert found["temperature"].low < scale < found["temperature"].high
    assert model.calibration.temperature == found["temperature"].value
    assert found["nll_after"].value < found["nll_before"].value + 0.005
    assert found["ece_after"].value < found["ece_null_after"].high
    assert not titles(report)


def test_a_temperature_scales_with_the_rewards():
    rows = comparisons(300)
    one, ten = (fit(Good(scale), rows, OPTIONS)[0].calibration.temperature for scale in (1.0, 10.0))
    assert ten == pytest.approx(10 * one)


def test_calibrating_twice_starts_from_the_raw_rewards():
    rows = comparisons(200)
    once, _ = fit(Good(3.0), rows, OPTIONS)
    twice, _ = fit(once, rows, OPTIONS)
    assert twice.calibration == once.calibration
    assert twice.model is once.model
    assert isinstance(fit(CalibratedModel(Good(), Calibration(7.0)), rows, OPTIONS)[0].model, Good)


def test_rankings_of_many_fit_the_same_temperature_as_their_pairs():
    texts = tuple(Response("good " * i) for i in range(3))
    rows, pairs = [], []
    for i, order in enumerate([((2,), (1,), (0,)), ((1,), (2,), (0,)), ((0,), (1,), (2,))] * 10):
        rows.append(Comparison(as_prompt(f"p{i}"), texts, Preference(groups=order)))
        place = {r: at for at, (r,) in enumerate(order)}
        for a, b in ((0, 1), (0, 2), (1, 2)):
            q = float(place[a] < place[b])
            pairs.append(Comparison(as_prompt(f"p{i}"), (texts[a], texts[b]), Preference(q=q)))
    ranked, taken_apart = (fit(Good(), each, OPTIONS)[0].calibration.temperature for each in (rows, pairs))
    assert ranked == pytest.approx(taken_apart)


def test_margins_that_say_nothing_are_found_out():
    _, report = fit(Good(-1.0), comparisons(200), OPTIONS)
    assert "The margins say nothing of the verdicts" in titles(report)


def test_margins_without_a_mistake_are_suspicious():
    rows = [Comparison(as_prompt(f"p{i}"), (Response("good"), Response("no")), Preference(q=1.0)) for i in range(30)]
    _, report = fit(Good(), rows, OPTIONS)
    assert "The margins separate every pair" in titles(report)


def test_few_groups_are_said():
    assert "Too few groups to trust the temperature" in titles(fit(Good(), comparisons(12), OPTIONS)[1])


def test_what_one_temperature_cannot_mend_is_said():
    class Uneven(Good):
        """Loud on half of the prompts and shy on the other."""

        def score(self, prompts, responses):
            scores = super().score(prompts, responses)
            loud = np.array([int(p[-1].content.split()[-1]) % 2 for p in prompts])
            return type(scores)(scores.value * np.where(loud, 12.0, 0.1), scores.truncated)

    assert "One temperature does not mend the odds" in titles(fit(Uneven(), comparisons(600), OPTIONS)[1])


@pytest.mark.parametrize(
    ("model", "rows", "said"),
    [
        (Good(), [], "no comparisons"),
        (Constant(), comparisons(30), "all 30 margins are 0"),
        (
            Good(),
            [Comparison(as_prompt("p"), (Response("a"), Response("good")), Preference(q=0.5))],
            "all 1 pairs are ties",
        ),
    ],
)
def test_what_fits_no_temperature_is_refused_with_a_remedy(model, rows, said):
    with pytest.raises(GuerdonError, match=f"{said}.*remedy"):
        fit(model, rows, OPTIONS)


def test_a_judge_cannot_be_scaled():
    class Judge:
        def log_odds(self, prompts, first, second):
            return np.zeros(len(prompts))

    with pytest.raises(GuerdonError, match="gives no scores to scale"):
        fit(Judge(), comparisons(30), OPTIONS)


def test_a_reference_gives_mean_spread_and_their_provenance():
    prompts = tuple(as_prompt(f"p{i // 4}") for i in range(40))
    texts = tuple(Response("good " * (i % 4), author="policy-1") for i in range(40))
    model, report = fit(Good(2.0), comparisons(200), OPTIONS, reference=Rollouts(prompts, texts))
    assert model.calibration.reference_mean == pytest.approx(3.0)
    assert model.calibration.reference_spread == pytest.approx(np.std([0, 2, 4, 6]))
    assert model.calibration.provenance["policy"] == "policy-1"
    assert model.calibration.provenance["n"] == 40
    assert model.calibration.provenance["samples_per_prompt"] == 4
    assert report.estimates["reference_mean"].n == 10
    assert report.estimates["reference_between_prompts"].value == pytest.approx(0)
    normal = model.normalized(prompts, texts)
    assert normal.mean() == pytest.approx(0)
    assert normal.std() == pytest.approx(1)


def test_a_reference_without_spread_is_refused():
    same = Rollouts((as_prompt("p"),) * 3, (Response("no"),) * 3)
    with pytest.raises(GuerdonError, match="all 3 reference samples get the reward 0"):
        fit(Good(), comparisons(30), OPTIONS, reference=same)


def test_without_a_temperature_the_scale_stays():
    model, report = fit(Good(5.0), comparisons(50), CalibrateOptions(temperature=False))
    assert model.calibration.temperature == 1.0
    assert not report.estimates
