"""Tables of pairs that nobody has judged yet."""

from __future__ import annotations

import json
import re

import pytest

from guerdon.config import ImportOptions
from guerdon.data.files import Rejects, scorable_rows
from guerdon.errors import GuerdonError
from guerdon.io.schema import conversation_from_row


def read(path, **options):
    rejects = Rejects()
    rows = [row for _, row in scorable_rows([path], ImportOptions(**options), rejects)]
    return [(row["prompt"], row["responses"]) for row in rows], rejects


@pytest.mark.parametrize(
    "names",
    [
        "prompt,response_a,response_b",
        "question,answer_a,answer_b",
        "instruction,output_1,output_2",
        "prompt,first,second",
    ],
)
def test_a_table_of_a_prompt_and_two_responses_needs_no_label(tmp_path, names):
    path = tmp_path / "pairs.csv"
    path.write_text(f"{names}\nWhy?,because,no idea\nHow?,,thus\n")
    rows, rejects = read(path)
    assert rows[0] == ("Why?", ["because", "no idea"])
    assert len(rows) + rejects.count == 2


def test_columns_of_any_names_can_be_given(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("Frage,Antwort 1,Antwort 2\nWarum?,darum,so\n")
    rows, _ = read(path, columns={"prompt": "Frage", "first": "Antwort 1", "second": "Antwort 2"})
    assert rows == [("Warum?", ["darum", "so"])]


def test_a_table_with_labels_is_imported_with_them(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("prompt,response_a,response_b,label\nWhy?,because,no idea,a\n")
    (row,) = [row for _, row in scorable_rows([path], ImportOptions(), Rejects())]
    assert row["preference"] == {"groups": [[0], [1]]}


@pytest.mark.parametrize(
    ("names", "columns", "advice"),
    [
        ("q,a,b", {}, "got q, a, b. Say which columns they are: --column prompt=q --column first=a --column second=b."),
        ("q,the answer,b;c", {}, "--column prompt=q --column 'first=the answer' --column 'second=b;c'."),
        ("prompt,response", {}, "got prompt, response. Say which columns they are: --column first=NAME --column second=NAME."),
        ("prompt,first,other", {}, "Say which columns they are: --column second=NAME."),
        ("q,a,b", {"prompt": "q", "first": "a", "second": "c"}, "--column second=c: no row has c."),
        ("text", {}, "--column prompt=NAME --column first=NAME --column second=NAME."),
    ],
)  # fmt: skip
def test_where_two_responses_are_needed_a_table_without_them_is_told_how_to_name_them(tmp_path, names, columns, advice):
    path = tmp_path / "pairs.csv"
    path.write_text(f"{names}\n{','.join('xyz'[: names.count(',') + 1])}\n")
    with pytest.raises(GuerdonError, match=re.escape(advice)):
        next(scorable_rows([path], ImportOptions(columns=columns), Rejects(), two_responses=True))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "responses": ["a", "b"]},
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "completion": "a", "label": True},
        {"question": "p", "answer_a": "a", "answer_b": "b"},
    ],
)
def test_where_two_responses_are_needed_every_layout_that_may_hold_them_is_read(tmp_path, row):
    path = tmp_path / "pairs.jsonl"
    other = row | {"completion": "b", "label": False} if "completion" in row else row
    path.write_text(f"{json.dumps(row)}\n{json.dumps(other)}\n")
    rows = [row for _, row in scorable_rows([path], ImportOptions(), Rejects(), two_responses=True)]
    _, responses, _ = conversation_from_row("", rows[0])
    assert sorted(response.text for response in responses) == ["a", "b"]
