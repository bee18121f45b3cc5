"""Rows that are read together, and rows that hold several comparisons."""

from __future__ import annotations

import pytest
from imports import one, take

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError, Preference, Response, as_prompt
from guerdon.data.importers.joining import Unit, units_of
from guerdon.data.importers.layout import Join
from guerdon.errors import field_error
from guerdon.io.schema import Rejected

VOTES = [
    {"annotator": "ann", "label": "a", "strength": 2, "rationale": "Clearer."},
    {"annotator": "bob", "label": "tie"},
    {"annotator": 7, "label": "B>>A", "rationale": "The other one \ud800 lies.\x00"},
]
ROW = {"prompt": "Hi", "response_a": "x", "response_b": "y", "votes": VOTES}


def key(row):
    if not isinstance(row.get("q"), str):
        raise field_error("q", "text", row.get("q"))
    return row["q"]


def units(*rows, scattered=False):
    """Of each unit the numbers of its rows, in order; a rejected row as its location."""
    located = [(f"a:{i}", row) for i, row in enumerate(rows, start=1)]
    found = units_of(located, dict, Join(key, scattered))
    return [unit.place if isinstance(unit, Rejected) else [m[0] for m in unit.members] for unit in found]


def q(*names):
    return [{"q": name} for name in names]


def test_neighbors_with_one_key_are_one_unit():
    assert units(*q("a", "a", "b", "a")) == [["a:1", "a:2"], ["a:3"], ["a:4"]]


def test_scattered_rows_are_one_unit_where_the_first_of_them_stands():
    assert units(*q("a", "b", "a", "c", "b"), scattered=True) == [["a:1", "a:3"], ["a:2", "a:5"], ["a:4"]]


@pytest.mark.parametrize("scattered", [False, True])
def test_a_row_that_cannot_be_used_does_not_separate_its_neighbors(scattered):
    rows = [{"q": "a"}, {"q": 3}, 5, Rejected("a:4", "not JSON", "{"), {"q": "a"}]
    assert units(*rows, scattered=scattered) == ["a:2", "a:3", "a:4", ["a:1", "a:5"]]


def test_neighbors_are_streamed():
    def rows():
        yield from ((f"a:{i}", {"q": str(i // 2)}) for i in range(4))
        raise AssertionError("read too far")

    stream = units_of(rows(), dict, Join(key))
    assert isinstance(next(stream), Unit)


def test_a_unit_that_cannot_be_used_is_all_of_its_rows_with_one_reason():
    unit = Unit((("a:1", "one"), ("a:2", "two")), {"rows": [{}, {}]})
    assert list(unit.rejected("bad")) == [Rejected("a:1", "bad", "one"), Rejected("a:2", "bad", "two")]


def test_each_judgment_becomes_a_comparison_with_its_annotator_strength_and_reason():
    first, second, third = take(ROW, judgments="each")
    sides = {"prompt": as_prompt("Hi"), "responses": (Response("x"), Response("y"))}
    for imported in (first, second, third):
        assert isinstance(imported, Comparison)
        assert (imported.prompt, imported.responses) == (sides["prompt"], sides["responses"])
        assert imported.group == first.group
        assert imported.prompt.location == "a:1"
    assert first.preference == Preference(groups=((0,), (1,)), strength=2.0)
    assert second.preference == Preference(groups=((0, 1),))
    assert third.preference == Preference(groups=((1,), (0,)), strength=2.0)
    assert [c.annotator for c in (first, second, third)] == ["ann", "bob", "7"]
    assert [c.rationale for c in (first, second, third)] == ["Clearer.", None, VOTES[2]["rationale"]]
    assert len({c.id for c in (first, second, third)}) == 3


def test_equal_judgments_without_a_name_still_have_ids_of_their_own():
    ids = [c.id for c in take({**ROW, "votes": ["a", "a", "b"]}, {**ROW, "id": 9}, judgments="each")]
    assert len(set(ids)) == 6
    assert ids[3:] == ["9/1", "9/2", "9/3"]


def test_together_they_are_one_soft_label_and_the_reasons_that_are_lost_are_counted():
    from guerdon.data.importers import import_rows

    lines: list[str] = []
    (imported,) = import_rows([("a:1", ROW)], ImportOptions(), lines.append)
    assert isinstance(imported, Comparison)
    assert imported.preference == Preference(q=0.5, votes=(1, 1, 1))
    assert lines[1:] == [
        "judgments whose reason is not kept, because they were read together; --judgments each keeps it: 2"
    ]


def test_a_single_judgment_keeps_its_reason_either_way():
    row = {**ROW, "votes": VOTES[:1]}
    assert (one(row).rationale, one(row).annotator) == ("Clearer.", "ann")
    assert one(row, judgments="each").rationale == "Clearer."
    assert one(row, judgments="each").id == one({**ROW, "votes": VOTES[:1]}, judgments="each").id


@pytest.mark.parametrize("key", ["strength", "rationale", "annotator"])
def test_a_bad_field_of_a_vote_is_named(key):
    wrong = {"strength": -1, "rationale": 3, "annotator": True}[key]
    (imported,) = take({**ROW, "votes": [VOTES[0], {**VOTES[1], key: wrong}]})
    assert isinstance(imported, Rejected)
    assert imported.reason.startswith(f"votes[1].{key} must be ")


def test_an_unknown_way_to_read_judgments_is_refused():
    with pytest.raises((GuerdonError, ValueError), match="judgments"):
        take(ROW, judgments="some")
