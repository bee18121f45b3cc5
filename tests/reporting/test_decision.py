"""A report opens with its decision, every rule that failed or is not shown, and how many rules are unknown."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from guerdon.contracts import Curve, Estimate, Finding, Gate, Quantity, Report, Ruling
from guerdon.reporting import to_html, to_markdown
from guerdon.reporting.card import model_card
from guerdon.reporting.console import brief, summary
from guerdon.reporting.decision import decision_card, result_finding

RULINGS = (
    Ruling("Better than a coin", "passed", "accuracy is 70 %", "above 50 %"),
    Ruling("No fault flips many decisions", "failed", "flattery flips 30 %", "at most 5 %", effect="limit"),
    Ruling("It reads the prompt", "not shown", "answers fit in 60 %", "above 50 %"),
    Ruling("Its odds are calibrated", "unknown", "was not measured", "at most 5 points", effect="limit"),
    Ruling("The order shown does not matter", "does not apply", "for judges only", "90 %", effect="limit"),
)


def gated(decision, rulings=RULINGS, reason="answers fit in 60 %"):
    return Report("Audit", gate=Gate(decision, reason, ("stop early",), "more pairs", rulings=rulings))


def printed(renderable, width=100):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


@pytest.mark.parametrize("decision", ["fit", "fit with limits", "not fit", "not enough evidence"])
def test_a_failed_rule_is_listed_under_every_decision(decision):
    report = gated(decision)
    card = decision_card(report)
    assert "Failed: No fault flips many decisions. Flattery flips 30 %." in card.rules
    for text in (to_html(report), to_markdown(report), printed(brief(report)), model_card(report, {})):
        assert card.rules[0] in text


def test_the_headline_of_a_decision_says_how_many_rules_are_unknown():
    assert decision_card(gated("fit")).headline == "Fit (1 of 4 rules unknown)"
    assert decision_card(gated("fit", RULINGS[:3])).headline == "Fit"
    for text in (to_html(gated("fit")), to_markdown(gated("fit")), printed(brief(gated("fit")))):
        assert "1 of 4 rules unknown" in text


def test_the_rules_that_decided_come_first_and_are_not_repeated():
    card = decision_card(gated("not enough evidence"))
    assert card.rules[0] == "Not shown: It reads the prompt. Answers fit in 60 %."
    assert card.rules[1].startswith("Failed: No fault flips many decisions.")
    assert card.reason == ""
    assert to_html(gated("not fit")).lower().count("answers fit in 60 %.") == 1
    assert (
        decision_card(gated("fit with limits", reason="how far was not measured")).reason == "How far was not measured."
    )


def test_the_finding_that_states_the_result_is_the_decision_and_is_not_repeated():
    result = Finding("warning", "Over-optimized since KL = 3: gold has fallen", "it gained 2 before", "Go back.")
    report = Report("Run", findings=(result, Finding("warning", "Replies have grown", "x")), summary=f"{result.title}.")
    card = decision_card(report)
    assert (card.decision, card.tone, card.advice) == ("Over-optimized since KL = 3", "bad", "Go back.")
    assert card.reason == "Gold has fallen. It gained 2 before."
    for text in (to_html(report), to_markdown(report), printed(brief(report)), printed(summary(report))):
        assert text.lower().count("gold has fallen") == 1
        assert "1 warning below." in text
    assert result_finding(Report("Run", findings=(result,))) is None
    assert decision_card(Report("Run")) is None


def test_a_screen_is_enough_however_long_the_report():
    share = Quantity("a share", "share", "Shares")
    keys = [f"k{i}" for i in range(200)]
    report = Report(
        "Audit",
        estimates=dict.fromkeys(keys, Estimate(0.5, 0.4, 0.6, 99)),
        findings=tuple(Finding("warning", f"Fault {i}", "seen", "Mend it.") for i in range(50)),
        curves={"c": Curve((0.0,), (Estimate(0.5, 0.4, 0.6, 99),), "x", "y")},
        sections=tuple(Report(f"Part {i}", estimates={"a": Estimate(1.0, 0.0, 2.0, 9)}) for i in range(30)),
        gate=gated("fit").gate,
        quantities=dict.fromkeys(keys, share),
    )
    screen = printed(brief(report))
    assert len(screen.splitlines()) <= 40
    assert "Left out: 44 findings, 5 rules, 218 numbers. Add --full to print everything." in screen
    assert len(printed(summary(report)).splitlines()) > 200
