"""Patterns of file names, and the items of an annotation tool."""

from __future__ import annotations

import json

import pytest
from comparison_files import one_line, write_rows
from format_rows import PAIRS, POTATO

import guerdon
from guerdon.config import ImportOptions
from guerdon.contracts import Comparison
from guerdon.data.files import import_files
from guerdon.io.schema import Rejected
from guerdon.io.sources import matching_files

PAIR = {"prompt": "Name a metal.", "chosen": "Iron.", "rejected": "Wood."}


def test_a_pattern_is_its_files_by_name_and_other_sources_stay(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "c.csv", "deep/d.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    files = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    assert matching_files([tmp_path / "*.jsonl", "org/name"]) == [*files, "org/name"]
    assert matching_files([str(tmp_path / "**/*.jsonl")]) == [*files, str(tmp_path / "deep/d.jsonl")]
    (tmp_path / "odd[1].jsonl").write_text("{}")
    assert matching_files([tmp_path / "odd[1].jsonl"]) == [tmp_path / "odd[1].jsonl"], "a file that has this name"


def test_a_pattern_leaves_out_what_our_commands_write_beside_comparisons(tmp_path):
    for name in ("a.jsonl", "a.rejected.jsonl", "b.fixes.jsonl"):
        (tmp_path / name).write_text("")
    assert matching_files([tmp_path / "*.jsonl"]) == [str(tmp_path / "a.jsonl")]
    assert matching_files([tmp_path / "*.rejected.jsonl"]) == [str(tmp_path / "a.rejected.jsonl")]


def test_a_pattern_without_a_file_is_an_error(tmp_path):
    pattern = str(tmp_path / "*.jsonl")
    assert one_line(lambda: matching_files([pattern])).startswith(f"{pattern}: matches no file. Check the pattern")


def test_import_reads_the_files_of_a_pattern_in_their_own_formats(tmp_path):
    write_rows(tmp_path / "2.jsonl", PAIR)
    (tmp_path / "1.csv").write_text("prompt,first,second,label\nName a bird.,A wren.,A cow.,a\n")
    lines: list[str] = []
    rows = list(import_files([str(tmp_path / "*.*")], ImportOptions(), lines.append))
    assert [row.prompt[0].content for row in rows if isinstance(row, Comparison)] == ["Name a bird.", "Name a metal."]
    assert lines[0].startswith(f"{tmp_path / '1.csv'}: format: labeled")
    assert len(guerdon.read(str(tmp_path / "*.*"))) == 2


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_rows_that_name_their_items_get_their_texts(ending, tmp_path):
    """Potato's annotations.jsonl next to the file of items that it was given."""
    items = [{"id": f"{i}", "prompt": p["prompt"], "text": [p["text1"], p["text2"]]} for i, p in enumerate(PAIRS)]
    path = tmp_path / f"items.{ending}"
    path.write_text("\n".join(map(json.dumps, items)) if ending == "jsonl" else json.dumps(items))
    bare = [{k: v for k, v in row.items() if k not in ("prompt", "responses")} for row in POTATO]
    annotations = write_rows(tmp_path / "annotations.jsonl", *bare, {**bare[0], "instance_id": "9"})
    *judged, unknown = import_files([annotations], ImportOptions(items=str(path)))
    whole = list(import_files([write_rows(tmp_path / "whole.jsonl", *POTATO)], ImportOptions()))
    assert judged == whole
    assert isinstance(unknown, Rejected)
    assert f"the id must be that of an item of {path} ('0', '1', '2', …), got '9'" in unknown.reason


def test_items_with_the_same_id_are_an_error(tmp_path):
    path = write_rows(tmp_path / "items.jsonl", {"id": 1, "text": "x"}, {"id": 1, "text": "y"})
    annotations = write_rows(tmp_path / "a.jsonl", POTATO[0])
    line = one_line(lambda: list(import_files([annotations], ImportOptions(items=str(path)))))
    assert line.startswith(f"{path}:2: the id of an item must be its own, got '1'")
