"""Accuracy beside its anchors: what it finds in models that count characters, prefer the worse, or say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from toys import Constant, Good, comparisons

from guerdon.auditing import audit
from guerdon.config import AuditOptions
from guerdon.contracts import Comparison

CORE = ["accuracy", "people", "odds", "order", "mistakes"]
OPTIONS = AuditOptions(draws=100, null_draws=100, bins=10, only=CORE)
LONGER = Good(scale=0.0, by_length=0.05)


def warnings(report):
    return {finding.title for finding in report.findings if finding.severity == "warning"} - {"Too little evidence"}


def test_a_model_that_scores_by_length_is_reported():
    report = audit(LONGER, comparisons(400), OPTIONS)
    assert "Not shown to be better than preferring the longer answer" in warnings(report)
    assert report.estimates["accuracy_above_longer"].value == 0
    assert report.estimates["accuracy_longer_preferred"].value == 1
    assert report.estimates["accuracy_shorter_preferred"].value == 0
    assert "When the better answer is shorter, the model picks the longer one" in warnings(report)
    by_length = report.curves["accuracy_by_length"]
    assert by_length.y[0].value == 0
    assert by_length.y[-1].value == 1


def test_a_model_that_prefers_the_worse_answer_is_reported():
    report = audit(Good(-1.0), comparisons(400), OPTIONS)
    assert "The model prefers the worse answer" in warnings(report)


def test_a_constant_model_stands_at_its_anchors():
    found = audit(Constant(), comparisons(200), OPTIONS, hygiene=()).estimates
    assert found["accuracy"].value == found["constant"].value == 0.5
    assert found["accuracy_strict"].value == 0
    assert found["model_ties"].value == 1
    assert found["model_ties"].low < 1  # 200 of 200 is no certainty


def test_negating_every_score_mirrors_the_accuracy():
    rows = comparisons(300)
    up, down = (audit(Good(scale), rows, OPTIONS).estimates for scale in (1.0, -1.0))
    assert up["accuracy"].value == pytest.approx(1 - down["accuracy"].value)


def test_ties_count_half_and_are_reported_separately():
    rows = comparisons(400, people=3, ties=0.6)
    report = audit(Good(), rows, OPTIONS)
    share = np.mean([row.q == 0.5 for row in rows])
    assert report.estimates["preference_ties"].value == pytest.approx(share)
    mixed = share * 0.5 + (1 - share) * report.estimates["accuracy_decided"].value
    assert report.estimates["accuracy"].value == pytest.approx(mixed)


def test_too_little_evidence_is_a_warning_with_the_number_needed():
    report = audit(Good(), comparisons(40), OPTIONS)
    found = [finding for finding in report.findings if finding.title == "Too little evidence"]
    assert "there are 40 groups" in found[0].evidence
    needed = int(found[0].evidence.split("about ")[1].split()[0])
    assert 100 < needed < 400
    assert f"n = 40; about {needed} are needed" in report.gate.reason
    enough = audit(Good(), comparisons(1500), OPTIONS)
    assert "Too little evidence" not in {finding.title for finding in enough.findings}


def test_intervals_resample_groups_not_rows():
    rows = comparisons(60)
    ten_times = [
        Comparison(row.prompt, row.responses, row.preference, id=f"{i}-{row.id}") for row in rows for i in range(10)
    ]
    once, often = (audit(Good(), each, OPTIONS).estimates["accuracy"] for each in (rows, ten_times))
    assert often.n == once.n == 60
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.2)
