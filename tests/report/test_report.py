"""A report reads the same everywhere, needs nothing from outside, and never runs what a model wrote."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from html.parser import HTMLParser

import pytest
from rich.console import Console
from toys import Good, comparisons

from assay.audit import audit
from assay.calibrate import fit
from assay.config import AuditOptions, CalibrateOptions
from assay.contracts import AssayError, Curve, Estimate, Example, Finding, Report, Response, as_prompt
from assay.report import from_json, to_html, to_json, to_markdown
from assay.report.console import summary

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>```\n# not a heading | [x](javascript:alert(3))"
SURE = Estimate(0.6, 0.5, 0.7, 100)


def hostile_report():
    return Report(
        HOSTILE,
        about={HOSTILE: HOSTILE},
        estimates={"accuracy": SURE, HOSTILE: Estimate(1.5, math.nan, math.nan, 1)},
        findings=(Finding("error", HOSTILE, HOSTILE, HOSTILE),),
        curves={HOSTILE: Curve((0.0, 1.0), (SURE, SURE), HOSTILE, HOSTILE, x_names=(HOSTILE, "b"), caption=HOSTILE)},
        examples=(Example(HOSTILE, as_prompt(HOSTILE), (Response(HOSTILE),) * 2, (HOSTILE, "b"), (1.0, math.nan)),),
        sections=(Report(HOSTILE),),
    )


@pytest.fixture(scope="module")
def report():
    rows = comparisons(200, people=3)
    options = AuditOptions(draws=100, null_draws=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[fit.__module__], "DRAWS", 60)
        _, section = fit(Good(3.0), rows, CalibrateOptions())
    found = audit(Good(3.0), rows, options, about={"model": "toy"})
    return Report(found.title, found.about, found.estimates, found.findings, found.curves, found.examples, (section,))


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


def test_drawings_take_their_colours_from_the_page(report):
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
        ({"version": 9}, "wanted format"),
        ({"surprise": 1}, "unknown key 'surprise' of a Report"),
        ({"estimates": {"accuracy": {"value": 1.0, "low": 0.0, "high": 1.0}}}, "missing key 'n' of a Estimate"),
    ],
)
def test_a_file_that_is_no_report_is_refused_with_its_place(change, said):
    with pytest.raises(AssayError, match=said):
        from_json(to_json(Report("r")) | change)


def test_markdown_keeps_hostile_text_as_text():
    lines = to_markdown(hostile_report())
    outside = re.sub(r"^(`{3,})text\n.*?\n\1$", "", lines, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside
    assert "````text" in lines  # longer than any fence within
    assert all(line.count(" | ") <= 4 for line in outside.splitlines() if line.startswith("| "))


def test_the_first_line_states_the_verdict(report):
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


def test_the_console_prints_every_estimate_and_no_markup(report):
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(summary(report))
    console.print(summary(Report("[bold]title[/bold]")))
    said = console.export_text()
    assert "longer wins" in said
    assert "Calibration" in said
    assert "[bold]title[/bold]" in said
