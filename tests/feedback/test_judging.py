"""A judge labels pairs: what has no verdict is no label, and the report counts it."""

from __future__ import annotations

import math

import pytest
from scripted_judges import judge_by, shown_first, tokens

from guerdon.contracts import Comparison, Response, as_prompt
from guerdon.feedback.judging import Judged, JudgingTally, Unjudged, judge_pairs, judging_report
from guerdon.feedback.spending import estimate_cost
from guerdon.models.judges.calls import Answer, MemoryCallLog
from guerdon.models.judges.failures import Failure
from guerdon.models.judges.metering import CountedLog


def rows(number: int, good: str = "good") -> list[Unjudged]:
    return [Unjudged(as_prompt(f"Q{i}?"), (Response(good), Response(f"bad {i}")), id=f"row {i}") for i in range(number)]


def judged_by(script, given, **options) -> tuple[list[Judged], JudgingTally]:
    tally = JudgingTally()
    return list(judge_pairs(judge_by(script, **options), given, tally)), tally


def prefers_good(question) -> Answer:
    return tokens(0.9 if shown_first(question) == "good" else 0.2)


def test_pairs_come_in_order_with_the_mean_of_both_orders():
    judged, tally = judged_by(prefers_good, rows(40))
    assert [each.pair.id for each in judged] == [f"row {i}" for i in range(40)]
    labeled = [each.comparison() for each in judged]
    assert all(isinstance(c, Comparison) and c.annotator == "script" for c in labeled)
    assert [c.preference.q for c in labeled if c] == pytest.approx([(0.9 + 1 - 0.2) / 2] * 40)
    assert (tally.pairs, tally.unresolved, dict(tally.failures)) == (40, 0, {})
    report = judging_report(tally, {})
    bias = (math.log(0.9 / 0.1) + math.log(0.2 / 0.8)) / 2
    assert report.estimates["position_bias"].value == pytest.approx(bias)
    assert report.estimates["flip_rate"].value == 0.0
    assert report.estimates["first_pick_rate"].value == 0.5


def test_a_judge_that_always_says_the_first_gives_one_half_no_consistent_pair_and_no_hard_label():
    judged, tally = judged_by(lambda question: tokens(0.97), rows(5))
    assert [each.verdict.q for each in judged] == pytest.approx([0.5] * 5)
    assert all(each.comparison() is not None for each in judged), "soft labels keep it"
    assert all(each.comparison(hard=True) is None for each in judged)
    estimates = judging_report(tally, {}).estimates
    assert (estimates["flip_rate"].value, estimates["first_pick_rate"].value) == (1.0, 1.0)
    assert "changes its mind" in judging_report(tally, {}).findings[0].title


def test_a_failed_call_is_no_label_and_is_counted_by_its_code():
    def script(question):
        return Failure("timeout", "120 s") if "Q1?" in question.messages[1].content else prefers_good(question)

    judged, tally = judged_by(script, rows(4))
    assert [each.comparison() is None for each in judged] == [False, True, False, False]
    assert judged[1].failure()["failures"][0] == {"code": "timeout", "reason": "120 s"}
    assert judged[1].details("f")["q"] is None
    report = judging_report(tally, {}, unresolved_max=0.02)
    assert report.about["failed: timeout"] == "2"
    assert (report.findings[0].severity, report.estimates["unresolved"].value) == ("warning", 0.25)
    assert judging_report(tally, {}, unresolved_max=0.5).findings[0].severity == "note"


def test_more_than_two_responses_are_compared_two_by_two():
    row = Unjudged(as_prompt("Q?"), (Response("bad"), Response("good"), Response("worse")), id="x")
    judged, _ = judged_by(prefers_good, [row])
    assert [each.pair.id for each in judged] == ["x:0-1", "x:0-2", "x:1-2"]
    assert [each.verdict.q > 0.5 for each in judged if each.verdict.q is not None] == [False, False, True]


def test_an_estimate_counts_every_call_and_an_unknown_price_is_unknown():
    judge = judge_by(prefers_good, mode="pair")
    estimate = estimate_cost(judge.options, rows(10))
    list(judge_pairs(judge, rows(10), JudgingTally()))
    assert estimate.calls == len(judge.respondent.asked) == 20
    assert (estimate.cost, "price unknown" in str(estimate)) == (None, True)
    priced = judge.options.model_copy(update={"price_in": 1.0, "price_out": 3.0})
    cost = estimate_cost(priced, rows(10)).cost
    assert cost == pytest.approx((estimate.tokens_in + 3 * estimate.tokens_out) / 1e6)


def test_a_run_that_is_repeated_reuses_every_answer():
    log = CountedLog(MemoryCallLog())
    for _ in range(2):
        judge = judge_by(prefers_good)
        judge.respondent.log = log
        list(judge_pairs(judge, rows(3), JudgingTally()))
    assert (log.calls, log.reused) == (6, 6)
    assert log.facts("USD")["cost"] == "unknown: give price_in and price_out, or a price table"


def test_failures_that_depend_on_length_are_a_finding_and_those_that_do_not_are_none():
    def fails_on_long(question):
        return Failure("timeout") if len(shown_first(question)) > 40 else tokens(0.7)

    given = [row for n in (4, 60) for row in rows(60, good="g" * n)]
    _, tally = judged_by(fails_on_long, given)
    titles = [finding.title for finding in judging_report(tally, {}).findings]
    assert "Failures depend on length" in titles
    assert "Failures depend on the model that wrote a response" not in titles
    _, sound = judged_by(lambda question: tokens(0.7), given)
    assert not any("depend" in finding.title for finding in judging_report(sound, {}).findings)
