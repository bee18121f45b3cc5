"""The one form of error: what must be true, what was found, what to do."""

from __future__ import annotations

import json

import pytest
from errors import gives_advice

from guerdon.errors import (
    GuerdonError,
    cause_of,
    claim_and_advice,
    counted,
    did_you_mean,
    field_error,
    show_value,
    verb,
)


def test_an_error_says_what_must_be_true_what_was_found_and_what_to_do():
    error = field_error("q", "a probability in [0, 1]", 3)
    assert isinstance(error, GuerdonError)
    assert str(error) == "q must be a probability in [0, 1], got 3. Correct or drop the row."
    assert gives_advice(str(error))
    assert str(field_error("n", "1 or 2", None, "Give one.")) == "n must be 1 or 2, got nothing. Give one."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing"),
        ("a\nb", "'a\\nb'"),
        (1.5, "1.5"),
        (True, "True"),
        ([1, "a"], "[1, 'a']"),
        ("x" * 58, "'" + "x" * 58 + "'"),
    ],
)
def test_a_value_is_shown_on_one_line(value, text):
    assert show_value(value) == text


@pytest.mark.parametrize("value", ["x" * 10**6, b"x" * 10**6, list(range(1000)), {"a": "x" * 999}])
def test_a_long_value_is_cut(value):
    assert len(show_value(value)) == 61
    assert len(show_value(value, 10)) == 11
    assert show_value(value).endswith("…")


def test_the_closest_known_name_is_suggested_and_all_of_them_if_none_is_close():
    assert did_you_mean("wieght", ["source", "weight"]) == "Did you mean weight?"
    assert did_you_mean(7, iter(["source", "weight"])) == "Choose from source, weight."


@pytest.mark.parametrize(
    ("error", "claim", "advice"),
    [
        ("row 2: label must be 0 or 1, got 3. Fix the row.", "row 2: label must be 0 or 1, got 3", "Fix the row."),
        (
            "p must be below 0.5, got 0.7. Lower it. Or drop it.",
            "p must be below 0.5, got 0.7",
            "Lower it. Or drop it.",
        ),
        ("the model refused", "the model refused", ""),
    ],
)
def test_an_error_has_a_claim_and_advice(error, claim, advice):
    assert claim_and_advice(error) == (claim, advice)


def test_the_cause_of_deep_nesting_is_said_in_the_words_of_the_author_of_the_file():
    with pytest.raises(RecursionError) as deep:
        json.loads("[" * 100_000)
    assert cause_of(deep.value) == "nested too deeply"
    assert cause_of(ValueError("too long; use sys.set")) == "too long"


def test_nouns_and_verbs_agree_with_their_number():
    assert [counted(number, "row") for number in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
    for one, many in (("is", "are"), ("was", "were"), ("has", "have"), ("does", "do"), ("prefers", "prefer")):
        assert (verb(1, many), verb(2, many), verb(0, many)) == (one, many, many)
