"""The best accuracy that people's agreement allows."""

from __future__ import annotations

import pytest
from toys import Good, comparisons

from guerdon.auditing import audit
from guerdon.config import AuditOptions

CORE = ["accuracy", "people", "odds", "order", "mistakes"]
OPTIONS = AuditOptions(draws=100, null_draws=100, bins=10, only=CORE)


UNKNOWN = "The best possible accuracy is not known"


def titles(report):
    return {finding.title for finding in report.findings}


def test_votes_give_the_best_accuracy_and_their_absence_a_note():
    report = audit(Good(), comparisons(600, people=3), OPTIONS)
    best, again = report.estimates["best_accuracy"], report.estimates["majority_again"]
    assert report.estimates["person_vs_person"].value < again.value < best.value < 1
    assert best.low < best.value < best.high
    assert UNKNOWN not in titles(report)
    without = audit(Good(), comparisons(50), OPTIONS)
    assert UNKNOWN in titles(without)
    assert "best_accuracy" not in without.estimates


def test_too_few_votes_give_no_best_accuracy_but_say_how_many_are_needed():
    report = audit(Good(), comparisons(15, people=3), OPTIONS)
    assert "best_accuracy" not in report.estimates
    assert "person_vs_person" in report.estimates
    (note,) = [finding for finding in report.findings if finding.title == UNKNOWN]
    assert "15 groups" in note.evidence
    assert "can be fitted from 20 and 5" in note.evidence


def test_the_best_accuracy_of_random_votes_is_low():
    coins = audit(Good(), comparisons(400, odds=0.0, people=3), OPTIONS)
    sure = audit(Good(), comparisons(400, odds=6.0, people=3), OPTIONS)
    assert coins.estimates["person_vs_person"].value == pytest.approx(0.5, abs=0.06)
    assert sure.estimates["best_accuracy"].value > coins.estimates["best_accuracy"].value + 0.05


def test_accuracy_is_compared_on_the_pairs_with_a_majority():
    """With two votes many pairs are tied: the best accuracy is about the others, and so is the accuracy shown with it."""
    report = audit(Good(), comparisons(400, people=2, odds=1.0), OPTIONS)
    accuracy, decided = report.estimates["accuracy"], report.estimates["accuracy_majority"]
    assert decided.value > accuracy.value
    assert decided.n < accuracy.n
    assert "accuracy_majority" not in audit(Good(), comparisons(400, people=3), OPTIONS).estimates
