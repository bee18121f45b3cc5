"""Single values: what is accepted, and the field that an error names."""

from __future__ import annotations

import math

import pytest

from guerdon import GuerdonError
from guerdon.io.fields import as_list, as_number, as_text, is_count, optional_text, without_missing


@pytest.mark.parametrize("value", [True, "1", None, [], math.nan, math.inf, 10**400])
def test_only_a_finite_number_is_a_number(value):
    with pytest.raises(GuerdonError, match=r"row\.x must be a finite number, got "):
        as_number(value, "row.x")


def test_a_number_keeps_its_bounds():
    assert as_number(1, "x", low=1, high=1) == 1.0
    assert isinstance(as_number(1, "x"), float)
    for value, limits in ((0.9, {"low": 1}), (1.1, {"high": 1}), (1, {"above": 1})):
        with pytest.raises(GuerdonError, match=rf"x must be in bounds, got {value}\. Correct or drop the row\."):
            as_number(value, "x", "in bounds", **limits)


def test_text_and_lists_are_taken_as_they_are():
    assert as_text("", "x") == ""
    assert as_list((1,), "x", "a list") == (1,)
    for call in (lambda: as_text(3, "x"), lambda: as_list("ab", "x", "a list")):
        with pytest.raises(GuerdonError, match=r"x must be (text, got 3|a list, got 'ab')\."):
            call()


def test_a_missing_text_is_none_and_a_wrong_one_names_its_parent():
    assert optional_text({}, "id") is None
    assert optional_text({"id": "a"}, "id") == "a"
    with pytest.raises(GuerdonError, match=r"^id must be text, got 3\."):
        optional_text({"id": 3}, "id")
    with pytest.raises(GuerdonError, match=r"^responses\[0\]\.author must be text, got 3\."):
        optional_text({"author": 3}, "author", "responses[0]")


def test_a_count_is_an_integer_from_zero():
    assert [value for value in (0, 3, -1, True, 1.0, "1") if is_count(value)] == [0, 3]
    assert without_missing({"a": None, "b": 0, "c": ""}) == {"b": 0, "c": ""}
