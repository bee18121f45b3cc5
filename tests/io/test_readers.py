"""Rows and comparisons from files: what is read, and which line and field an error names."""

from __future__ import annotations

import errno
import gzip
import json
import sys
import time
from pathlib import Path

import httpx2
import pytest
from comparison_files import ROW, a_row, one_line, some_comparisons, write_rows
from errors import gives_advice

from guerdon.config import ImportOptions
from guerdon.contracts import Message
from guerdon.io import readers, text_lines, writers


def test_a_prompt_and_a_response_may_be_plain_text(tmp_path):
    (result,) = readers.read_comparisons(write_rows(tmp_path / "a.jsonl", a_row(prompt="Hi", responses=["a", "b"])))
    assert result.prompt == (Message("user", "Hi"),)
    assert [r.text for r in result.responses] == ["a", "b"]


def test_null_fields_blank_lines_and_a_byte_order_mark_are_ignored(tmp_path):
    row = a_row(weight=None, annotator=None, preference={"q": 0.5, "groups": None})
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf\n" + json.dumps(row).encode() + b"\n\n")
    (result,) = readers.read_comparisons(tmp_path / "a.jsonl")
    assert (result.weight, result.annotator, result.q) == (1.0, None, 0.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preference": {"q": 3}}, "q must be a probability in [0, 1], got 3. Correct or drop the row."),
        ({"preference": {"q": True}}, "q must be a probability in [0, 1], got True"),
        ({"preference": {"q": "0.5"}}, "got '0.5'"),
        ({"preference": {"q": float("nan")}}, "q must be a probability in [0, 1], got nan"),
        ({"preference": {}}, "exactly one of groups"),
        ({"preference": {"groups": [[0], [2]]}}, "groups must name responses 0..1"),
        (
            {"preference": {"groups": [0, 1]}},
            "groups must be a list of lists of response numbers, best first, got [0, 1]",
        ),
        ({"preference": {"q": 1, "strength": -1}}, "strength must be a number >= 0, got -1"),
        ({"preference": {"q": 1, "votes": [1, 2]}}, "votes must be three counts"),
        ({"preference": {"q": 1, "vote": [1, 2, 3]}}, "preference.vote is not a known field. Did you mean votes?"),
        ({"preference": "a"}, "preference must be an object with groups, q"),
        ({"preference": None}, "preference is missing. Import the file first."),
        ({"weight": float("nan")}, "weight must be a number from 1e-6 to 1e6, got nan"),
        ({"weight": 0}, "weight must be a number from 1e-6 to 1e6, got 0"),
        ({"weight": 1e308}, "weight must be a number from 1e-6 to 1e6, got 1e+308"),
        ({"weight": 10**400}, "weight must be a number from 1e-6 to 1e6, got 1000"),
        ({"wieght": 1}, "wieght is not a known field. Did you mean weight?"),
        ({"responses": [{"text": "a"}]}, "must have at least 2 responses, got 1"),
        ({"responses": "ab"}, "responses must be a list of two or more responses, got 'ab'"),
        ({"responses": ["a", 3]}, "responses[1] must be an object with text, finish, author, ratings, messages, got 3"),
        ({"responses": ["a", {"text": None}]}, "responses[1].text is missing. Add it."),
        (
            {"responses": ["a", {"text": "b", "finish": "eos"}]},
            "responses[1].finish must be stop or length, got 'eos'",
        ),
        ({"responses": ["a", {"text": "b", "ratings": {"x": "y"}}]}, "responses[1].ratings.x must be a finite number"),
        ({"prompt": []}, "prompt must be text or a list of at least one message, got []"),
        ({"prompt": 3}, "prompt must be text or a list of messages, got 3"),
        (
            {"prompt": [{"role": "robot", "content": "x"}]},
            "prompt[0].role must be one of system, user, assistant, tool",
        ),
        (
            {"prompt": [{"role": "user", "content": ["x" * 999]}]},
            'prompt[0].content[0] must be a part such as {"type": "text"}, got \'xxx',
        ),
        ({"id": 3}, "id must be text, got 3"),
    ],
)
def test_a_bad_field_is_named_with_its_line_its_value_and_advice(changes, words, tmp_path):
    path = write_rows(tmp_path / "fit.jsonl", ROW, a_row(**changes))
    line = one_line(lambda: list(readers.read_comparisons(path)))
    assert line.startswith(f"{path}:2: ")
    assert words in line
    assert len(line) < len(str(path)) + 250


def test_a_truncated_last_line_is_named(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", ROW)
    path.write_bytes(path.read_bytes() + json.dumps(ROW).encode()[:40])
    result = readers.read_comparisons(path)
    assert next(result).q == 0.9
    assert one_line(lambda: next(result)).startswith(f"{path}:2: is not valid JSON (")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"", "holds no rows"),
        ("a.csv", b"", "holds no rows"),
        ("a.csv", b"a,b\n", "holds no rows"),
        ("a.csv", b"a,a\n1,2\n", ":1: the first line must be a header that names each column once, got ['a', 'a']"),
        ("a.json", b"[]", "holds no rows"),
        ("a.json", b"[{}, ", "is not valid JSON"),
        ("a.json", b"hello", "is neither a list nor one object per line"),
        ("a.json", b'[{"a": 1}', "is not valid JSON (its list does not end)"),
        ("a.json", b'[{"a": 1}]\n[]', "a.json:2: holds more text after its list"),
        ("a.jsonl", b'{\n"a": 1,\n"b": }\n{"c": 2}', ":1: item 1: is not valid JSON (Expecting value)"),
        ("a.jsonl", b"\x80\x04\x95" * 9, ":1: is not UTF-8 text (byte 1)"),
        ("a.jsonl", b"{}\0\0\0", "is not UTF-8 text (it holds NUL bytes)"),
        ("a.csv", b"PK\x03\x04\0\0\0", "is a ZIP archive, such as an Excel workbook, and not text. In Excel, save"),
        ("a.jsonl", "{}\n".encode("utf-16"), "is UTF-16 text, and must be UTF-8. Save it as UTF-8"),
        ("a.csv", "é,\u2014\n".encode("utf-16-be"), "is UTF-16 text, and must be UTF-8. Save it as UTF-8"),
        ("a.jsonl.gz", gzip.compress(b"{}\n" * 999, mtime=0)[:-9], "gzip data is damaged or truncated"),
        ("a.jsonl.gz", b"\x1f\x8b" + b"junk" * 9, "gzip data is damaged or truncated"),
        ("a.parquet", b"PAR1 not really", "is not readable Parquet"),
        ("a.parquet", b"", "is not readable Parquet"),
        (
            "a.txt",
            b"hello",
            "the ending must be one of .jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow, got '.txt'. Rename",
        ),
        ("a.xlsx", b"PK", "got '.xlsx'. Save the sheet as CSV UTF-8."),
    ],
)
def test_an_unreadable_file_is_named_with_advice(name, content, words, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    line = one_line(lambda: list(readers.read_rows(path)))
    assert line.startswith(str(path))
    assert words in line
    assert gives_advice(line)


def test_missing_files_folders_and_forbidden_files_are_named(tmp_path, monkeypatch):
    assert "no such file" in one_line(lambda: readers.read_rows(tmp_path / "no.jsonl"))
    assert "no such file" in one_line(lambda: readers.read_rows("data/fit.jsonl"))
    assert "is a directory" in one_line(lambda: readers.read_rows(tmp_path))
    path = write_rows(tmp_path / "a.jsonl", ROW)

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be read (Permission denied)" in one_line(lambda: list(readers.read_rows(path)))


def test_a_huge_line_is_read_and_a_longer_one_is_refused(tmp_path, monkeypatch):
    huge = a_row(prompt="x" * 2_000_000)
    assert len(list(readers.read_comparisons(write_rows(tmp_path / "a.jsonl", huge)))) == 1
    monkeypatch.setattr(text_lines, "LONGEST_LINE", 2**20)
    assert ":1: line is longer than 1 MiB" in one_line(lambda: list(readers.read_rows(tmp_path / "a.jsonl")))


def test_an_unreadable_row_keeps_its_text_and_the_rest_is_read(tmp_path):
    lines = [b'{"a": 1}', b'{"a": ', b'{"a": "\xff"}', b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b'{"a": 2}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    rows = [row for _, row in readers.read_rows(tmp_path / "a.jsonl")]
    assert (rows[0], rows[5]) == ({"a": 1}, {"a": 2})
    assert [row.row for row in rows[1:5]] == [line.decode("utf-8", "backslashreplace") for line in lines[1:5]]
    assert all(gives_advice(row.reason) for row in rows[1:5])


def test_csv_rows_are_located_by_their_first_line_and_broken_ones_are_rejected(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfp,q\r\n"two\nlines",1\n\nx,y,z\n3,4\nlast,"open\n')
    rows = list(readers.read_rows(tmp_path / "a.csv"))
    path = tmp_path / "a.csv"
    assert [place for place, _ in rows] == [f"{path}:{n}" for n in ("2", "5 (row 4)", "6 (row 5)", "7 (row 6)")]
    assert (rows[0][1], rows[2][1]) == ({"p": "two\nlines", "q": "1"}, {"p": "3", "q": "4"})
    assert "3 cells for 2 columns" in rows[1][1].reason
    assert rows[3][1].row == 'last,"open\n'


def test_json_lists_tsv_and_gzip_under_another_name_are_read(tmp_path):
    (tmp_path / "a.json").write_text('[{"a": 1},\n {"a": 2}]')
    (tmp_path / "a.tsv").write_text("a\tb\n1\t2\n")
    (tmp_path / "packed.jsonl").write_bytes(gzip.compress(b'{"a": 3}\n'))
    result = [list(readers.read_rows(tmp_path / name)) for name in ("a.json", "a.tsv", "packed.jsonl")]
    assert [row for rows in result for _, row in rows] == [{"a": 1}, {"a": 2}, {"a": "1", "b": "2"}, {"a": 3}]
    assert result[0][1][0].endswith("a.json: item 2")


def test_a_hub_name_without_network_or_datasets_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'guerdon[hub]'" in one_line(lambda: list(readers.read_rows("org/name")))

    class Datasets:
        @staticmethod
        def load_dataset(name, split, streaming):
            raise ConnectionError(f"Couldn't reach {name}\non the Hub")

    monkeypatch.setitem(sys.modules, "datasets", Datasets)
    assert "org/name[test]: cannot be read from the hub (Couldn't reach org/name)" in one_line(
        lambda: list(readers.read_rows("org/name", ImportOptions(hub_split="test")))
    )
    monkeypatch.setattr(Datasets, "load_dataset", staticmethod(lambda name, split, streaming: [{"a": 1}]))
    assert list(readers.read_rows("org/name")) == [("org/name[train]: row 1", {"a": 1})]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx2.ConnectError("[Errno 111] Connection refused"), "([Errno 111] Connection refused). Check the name"),
        (
            RuntimeError("Dataset scripts are no longer supported, but found a.py"),
            "Give its files, such as the Parquet",
        ),
        (ValueError("Config name is missing.\nPlease pick one"), "Choose one with imports.hub_config."),
    ],
)
def test_what_datasets_raises_for_a_hub_name_is_one_line(error, words, monkeypatch):
    class Datasets:
        @staticmethod
        def load_dataset(*names, split, streaming):
            if names == ("org/name", "pairs"):
                return [{"a": 1}]
            raise error

    monkeypatch.setitem(sys.modules, "datasets", Datasets)
    assert words in one_line(lambda: list(readers.read_rows("org/name")))
    rows = list(readers.read_rows("org/name", ImportOptions(hub_config="pairs")))
    assert rows == [("org/name/pairs[train]: row 1", {"a": 1})]


def test_a_thousand_comparisons_are_read_in_well_under_a_second(tmp_path):
    writers.write_comparisons(tmp_path / "a.jsonl", some_comparisons(500))
    began = time.perf_counter()
    assert sum(1 for _ in readers.read_comparisons(tmp_path / "a.jsonl")) == 1000
    assert time.perf_counter() - began < 1
