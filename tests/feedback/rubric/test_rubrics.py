"""Rubrics: reading, the shapes of other tools, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guerdon.contracts import GuerdonError, as_prompt
from guerdon.models.judges.rubric.rubrics import OWN, load_rubric, parse_rubric

YAML = """
id: helpful
version: "2"
license: CC0-1.0
criteria:
  - {id: answers, text: It answers the question., weight: 2, required: true}
  - {id: pads, text: It is padded., weight: -1}
prompts:
  - prompt: What is 2 + 2?
    criteria: [{id: four, text: It says 4.}]
"""


def test_shared_criteria_come_first_and_a_prompt_adds_its_own() -> None:
    rubric = parse_rubric(YAML, "r.yaml")
    assert [criterion.id for criterion in rubric.of(as_prompt("What is 2 + 2?"))] == ["answers", "pads", "four"]
    assert [criterion.id for criterion in rubric.of(as_prompt("Hello"))] == ["answers", "pads"]
    assert rubric.columns == ["answers", "pads", OWN]
    assert rubric.nats == 4.0


def test_the_hash_changes_with_all_that_changes_a_verdict_and_with_nothing_else() -> None:
    one = parse_rubric(YAML, "r.yaml").fingerprint
    assert parse_rubric(YAML.replace("license: CC0-1.0", "title: Other"), "r.yaml").fingerprint == one
    for before, after in (("weight: 2", "weight: 3"), ("says 4", "says four"), ("true", "false"), ('"2"', '"3"')):
        assert parse_rubric(YAML.replace(before, after), "r.yaml").fingerprint != one
    assert parse_rubric(f"{YAML}scale: 2", "r.yaml").fingerprint != one


@pytest.mark.parametrize(
    "text",
    [
        "- {name: answers, requirement: It answers., weight: 2}\n- It is kind.",  # a bare list, as in autorubric
        "rubrics: [{title: answers, criterion: It answers., points: 2}, It is kind.]",  # as in HealthBench and OpenJudge
    ],
)
def test_shapes_of_other_tools_are_read(text: str) -> None:
    rubric = parse_rubric(text, "r.yaml", "r")
    assert [(c.id, c.text, c.weight) for c in rubric.criteria] == [
        ("answers", "It answers.", 2.0),
        ("c2", "It is kind.", 1.0),
    ]


def test_rows_of_a_prompt_and_its_criteria_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rubrics.jsonl"
    rows = [
        {"prompt": f"Question {i}", "rubric": [{"title": "Essential: right", "description": f"It says {i}."}]}
        for i in (1, 2)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rubric = load_rubric(path)
    (own,) = rubric.own(as_prompt("Question 2"))
    assert (own.id, own.text) == ("Essential_right", "It says 2.")
    assert rubric.own(as_prompt("Question 3")) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7", "r.yaml: a rubric must be a mapping with criteria, got 7."),
        ("id: x", "r.yaml: criteria must be a list of at least one criterion, got nothing. Add one."),
        ("criteria: [{id: a}]", "r.yaml: criteria[0].text must be given, got nothing. Add it."),
        ("criteria: [{id: a, txt: b}]", "r.yaml: criteria[0].txt: a field must be one of id, text"),
        ("criteria: [{id: a, text: b}, {id: a, text: c}]", "r.yaml: the ids of criteria must differ, got 'a' twice."),
        ("criteria: [{id: a, text: b, weight: .nan}]", "r.yaml: criteria[0].weight: it must be"),
        ("criteria: [{id: a, text: b, weight: 0}]", "r.yaml: some criterion must have a weight other than 0, got 0"),
        ("criteria: [{id: a, text: b, kind: score, low: 5}]", "r.yaml: criteria[0].high must be above low=5, got 5."),
        ("criteria: [{id: prompt_criteria, text: b}]", "r.yaml: criteria[0].id must not be 'prompt_criteria'"),
        ("criteria: [{id: a, text: ' '}]", "r.yaml: criteria[0].text must say something, got ' '."),
        ("criteria: [a]\ncombine: max", "r.yaml: combine: it must be 'weighted_mean', 'weighted_sum' or 'log_odds'"),
        (
            "criteria: [a]\nprompts: [{prompt: x, criteria: [b]}, {prompt: x, criteria: [c]}]",
            "r.yaml: prompts[1].prompt must differ",
        ),
        ("prompts: [{prompt: [{role: x}], criteria: [b]}]", "r.yaml: prompts[0].prompt: "),
        ("criteria: [", "r.yaml: a rubric must be YAML"),
    ],
)  # fmt: skip
def test_a_rubric_that_cannot_be_used_is_one_line(text: str, message: str) -> None:
    with pytest.raises(GuerdonError) as error:
        parse_rubric(text, "r.yaml")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(GuerdonError, match=r"^rubric must be a YAML or JSONL file that can be read \(No such file"):
        load_rubric(tmp_path / "none.yaml")
