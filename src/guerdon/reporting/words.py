"""What each named estimate means, in words and units, and the one sentence that a report opens with."""

from __future__ import annotations

import math
from collections.abc import Iterator

from guerdon.contracts import Estimate, Finding, Quantity, Report, Unit

PERCENT = "\N{NO-BREAK SPACE}%"
# Control characters, which steer a terminal, as the pictures of them; tab and line end stay
PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
PICTURES |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def visible(text: str) -> str:
    """A text that only shows: no character of it steers a terminal."""
    return text.translate(PICTURES)


OTHER = "Other numbers"


def quantity(report: Report, key: str) -> Quantity:
    """How to read an estimate of the report; one that the report does not describe is a number under its own name."""
    return report.quantities.get(key, Quantity(key.replace("_", " "), "number", OTHER))


def tables(report: Report) -> Iterator[tuple[str, list[tuple[Quantity, Estimate]]]]:
    """The estimates by section, sections and rows in the order in which they first appear."""
    rows: dict[str, list[tuple[Quantity, Estimate]]] = {}
    for key, estimate in report.estimates.items():
        known = quantity(report, key)
        rows.setdefault(known.section, []).append((known, estimate))
    yield from rows.items()


def number(value: float, unit: Unit) -> str:
    """A share as a percentage with one decimal, anything else with three digits; a dash where there is none."""
    if not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f}{PERCENT}" if unit == "share" else f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def interval(estimate: Estimate, unit: Unit) -> str:
    """The 95 % interval in brackets, or the words for having none."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return "no interval"
    low, high = number(estimate.low, unit), number(estimate.high, unit)
    return f"[{low.removesuffix(PERCENT)}, {high.removesuffix(PERCENT)}]"


def phrase(estimate: Estimate, unit: Unit) -> str:
    """The value with its interval, as in a sentence."""
    return f"{number(estimate.value, unit)} {interval(estimate, unit)}"


def headline(report: Report, *, counted: bool = True) -> str:
    """What the report says, in a sentence or two, from its summary, estimates and findings; how many warnings if `counted`."""
    found = report.estimates
    own = report.findings if report.gate is None else [finding for finding, *_ in inner_findings(report)]
    errors = sum(finding.severity == "error" for finding in report.findings)
    warnings = sum(finding.severity == "warning" for finding in own)
    if errors:
        return f"Refused: {errors} check{'s' * (errors > 1)} failed; until that is mended no number can be trusted."
    said = [report.summary.removesuffix(".")] if report.summary else []
    if "accuracy" in found:
        ceiling = (
            f", of a ceiling of {phrase(found['ceiling_majority'], 'share')}" if "ceiling_majority" in found else ""
        )
        said.append(f"The model orders {phrase(found['accuracy'], 'share')} of pairs as people do{ceiling}")
    if "longer_wins" in found:
        said.append(f"preferring the longer answer gets {phrase(found['longer_wins'], 'share')}")
    if "temperature" in found:
        said.append(f"One nat is {phrase(found['temperature'], 'number')} raw units of reward")
    if {"nll_before", "nll_after"} <= set(found):
        said.append(f"log loss goes from {found['nll_before'].value:.3f} to {found['nll_after'].value:.3f}")
    sentence = "; ".join(said) + "." if said else ""
    warned = f"{warnings} warning{'s' * (warnings > 1)} below." if warnings else "No warnings." if not said else ""
    return " ".join(part for part in (sentence, warned if counted else "") if part)


def rank(finding: Finding) -> tuple[bool, bool, float, int]:
    """What findings are sorted by: errors, then what turns most decisions, then those of unknown cost, warnings first."""
    cost = finding.cost.value if finding.cost else math.nan
    known = math.isfinite(cost)
    severity = ("error", "warning", "note").index(finding.severity)
    return severity > 0, not known, -cost if known else 0.0, severity


def costs(cost: Estimate) -> str:
    """What a finding costs, as in a sentence."""
    return f"flips {phrase(cost, 'share')} of decisions"


def inner_findings(report: Report, place: str = "part") -> Iterator[tuple[Finding, str, str]]:
    """Every finding of a report and its parts, with the place and the title of the part: "part-1-2" is 1's second."""
    yield from ((finding, "" if place == "part" else place, report.title) for finding in report.findings)
    for i, section in enumerate(report.sections, 1):
        yield from inner_findings(section, f"{place}-{i}")
