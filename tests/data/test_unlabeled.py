"""Tables of pairs that nobody has judged yet."""

from __future__ import annotations

import pytest

from guerdon.config import ImportOptions
from guerdon.data.files import Rejects, scorable_rows


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
