"""Reports survive JSON, also those that 0.1 wrote; what is no report is refused with its path."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from sample_reports import HOSTILE, audit_report, hostile_report, judged

from guerdon.contracts import Example, GuerdonError, Message, Prompt, Report, Response, ToolCall
from guerdon.io.reports import from_json, to_json
from guerdon.reporting import to_html


@pytest.fixture(scope="module")
def report():
    return audit_report()


CASES = Path(__file__).parent.parent / "cases"


def test_a_report_survives_json(report):
    for each in (report, hostile_report()):
        plain = json.loads(json.dumps(to_json(each), allow_nan=False))
        again = from_json(plain)
        assert to_json(again) == plain
        assert to_html(again) == to_html(each)
    assert math.isnan(from_json(to_json(hostile_report())).estimates[HOSTILE].low)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 9}, r"written by a newer Guerdon \(format 9, this one reads up to 3\)"),
        ({"surprise": 1}, "unknown key 'surprise' of a Report"),
        ({"estimates": {"accuracy": {"value": 1.0, "low": 0.0, "high": 1.0}}}, "missing key 'n' of a Estimate"),
    ],
)
def test_a_file_that_is_no_report_is_refused_with_its_path(change, said):
    with pytest.raises(GuerdonError, match=said):
        from_json(to_json(Report("r")) | change)


def test_a_report_that_0_1_wrote_has_its_gate_and_its_summary():
    old = json.loads((CASES / "report_0_1.json").read_text("utf-8"))
    report = from_json(old)
    was = old["sections"][0]
    assert was["title"] == "Verdict"
    assert report.gate.decision == was["about"]["verdict"] == "fit with limits"
    assert report.gate.reason == was["about"]["why"]
    assert report.gate.limits == (was["about"]["limit 1"],)
    assert report.gate.needed_data == was["about"]["data that would help most"]
    assert report.gate.expectation == was["about"]["expectation"]
    assert report.gate.hygiene == old["about"]["hygiene"] == "passed"
    assert [(r.rule, r.state, r.effect) for r in report.gate.rulings] == [
        (rule["title"], rule["about"]["state"], rule["about"]["else"]) for rule in was["sections"]
    ]
    assert report.gate.rulings[2].estimates["accuracy"] == report.estimates["accuracy"]
    assert [section.title for section in report.sections] == [section["title"] for section in old["sections"][1:]]
    assert "hygiene" not in report.about
    assert len(report.examples) == len(old["examples"]) == 1
    assert "Fit with limits" in to_html(report)
    assert from_json({**old, "about": {**old["about"], "verdict": "All is well."}}).summary == "All is well."


def test_a_decision_that_is_none_is_refused():
    plain = to_json(judged())
    with pytest.raises(GuerdonError, match=r"report\.gate\.decision must be one of fit, fit with limits"):
        from_json(plain | {"gate": plain["gate"] | {"decision": HOSTILE}})


def test_the_tools_of_a_prompt_survive_json():
    prompt = Prompt((Message("user", "2 + 2?"),), ('{"name": "add"}',))
    call = Message("assistant", "", (ToolCall("add", '{"a": 2, "b": 2}', "1"),))
    answer = Response(messages=(call, Message("tool", "4", tool_call_id="1"), Message("assistant", "4")))
    report = Report("r", examples=(Example("e", prompt, (answer,), ("a",), (1.0,)),))
    assert from_json(json.loads(json.dumps(to_json(report)))) == report
