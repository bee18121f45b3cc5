"""Lint of rubrics: what is planted is named, and a clean rubric has no finding."""

from __future__ import annotations

import pytest
from rubric_worlds import rubric_of

from guerdon.feedback.rubric.lint import lint_rubric, say_the_same
from guerdon.models.judges.rubric.rubrics import as_rubric


def titles(*criteria, **fields):
    return [finding.title for finding in lint_rubric(rubric_of(*criteria, **fields))]


CLEAN = (
    {"id": "cites", "text": "The response names a source for each number.", "weight": 2},
    {"id": "asks", "text": "The response asks a question where the request is ambiguous.", "weight": 1.5},
    {"id": "invents", "text": "The response states a fact that is false.", "weight": -1},
)


def test_a_clean_rubric_has_no_finding():
    assert titles(*CLEAN) == []


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("The response is better than the other response.", "error: x compares responses"),
        ("The response is good.", "warning: x cannot be checked as it is"),
        ("The user would like the response.", "warning: x asks for what a response does not show"),
        ("The response is polite and names a source.", "note: x asks for several things"),
        ("The response is detailed.", "note: x speaks of length"),
        ("The response names a source for every number.", "warning: cites and x say the same"),
    ],
)
def test_each_fault_of_a_text_is_named(text, title):
    findings = lint_rubric(rubric_of(*CLEAN, {"id": "x", "text": text}))
    assert [f"{finding.severity}: {finding.title}" for finding in findings] == [title]


def test_weights_that_do_nothing_or_everything_are_named():
    faults = ({**CLEAN[0], "weight": -1}, {**CLEAN[2], "weight": -1})
    assert titles(*faults) == ["The rubric has faults only"]
    assert "invents has no effect" in titles(*CLEAN[:2], {**CLEAN[2], "weight": 0})
    assert titles({**CLEAN[0], "weight": 9}, *CLEAN[1:]) == ["cites outweighs all others of the rubric"]
    same = [{**criterion, "weight": 1} for criterion in CLEAN]
    assert titles(*same) == ["All criteria of the rubric weigh the same"]
    assert titles({**CLEAN[0]}, {**CLEAN[1]}, {"id": "no", "text": "The response does not greet.", "weight": -1}) == [
        "no is a fault with a negation"
    ]
    assert titles(*CLEAN, license="") == ["The rubric has no license"]


def test_criteria_of_one_prompt_are_checked_too():
    rubric = as_rubric({"license": "CC0-1.0", "prompts": [{"prompt": "Q", "criteria": ["It is nice."]}]}, "r")
    assert [finding.title for finding in lint_rubric(rubric)] == [
        "prompts[0].criteria[0] (p1) cannot be checked as it is"
    ]


def test_opposites_do_not_say_the_same():
    assert say_the_same("The response names a source.", "The response  names a SOURCE!") == 1.0
    assert say_the_same("The response names a source.", "The response names no source.") == 0.0
