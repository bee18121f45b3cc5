"""The ceiling that people's agreement sets."""

from __future__ import annotations

import pytest
from toys import Good, comparisons

from guerdon.auditing import audit
from guerdon.config import AuditOptions

CORE = ["accuracy", "people", "odds", "order", "mistakes"]
OPTIONS = AuditOptions(draws=100, null_draws=100, bins=10, only=CORE)


def test_votes_give_a_ceiling_and_their_absence_a_note():
    found = audit(Good(), comparisons(600, people=3), OPTIONS)
    ceiling, single = found.estimates["ceiling_majority"], found.estimates["model_vs_person"]
    assert 0.5 < found.estimates["person_vs_person"].value < ceiling.value < 1
    assert single.value > 0.5
    assert "No ceiling is known" not in {finding.title for finding in found.findings}
    without = audit(Good(), comparisons(50), OPTIONS)
    assert "No ceiling is known" in {finding.title for finding in without.findings}
    assert "ceiling_majority" not in without.estimates


def test_the_ceiling_of_random_votes_is_low():
    coins = audit(Good(), comparisons(400, odds=0.0, people=3), OPTIONS)
    sure = audit(Good(), comparisons(400, odds=6.0, people=3), OPTIONS)
    assert coins.estimates["person_vs_person"].value == pytest.approx(0.5, abs=0.06)
    assert sure.estimates["ceiling_majority"].value > coins.estimates["ceiling_majority"].value + 0.05
