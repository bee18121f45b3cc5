"""The best accuracy that people's agreement allows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from toys import Good, comparisons

from guerdon.auditing import audit
from guerdon.config import AuditOptions
from guerdon.contracts import Preference, Scores

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


def voted(preference, people):
    """Comparisons with votes of that many people, by each pair's share that prefers the first."""
    first = np.random.default_rng(0).binomial(people, preference)
    return [
        dataclasses.replace(row, preference=Preference(q=n / people, votes=(int(n), 0, people - int(n))))
        for row, n in zip(comparisons(len(first)), first, strict=True)
    ]


ASSUMED = "The best possible accuracy rests on an assumption"


def test_votes_that_contradict_the_prior_give_no_best_accuracy_and_say_why():
    half_clear = np.tile([0.96, 0.5, 0.04, 0.5], 100)
    report = audit(Good(), voted(half_clear, 20), OPTIONS)
    assert {"best_accuracy", "majority_again", "accuracy_majority"}.isdisjoint(report.estimates)
    (note,) = [finding for finding in report.findings if finding.title == UNKNOWN]
    assert "do not vary between pairs as a beta distribution" in note.evidence
    assert "the best possible accuracy is not known" in report.gate.expectation


def test_votes_that_fit_the_prior_give_a_best_accuracy_without_a_note():
    """Of beta-distributed preferences the check rejects one data set in twenty; this one is not among them."""
    report = audit(Good(), voted(np.random.default_rng(2).beta(1, 1, 400), 20), OPTIONS)
    assert report.estimates["best_accuracy"].value == pytest.approx(0.93, abs=0.03)
    assert titles(report).isdisjoint({ASSUMED, UNKNOWN})


@pytest.mark.parametrize("people", [2, 3])
def test_two_or_three_votes_cannot_check_the_prior_and_the_assumption_is_said(people):
    report = audit(Good(), voted(np.random.default_rng(1).beta(1, 1, 400), people), OPTIONS)
    assert "best_accuracy" in report.estimates
    assert ASSUMED in titles(report)
    assert "if preferences vary as a beta distribution no model can be expected to exceed" in report.gate.expectation
    assert "if preferences vary" in report.quantities["best_accuracy"].meaning


class Memory:
    """A model that knows the votes: the response with more of them gets 1, the other 0."""

    def __init__(self, rows):
        self.value = {}
        for row in rows:
            first, _, second = row.preference.votes
            for response, score in zip(row.responses, (first > second, first < second), strict=True):
                self.value[row.prompt, response.text] = float(score)

    def score(self, prompts, responses):
        value = np.array([self.value[p, r.text] for p, r in zip(prompts, responses, strict=True)])
        return Scores(value, np.zeros(len(value), dtype=bool))


def test_an_accuracy_above_the_best_possible_is_a_warning():
    rows = comparisons(400, odds=0.5, people=3)
    title = "The accuracy is higher than any model could reach"
    (warning,) = [f for f in audit(Memory(rows), rows, OPTIONS).findings if f.title == title]
    assert warning.severity == "warning"
    assert "Check that the model was not trained on these votes" in warning.remedy
    assert title not in titles(audit(Good(), rows, OPTIONS))
