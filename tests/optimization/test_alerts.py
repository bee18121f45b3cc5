"""Each planted fault raises its alert and no other; a run without faults raises none."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
from planted_checks import planted_checks

from guerdon.optimization.alerts import alerts
from guerdon.optimization.check_measures import measure_check
from guerdon.optimization.checks import from_row, to_row


def titles(checks):
    return {finding.title for finding in alerts(checks)}


def test_texts_that_a_judge_did_not_see_whole_raise_an_alert():
    checks = planted_checks()
    partly = np.arange(80) < 3
    checks[-1] = dataclasses.replace(checks[-1], truncated=partly)
    (found,) = [a for a in alerts(checks) if a.title == "A judge saw only part of some texts"]
    assert found.evidence.startswith("3 of 80 prompts with their replies")
    assert measure_check(checks[-1])["partly_read"].value == 3 / 80
    assert from_row(json.loads(json.dumps(to_row(checks[-1])))).truncated.tolist() == partly.tolist()


def test_a_run_without_faults_raises_no_alert():
    steady = planted_checks(shift_p=lambda i, p, rng: rng.random(p), std=lambda i, p, rng: 0.2 + 0.01 * rng.random(p))
    assert titles(steady) == set()
    assert titles(steady[:1]) == set()


def test_each_fault_raises_its_alert_and_no_other():
    late = 5
    assert titles(planted_checks(longer=20.0)) == {"Replies have grown"}
    assert titles(planted_checks(longer=-7.0)) == {"Replies have shrunk"}
    loops = planted_checks(texts=lambda i, p, rng: tuple(f"{a} " + "so it is " * (6 * (i > late)) for a in range(p)))
    assert titles(loops) == {"Replies repeat themselves"}
    same = planted_checks(texts=lambda i, p, rng: tuple(f"reply {a % (5 if i > late else p)}" for a in range(p)))
    assert titles(same) == {"Different prompts get the same reply"}
    cut = planted_checks(finished=lambda i, p, rng: np.full(p, i <= late))
    assert titles(cut) == {"Replies no longer end"}
    apart = planted_checks(std=lambda i, p, rng: 0.2 + 1.0 * i + 0.1 * rng.random(p))
    assert titles(apart) == {"The members disagree by more than was gained"}
    away = planted_checks(shift_p=lambda i, p, rng: rng.random(p) * (0.2 if i > late else 1.0))
    assert titles(away) == {"Replies have left what the reward model was trained on"}
    ceiling = planted_checks(proxy=lambda i, p, rng: rng.normal(size=p) * (0.2 if i > late else 1.0) + i)
    assert titles(ceiling) == {"Every reply gets about the same reward"}


def test_an_alert_has_evidence_and_a_remedy():
    (found,) = alerts(planted_checks(longer=20.0))
    assert "times" in found.evidence
    assert found.remedy
    assert found.severity == "warning"
