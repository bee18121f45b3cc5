"""Each limit that docs/ppo.md names raises an alert when it is passed, and a calm run raises none."""

from __future__ import annotations

from pathlib import Path

import pytest

from guerdon.optimization.update_alerts import RULES, update_alerts

CALM = {
    "clipped": 0.1, "kl_step": 0.01, "kl": 2.0, "server_difference": 0.02, "kl_coef": 0.05, "entropy": 2.0, "unique": 1.0, "unusable": 0,
    "partly_read": 0.0, "explained_variance": 0.4, "grad_norm": 0.5,
}  # fmt: skip


def run(num=12, **changed):
    """Metrics of a run in which some are changed in every update, or given by update."""
    rows = [{"update": i, **CALM} for i in range(num)]
    for name, values in changed.items():
        for i, row in enumerate(rows):
            row[name] = values[i] if isinstance(values, list) else values
    return rows


def test_a_calm_run_raises_no_alert():
    assert update_alerts(run()) == ()
    assert update_alerts([]) == ()
    assert update_alerts([{"update": 1}]) == ()


WORRYING = {
    "clipped": 0.4,
    "kl_step": 0.08,
    "kl": -0.2,
    "server_difference": [0.01] * 11 + [0.2],
    "kl_coef": [0.05 * 2**i for i in range(12)],
    "entropy": [2.0 * 0.7**i for i in range(12)],
    "unique": [1.0] * 6 + [0.4] * 6,
    "unusable": [0] * 11 + [3],
    "partly_read": [0.0] * 11 + [0.25],
    "explained_variance": [0.1] * 6 + [-0.3] * 6,
    "grad_norm": [0.5] * 11 + [9.0],
}


def test_every_rule_is_tried():
    assert [rule.metric for rule in RULES] == list(WORRYING)


@pytest.mark.parametrize("metric", WORRYING)
def test_each_rule_finds_its_fault_and_nothing_else(metric):
    (finding,) = update_alerts(run(**{metric: WORRYING[metric]}))
    assert finding.severity == "warning"
    assert finding.title == next(rule.title for rule in RULES if rule.metric == metric)
    assert finding.remedy


def test_a_few_large_steps_are_no_alarm():
    assert update_alerts(run(clipped=[0.6, 0.4] + [0.1] * 10)) == ()


def test_numbers_that_are_not_finite_are_left_out():
    assert update_alerts(run(grad_norm=float("nan"), entropy=None)) == ()


def test_the_evidence_says_how_often():
    (finding,) = update_alerts(run(clipped=[0.5] * 6 + [0.1] * 6))
    assert finding.evidence == "more than 30 % of tokens clipped in 6 of 12 updates, 50 % at most"


def test_the_docs_name_every_metric_that_raises_an_alert():
    docs = (Path(__file__).parents[2] / "docs/ppo.md").read_text("utf-8")
    table = docs.split("## Metrics")[1].split("## Speed")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    for rule in RULES:
        assert any(f"`{rule.metric}`" in row.split("|")[1] and "warns" in row for row in rows), rule.metric
