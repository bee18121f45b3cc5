"""Models that read length, and models that do not, on people who care for length and people who do not."""

from __future__ import annotations

import numpy as np
import pytest
from toys import Constant, Good, comparisons

from guerdon.auditing.measures.length import measure_length
from guerdon.config import AuditOptions
from guerdon.contracts import as_response
from guerdon.models.scored_pairs import score_comparisons

OPTIONS = AuditOptions(draws=200)
LONGER = Good(scale=0.0, by_length=0.05)


def report_of(model, rows):
    return measure_length(score_comparisons(model, rows), OPTIONS)


def warnings(report):
    return {finding.title for finding in report.findings if finding.severity == "warning"}


def test_an_honest_model_of_people_who_ignore_length_passes():
    report = report_of(Good(), comparisons(800))
    assert not warnings(report)
    extra = report.estimates["length_per_margin"]
    assert extra.low < 0 < extra.high
    assert report.estimates["length_slope"].low <= 1 <= report.estimates["length_slope"].high  # its nats are nats


def test_a_model_that_counts_characters_stands_where_theory_says():
    report = report_of(LONGER, comparisons(400))
    found = report.estimates
    assert found["prefers_longer"].value == 1
    assert found["accuracy_length_gap"].value == 1
    assert found["length_pooled_rank"].value == pytest.approx(1)
    assert found["length_within"].low > 0.85
    assert "The reward is mostly length" in warnings(report)


def test_a_constant_model_has_no_correlation_and_no_preference():
    report = report_of(Constant(), comparisons(200))
    found = report.estimates
    assert found["prefers_longer"].value == 0.5
    assert found["accuracy_length_gap"].value == 0
    assert np.isnan(found["length_within"].value)
    assert np.isnan(found["length_per_margin"].value)
    assert not report.findings


@pytest.mark.parametrize("paid", [0.03, 0.0, -0.03])
def test_what_a_model_pays_for_length_beyond_people_is_recovered(paid):
    """People vote by content; the model adds `paid` nats a character. Near 0, tanh is a line: the logit takes it back."""
    rows = comparisons(1500, seed=2)
    pairs = score_comparisons(Good(by_length=paid), rows)
    report = measure_length(pairs, OPTIONS)
    spread = np.sqrt(np.mean(np.square(pairs.first_length - pairs.second_length)))
    found = report.estimates["length_per_margin"]
    assert found.value == pytest.approx(-paid * spread / 0.75, abs=0.45)  # tanh(1) is 0.76
    assert ("The model values length more than people do" in warnings(report)) == (paid > 0)
    if paid > 0:
        turned = report.estimates["length_turns"]
        cost = next(f.cost for f in report.findings if f.title.startswith("The model values length more"))
        assert cost == turned
        assert 0 < turned.low < turned.high < 0.6


def test_people_who_like_length_more_than_the_model_are_noted():
    report = report_of(Good(), comparisons(1500, by_length=0.03))
    assert report.estimates["length_per_margin"].low > 0
    assert "The model values length less than people do" in {f.title for f in report.findings}
    assert not warnings(report)


def test_a_model_that_is_right_by_length_alone_is_found_out_where_lengths_are_equal():
    rows = comparisons(2500, odds=0.3, by_length=0.05, seed=1)
    report = report_of(LONGER, rows)
    assert "Not shown to be better than chance at equal length" in warnings(report)
    honest = report_of(Good(), comparisons(2500, seed=1))
    assert honest.estimates["accuracy_length_matched"].low > 0.5
    assert not warnings(honest)


def test_swapping_the_two_answers_changes_nothing():
    rows = comparisons(200)
    swapped = [
        type(c)(c.prompt, c.responses[::-1], type(c.preference)(q=1 - c.preference.q), source=c.source, group=c.group)
        for c in rows
    ]
    there, back = (report_of(Good(by_length=0.02), each).estimates for each in (rows, swapped))
    for name in there:
        assert there[name].value == pytest.approx(back[name].value, abs=1e-6), name


def test_a_scale_and_a_constant_of_each_prompt_change_no_correlation():
    rows = comparisons(300)
    pairs = score_comparisons(Good(by_length=0.02), rows)
    scaled = score_comparisons(Good(scale=3.0, by_length=0.06), rows)
    one, other = (measure_length(each, OPTIONS).estimates for each in (pairs, scaled))
    for name in ("length_within", "length_partial", "length_pooled", "prefers_longer", "accuracy_length_gap"):
        assert one[name].value == pytest.approx(other[name].value)
    assert other["length_per_margin"].value == pytest.approx(3 * one["length_per_margin"].value, rel=1e-3)


class ByGoods:
    """A judge: no rewards, only odds."""

    def log_odds(self, prompts, first, second):
        return np.array(
            [
                float(as_response(a).text.count("good") - as_response(b).text.count("good"))
                for a, b in zip(first, second, strict=True)
            ]
        )


def test_a_judge_is_measured_as_far_as_its_odds_allow():
    found = report_of(ByGoods(), comparisons(200)).estimates
    assert "length_pooled" not in found
    assert np.isfinite(found["length_within"].value)
    assert found["prefers_longer"].value == report_of(Good(), comparisons(200)).estimates["prefers_longer"].value


def test_accuracy_is_drawn_by_how_well_lengths_match():
    curve = report_of(LONGER, comparisons(2500, odds=0.3, by_length=0.05)).curves["accuracy_by_match"]
    assert list(curve.x) == sorted(curve.x)
    assert curve.y[0].value < curve.y[-1].value


def test_a_few_pairs_give_what_can_be_given():
    for num in (1, 2, 5):
        report = report_of(Good(), comparisons(num))
        assert "length_per_margin" not in report.estimates
        assert not warnings(report)
