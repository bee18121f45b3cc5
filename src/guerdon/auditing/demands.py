"""What a pipeline demands of a report: rules such as "accuracy<0.6" or "gate=not_fit", each reported when it is broken."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from guerdon.auditing.gate import all_estimates, all_findings
from guerdon.contracts import Estimate, GuerdonError, Report
from guerdon.errors import did_you_mean

__all__ = ["Demand", "broken", "parse"]

Side = Literal["value", "low", "high", "n"]
COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
SEVERITIES: Final = ("note", "warning", "error")
DECISIONS: Final = ("fit", "fit_with_limits", "not_fit", "not_enough_evidence")
REMEDY: Final = "write gate=not_fit, gate!=fit, warning, error, or NAME<NUMBER such as accuracy.low<0.6"


@dataclass(frozen=True, slots=True)
class Demand:
    """One rule. It is broken where what it names holds: `--fail-on accuracy<0.6` fails below 0.6."""

    text: str
    key: str
    sign: str = ""
    side: Side = "value"
    wanted: str = ""
    threshold: float = math.nan


def parse(text: str) -> Demand:
    """A rule as written; what it names is looked for when there is a report."""
    body = text.strip()
    if body in SEVERITIES[1:]:
        return Demand(text, body)
    if found := re.fullmatch(r"gate\s*(!?=)=?\s*([\w -]+)", body):
        wanted = re.sub(r"[ -]", "_", found[2].strip())
        if wanted not in DECISIONS:
            raise GuerdonError(f"--fail-on {text}: no such decision; known are {', '.join(DECISIONS)}")
        return Demand(text, "gate", found[1], wanted=wanted)
    if found := re.fullmatch(r"(.+?)(?:\.(value|low|high|n))?\s*(<=|>=|<|>)\s*(\S+)", body):
        try:
            threshold = float(found[4].removesuffix("%")) / (100 if found[4].endswith("%") else 1)
        except ValueError:
            raise GuerdonError(f"--fail-on {text}: {found[4]!r} is no number; remedy: {REMEDY}") from None
        side = cast(Side, found[2] or "value")
        return Demand(text, found[1].strip(), found[3], side, threshold=threshold)
    raise GuerdonError(f"--fail-on {text}: not a rule; remedy: {REMEDY}")


def broken(report: Report, demands: Sequence[Demand]) -> list[str]:
    """A line for each rule that the report breaks; a rule about something that was not measured is an error."""
    return [line for demand in demands if (line := _judged(report, demand))]


def _judged(report: Report, demand: Demand) -> str:
    if demand.key in SEVERITIES:
        least = SEVERITIES.index(demand.key)
        found = [f for f in all_findings(report) if SEVERITIES.index(f.severity) >= least]
        return f"{demand.text}: {len(found)}, the first “{found[0].title}”" if found else ""
    if demand.key == "gate":
        if report.gate is None:
            raise GuerdonError(f"--fail-on {demand.text}: this report has no gate; remedy: a rule about its numbers")
        decision = report.gate.decision
        same = decision.replace(" ", "_") == demand.wanted
        return f"{demand.text}: the decision is {decision}" if same == (demand.sign == "=") else ""
    known = all_estimates(report)
    if demand.key not in known:
        if not known:  # refused by the gate, which has its own exit code
            return f"{demand.text}: nothing was measured"
        raise GuerdonError(
            f"--fail-on {demand.text}: nothing of that name was measured. {did_you_mean(demand.key, known)}"
        )
    return _beyond(demand, known[demand.key])


def _beyond(demand: Demand, estimate: Estimate) -> str:
    """A number that is not known keeps no promise: it breaks the rule."""
    value = float(getattr(estimate, demand.side))
    if math.isnan(value):
        return f"{demand.text}: {demand.key}.{demand.side} is not known ({estimate})"
    return f"{demand.text}: {demand.key} is {estimate}" if COMPARE[demand.sign](value, demand.threshold) else ""
