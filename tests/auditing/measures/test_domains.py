"""Sources of planted temperatures and prompts of planted levels are found; where one scale serves all, nothing is said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from toys import Good, comparisons

from guerdon.auditing.measures.domains import measure_domains
from guerdon.config import AuditOptions
from guerdon.contracts import GuerdonError, Response, Rollouts, Scores, as_prompt
from guerdon.models.scored_pairs import score_comparisons
from guerdon.reporting import to_html

OPTIONS = AuditOptions(draws=200)


class Uneven(Good):
    """Counts the word "good", on the prompts of one source (odd numbers) `loud` times as much."""

    def __init__(self, loud: float) -> None:
        super().__init__()
        self.loud = loud

    def score(self, prompts, responses):
        scores = super().score(prompts, responses)
        odd = np.array([int(as_prompt(p)[-1].content.split()[-1]) % 2 for p in prompts])
        return Scores(scores.value * np.where(odd, self.loud, 1.0), scores.truncated)


class Levelled(Good):
    """Adds a level of the prompt's own."""

    def score(self, prompts, responses):
        scores = super().score(prompts, responses)
        level = [5 * np.sin(37.0 * int(as_prompt(p)[-1].content.split()[-1])) for p in prompts]
        return Scores(scores.value + np.array(level), scores.truncated)


def measured(model, rows, **given):
    return measure_domains(score_comparisons(model, rows), OPTIONS, **given)


def titles(report):
    return {finding.title for finding in report.findings}


def test_one_scale_for_all_sources_is_left_alone():
    report = measured(Good(), comparisons(1200, seed=1))
    spread = report.estimates["temperature_spread"]
    assert spread.low == 1.0
    assert spread.value < spread.high
    assert not titles(report)
    curve = report.curves["slope_by_source"]
    assert curve.x_names == ("forum", "lab")
    assert all(y.low < 1.0 < y.high for y in curve.y)


@pytest.mark.parametrize(("loud", "source", "kind"), [(3.0, "lab", "overconfident"), (0.33, "lab", "underconfident")])
def test_a_source_with_a_temperature_of_its_own_is_found(loud, source, kind):
    report = measured(Uneven(loud), comparisons(1200, seed=1))
    spread = report.estimates["temperature_spread"]
    assert spread.low < max(loud, 1 / loud) < spread.high
    assert spread.low > 1.5
    assert titles(report) == {"One temperature does not fit all sources", f"On {source} the model is {kind}"}
    slope = report.curves["slope_by_source"].y[1]
    assert slope.low < 1 / loud < slope.high
    assert "One temperature does not fit" in to_html(report)


def test_a_model_that_is_too_sure_everywhere_alike_is_the_temperatures_business():
    report = measured(Good(3.0), comparisons(1200, seed=1))
    assert report.estimates["temperature_spread"].low == 1.0
    assert not titles(report)


def test_equal_sources_are_seldom_told_apart():
    said = 0
    for seed in range(40):
        rows = comparisons(160, seed=seed)
        rows = [dataclasses.replace(row, source="abcd"[i % 4]) for i, row in enumerate(rows)]
        report = measured(Good(), rows)
        said += "One temperature does not fit all sources" in titles(report)
    assert said <= 5


def test_sources_too_small_for_a_slope_are_named():
    rows = [dataclasses.replace(row, source="rare" if i < 5 else row.source) for i, row in enumerate(comparisons(200))]
    report = measured(Good(), rows)
    assert report.about["sources without a slope"] == "rare"
    alone = measured(Good(), [dataclasses.replace(row, source=None) for row in comparisons(100)])
    assert "temperature_spread" not in alone.estimates
    assert not alone.curves


def test_levels_of_prompts_are_found_and_their_absence_passes():
    rows = comparisons(300, seed=2)
    level, flat = measured(Levelled(), rows), measured(Good(), rows)
    assert level.estimates["icc"].low > 0.5
    assert "Rewards of different prompts are not comparable" in titles(level)
    assert flat.estimates["icc"].high < 0.3
    assert not titles(flat)
    spreads = [report.estimates["temperature_spread"].value for report in (level, flat)]
    assert spreads[0] == pytest.approx(spreads[1])  # margins know no level


def test_reference_samples_are_taken_where_they_are_given():
    prompts = [as_prompt(f"p {i // 4}") for i in range(160)]
    texts = [Response("good " * (i % 4)) for i in range(160)]
    rewards = np.array([7.0 * (i // 4) + i % 4 for i in range(160)])
    samples = Rollouts(tuple(prompts), tuple(texts), rewards)
    report = measured(Good(), comparisons(100), reference=samples)
    assert report.estimates["icc"].low > 0.9
    assert report.estimates["icc"].n == 40
    assert report.about["icc from"] == "160 reference samples"
    with pytest.raises(GuerdonError, match=r"samples must have rewards, got none\. Score them first"):
        measured(Good(), comparisons(100), reference=dataclasses.replace(samples, reward=None))


def test_a_judge_has_slopes_and_no_rewards():
    class Judge:
        def log_odds(self, prompts, first, second):
            model = Good()
            return model.score(prompts, first).value - model.score(prompts, second).value

    rows = comparisons(400)
    report = measured(Judge(), rows)
    assert "icc" not in report.estimates
    assert report.estimates["temperature_spread"] == measured(Good(), rows).estimates["temperature_spread"]
