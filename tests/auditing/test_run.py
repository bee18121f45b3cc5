"""For each audit: a model with the fault, which it must find, and one without, which it must pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toys import Good, comparisons

from guerdon.auditing import audit
from guerdon.config import AuditOptions
from guerdon.contracts import Comparison, Finding, GuerdonError, Message, Preference, Response, ToolCall, as_prompt

CORE = ["accuracy", "people", "odds", "order", "mistakes"]  # the other parts have tests of their own
OPTIONS = AuditOptions(draws=100, null_draws=100, bins=10, only=CORE)
CALL = Message("assistant", "", (ToolCall("look"),))


def warnings(report):
    return {finding.title for finding in report.findings if finding.severity == "warning"} - {"Too little evidence"}


def test_a_calibrated_model_passes():
    report = audit(Good(), comparisons(800), OPTIONS, hygiene=())
    assert not warnings(report)
    assert report.estimates["accuracy"].low > 0.5
    assert report.estimates["accuracy"].n == 800


def test_rankings_are_split_into_pairs():
    texts = tuple(Response("good " * i) for i in range(4))
    rows = [Comparison(as_prompt(f"p{i}"), texts, Preference(groups=((3,), (2,), (1,), (0,)))) for i in range(30)]
    report = audit(Good(), rows, OPTIONS)
    assert report.about["pairs"] == "180"
    assert report.estimates["accuracy"].value == 1
    assert report.estimates["accuracy"].n == 30


def test_an_error_of_the_hygiene_gate_leaves_no_numbers():
    broken = Finding("error", "Scores are not finite", "3 of 8", "mend it")
    report = audit(Good(), comparisons(50), OPTIONS, hygiene=(broken,), about={"model": "toy"})
    assert report.findings == (broken,)
    assert not report.estimates
    assert not report.curves
    assert report.about["model"] == "toy"


def test_nothing_to_compare_is_refused():
    with pytest.raises(GuerdonError, match="comparisons must be at least one, got none"):
        audit(Good(), [], OPTIONS)
    one = Comparison(as_prompt("p"), tuple(Response(t) for t in "abc"), Preference(groups=((0, 1, 2),)))
    assert audit(Good(), [one], AuditOptions(draws=100)).estimates["preference_ties"].value == 1


def test_an_audit_repeats_itself():
    assert audit(Good(), comparisons(100), OPTIONS) == audit(Good(), comparisons(100), OPTIONS)


def test_an_audit_of_trajectories_measures_what_it_can_and_counts_what_it_cannot_edit():
    trajectories = [
        Comparison(
            as_prompt(f"Task {i}"),
            tuple(
                Response(messages=(CALL, Message("tool", word), Message("assistant", f"{word} {i}")))
                for word in ("good", "bad")
            ),
            Preference(q=1.0),
        )
        for i in range(20)
    ]
    options = AuditOptions(draws=100, null_draws=100, bins=10)
    mixed = audit(Good(), [*comparisons(200), *trajectories], options, hygiene=())
    assert mixed.about["responses not edited"] == "those in several messages, of 20 comparisons"
    assert mixed.estimates["accuracy"].n == 220
    alone = audit(Good(), trajectories, options, hygiene=())
    assert alone.estimates["accuracy"].value == 1.0
    assert "responses not edited" not in audit(Good(), comparisons(50), OPTIONS, hygiene=()).about


def test_every_estimate_is_described_and_every_curve_has_a_title():
    rows = [replace(row, source=f"source {i % 2}") for i, row in enumerate(comparisons(300, people=3, ties=0.2))]
    report = audit(Good(1.0, 0.01), rows, AuditOptions(draws=100, null_draws=100, cue_rows=8))
    assert {section.title for section in report.sections} >= {
        "Length",
        "Cues and substance",
        "Uncertainty",
        "Relevance",
    }
    for part in report.walk():
        assert set(part.quantities) == set(part.estimates), part.title
        assert all(quantity.label and quantity.section for quantity in part.quantities.values()), part.title
        assert all(curve.title for curve in part.curves.values()), part.title
