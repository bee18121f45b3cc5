"""Reports to show: hostile ones, whose every text is an attack, and ones with a gate and costly findings."""

from __future__ import annotations

import functools
import math
import sys
from dataclasses import replace

import pytest
from toys import Good, comparisons

from guerdon.auditing import audit
from guerdon.calibration import fit_calibrated_model
from guerdon.config import AuditOptions, CalibrateOptions
from guerdon.contracts import Curve, Estimate, Example, Finding, Gate, Quantity, Report, Response, Ruling, as_prompt
from guerdon.models.estimates import SHARED_QUANTITIES

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>```\n# not a heading | [x](javascript:alert(3))"


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


@functools.cache
def audit_report():
    """A real audit of a toy model, with a calibration as its section."""
    rows = comparisons(200, people=3)
    options = AuditOptions(draws=100, null_draws=100, only=["accuracy", "people", "odds", "mistakes"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[fit_calibrated_model.__module__], "DRAWS", 60)
        _, section = fit_calibrated_model(Good(3.0), rows, CalibrateOptions())
    found = audit(Good(3.0), rows, options, about={"model": "toy"})
    return replace(found, sections=(section,), gate=None)


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
