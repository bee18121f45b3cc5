"""A report as one HTML page. Texts come from models and strangers: everything is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from guerdon.errors import revealed
from guerdon.reporting.browser import Sample, browser_view, script_policy
from guerdon.reporting.charts import Strip, chart_svg, curve_rows, curve_title
from guerdon.reporting.decision import decision_card, result_finding
from guerdon.reporting.words import (
    cost_phrase,
    has_evidence,
    headline,
    interval,
    labeled_responses,
    number,
    overview,
    placed_findings,
    prompt_turns,
    quantity,
    rank,
    tables,
)

if TYPE_CHECKING:
    from guerdon.contracts import Curve, Estimate, Example, Finding, Gate, Quantity, Report, Unit

__all__ = ["to_html"]

TOTAL_TEXT_BYTES = 350_000  # of all texts on a page, so that the page stays below a megabyte
MAX_TEXT_LENGTH = 4000  # characters of one text
MAX_NAME, MAX_EVIDENCE = 600, 3000  # characters of a name, a label or a title, and of what was seen
MIN_TEXT_BYTES = 160  # less is of no use to a reader
MAX_POINTS = 40  # of one figure; its data have them all
MAX_FIGURES = 40  # drawings on a page; further figures are tables only
EXPECTED = ("accuracy", "accuracy_majority", "best_accuracy", "longer_wins")  # under "What to expect"
MAX_SMALL = 0.5  # shares below this get an axis of their own


def to_html(report: Report, sample: Sample = ()) -> str:
    """One page that loads nothing: no font, no image, and no script but the one that shows the sample, where there is any.

    sample: comparisons to browse, with the findings that name each. The same report and sample give the same bytes.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("guerdon.reporting", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2")
    browser = browser_view(sample) if sample else None
    policy = browser["policy"] if browser else script_policy()
    view = _Views(report).report_view(report, "part")
    if browser:
        view["headline"] = overview(report)
    return revealed(page.render(report=view, browser=browser, policy=policy))


class _Views:
    """The values that the template prints: strings, and drawings made of our own marks and escaped labels."""

    def __init__(self, report: Report) -> None:
        num_texts = sum(len(example.prompt) + len(example.responses) for example in _all_examples(report))
        self.bytes_per_text = max(MIN_TEXT_BYTES, TOTAL_TEXT_BYTES // max(1, num_texts))
        self.num_figures = 0

    def report_view(self, report: Report, anchor: str, *, is_hoisted: bool = False) -> dict[str, Any]:
        """A report or a section of it. A report with a gate shows the findings of all its sections, which then show none.

        anchor: "part" for the whole report, "part-1-2" for the second section of its first. is_hoisted: the findings are
        shown further up.
        """
        if report.gate is not None:
            placed = list(placed_findings(report, anchor))
        else:
            placed = [] if is_hoisted else [(finding, "", "") for finding in report.findings]
        result = result_finding(report)
        placed = sorted((item for item in placed if item[0] is not result), key=lambda item: rank(item[0]))
        findings = [self._finding_view(*item) for item in placed]
        is_prominent = [report.gate is None or _is_prominent(finding) for finding, *_ in placed]
        return {
            "title": report.title,
            "anchor": anchor,
            "headline": headline(report, with_warnings=not is_hoisted, result=result),
            "card": decision_card(report),
            "gate": None if report.gate is None else _gate_view(report.gate, report),
            "tables": [(section, len(rows), list(_groups(rows))) for section, rows in tables(report)],
            "findings": [finding for finding, shown in zip(findings, is_prominent, strict=True) if shown],
            "notes": [finding for finding, shown in zip(findings, is_prominent, strict=True) if not shown],
            "figures": [self._figure_view(name, curve, anchor) for name, curve in report.curves.items() if curve.x],
            "examples": [self._example_view(example) for example in report.examples],
            "sections": [
                self.report_view(section, f"{anchor}-{i}", is_hoisted=is_hoisted or report.gate is not None)
                for i, section in enumerate(report.sections, 1)
            ],
            "about": [(_shortened(key), _shortened(value)) for key, value in report.about.items()],
        }

    def _finding_view(self, finding: Finding, anchor: str, section: str) -> dict[str, Any]:
        return {
            "severity": finding.severity,
            "title": _shortened(finding.title),
            "evidence": _shortened(finding.evidence, MAX_EVIDENCE),
            "remedy": finding.remedy,
            "cost": cost_phrase(finding.cost) if finding.cost else "",
            "examples": [self._example_view(example) for example in finding.examples],
            "anchor": anchor,
            "section": section,
        }

    def _figure_view(self, name: str, curve: Curve, anchor: str) -> dict[str, Any]:
        """A drawing and its table; on a page with very many figures, the table alone."""
        from markupsafe import Markup

        self.num_figures += 1
        drawn, caption = _thinned(curve), curve.caption
        if len(drawn.x) < len(curve.x):
            caption = f"{caption} Shown: {len(drawn.x)} of {len(curve.x):,} points."
        title = curve_title(name, curve)
        spoken = f"{title} ({anchor.replace('part', 'report', 1).replace('-', ', part ')})"
        return {
            "title": title,
            "svg": Markup(chart_svg(drawn, spoken)) if self.num_figures <= MAX_FIGURES else "",
            "caption": caption.strip(),
            "head": (curve.x_label, curve.y_label, "95 % interval", "n"),
            "rows": [(_shortened(name), *cells) for name, *cells in curve_rows(drawn)],
        }

    def _example_view(self, example: Example) -> dict[str, Any]:
        return {
            "title": _shortened(example.title),
            "prompt": [(role, self._clip(text)) for role, text in prompt_turns(example.prompt)],
            "responses": [
                {"label": _shortened(label), "reward": reward, "text": self._clip(text)}
                for label, reward, text in labeled_responses(example)
            ],
        }

    def _clip(self, text: str) -> str:
        """The text, or as much of its beginning as takes no more than its share of the page once it is escaped."""
        text = revealed(text)
        length, size = 0, 0
        for character in text[:MAX_TEXT_LENGTH]:
            size += len(html.escape(character).encode("utf-8", "backslashreplace"))
            if size > self.bytes_per_text:
                break
            length += 1
        return text if length == len(text) else f"{text[:length]} … ({len(text) - length:,} more characters)"


def _shortened(text: str, length: int = MAX_NAME) -> str:
    """Names that a file gives may be as long as texts."""
    return text if len(text) <= length else f"{text[:length]}…"


def _all_examples(report: Report) -> Iterator[Example]:
    for part in report.walk():
        yield from part.examples
        for finding in part.findings:
            yield from finding.examples


def _is_prominent(finding: Finding) -> bool:
    """Whether a finding is shown at once, not folded away: it is known from enough units, and no mere note."""
    return has_evidence(finding) and (finding.severity != "note" or finding.cost is not None)


def _gate_view(gate: Gate, report: Report) -> dict[str, Any]:
    expected = [(quantity(report, key), report.estimates[key]) for key in EXPECTED if key in report.estimates]
    strip = Strip("share", min([0.4, *_finite_numbers(e for _, e in expected)]), 1.0)
    return {
        "published": gate.published,
        "expected": [_group(expected, strip)] if expected else [],
        "rulings": gate.rulings,
    }


# ---- Rows of numbers ---------------------------------------------------------------------------------------------


def _groups(rows: Sequence[tuple[Quantity, Estimate]]) -> Iterator[dict[str, Any]]:
    """The rows by unit, in the order in which units appear. Numbers without a unit share no axis, so they have no strip."""
    for unit in dict.fromkeys(known.unit for known, _ in rows):
        own = [(known, e) for known, e in rows if known.unit == unit]
        yield _group(own, None if unit == "number" else _strip(unit, [e for _, e in own]))


def _group(rows: Sequence[tuple[Quantity, Estimate]], strip: Strip | None) -> dict[str, Any]:
    """Rows that share an axis, and the axis below them."""
    from markupsafe import Markup

    return {
        "axis": Markup(strip.axis_svg()) if strip else "",
        "rows": [
            {
                "label": known.label,
                "meaning": known.meaning,
                "value": number(estimate.value, known.unit),
                "interval": interval(estimate, known.unit),
                "n": f"{estimate.n:,}",
                "whisker": Markup(strip.whisker_svg(estimate)) if strip else "",
            }
            for known, estimate in rows
        ],
    }


def _strip(unit: Unit, estimates: Sequence[Estimate]) -> Strip:
    """From 0 to 1 for shares, unless all are small or one is negative; else from the smallest to the largest number or 0."""
    numbers = _finite_numbers(estimates)
    if unit == "share" and min(numbers, default=0.0) >= 0 and max(numbers, default=1.0) >= MAX_SMALL:
        return Strip(unit, 0.0, max([1.0, *numbers]))
    return Strip(unit, min([0.0, *numbers]), max([0.0, *numbers]) or 1.0)


def _finite_numbers(estimates: Iterable[Estimate]) -> list[float]:
    return [number for e in estimates for number in (e.value, e.low, e.high) if math.isfinite(number)]


def _thinned(curve: Curve) -> Curve:
    """At most MAX_POINTS of its points: of named ones those with the largest n, else evenly spread ones."""
    num = len(curve.x)
    if num <= MAX_POINTS:
        return curve
    if curve.x_names:
        kept = sorted(sorted(range(num), key=lambda i: -curve.y[i].n)[:MAX_POINTS])
    else:
        kept = sorted({round(i * (num - 1) / (MAX_POINTS - 1)) for i in range(MAX_POINTS)})
    return replace(
        curve,
        x=tuple(curve.x[i] for i in kept),
        y=tuple(curve.y[i] for i in kept),
        x_names=tuple(curve.x_names[i] for i in kept) if curve.x_names else (),
    )
