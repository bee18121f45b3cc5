"""A report reads the same everywhere, needs nothing from outside, and never runs what a model wrote."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console
from toys import Good, comparisons

from guerdon.api import auditing
from guerdon.auditing import audit
from guerdon.calibration import fit_calibrated_model
from guerdon.config import AuditOptions, CalibrateOptions
from guerdon.contracts import (
    Curve,
    Estimate,
    Example,
    Finding,
    Gate,
    GuerdonError,
    Message,
    Prompt,
    Quantity,
    Report,
    Response,
    Ruling,
    ToolCall,
    as_prompt,
)
from guerdon.io.reports import from_json, to_json
from guerdon.models.estimates import SHARED_QUANTITIES
from guerdon.reporting import to_html, to_markdown
from guerdon.reporting.card import is_ours, model_card
from guerdon.reporting.charts import chart_svg
from guerdon.reporting.console import brief, examples, summary
from guerdon.reporting.words import rank

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>```\n# not a heading | [x](javascript:alert(3))"
CASES = Path(__file__).parent.parent / "cases"
SURE = Estimate(0.6, 0.5, 0.7, 100)


def hostile_report():
    return Report(
        HOSTILE,
        about={HOSTILE: HOSTILE},
        estimates={"accuracy": SURE, HOSTILE: Estimate(1.5, math.nan, math.nan, 1)},
        findings=(Finding("error", HOSTILE, HOSTILE, HOSTILE, SURE, (hostile_example(),)),),
        curves={HOSTILE: Curve((0.0, 1.0), (SURE, SURE), HOSTILE, HOSTILE, x_names=(HOSTILE, "b"), caption=HOSTILE)},
        examples=(hostile_example(),),
        sections=(Report(HOSTILE, findings=(Finding("warning", HOSTILE, HOSTILE),)),),
        summary=HOSTILE,
        gate=hostile_gate(),
        quantities={HOSTILE: Quantity(HOSTILE, "number", HOSTILE, HOSTILE)},
    )


def hostile_example():
    return Example(HOSTILE, as_prompt(HOSTILE), (Response(HOSTILE),) * 2, (HOSTILE, "b"), (1.0, math.nan))


def hostile_gate():
    ruling = Ruling(HOSTILE, "failed", HOSTILE, HOSTILE, "limit", HOSTILE, HOSTILE, {HOSTILE: SURE}, HOSTILE)
    return Gate("fit with limits", HOSTILE, (HOSTILE,), HOSTILE, HOSTILE, HOSTILE, "passed", (ruling,))


@pytest.fixture(scope="module")
def report():
    rows = comparisons(200, people=3)
    options = AuditOptions(draws=100, null_draws=100, only=["accuracy", "people", "odds", "mistakes"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[fit_calibrated_model.__module__], "DRAWS", 60)
        _, section = fit_calibrated_model(Good(3.0), rows, CalibrateOptions())
    found = audit(Good(3.0), rows, options, about={"model": "toy"})
    return replace(found, sections=(section,), gate=None)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.outside, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.open.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name in ("src", "srcset", "action"):
                self.outside.append((tag, name, value))
            if name.endswith("href") and not (value or "").startswith("#"):
                self.outside.append((tag, name, value))

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass


def test_what_a_model_wrote_is_never_run():
    page = to_html(hostile_report())
    tags = Tags()
    tags.feed(page)
    assert not {"script", "img", "iframe", "link", "object"} & set(tags.seen)
    assert not tags.outside
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


def test_a_model_card_and_a_terminal_run_nothing_either():
    report, facts = hostile_report(), {"base": "a/b", "system": HOSTILE, "calibration": {"temperature": 2.0}}
    card = model_card(report, facts, name=HOSTILE)
    outside = re.sub(r"^(`{3,})python\n.*?\n\1$", "", card, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside
    assert "<img" not in outside
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(summary(report))
    console.print(brief(report, ("accuracy",)))
    assert "<script>alert(1)" in console.export_text()


def test_a_page_needs_nothing_from_outside_and_stays_small(report):
    page = to_html(report)
    tags = Tags()
    tags.feed(page)
    assert not tags.outside
    assert set(re.findall(r"https?://[^\s\"'<>]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "url(http" not in page
    assert len(page.encode()) < 300_000
    assert "prefers-color-scheme: dark" in page


def test_the_same_report_is_the_same_page_byte_for_byte(report):
    assert to_html(report) == to_html(report)


def test_every_figure_has_its_table(report):
    page = to_html(report)
    assert page.count("<figure>") == page.count("<details><summary>the numbers") == len(report.curves) == 4


def test_ids_on_a_page_are_unique(report):
    ids = re.findall(r' id="([^"]+)"', to_html(report))
    assert len(ids) == len(set(ids))


def test_drawings_take_their_colors_from_the_page(report):
    drawings = "".join(re.findall(r"<svg.*?</svg>", to_html(report), flags=re.DOTALL))
    assert "var(--accent)" in drawings
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", drawings)


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
        ({"version": 9}, r"written by a newer Guerdon \(format 9, this one reads up to 2\)"),
        ({"surprise": 1}, "unknown key 'surprise' of a Report"),
        ({"estimates": {"accuracy": {"value": 1.0, "low": 0.0, "high": 1.0}}}, "missing key 'n' of a Estimate"),
    ],
)
def test_a_file_that_is_no_report_is_refused_with_its_place(change, said):
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


def test_markdown_keeps_hostile_text_as_text():
    lines = to_markdown(hostile_report())
    outside = re.sub(r"^(`{3,})text\n.*?\n\1$", "", lines, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside
    assert "````text" in lines  # longer than any fence within
    assert all(line.count(" | ") <= 4 for line in outside.splitlines() if line.startswith("| "))


def test_the_first_line_states_the_result(report):
    page = to_html(report)
    accuracy = report.estimates["accuracy"].value
    assert f"The model orders {100 * accuracy:.1f}\N{NO-BREAK SPACE}%" in page.split("<h2>")[0]
    assert "of a ceiling of" in page.split("<h2>")[0]
    assert "longer answer gets" in to_markdown(report).split("**")[0]


def test_a_refusal_is_the_first_thing_said():
    refused = Report("Audit", findings=(Finding("error", "Scores are not finite", "3 of 8", "Mend it."),))
    assert "Refused: 1 check failed" in to_html(refused)


def test_a_number_without_an_interval_says_so():
    page = to_html(Report("r", estimates={"accuracy": Estimate(0.5, math.nan, math.nan, 1)}))
    assert "no interval" in page
    assert "nan" not in page


def test_an_estimate_is_shown_as_its_report_describes_it():
    length = Quantity("words", "share", "How long", "of an answer")
    report = Report("r", estimates={"num_words": SURE}, quantities={"num_words": length, "absent": length})
    assert report.quantities == {"num_words": length}
    page = to_html(report)
    for text in ("How long", "words", "of an answer", "60.0\N{NO-BREAK SPACE}%", "[50.0, 70.0]"):
        assert text in page, text
    assert "| words | 60.0" in to_markdown(report)


def test_an_estimate_that_nothing_describes_is_a_number_under_its_own_name():
    page = to_html(Report("r", estimates={"num_words": SURE}))
    assert "Other numbers" in page
    assert "num words" in page
    assert "0.600" in page


def test_a_curve_is_called_by_its_title_or_else_by_its_key():
    curve = Curve((0.0, 1.0), (SURE, SURE), "x", "y")
    page = to_html(Report("r", curves={"by_length": curve, "by_source": replace(curve, title="Where it is right")}))
    assert "<h3>By length</h3>" in page
    assert "<h3>Where it is right</h3>" in page


def test_the_console_prints_every_estimate_and_no_markup(report):
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(summary(report))
    console.print(summary(Report("[bold]title[/bold]")))
    said = console.export_text()
    assert "longer wins" in said
    assert "Calibration" in said
    assert "[bold]title[/bold]" in said


# ---- The first screen --------------------------------------------------------------------------------------------


def costly(title, cost=None, severity="warning"):
    found = None if cost is None else Estimate(cost, cost - 0.02, cost + 0.02, 100)
    return Finding(severity, title, "seen", "Mend it.", found, (Example(title, as_prompt("p"), (), (), ()),))


def judged(*findings, inner=(), decision="fit with limits"):
    """A report with a gate, findings of its own, and those of a section."""
    ruling = Ruling("Better than a coin", "passed", "60 %", "above 50 %")
    gate = Gate(decision, "a reason", ("stop early",), "more pairs", hygiene="passed", rulings=(ruling,))
    estimates = {"accuracy": SURE, "longer_wins": Estimate(0.55, 0.5, 0.6, 100)}
    return Report(
        "Audit",
        estimates=estimates,
        findings=tuple(findings),
        sections=(Report("Cues", findings=tuple(inner)),),
        gate=gate,
        quantities=SHARED_QUANTITIES,
    )


def test_findings_are_ranked_by_what_they_cost_errors_first_and_unknown_last():
    found = [
        costly("note"  , severity="note"), costly("unknown"), costly("small", 0.02), costly("large", 0.3),
        costly("broken", severity="error"), costly("told", 0.1, "note"),
    ]  # fmt: skip
    assert [f.title for f in sorted(found, key=rank)] == ["broken", "large", "told", "small", "unknown", "note"]
    unknown = Finding("warning", "nan", "", "", Estimate(math.nan, math.nan, math.nan, 0))
    assert sorted([unknown, costly("small", 0.02)], key=rank)[0].title == "small"


def test_the_first_screen_is_decision_then_expectation_then_findings_then_rules():
    page = to_html(
        judged(costly("of its own", 0.1), inner=(costly("of a part", 0.2), costly("hushed", severity="note")))
    )
    places = [
        page.index(each)
        for each in (
            "<h1>", "Fit with limits", "stop early", "What to expect", "of a part", "of its own", "1 note<", "hushed",
            "The rules behind the decision", "Better than a coin", 'id="part-1"',
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert page.count(">of a part</strong>") == 1  # told once, with its place
    assert 'href="#part-1"' in page
    assert "flips 20.0\N{NO-BREAK SPACE}% [18.0, 22.0] of decisions" in page
    assert "read 1 example<" in page


@pytest.mark.parametrize(
    ("decision", "tone"),
    [("fit", "good"), ("fit with limits", "limited"), ("not fit", "bad"), ("not enough evidence", "open")],
)
def test_each_decision_has_its_color(decision, tone):
    assert f'<div class="gate {tone}">' in to_html(judged(decision=decision))


def test_markdown_and_terminal_give_the_decision_first_too():
    report = judged(inner=(costly("of a part", 0.2),))
    lines = to_markdown(report).splitlines()
    assert lines[4] == "**Decision: fit with limits.** a reason."
    assert "| Better than a coin | passed | 60 % | above 50 % |" in lines
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(brief(report, ("accuracy",)))
    said = console.export_text()
    assert (
        said.index("Fit with limits: a reason")
        < said.index("95 % interval")
        < said.index("warning: of a part (flips 20")
    )


def test_warnings_of_parts_are_counted_in_the_first_sentence():
    assert "2 warnings below" in to_html(
        judged(costly("one"), inner=(costly("two", 0.1), costly("three", severity="note")))
    )


def test_a_page_of_ten_thousand_comparisons_stays_below_a_megabyte():
    rows = [replace(row, source=f"source {i % 2000}") for i, row in enumerate(comparisons(10_000))]
    options = AuditOptions(draws=100, null_draws=100, only=["accuracy", "odds", "mistakes"], worst=20)
    found = audit(Good(3.0), rows, options, hygiene=())
    long = Example(
        "long", as_prompt("<&>\"'" * 40_000), (Response("\N{PILE OF POO}" * 90_000),) * 2, ("a", "b"), (1.0, 2.0)
    )
    findings = tuple(replace(costly(f"cue {i}", 0.01 * i), examples=(long,) * 4) for i in range(40))
    curves = {f"dose_{i}": Curve(tuple(range(50)), (SURE,) * 50, "dose", "effect") for i in range(60)}
    report = replace(found, sections=(*found.sections, Report("Cues", findings=findings, curves=curves)))
    page = to_html(report)
    assert len(page.encode()) < 1_000_000
    assert "40 of 2,000 points are shown" in page
    assert "more characters)" in page


def test_a_curve_of_names_stands_in_rows_with_the_names_whole():
    names = ("bullets and bold headings", "flattery in the first sentence", "over-confidence")
    svg = chart_svg(Curve((0.0, 1.0, 2.0), (SURE,) * 3, "cue", "effect", kind="points", x_names=names), "cues")
    assert all(name in svg for name in names)
    assert svg.index(names[0]) < svg.index(names[2])


# ---- The model card ----------------------------------------------------------------------------------------------


def test_the_model_card_says_what_hubs_and_readers_need():
    facts = {
        "base": "org/small",
        "calibration": {"temperature": 1.5, "provenance": {}},
        "max_length": 512,
        "system": "Be kind.",
    }
    card = model_card(judged(costly("a fault", 0.2)), facts, name="mine")
    front = card.split("---")[1]
    assert front.startswith("\nlibrary_name: transformers\n")
    assert 'base_model: "org/small"' in front
    for said in ("# mine", "**Fit with limits**: a reason.", "* stop early", "temperature: 1.5", "Be kind.", "a fault",
                 "AutoModelForSequenceClassification", "| accuracy | 60.0", "Better than a coin | passed"):  # fmt: skip
        assert said in card, said
    assert is_ours(card)
    assert not is_ours(card.replace("<!--", "<!- -"))
    assert "base_model" not in model_card(judged(), {"base": "/home/me/model"})


def test_a_card_is_written_over_and_a_foreign_readme_is_not(tmp_path):
    report = judged()
    assert auditing.write_card(report, tmp_path)
    first = (tmp_path / "README.md").read_text("utf-8")
    assert auditing.write_card(judged(decision="not fit"), tmp_path)
    assert (tmp_path / "README.md").read_text("utf-8") != first
    (tmp_path / "README.md").write_text("# My own words\n", "utf-8")
    assert not auditing.write_card(report, tmp_path)
    assert (tmp_path / "README.md").read_text("utf-8") == "# My own words\n"


def test_no_text_of_a_model_steers_a_terminal():
    hostile = "\x1b[2Jgone\x07\r\x9b31m\x7f"
    report = Report(
        title=hostile,
        about={"run": hostile},
        findings=(Finding("warning", hostile, hostile, hostile),),
        examples=(Example(hostile, as_prompt(hostile), (Response(hostile),), (hostile,), (1.0,)),),
    )
    console = Console(file=io.StringIO(), width=200)
    console.print(summary(report), examples(report), brief(report, (), ("run",)))
    for text in (to_html(report), to_markdown(report), console.file.getvalue()):
        assert not set(text) & set("\x1b\x07\r\x9b\x7f")
        assert "␛[2Jgone" in text
