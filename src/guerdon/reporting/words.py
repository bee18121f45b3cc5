"""Numbers, intervals, headlines and texts of a report in words: what the page, Markdown, the card and the terminal share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from guerdon.contracts import Estimate, Example, Finding, Message, Quantity, Report, Response, Unit

PERCENT = "\N{NO-BREAK SPACE}%"
OTHER_SECTION = "Other numbers"
MIN_UNITS = 10  # fewer show nothing: a finding about them never leads a page


# ---- Estimates ---------------------------------------------------------------------------------------------------


def quantity(report: Report, key: str) -> Quantity:
    """How to read an estimate of the report; one that the report does not describe is a number under its own name."""
    return report.quantities.get(key, Quantity(key.replace("_", " "), "number", OTHER_SECTION))


def tables(report: Report) -> list[tuple[str, list[tuple[Quantity, Estimate]]]]:
    """The estimates by section, sections and rows in the order in which they first appear."""
    rows: dict[str, list[tuple[Quantity, Estimate]]] = {}
    for key, estimate in report.estimates.items():
        known = quantity(report, key)
        rows.setdefault(known.section, []).append((known, estimate))
    return list(rows.items())


def number(value: float, unit: Unit) -> str:
    """A share as a percentage with one decimal, anything else with three digits; a dash for NaN and infinity."""
    if not math.isfinite(value):
        return "–"
    if unit == "share":
        return f"{100 * value:.1f}{PERCENT}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def interval(estimate: Estimate, unit: Unit) -> str:
    """The 95 % interval in brackets, or "no interval"."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return "no interval"
    low, high = number(estimate.low, unit), number(estimate.high, unit)
    return f"[{low.removesuffix(PERCENT)}, {high.removesuffix(PERCENT)}]"


def phrase(estimate: Estimate, unit: Unit) -> str:
    """The value with its interval, as in a sentence."""
    return f"{number(estimate.value, unit)} {interval(estimate, unit)}"


# ---- Findings ----------------------------------------------------------------------------------------------------


def rank(finding: Finding) -> tuple[bool, bool, float, float, int]:
    """Sort key: errors first, then by the share of decisions that is shown to flip, which is the interval's lower bound.

    A cost that is unknown, or known from fewer than MIN_UNITS units, comes after the others; warnings come before notes.
    """
    severity = ("error", "warning", "note").index(finding.severity)
    if finding.cost is None or not has_evidence(finding) or not math.isfinite(finding.cost.low):
        return severity > 0, True, 0.0, 0.0, severity
    return severity > 0, False, -finding.cost.low, -finding.cost.value, severity


def has_evidence(finding: Finding) -> bool:
    """Whether enough units were seen to say what the finding costs; a finding without a cost makes no such claim."""
    return finding.cost is None or finding.cost.n >= MIN_UNITS


def cost_phrase(cost: Estimate) -> str:
    """What a finding costs, and on how many units that is known, as in a sentence."""
    return f"flips {phrase(cost, 'share')} of decisions, n = {cost.n:,}"


def placed_findings(report: Report, anchor: str = "part") -> Iterator[tuple[Finding, str, str]]:
    """Every finding of a report and its sections, with the anchor and the title of its section.

    "part-1-2" is the anchor of the first section's second section; the report's own findings have none.
    """
    yield from ((finding, "" if anchor == "part" else anchor, report.title) for finding in report.findings)
    for i, section in enumerate(report.sections, 1):
        yield from placed_findings(section, f"{anchor}-{i}")


def headline(report: Report, *, with_warnings: bool = True, result: Finding | None = None) -> str:
    """The result in a sentence or two, from the report's summary, estimates and findings.

    result: the finding that states the summary and is shown elsewhere on the page: neither is repeated.
    """
    errors = sum(finding.severity == "error" for finding in report.findings)
    if errors and report.summary and not report.estimates:  # what was read is at fault, not a number
        return f"{report.summary.removesuffix('.')}. {errors} error{'s' * (errors > 1)} below."
    if errors:
        return f"Refused: {errors} check{'s' * (errors > 1)} failed; until this is fixed no number can be trusted."
    summary = [report.summary.removesuffix(".")] if report.summary and result is None else []
    clauses = [*summary, *_estimate_clauses(report)]
    text = "; ".join(clauses)
    sentences = [f"{text[0].upper()}{text[1:]}."] if clauses else []
    if with_warnings:
        findings = report.findings if report.gate is None else [finding for finding, *_ in placed_findings(report)]
        warnings = sum(finding.severity == "warning" and finding is not result for finding in findings)
        if warnings:
            sentences.append(f"{warnings} warning{'s' * (warnings > 1)} below.")
        elif not clauses and result is None:
            sentences.append("No warnings.")
    return " ".join(sentences)


def overview(report: Report) -> str:
    """What data are, in a sentence, and how many errors and warnings there are about them."""
    nums = {name: sum(finding.severity == name for finding in report.findings) for name in ("error", "warning")}
    counts = [f"{num} {name}{'s' * (num > 1)}" for name, num in nums.items() if num]
    return f"{report.summary}. {' and '.join(counts) if counts else 'No warnings'}{' below' if counts else ''}."


def _estimate_clauses(report: Report) -> Iterator[str]:
    """What the estimates of an audit, and of a calibration, say in words."""
    e = report.estimates
    if "accuracy" in e:
        best = ""
        if "best_accuracy" in e:
            assumed = "if preferences vary as a beta distribution"  # never shown, only not contradicted
            best = f", where the best possible is {phrase(e['best_accuracy'], 'share')} {assumed}"
        if best and "accuracy_majority" in e:
            best = f", and {phrase(e['accuracy_majority'], 'share')} of those with a majority{best}"
        yield f"the model orders {phrase(e['accuracy'], 'share')} of pairs as people do{best}"
    if "longer_wins" in e:
        yield f"preferring the longer answer gets {phrase(e['longer_wins'], 'share')}"
    if "temperature" in e and "temperature_fitted" not in e:  # else the summary says why that is not stored
        yield f"its temperature is {phrase(e['temperature'], 'number')}"
    if {"nll_before", "nll_after"} <= set(e) and "temperature_fitted" not in e:
        yield f"log loss goes from {e['nll_before'].value:.3f} to {e['nll_after'].value:.3f}"


# ---- Texts -------------------------------------------------------------------------------------------------------


def prompt_turns(prompt: Sequence[Message]) -> list[tuple[str, str]]:
    """Role and text of each turn."""
    return [(message.role, _turn_text(message)) for message in prompt]


def labeled_responses(example: Example) -> list[tuple[str, str, str]]:
    """Label, reward and text of each response; the reward is empty where it is unknown."""
    rows = zip(example.labels, example.rewards, example.responses, strict=True)
    return [
        (label, f"{reward:+.2f}" if math.isfinite(reward) else "", response_text(response))
        for label, reward, response in rows
    ]


def response_text(response: Response) -> str:
    """The text of a response; of several messages each with its role."""
    if not response.messages:
        return response.text
    return "\n\n".join(f"{message.role}: {_turn_text(message)}" for message in response.messages)


def _turn_text(message: Message) -> str:
    """The content, then each tool call as NAME(ARGUMENTS)."""
    calls = [f"{call.name}({call.arguments})" for call in message.tool_calls]
    return "\n".join([*([message.content] if message.content or not calls else []), *calls])
