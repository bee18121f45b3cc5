"""Rules of --fail-on: when they hold, when they do not, and what is not a rule."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from shell import guerdon
from toys import Good, comparisons

from guerdon.auditing import audit
from guerdon.auditing.compare_many import compare_many
from guerdon.auditing.fail_rules import matching_rules, parse_rule
from guerdon.auditing.gate import all_estimates
from guerdon.auditing.known_estimates import names_of_audit, names_of_comparison
from guerdon.config import AuditOptions
from guerdon.contracts import Estimate, Finding, Gate, GuerdonError, Report, Ruling
from guerdon.io import schema

GATE = Gate(
    "fit with limits",
    "a reason",
    rulings=(Ruling("a rule", "passed", "", "", estimates={"hidden": Estimate(0.0, 0.0, 0.0, 1)}),),
)
CUES = Report(
    "Cues", estimates={"worst_flips": Estimate(0.3, 0.2, 0.4, 100)}, findings=(Finding("warning", "Emoji", ""),)
)
REPORT = Report(
    "Audit",
    estimates={"accuracy": Estimate(0.62, 0.57, 0.67, 400), "unknown": Estimate(0.5, math.nan, math.nan, 1)},
    sections=(CUES,),
    gate=GATE,
)


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("accuracy<0.6", ""),
        ("accuracy.low<0.6", "accuracy.low<0.6: accuracy is 0.62 [0.57, 0.67] (n=400)"),
        ("accuracy < 65%", "accuracy < 65%: accuracy is 0.62"),
        ("accuracy.high>=0.67", "accuracy.high>=0.67: accuracy is"),
        ("accuracy.n<=400", "accuracy.n<=400: accuracy is"),
        ("accuracy>0.62", ""),
        ("worst_flips>0.25", "worst_flips>0.25: worst_flips is 0.3"),
        ("gate=not_fit", ""),
        ("gate=fit_with_limits", "gate=fit_with_limits: the decision is fit with limits"),
        ("gate=fit with limits", "gate=fit with limits: the decision is fit with limits"),
        ("gate!=fit", "gate!=fit: the decision is fit with limits"),
        ("gate!=fit-with-limits", ""),
        ("warning", "warning: 1, the first “Emoji”"),
        ("error", ""),
        ("unknown.low<0.4", "unknown.low<0.4: unknown.low is not known"),
    ],
)
def test_a_rule_holds_where_what_it_names_does(rule, line):
    lines = matching_rules(REPORT, [parse_rule(rule)])
    assert len(lines) == bool(line)
    assert not line or lines[0].startswith(line)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("accurcy<0.6", r"rule must name an estimate, got accurcy\. Did you mean accuracy"),
        ("hidden<1", r"rule must name an estimate, got hidden\. (Did you mean|Choose from)"),
        ("gate=unfit", r"gate must be compared with a decision, got unfit\. Did you mean fit"),
        ("accuracy<high", r"threshold must be a number, got 'high'\. Write gate=not_fit"),
        ("accuracy", r"must be a rule, got 'accuracy'\. Write gate=not_fit"),
        ("", "must be a rule, got ''"),
        ("note", "must be a rule, got 'note'"),
    ],
)
def test_a_rule_that_is_none_or_about_nothing_is_an_error_with_advice(rule, said):
    with pytest.raises(GuerdonError, match=said):
        matching_rules(REPORT, [parse_rule(rule)])


def test_a_rule_about_the_gate_needs_a_report_with_one():
    with pytest.raises(
        GuerdonError, match=r"report must have a gate, got one without\. Use a rule about its estimates"
    ):
        matching_rules(CUES, [parse_rule("gate=fit")])


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A score file, and one whose model is worse."""
    folder = tmp_path_factory.mktemp("scored")
    rows = comparisons(300)
    for name, model in (("good", Good()), ("bad", Good(-1.0))):
        values = [model.score([r.prompt] * 2, list(r.responses)).value.tolist() for r in rows]
        lines = [schema.comparison_to_row(row) | {"rewards": value} for row, value in zip(rows, values, strict=True)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return folder


QUICK = ("audit.draws=100", "audit.null_draws=100")


def test_the_command_exits_with_one_and_a_line_per_rule_that_holds(scored, tmp_path):
    words = ("audit", "--from", scored / "bad.jsonl", "--out", tmp_path / "run", "--fail-on", "gate=not_fit")
    ran = guerdon(*words, "--fail-on", "accuracy.low<0.6", "--fail-on", "accuracy.n<10", *QUICK)
    assert ran.code == 1
    lines = [line for line in ran.err.splitlines() if line.startswith("failed: ")]
    assert [line.split(": ")[1] for line in lines] == ["gate=not_fit", "accuracy.low<0.6"]
    report = json.loads((tmp_path / "run/report.json").read_text("utf-8"))
    assert report["gate"]["decision"] == "not fit"
    assert (tmp_path / "run/report.html").exists()
    kept = guerdon("audit", "--from", scored / "good.jsonl", "--fail-on", "gate=not_fit", *QUICK, "--json")
    assert kept.code == 0, kept.err


def test_a_rule_that_cannot_be_read_stops_the_command_before_it_measures(scored, tmp_path):
    ran = guerdon("audit", "--from", scored / "good.jsonl", "--out", tmp_path / "run", "--fail-on", "accuracy")
    assert ran.code == 2
    assert "must be a rule, got 'accuracy'" in ran.err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("audit", "--from", "{good}", "--fail-on", "acuracy<0.5"), "got acuracy. Did you mean accuracy?"),
        (("audit", "--from", "{good}", "--fail-on", "cue_emojii>1"), "got cue_emojii. Did you mean cue_emoji?"),
        (("audit", "--from", "{good}", "--fail-on", "gold_drop>1"), "rule must name an estimate, got gold_drop. "),
        (("audit", "--from", "{good}", "--fail-on", "zzzz>1"), "got zzzz. Choose from "),
        (("compare", "{good}", "{bad}", "--fail-on", "acuracy_a<1"), "got acuracy_a. Did you mean accuracy_a?"),
        (("compare", "{good}", "{bad}", "--fail-on", "gate=fit"), "report must have a gate, got one without"),
        (("compare", "{good}", "{bad}", "--fail-on", "adjusted_p_a_b<1"), "must name an estimate, got adjusted_p_a_b"),
    ],
)
def test_a_rule_about_nothing_stops_the_command_before_it_measures(scored, tmp_path, words, said):
    paths = {"{good}": scored / "good.jsonl", "{bad}": scored / "bad.jsonl"}
    ran = guerdon(*(paths.get(word, word) for word in words), "--out", tmp_path / "run", *QUICK)
    assert ran.code == 2
    assert said in ran.err.splitlines()[-1]
    assert len(ran.err.splitlines()[-1]) < 600
    assert not (tmp_path / "run").exists()


def test_every_estimate_of_an_audit_and_of_a_comparison_has_a_known_name():
    rows = [replace(row, source=f"source {i % 2}") for i, row in enumerate(comparisons(300, people=3, ties=0.2))]
    options = AuditOptions(draws=100, null_draws=100, cue_rows=8)
    assert set(all_estimates(audit(Good(1.0, 0.01), rows, options))) <= set(names_of_audit(is_pushed=False))
    several = compare_many([Good(), Good(-1.0), Good(0.5)], rows[:60], options, names="xyz")
    assert set(all_estimates(several)) == set(names_of_comparison(3))
    assert set(all_estimates(several.sections[0])) == set(names_of_comparison(2))


@pytest.mark.parametrize("words", [(), ("model", "--from", "{good}"), ("model",), ("--data", "{good}")])
def test_a_model_with_data_or_a_file_of_scores_and_not_both(scored, words):
    ran = guerdon("audit", *(word.replace("{good}", str(scored / "good.jsonl")) for word in words))
    assert ran.code == 2
    assert "Give MODEL or --judge FILE with --data FILE, or --from FILE" in ran.err.splitlines()[-1]


def test_two_files_of_scores_are_compared(scored, tmp_path):
    words = ("compare", scored / "good.jsonl", scored / "bad.jsonl", *QUICK)
    ran = guerdon(*words, "--out", tmp_path, "--fail-on", "accuracy_difference.low>0", "--json")
    assert ran.code == 1
    found = json.loads(ran.out)
    assert found["estimates"]["accuracy_difference"]["low"] > 0
    assert "good.jsonl is better: it orders" in found["summary"]
    assert "prefers this, by" in (tmp_path / "report.html").read_text("utf-8")
    alone = guerdon("compare", "a", "b")
    assert alone.code == 2
