"""A judge that depends on the order."""

from __future__ import annotations

import numpy as np
from toys import Good, comparisons

from guerdon.auditing import audit
from guerdon.config import AuditOptions
from guerdon.contracts import as_response

CORE = ["accuracy", "people", "odds", "order", "mistakes"]
OPTIONS = AuditOptions(draws=100, null_draws=100, bins=10, only=CORE)


def warnings(report):
    return {finding.title for finding in report.findings if finding.severity == "warning"} - {"Too little evidence"}


class FirstJudge:
    """Prefers what it sees first by `lean` nats."""

    def __init__(self, lean):
        self.lean = lean

    def log_odds(self, prompts, first, second):
        goods = [
            as_response(a).text.count("good") - as_response(b).text.count("good")
            for a, b in zip(first, second, strict=True)
        ]
        return np.array(goods, dtype=np.float64) + self.lean


def test_a_judge_that_prefers_the_first_is_reported():
    fair, leaning = (audit(FirstJudge(lean), comparisons(300), OPTIONS) for lean in (0.001, 2.5))
    assert "The preference depends on the order shown" in warnings(leaning)
    assert leaning.estimates["first_position"].low > 0.5
    assert fair.estimates["position_consistency"].value > 0.5
    assert "position_consistency" not in audit(Good(), comparisons(30), OPTIONS).estimates
