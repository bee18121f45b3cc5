"""The page needs nothing from outside, never runs what a model wrote, and puts first what matters first."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from sample_reports import SURE, costly, hostile_report, judged
from toys import Good, comparisons

from guerdon.auditing import audit
from guerdon.config import AuditOptions
from guerdon.contracts import (
    Curve,
    Estimate,
    Example,
    Finding,
    Message,
    Prompt,
    Quantity,
    Report,
    Response,
    ToolCall,
    as_prompt,
)
from guerdon.reporting import to_html, to_markdown


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


def test_the_first_line_states_the_result(report):
    page = to_html(report)
    accuracy = report.estimates["accuracy"].value
    assert f"The model orders {100 * accuracy:.1f}\N{NO-BREAK SPACE}%" in page.split("<h2>")[0]
    assert "where the best possible is" in page.split("<h2>")[0]
    assert "if preferences vary as a beta distribution" in page.split("<h2>")[0]
    assert "longer answer gets" in to_markdown(report).split("**")[0]


def test_a_refusal_is_the_headline():
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


def test_the_first_screen_has_the_decision_then_expectation_then_findings_then_rules():
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
    assert "Shown: 40 of 2,000 points" in page
    assert "more characters)" in page


def test_the_gate_of_a_section_is_shown_there_with_its_findings():
    page = to_html(Report("Two audits", sections=(judged(inner=(costly("of a part", 0.2),)), Report("Other"))))
    places = [page.index(text) for text in ('id="part-1"', "Fit with limits", "of a part", "Better than a coin")]
    assert places == sorted(places)
    assert page.count(">of a part</strong>") == 1
    assert 'href="#part-1-1"' in page
    assert 'id="part-1-1"' in page


def test_tool_calls_can_be_read():
    call = Message("assistant", "", (ToolCall("add", '{"a": 2}', "1"),))
    turns = (call, Message("tool", "4", tool_call_id="1"), Message("assistant", "It is 4."))
    example = Example("e", Prompt((Message("user", "2 + 2?"), call)), (Response(messages=turns),), ("a",), (1.0,))
    page = to_html(Report("r", examples=(example,)))
    assert "add({&#34;a&#34;: 2})</div>" in page
    assert "assistant: add({&#34;a&#34;: 2})\n\ntool: 4\n\nassistant: It is 4." in page


def test_a_strip_has_an_axis_and_one_unit():
    names = {"a": "share", "b": "nats", "c": "number"}
    quantities = {key: Quantity(key, unit, "All") for key, unit in names.items()}
    page = to_html(Report("r", estimates=dict.fromkeys(names, SURE), quantities=quantities))
    assert page.count('class="axis-row"') == 2  # one for shares, one for nats; numbers without a unit have no strip
    assert page.count('class="dot"') == 2
    assert ">100 %<" in page
    assert " nats<" in page


def test_accuracy_comes_before_its_anchors():
    keys = ("longer_wins", "best_accuracy", "accuracy")
    known = {key: Quantity(key, "share", "s") for key in keys}
    page = to_html(replace(judged(), estimates=dict.fromkeys(keys, SURE), quantities=known))
    expected = page.split("What to expect")[1]
    assert expected.index("<td>accuracy<") < expected.index("<td>best_accuracy<") < expected.index("<td>longer_wins<")


def test_a_share_is_a_percentage_in_figures_too():
    curve = Curve((0.5, 0.9), (SURE, SURE), "confidence of the model", "share of people who agree", kind="line")
    page = to_html(Report("r", curves={"c": curve}))
    assert ">90.0\N{NO-BREAK SPACE}%<" in page
    labels = re.findall(r"<text[^>]*>([^<]+)</text>", page)
    assert {"60 %", "70 %"} <= set(labels)
    assert not {"0.6", "0.60", "0.7"} & set(labels)


def test_a_phone_shows_n():
    assert '.numbers .of::before { content: "n = "; }' in to_html(Report("r"))


def test_a_finding_on_a_few_units_is_folded_away():
    few = Finding("warning", "of two", "", "", Estimate(1.0, 0.2, 1.0, 2))
    page = to_html(judged(few, costly("of many", 0.1)))
    assert page.index("of many") < page.index("1 more finding<") < page.index(">of two<")
