"""The hygiene gate finds each planted fault, and an honest model passes with its evidence."""

from __future__ import annotations

import numpy as np
import pytest
from toys import BatchNorm, Constant, Forgetful, Good, PaddedRows, PaddingLeak, WrongPosition, as_scores, comparisons

from guerdon.auditing import audit
from guerdon.auditing.run import hygiene_rows
from guerdon.config import AuditOptions
from guerdon.models.hygiene import hygiene_gate

OPTIONS = AuditOptions(draws=100, hygiene_rows=16)
PROMPTS, RESPONSES = hygiene_rows(comparisons(40), 16)


def gate(model, **more):
    return hygiene_gate(model, PROMPTS, RESPONSES, OPTIONS, **more)


def test_an_honest_model_passes_with_its_evidence():
    (found,) = gate(PaddedRows())
    assert found.severity == "note"
    assert "next to the longest" in found.evidence


@pytest.mark.parametrize("model", [PaddingLeak(), BatchNorm(), WrongPosition()])
def test_scores_that_depend_on_the_rest_of_the_batch_are_refused(model):
    assert [(f.severity, f.title) for f in gate(model)] == [("error", "Scores depend on the rest of the batch")]
    assert not audit(model, comparisons(40), OPTIONS).estimates


def test_dropout_left_on_is_refused():
    assert gate(Forgetful())[0].severity == "error"


def test_scores_that_are_not_finite_are_refused():
    class Broken:
        def score(self, prompts, responses):
            return as_scores([np.inf] * len(prompts))

    assert [(f.severity, f.title) for f in gate(Broken())] == [("error", "Scores are not finite")]


def test_truncation_is_reported_with_its_share():
    class Short(PaddedRows):
        def score(self, prompts, responses):
            scores = super().score(prompts, responses)
            return as_scores(scores.value, [i % 4 == 0 for i in range(len(prompts))])

    found = {f.title: f for f in gate(Short())}
    assert "4 of 16 texts" in found["Texts are truncated"].evidence


def test_a_coarse_number_type_shows_as_equal_scores():
    class Coarse(PaddedRows):
        def read(self, rows, length):
            return np.round(super().read(rows, length), 1)

    assert "Many scores are exactly equal" in {f.title for f in gate(Coarse())}
    assert "All scores are equal" in {f.title for f in gate(Constant())}
    assert not any("equal" in f.title for f in gate(PaddedRows()))


def test_the_same_text_twice_does_not_count_as_equal_scores():
    found = hygiene_gate(PaddedRows(), ["p"] * 6, ["a", "a", "a", "a", "a", "bb"], OPTIONS)
    assert [f.severity for f in found] == ["note"]


@pytest.mark.parametrize(
    ("ids", "special", "title"),
    [
        ([1, 1, 5, 2], {"bos": 1, "eos": 2, "pad": 0}, "Texts do not begin with one beginning-of-text token"),
        ([5, 2], {"bos": 1, "eos": 2, "pad": 0}, "Texts do not begin with one beginning-of-text token"),
        ([1, 5, 2], {"bos": 1, "eos": 2, "pad": 2}, "Padding looks like the end of a text"),
        ([1, 5, 2], {"bos": 1, "eos": 2, "pad": 0}, None),
        ([5, 2], {"bos": None, "eos": 2, "pad": None}, None),
    ],
)
def test_special_tokens_are_counted(ids, special, title):
    found = {f.title for f in gate(PaddedRows(), tokenize=lambda prompt, response: ids, special=special)}
    assert found - {"A score does not depend on the rest of its batch"} == ({title} if title else set())


def test_the_rows_of_the_gate_are_spread_over_the_data():
    prompts, responses = hygiene_rows(comparisons(100), 10)
    assert len(set(prompts)) == 10
    assert len(responses) == 10
    few, _ = hygiene_rows(comparisons(3), 10)
    assert len(few) == 6
    assert isinstance(Good().score(few, ["x"] * 6).value, np.ndarray)
