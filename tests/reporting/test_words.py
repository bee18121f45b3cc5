"""Findings are ranked by what they cost, and a report opens with its result."""

from __future__ import annotations

import math

from sample_reports import costly

from guerdon.contracts import Estimate, Finding, Report
from guerdon.reporting.words import headline, rank


def test_findings_are_ranked_by_what_they_cost_errors_first_and_unknown_last():
    found = [
        costly("note"  , severity="note"), costly("unknown"), costly("small", 0.02), costly("large", 0.3),
        costly("broken", severity="error"), costly("a note with a cost", 0.1, "note"),
    ]  # fmt: skip
    assert [f.title for f in sorted(found, key=rank)] == [
        "broken",
        "large",
        "a note with a cost",
        "small",
        "unknown",
        "note",
    ]
    unknown = Finding("warning", "nan", "", "", Estimate(math.nan, math.nan, math.nan, 0))
    assert sorted([unknown, costly("small", 0.02)], key=rank)[0].title == "small"


def test_a_finding_on_a_few_units_never_leads():
    two = Finding("warning", "of two", "", "", Estimate(1.0, 0.16, 1.0, 2))
    assert [f.title for f in sorted([two, costly("of many", 0.02)], key=rank)] == ["of many", "of two"]


def test_of_two_findings_the_one_that_is_shown_to_cost_more_comes_first():
    wide = Finding("warning", "wide", "", "", Estimate(0.6, 0.02, 0.98, 12))
    narrow = Finding("warning", "narrow", "", "", Estimate(0.3, 0.25, 0.35, 200))
    assert [f.title for f in sorted([wide, narrow], key=rank)] == ["narrow", "wide"]


def test_the_clauses_of_a_headline_are_one_sentence():
    estimates = {"accuracy": Estimate(0.8, 0.7, 0.9, 10), "temperature": Estimate(0.8, 0.7, 0.9, 10)}
    text = headline(Report("r", estimates=estimates), with_warnings=False).replace("\N{NO-BREAK SPACE}", " ")
    clauses = (
        "The model orders 80.0 % [70.0, 90.0] of pairs as people do",
        "its temperature is 0.800 [0.700, 0.900].",
    )
    assert text == "; ".join(clauses)


def test_a_headline_puts_the_summary_first_and_counts_warnings():
    report = Report("r", findings=(costly("a"), costly("b", severity="note")), summary="A is better than B.")
    assert headline(report) == "A is better than B. 1 warning below."
    assert headline(report, with_warnings=False) == "A is better than B."
    assert headline(Report("r")) == "No warnings."


def test_an_error_refuses_numbers_and_is_counted_where_there_are_none():
    errors = (costly("a", severity="error"), costly("b"))
    measured = {"accuracy": Estimate(0.8, 0.7, 0.9, 100)}
    assert headline(Report("r", findings=errors, estimates=measured, summary="s")).startswith("Refused: 1 check failed")
    assert headline(Report("r", findings=errors)).startswith("Refused: 1 check failed")
    assert (
        headline(Report("lint", findings=errors, summary="3 principles read.")) == "3 principles read. 1 error below."
    )
