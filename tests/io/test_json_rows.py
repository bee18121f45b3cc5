"""JSON files as they come: several objects on a line, one object on several lines, a list, a list within an object."""

from __future__ import annotations

import json

import pytest

from guerdon.io import text_lines
from guerdon.io.json_rows import json_rows
from guerdon.io.schema import Rejected

ROWS = [{"prompt": f"Name metal {i}.", "chosen": "Iron [Fe], {solid}", "rejected": "Wood,"} for i in range(3)]
LINES = [json.dumps(row) for row in ROWS]
WRAPPED = {"version": 1, "data": ROWS}
COLUMNS = {name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("bom_in_the_middle.jsonl", f"{LINES[0]}\n\ufeff{LINES[1]}\n{LINES[2]}\n"),
        ("over_several_lines.jsonl", "\n".join(json.dumps(row, indent=2) for row in ROWS)),
        ("list_over_several_lines.json", json.dumps(ROWS, indent=2)),
        ("list_on_one_line.jsonl", json.dumps(ROWS)),
        ("no_line_ends.jsonl", "".join(LINES)),
        ("commas.jsonl", ",\n".join(LINES)),
        ("carriage_returns.jsonl", "\r".join(LINES)),
        ("windows.jsonl", "\r\n".join(LINES)),
        ("wrapped.json", json.dumps(WRAPPED, indent=2)),
        ("wrapped_on_one_line.json", json.dumps(WRAPPED)),
        ("columns.json", json.dumps(COLUMNS)),
    ],
)
@pytest.mark.parametrize("block", [7, text_lines.BLOCK])
def test_the_same_rows_come_out_of_every_form(name, body, block, tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "BLOCK", block)
    (tmp_path / name).write_bytes(body.encode("utf-8"))
    assert [row for _, row in json_rows(tmp_path / name)] == ROWS


def test_objects_over_several_lines_are_located_by_their_first_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(row, indent=2) for row in ROWS))
    assert [location for location, _ in json_rows(path)] == [f"{path}:{n}" for n in (1, 6, 11)]


def test_objects_on_one_line_are_located_by_their_number(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{LINES[0]}\n{LINES[1]}{LINES[2]}\n")
    assert [location for location, _ in json_rows(path)] == [f"{path}:1", f"{path}:2: item 1", f"{path}:2: item 2"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"chosen": "a", "rejected": "b", "chosen": "c"}', "names 'chosen' twice). Correct or delete the line."),
        ("{'chosen': 'a'}", "it is a Python object. Write it with json.dumps, or drop the line."),
        ('{"chosen": "a"} and more', "is not valid JSON (Extra data at character 17). Complete or delete the line."),
        ('{"chosen": "a"} 5', "is not valid JSON (Extra data at character 17)"),
        ('{"chosen": ', "is not valid JSON"),
    ],
)
def test_a_line_that_is_no_object_is_rejected_with_its_text(line, reason, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{LINES[0]}\n{line}\n{LINES[1]}\n")
    first, (location, bad), last = json_rows(path)
    assert (first[1], last[1]) == (ROWS[0], ROWS[1])
    assert isinstance(bad, Rejected)
    assert (location, bad.row) == (f"{path}:2", line)
    assert reason in bad.reason


def test_a_row_of_messages_is_not_taken_for_a_wrapper(tmp_path):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    (tmp_path / "a.json").write_text(json.dumps({"chosen": turns, "rejected": turns}))
    assert [row for _, row in json_rows(tmp_path / "a.json")] == [{"chosen": turns, "rejected": turns}]


def test_a_long_list_is_read_item_by_item(tmp_path):
    (tmp_path / "a.json").write_text("[" + ",".join(LINES * 20_000) + "]")
    rows = json_rows(tmp_path / "a.json")
    assert next(rows)[1] == ROWS[0]  # without the rest
    assert sum(1 for _ in rows) == 59_999
