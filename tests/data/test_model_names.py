"""Names that decide are reported with the best and the worst; names that do not are not."""

from __future__ import annotations

import random

import pytest

from guerdon.config import CheckOptions
from guerdon.contracts import Comparison, Preference, Response, as_prompt
from guerdon.data.checks import check

TITLE = "The author decides"


def rows(num: int, win: float, names=("large", "small"), seed: int = 0):
    """Pairs of two models of which the first wins this share."""
    rng = random.Random(seed)
    for i in range(num):
        responses = tuple(Response(f"answer {i} {side}", author=name) for side, name in zip("ab", names, strict=True))
        yield Comparison(as_prompt(f"question {i}"), responses, Preference(q=float(rng.random() < win)))


def checked(comparisons, **options):
    report = check(comparisons, CheckOptions(shortcut_pairs=0, **options))
    return report, [finding for finding in report.findings if finding.title == TITLE]


def test_a_model_that_wins_nine_times_in_ten_is_predicted_nine_times_in_ten():
    report, (finding,) = checked(rows(1000, 0.9))
    wins = sum(row.q for row in rows(1000, 0.9))
    assert report.estimates["model_names_accuracy"].value == pytest.approx(wins / 1000)
    assert "'large' wins 89.6" in finding.evidence
    assert "'small' 10.4" in finding.evidence
    curve = report.curves["wins_by_model"]
    assert curve.x_names == ("large", "small")
    assert curve.y[0].value == pytest.approx(wins / 1000)


def test_models_that_win_as_often_predict_nothing():
    report, findings = checked(rows(1000, 0.5))
    assert findings == []
    assert 0.4 < report.estimates["model_names_accuracy"].value < 0.6


def test_strength_is_joined_over_pairs_of_models():
    """The best and the worst never met in training folds often: what they did against the others decides."""
    chain = [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")]
    comparisons = [row for i, names in enumerate(chain) for row in rows(200 if i < 3 else 20, 0.95, names, seed=i)]
    report, (finding,) = checked(comparisons)
    assert report.estimates["model_names_accuracy"].value > 0.9
    assert list(report.curves["wins_by_model"].x_names)[::3] == ["a", "d"]
    assert "'a' wins" in finding.evidence


def test_responses_without_an_author_or_of_one_model_do_not_count():
    for names in (("same", "same"), (None, None), ("one", None)):
        assert "model_names_accuracy" not in checked(rows(200, 1.0, names))[0].estimates


def test_the_limit_is_an_option():
    assert checked(rows(200, 0.95), model_names_warn=0.99)[1] == []


def test_hostile_names_are_shown_as_they_are_and_break_nothing():
    names = ("<script>\u202e", "\ud83d\x00")
    _, (finding,) = checked(rows(200, 1.0, names))
    assert "\u202e" not in finding.evidence
