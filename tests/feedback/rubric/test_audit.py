"""Audits of rubrics with planted criteria: each fault is named, and a sound criterion is not."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from rubric_worlds import CORRECT, KIND, SOURCE, model_of, rubric_of, shown_text

from guerdon.contracts import Comparison, Preference, Response, as_prompt
from guerdon.feedback.rubric.audit import rubric_report
from guerdon.feedback.rubric.table import judge_comparisons
from guerdon.models.judges.failures import Failure
from guerdon.models.judges.rubric.model import RubricModel

ALWAYS = "The response is in English."
TWIN = "The response says what is true."


def coin(text: str, salt: str = "") -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int(hashlib.sha256(f"{salt}{text}".encode()).hexdigest()[:8], 16) / 16**8


RULES = {
    CORRECT: lambda text: 0.9 if "true" in text else 0.1,
    TWIN: lambda text: 0.85 if "true" in text else 0.12,
    KIND: lambda text: 0.8 if coin(text) < 0.5 else 0.2,
    SOURCE: lambda text: 0.9 if "Source" in text else 0.1,
    ALWAYS: lambda text: 0.99,
}
RUBRIC = rubric_of(
    {"id": "correct", "text": CORRECT, "weight": 3},
    {"id": "twin", "text": TWIN, "weight": 0.1},
    {"id": "kind", "text": KIND, "weight": 0.5},
    {"id": "source", "text": SOURCE, "weight": 0.5},
    {"id": "english", "text": ALWAYS, "weight": 1},
)


def comparisons(n: int = 120) -> list[Comparison]:
    """People prefer what is true in 9 of 10 pairs, and sources are in what they do not prefer."""
    rows = []
    for i in range(n):
        good, bad = f"true {i}", f"false {i} Source"
        if i % 10 == 0:
            good, bad = bad, good
        pair = (Response(good), Response(bad)) if i % 2 else (Response(bad), Response(good))
        rows.append(Comparison(as_prompt(f"Question {i}"), pair, Preference(q=float(i % 2))))
    return rows


def report_of(rules=RULES, again=True, rubric=RUBRIC):
    model = model_of(rubric, rules)
    table = judge_comparisons(model, comparisons())
    second = None
    if again:
        flipped = {**rules, KIND: lambda text: 0.8 if coin(text, "again") < 0.5 else 0.2}
        other = model_of(rubric, flipped)
        reworded = RubricModel(other.respondent, rubric, other.options, wording="reworded")
        second = judge_comparisons(reworded, comparisons()).responses
    return rubric_report(rubric, table, model.tally, second, draws=100)


def test_each_planted_fault_is_named_and_the_sound_criterion_is_not():
    report = report_of()
    titles = {finding.title for finding in report.findings}
    assert titles == {
        "english is always answered yes",
        "source points away from what people prefer",
        "kind does not predict what people prefer",
        "kind is unstable",
        "correct and twin say the same",
        "correct and source say the opposite",
        "twin and source say the opposite",
        "correct decides alone more often than not",
    }


def test_measures_are_what_they_say():
    report = report_of()
    estimates = report.estimates
    assert estimates["accuracy/correct"].value == pytest.approx(0.9)
    assert estimates["accuracy/source"].value == pytest.approx(0.1)
    assert estimates["accuracy/english"].value == 0.5
    assert estimates["auc/correct"].value == pytest.approx(0.9)  # 0.9 of either side, 0.9² + 2 x 0.9 x 0.1 / 2
    assert estimates["met/correct"].value == pytest.approx(0.5)
    assert estimates["met/english"].value == 1.0
    assert estimates["flips/correct"].value == 0.0
    assert estimates["flips/kind"].value == pytest.approx(0.5, abs=0.12)
    assert estimates["decides/english"].value == 0.0
    assert estimates["accuracy/correct"].n == 120
    assert estimates["agreement"].value == pytest.approx(0.9)
    assert estimates["unresolved"].value == 0.0
    # sigmoid(s x margin) = 0.9 for the margins of the rubric, about (3 x 0.8 + 0.073 - 0.4) / 5.1 points
    assert estimates["scale"].value == pytest.approx(np.log(9) / (2.073 / 5.1), rel=0.1)


def test_a_failed_criterion_leaves_the_rubric_unresolved_and_the_others_measured():
    report = report_of({**RULES, KIND: Failure("timeout")}, again=False)
    assert report.estimates["unresolved"].value == 1.0
    assert "accuracy/kind" not in report.estimates
    assert report.estimates["accuracy/correct"].value == pytest.approx(0.9)
    assert report.summary == "No pair has a reward for both responses."
    assert "240 of 240 responses have no reward" in {finding.title for finding in report.findings}


def test_a_judge_that_gives_every_criterion_the_same_answer_is_named_once():
    same = dict.fromkeys(RULES, RULES[KIND])
    titles = [finding.title for finding in report_of(same, again=False).findings]
    assert titles.count("The judge does not tell the criteria apart") == 1
    assert not [title for title in titles if title.endswith(("say the same", "say the opposite"))]


def test_equal_responses_are_judged_once():
    model = model_of(RUBRIC, RULES)
    rows = comparisons(20)
    judge_comparisons(model, [*rows, *rows])
    assert len(model.respondent.asked) == 5 * 40
    assert {shown_text(question) for question in model.respondent.asked} == {
        response.text for row in rows for response in row.responses
    }
