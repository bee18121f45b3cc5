"""Odds that are too bold or too modest."""

from __future__ import annotations

from toys import Good, comparisons

from guerdon.auditing import audit
from guerdon.config import AuditOptions

CORE = ["accuracy", "people", "odds", "order", "mistakes"]
OPTIONS = AuditOptions(draws=100, null_draws=100, bins=10, only=CORE)


def warnings(report):
    return {finding.title for finding in report.findings if finding.severity == "warning"} - {"Too little evidence"}


def test_an_overconfident_model_is_reported_and_its_accuracy_is_unaffected():
    calm, loud = (audit(Good(scale), comparisons(800), OPTIONS) for scale in (1.0, 4.0))
    assert warnings(loud) >= {"The model is overconfident", "The model's odds are worse than chance"}
    assert loud.estimates["accuracy"] == calm.estimates["accuracy"]
    assert loud.estimates["ece"].value > loud.estimates["ece_null"].high
    assert loud.estimates["ece_p_value"].value < 0.01
    assert loud.estimates["ece_p_value"].n == loud.estimates["ece"].n == 800  # groups, never draws


def test_an_underconfident_model_is_reported():
    assert "The model is underconfident" in warnings(audit(Good(0.2), comparisons(800), OPTIONS))
