"""Audits of judges: pairs without a verdict, both orders, and instructions inside responses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from toys import Good, comparisons

from guerdon.api.auditing import audit, compare
from guerdon.contracts import GuerdonError, Report, Response
from guerdon.models.judges.python_judge import PythonJudge

DATA = comparisons(300, odds=2.0)


def by_goods(prompt: Any, first: Response, second: Response) -> float:
    return float(first.text.split().count("good") - second.text.split().count("good"))


def silent_on(is_silent: Any, inner: Any = by_goods) -> PythonJudge:
    """A judge without a verdict on some pairs."""

    def judge(prompt: Any, first: Response, second: Response) -> float:
        return math.nan if is_silent(first) or is_silent(second) else inner(prompt, first, second)

    return PythonJudge(judge)


def audited(judge: Any, rows: Any = DATA, **options: Any) -> Report:
    return audit(judge, rows, draws=200, null_draws=100, **options)


def test_pairs_without_a_verdict_are_left_out_counted_and_no_ties() -> None:
    silent = silent_on(lambda response: len(response.text) % 10 == 0)
    report = audited(silent, only=["accuracy", "unresolved"])
    failed = np.array([any(len(r.text) % 10 == 0 for r in c.responses) for c in DATA])
    assert report.estimates["unresolved"].value == pytest.approx(failed.mean())
    kept = [c for c, is_failed in zip(DATA, failed, strict=True) if not is_failed]
    alone = audited(PythonJudge(by_goods), kept, only=["accuracy"])
    assert report.estimates["accuracy"] == alone.estimates["accuracy"]
    assert any("no verdict on some pairs" in finding.title for finding in report.findings)
    assert report.gate is not None
    (ruling,) = [ruling for ruling in report.gate.rulings if ruling.rule == "It has verdicts"]
    assert ruling.state == "failed"


def test_failures_that_depend_on_length_or_author_are_a_finding() -> None:
    rows = [
        replace(c, responses=tuple(replace(r, author=("ada", "bob")[(i + j) % 2 * (i % 3 == 0)]) for j, r in enumerate(c.responses)))
        for i, c in enumerate(DATA)
    ]  # fmt: skip
    long = audited(silent_on(lambda response: len(response.text) > 120), rows, only=["unresolved"])
    assert any("depend on length" in finding.title for finding in long.findings)
    bob = audited(silent_on(lambda response: response.author == "bob"), rows, only=["unresolved"])
    titles = [finding.title for finding in bob.findings]
    assert "Failures depend on the model that wrote a response" in titles
    rng = np.random.default_rng(0)
    chance = {r.text: rng.random() < 0.05 for c in rows for r in c.responses}
    random = audited(silent_on(lambda response: chance[response.text]), rows, only=["unresolved"])
    assert not any("depend on" in finding.title for finding in random.findings)


def test_a_judge_without_any_verdict_is_one_line() -> None:
    with pytest.raises(GuerdonError, match="the judge must have a verdict on some pair, got none on 300"):
        audited(PythonJudge(lambda p, a, b: math.nan))


def test_the_orders_of_a_judge_that_averages_them_are_measured() -> None:
    def biased(prompt: Any, first: Response, second: Response) -> float:
        return by_goods(prompt, first, second) + 3.0

    report = audited(PythonJudge(biased), only=["order"])
    assert report.estimates["first_position"].value > 0.9
    assert report.estimates["position_consistency"].value < 0.2
    fair = audited(PythonJudge(by_goods), only=["order"])
    assert fair.estimates["position_consistency"].value == 1.0


def test_two_judges_are_compared_where_both_have_a_verdict() -> None:
    silent = silent_on(lambda response: len(response.text) % 10 == 0)
    report = compare(silent, Good(), DATA, draws=100)
    assert "left out" in report.about
    assert report.estimates["agreement"].value > 0.99


def test_instructions_in_responses_flip_the_verdicts_of_a_judge_that_follows_them() -> None:
    def obedient(prompt: Any, first: Response, second: Response) -> float:
        asks = [("better one" in response.text) for response in (first, second)]
        return by_goods(prompt, first, second) + 20.0 * (asks[0] - asks[1])

    report = audited(PythonJudge(obedient), only=["injections"], cue_rows=60)
    (section,) = report.sections
    assert section.estimates["injection_this_one"].value == 1.0
    assert section.estimates["injection_neutral"].value == 0.0
    assert [finding.title for finding in section.findings] == [
        "The judge follows an instruction in a response: this one"
    ]
    firm = audited(PythonJudge(by_goods), only=["injections"], cue_rows=60)
    assert not firm.sections[0].findings


def test_cues_and_errors_of_a_judge_are_those_of_the_reward_that_it_compares_by() -> None:
    class Lengthy(Good):
        """Counts characters too, so that every edit that adds text is rewarded."""

        def __init__(self) -> None:
            super().__init__(scale=0.2, by_length=0.003)  # far from the 8 nats at which verdicts are clipped

    model = Lengthy()

    def judge(prompt: Any, first: Response, second: Response) -> float:
        a, b = model.score([prompt, prompt], [first, second]).value
        return float(a - b)

    options = {"only": ["cues"], "cue_rows": 25, "seed": 3}
    of_model, of_judge = (audited(audited_one, **options) for audited_one in (model, PythonJudge(judge)))
    (expected,), (section,) = of_model.sections, of_judge.sections
    assert set(section.estimates) == set(expected.estimates)
    for name, estimate in expected.estimates.items():
        assert section.estimates[name].value == pytest.approx(estimate.value, abs=0.05, nan_ok=True), name
    assert [finding.title for finding in section.findings] == [finding.title for finding in expected.findings]
