"""Rules of --fail-on, such as "accuracy<0.6" or "gate=not_fit": what makes a pipeline fail."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from guerdon.auditing.gate import all_estimates, all_findings
from guerdon.contracts import Decision, Estimate, GuerdonError, Report, Severity
from guerdon.errors import did_you_mean

__all__ = ["FailRule", "matching_rules", "parse_rule", "parse_rules"]

Part = Literal["value", "low", "high", "n"]
COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
SEVERITIES: Final[tuple[Severity, ...]] = ("note", "warning", "error")
DECISIONS: Final = tuple(decision.replace(" ", "_") for decision in get_args(Decision))
ADVICE: Final = "Write gate=not_fit, gate!=fit, warning, error, or NAME<NUMBER such as accuracy.low<0.6."


@dataclass(frozen=True, slots=True)
class FailRule:
    """A condition under which to fail: `accuracy<0.6` fails below 0.6.

    key: a severity, "gate", or an estimate. sign: how it is compared. decision: of a rule about the gate. part, threshold:
    which number of an estimate is compared with which.
    """

    text: str
    key: str
    sign: str = ""
    decision: str = ""
    part: Part = "value"
    threshold: float = math.nan


def parse_rules(texts: Sequence[str], known: Sequence[str], *, has_gate: bool) -> list[FailRule]:
    """The rules as written, before anything is measured.

    known: names that estimates of the report can have; whether it has each is known only when there is a report. has_gate:
    whether the report will have a gate.
    """
    rules = [parse_rule(text) for text in texts]
    for rule in rules:
        if rule.key == "gate" and not has_gate:
            raise _no_gate(rule)
        if rule.key not in (*known, *SEVERITIES, "gate"):
            raise _no_estimate(rule, known)
    return rules


def parse_rule(text: str) -> FailRule:
    """The rule as written. Whether its estimate exists is not checked."""
    body = text.strip()
    if body in SEVERITIES[1:]:
        return FailRule(text, body)
    if match := re.fullmatch(r"gate\s*(!?=)=?\s*([\w -]+)", body):
        decision = re.sub(r"[ -]", "_", match[2].strip())
        if decision not in DECISIONS:
            raise GuerdonError(
                f"--fail-on {text}: gate must be compared with a decision, got {match[2].strip()}. "
                f"{did_you_mean(decision, DECISIONS)}"
            )
        return FailRule(text, "gate", match[1], decision)
    if match := re.fullmatch(r"(.+?)(?:\.(value|low|high|n))?\s*(<=|>=|<|>)\s*(\S+)", body):
        number, is_percent = match[4].removesuffix("%"), match[4].endswith("%")
        try:
            threshold = float(number) / (100 if is_percent else 1)
        except ValueError:
            raise GuerdonError(f"--fail-on {text}: threshold must be a number, got {match[4]!r}. {ADVICE}") from None
        part = cast(Part, match[2] or "value")
        return FailRule(text, match[1].strip(), match[3], part=part, threshold=threshold)
    raise GuerdonError(f"--fail-on must be a rule, got {text!r}. {ADVICE}")


def matching_rules(report: Report, rules: Sequence[FailRule]) -> list[str]:
    """One line per rule that holds. A rule about an estimate that was not measured is an error."""
    return [line for rule in rules if (line := _why(report, rule))]


def _why(report: Report, rule: FailRule) -> str:
    """Why the rule holds; empty where it does not."""
    if rule.key in SEVERITIES:
        minimum = SEVERITIES.index(rule.key)
        findings = [f for f in all_findings(report) if SEVERITIES.index(f.severity) >= minimum]
        return f"{rule.text}: {len(findings)}, the first “{findings[0].title}”" if findings else ""
    if rule.key == "gate":
        if report.gate is None:
            raise _no_gate(rule)
        decision = report.gate.decision
        is_same = decision.replace(" ", "_") == rule.decision
        return f"{rule.text}: the decision is {decision}" if is_same == (rule.sign == "=") else ""
    estimates = all_estimates(report)
    if rule.key in estimates:
        return _why_number(rule, estimates[rule.key])
    if not estimates:  # refused by the hygiene gate, which has an exit code of its own
        return f"{rule.text}: nothing was measured"
    raise _no_estimate(rule, estimates)


def _no_gate(rule: FailRule) -> GuerdonError:
    return GuerdonError(
        f"--fail-on {rule.text}: report must have a gate, got one without. Use a rule about its estimates."
    )


def _no_estimate(rule: FailRule, known: Iterable[str]) -> GuerdonError:
    return GuerdonError(
        f"--fail-on {rule.text}: rule must name an estimate, got {rule.key}. {did_you_mean(rule.key, known)}"
    )


def _why_number(rule: FailRule, estimate: Estimate) -> str:
    """An unknown number counts as a failure: nothing shows that it is on the right side."""
    value = float(getattr(estimate, rule.part))
    if math.isnan(value):
        return f"{rule.text}: {rule.key}.{rule.part} is not known ({estimate})"
    holds = COMPARISONS[rule.sign](value, rule.threshold)
    return f"{rule.text}: {rule.key} is {estimate}" if holds else ""
