"""Every command reads comparisons the same way: any known format, several files at once, bad rows set aside."""

from __future__ import annotations

import json

import pytest
from comparison_files import ROW, one_line, write_rows

import guerdon
from guerdon.api.data import stream_comparisons
from guerdon.config import ImportOptions
from guerdon.contracts import Comparison
from guerdon.data.files import Rejects, count_rejects, import_files, require_usable
from guerdon.io.schema import Rejected

PAIR = {"prompt": "Name a metal.", "chosen": "Iron.", "rejected": "Wood."}


def test_files_of_several_formats_are_read_one_after_the_other(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,first,second,label\nName a bird.,A wren.,A cow.,a\n")
    write_rows(tmp_path / "b.jsonl", PAIR)
    write_rows(tmp_path / "c.jsonl", ROW)
    comparisons = guerdon.read([tmp_path / "a.csv", tmp_path / "b.jsonl", tmp_path / "c.jsonl"])
    assert [c.prompt[0].content for c in comparisons] == ["Name a bird.", "Name a metal.", "Name a color."]


def test_the_format_of_each_file_is_reported_with_its_name(tmp_path):
    sources = [write_rows(tmp_path / "b.jsonl", PAIR), write_rows(tmp_path / "c.jsonl", ROW)]
    lines: list[str] = []
    list(import_files(sources, ImportOptions(), lines.append))
    assert lines == [
        f"{sources[0]}: format: trl (detected from chosen, rejected)",
        f"{sources[1]}: format: native (detected from responses: with a preference)",
    ]


def test_bad_rows_are_set_aside_with_a_count_and_the_first_reason(tmp_path, capsys):
    path = write_rows(tmp_path / "b.jsonl", PAIR, {**PAIR, "rejected": ""}, {**PAIR, "chosen": 3})
    assert len(list(stream_comparisons([path], ImportOptions()))) == 1
    assert f"{path}: 2 rows set aside; the first is {path}:2: rejected must be a response" in capsys.readouterr().err


def test_strict_reading_stops_at_the_first_bad_row(tmp_path):
    path = write_rows(tmp_path / "b.jsonl", PAIR, {**PAIR, "rejected": ""})
    assert one_line(lambda: list(stream_comparisons([path], ImportOptions(strict=True)))).startswith(f"{path}:2: ")


def test_no_usable_row_is_an_error_with_the_first_reason():
    bad = [Rejected(f"a.jsonl:{i}", "is not valid JSON. Delete the line.", "x") for i in (1, 2)]
    rejects = Rejects()
    rows = (row for row in count_rejects(bad, rejects) if isinstance(row, Comparison))
    line = one_line(lambda: list(require_usable(rows, rejects)))
    assert line == "a.jsonl:1: is not valid JSON. Delete the line. None of 2 rows can be used."


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_what_write_writes_is_what_read_reads(name, tmp_path):
    (comparison,) = guerdon.read(write_rows(tmp_path / "b.jsonl", PAIR))
    guerdon.write(tmp_path / name, [comparison])
    assert guerdon.read(tmp_path / name) == [comparison]
    assert json.dumps(PAIR["chosen"]) in (tmp_path / "b.jsonl").read_text()
