"""The decision that a report opens with: of an audit's gate, or else the finding that states the report's result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from guerdon.contracts import Decision, Finding, Gate, Report, RuleState

__all__ = ["DecisionCard", "decision_card", "result_finding"]

Tone = Literal["good", "limited", "bad", "open"]
TONES: dict[Decision, Tone] = {"fit": "good", "fit with limits": "limited", "not fit": "bad"}
OPEN_STATES: tuple[RuleState, ...] = ("failed", "not shown")


@dataclass(frozen=True, slots=True)
class DecisionCard:
    """A decision in texts.

    unknown: how many rules are unknown; empty if none. reason: what else decided than the rules. rules: those that failed or
    are not shown, the decisive ones first. advice: what to do.
    """

    decision: str
    tone: Tone
    reason: str
    rules: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    advice: str = ""
    hygiene: str = ""
    unknown: str = ""

    @property
    def headline(self) -> str:
        """The decision, and how many rules are unknown."""
        return f"{self.decision} ({self.unknown})" if self.unknown else self.decision


def decision_card(report: Report) -> DecisionCard | None:
    """The report's decision; None if it states none."""
    if report.gate is not None:
        return _of_gate(report.gate)
    finding = result_finding(report)
    return None if finding is None else _of_finding(finding)


def result_finding(report: Report) -> Finding | None:
    """The finding whose title is the report's summary; None for a report with a gate, or without such a finding."""
    if report.gate is not None or not report.summary:
        return None
    title = report.summary.removesuffix(".")
    return next((finding for finding in report.findings if finding.title.removesuffix(".") == title), None)


def _of_gate(gate: Gate) -> DecisionCard:
    num_unknown = sum(ruling.state == "unknown" for ruling in gate.rulings)
    num_rules = sum(ruling.state != "does not apply" for ruling in gate.rulings)
    unknown = f"{num_unknown} of {num_rules} rules unknown" if num_unknown else ""
    opened = [r for state in OPEN_STATES for r in gate.rulings if r.state == state]
    opened.sort(key=lambda ruling: ruling.measured not in gate.reason)  # those that decided come first
    reason = gate.reason
    for ruling in opened:
        reason = reason.replace(ruling.measured, "")
    rules = [f"{r.state.capitalize()}: {r.rule}. {_sentence(r.measured)}" for r in opened]
    return DecisionCard(
        decision=gate.decision.capitalize(),
        unknown=unknown,
        tone=TONES.get(gate.decision, "open"),
        reason=_sentence(reason.strip("; ")),
        rules=tuple(rules),
        limits=gate.limits,
        advice=f"Data that would help most: {gate.needed_data}." if gate.needed_data else "",
        hygiene=gate.hygiene,
    )


def _of_finding(finding: Finding) -> DecisionCard:
    decision, _, rest = finding.title.partition(": ")
    tone: Tone = "limited" if finding.severity == "warning" else "open"
    if decision.startswith("Fine"):
        tone = "good"
    if finding.severity == "error" or decision.startswith("Over-optimized"):
        tone = "bad"
    reason = ". ".join(_sentence(text).removesuffix(".") for text in (rest, finding.evidence) if text)
    return DecisionCard(decision, tone, f"{reason}.", advice=finding.remedy)


def _sentence(text: str) -> str:
    """With a capital letter at its beginning, unless that is a symbol (n = 40), and a full stop at its end."""
    if text[1:4] == " = ":
        return f"{text.removesuffix('.')}."
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}." if text else ""
