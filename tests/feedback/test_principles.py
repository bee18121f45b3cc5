"""Constitutions: reading, choosing principles, and lint."""

from __future__ import annotations

from collections import Counter
from difflib import SequenceMatcher
from itertools import combinations

import numpy as np
import pytest

from guerdon.contracts import GuerdonError, as_prompt
from guerdon.feedback.constitution.principles import (
    Constitution,
    lint_constitution,
    load_constitution,
    parse_constitution,
    shipped_constitution,
)


def constitution(*principles: dict[str, object], **fields: object) -> Constitution:
    rows = [{"id": "a", "compare_question": "Which is kinder?"}] if not principles else list(principles)
    return Constitution.model_validate({"id": "test", "license": "CC0-1.0", "principles": rows, **fields})


def test_the_shipped_constitution_is_complete_and_has_no_fault() -> None:
    shipped = shipped_constitution()
    assert shipped.license == "CC0-1.0"
    assert all(principle.can_revise and principle.can_compare for principle in shipped.principles)
    assert lint_constitution(shipped) == []


def test_the_choice_depends_on_the_seed_and_the_prompt_alone() -> None:
    shipped = shipped_constitution()
    one = shipped.choose(as_prompt("Hello"), 4, seed=0)
    assert one == shipped.choose(as_prompt("Hello"), 4, seed=0)
    assert len({principle.id for principle in one}) == 4
    others = [shipped.choose(as_prompt(f"Hello {i}"), 4, seed=0) for i in range(10)]
    assert any(other != one for other in others)


def test_weights_are_how_often_a_principle_is_drawn_first() -> None:
    rows = [{"id": name, "compare_question": f"Which {name}?", "weight": w} for name, w in (("a", 3.0), ("b", 1.0))]
    both = constitution(*rows)
    first = Counter(both.choose(as_prompt(f"p{i}"), 1, 0, to_compare=True)[0].id for i in range(4000))
    assert first["a"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_more_than_there_are_start_over_and_none_that_applies_gives_none() -> None:
    only = constitution({"id": "a", "compare_question": "Which?", "applies_when": r"\bpoem\b"})
    assert [p.id for p in only.choose(as_prompt("A POEM please"), 3, 0, to_compare=True)] == ["a", "a", "a"]
    assert only.choose(as_prompt("Some prose"), 3, 0, to_compare=True) == []
    assert only.choose(as_prompt("A poem"), 3, 0) == []  # it has no requests to revise by


def test_lint_finds_what_was_planted() -> None:
    rows = [
        {"id": "idle"},
        {"id": "half", "critique_request": "Find what is rude in the response."},
        {"id": "one", "compare_question": "Which response is kinder to the reader?"},
        {"id": "two", "compare_question": "Which response is kinder to readers?"},
        {"id": "side", "compare_question": "Is response (A) truthful in everything it claims?"},
        {"id": "long", "compare_question": "Does it go on, being the more detailed one of both?"},
    ]
    titles = [finding.title for finding in lint_constitution(constitution(*rows, license=""))]
    assert titles == [
        "idle can do nothing",
        "half has half of what revising needs",
        "No principle can revise",
        "one and two say the same",
        "The constitution has no license",
        "side names a position",
        "long speaks of length",
    ]


def test_duplicates_are_those_of_a_comparison_letter_by_letter() -> None:
    """The pairs that difflib alone calls near, of texts of which some are edited copies of others."""
    rng = np.random.default_rng(0)
    words = (
        "honest kind brief clear reader user claims source number harm asks refuses explains warns names states".split()
    )
    texts = [" ".join(rng.choice(words, 9)) for _ in range(60)]
    for text in texts[:20]:
        part = text.split()
        part[int(rng.integers(9))] = str(rng.choice(words))
        texts.append(" ".join(part))
    near = {
        (f"p{i}", f"p{j}")
        for (i, a), (j, b) in combinations(enumerate(texts), 2)
        if SequenceMatcher(None, a, b, autojunk=False).ratio() >= 0.85
    }
    rows = [{"id": f"p{i}", "compare_question": text} for i, text in enumerate(texts)]
    titles = [f.title for f in lint_constitution(constitution(*rows)) if "say the same" in f.title]
    assert len(near) >= 10
    assert {tuple(title.split()[:3:2]) for title in titles} == near


def test_many_copies_are_one_finding_each() -> None:
    rows = [{"id": f"p{i}", "compare_question": f"Which response is kinder {i // 100}?"} for i in range(1500)]
    titles = [f.title for f in lint_constitution(constitution(*rows)) if "say the same" in f.title]
    assert len(titles) == 1499


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "c.yaml: a constitution must be a mapping with id and principles, got [1, 2]."),
        ("id: x\nprinciples: []", "c.yaml: principles: it must be"),
        ("id: x\nprinciples: [{id: a, txt: b}]", "c.yaml: principles[0].txt: a field must be one of id, text"),
        (
            "id: x\nprinciples: [{id: a}, {id: a}]",
            "c.yaml: the ids of principles must differ, got 'a' twice. Rename one.",
        ),
        (
            "id: x\nprinciples: [{id: a, applies_when: '('}]",
            "c.yaml: principles[0].applies_when: it must be a regular expression",
        ),
        ("id: x\nprinciples: [{id: a, weight: 0}]", "c.yaml: principles[0].weight: it must be greater than 0"),
        ("principles: [{id: a}]", "c.yaml: id must be given, got nothing. Add it."),
        ("id: [", "c.yaml: a constitution must be YAML"),
    ],
)
def test_a_constitution_that_cannot_be_used_is_one_line(text: str, message: str) -> None:
    with pytest.raises(GuerdonError) as error:
        parse_constitution(text, "c.yaml")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: object) -> None:
    with pytest.raises(
        GuerdonError, match=r"^constitution must be guerdon or a YAML file that can be read \(No such file"
    ):
        load_constitution(f"{tmp_path}/none.yaml")
