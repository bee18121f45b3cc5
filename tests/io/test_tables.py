"""Tables as spreadsheets and programs write them, and rows under the numbers that a spreadsheet shows."""

from __future__ import annotations

import pytest
from comparison_files import one_line

from guerdon.io.schema import Rejected
from guerdon.io.tables import table_rows

ROW = {"prompt": "Name a metal.", "chosen": "Iron, pure", "rejected": "Wood."}


@pytest.mark.parametrize(
    "body",
    [
        'prompt,chosen,rejected\nName a metal.,"Iron, pure",Wood.\n',
        "prompt;chosen;rejected\nName a metal.;Iron, pure;Wood.\n",
        "prompt\tchosen\trejected\nName a metal.\tIron, pure\tWood.\n",
        'prompt, chosen, rejected\n"Name a metal.", "Iron, pure", "Wood."\n',
        ',prompt,chosen,rejected\n0,Name a metal.,"Iron, pure",Wood.\n',
        '\ufeff"prompt",chosen,rejected\r\nName a metal.,"Iron, pure",Wood.\r\n',
        'prompt,chosen,rejected,,\nName a metal.,"Iron, pure",Wood.,,\n',
    ],
)
def test_the_same_row_comes_out_of_every_form(body, tmp_path):
    (tmp_path / "a.csv").write_bytes(body.encode("utf-8"))
    assert [row for _, row in table_rows(tmp_path / "a.csv", ",")] == [ROW]


def test_a_location_has_the_line_and_the_row_of_a_spreadsheet(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,"two\nlines"\n\n3,4\n')
    assert [location for location, _ in table_rows(path, ",")] == [f"{path}:2", f"{path}:5 (row 4)"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"M\xfcn,1", "is not UTF-8 (byte 2, 'ü' in Windows-1252). Save the file as UTF-8; in Excel, as CSV UTF-8."),
        (b"M\x81n,1", "is not UTF-8 (byte 2). Save the file as UTF-8"),
        (b'"He said \\"hi\\"",1', 'Close its quotes, and write a quote within a cell as "".'),
        (b"1,2,3", "has 3 cells for 2 columns. Quote cells that hold ','."),
    ],
)
def test_a_row_that_cannot_be_read_is_rejected_and_the_others_are_read(line, reason, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n1,2\n" + line + b"\n3,4\n")
    first, (location, bad), last = table_rows(path, ",")
    assert (first[1], last[1]) == ({"a": "1", "b": "2"}, {"a": "3", "b": "4"})
    assert isinstance(bad, Rejected)
    assert location == f"{path}:3"
    assert reason in bad.reason


def test_a_header_that_is_not_text_is_an_error(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"M\xfcn,b\n1,2\n")
    assert ":1: is not UTF-8 (byte 2, 'ü' in Windows-1252). Save the file as UTF-8" in one_line(
        lambda: list(table_rows(tmp_path / "a.csv", ","))
    )
