"""Folders of save_to_disk, in the layout that datasets 5.2.0 writes: Arrow streams, and JSON files that name them."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from comparison_files import one_line
from errors import gives_advice

import guerdon
from guerdon.config import ImportOptions
from guerdon.data.files import import_files
from guerdon.io.readers import read_rows

ROWS = [{"prompt": f"Name metal {i}.", "chosen": "Iron.", "rejected": "Wood.", "pixels": b"\0"} for i in range(3)]


def save(folder, *shards, opened=pa.ipc.new_stream):
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(shards):05d}.arrow" for i in range(len(shards))]
    for name, rows in zip(names, shards, strict=True):
        table = pa.Table.from_pylist(rows)
        with opened(str(folder / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "1b06", "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


@pytest.mark.parametrize("opened", [pa.ipc.new_stream, pa.ipc.new_file])
def test_the_shards_are_read_in_the_order_that_the_folder_names(opened, tmp_path):
    folder = save(tmp_path / "saved", ROWS[1:], ROWS[:1], opened=opened)
    assert [row for _, row in read_rows(folder)] == [*ROWS[1:], ROWS[0]]
    assert [c.prompt[0].content for c in guerdon.read(folder)] == [row["prompt"] for row in [*ROWS[1:], ROWS[0]]]
    places = [place for place, _ in read_rows(folder)]
    assert places[1:] == [f"{folder}/data-00000-of-00002.arrow: row 2", f"{folder}/data-00001-of-00002.arrow: row 1"]
    assert len(list(read_rows(folder / "data-00000-of-00002.arrow"))) == 2


def test_of_several_splits_the_one_asked_for_is_read(tmp_path):
    save(tmp_path / "all" / "train", ROWS)
    save(tmp_path / "all" / "test", ROWS[:1])
    (tmp_path / "all" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert len(list(read_rows(tmp_path / "all"))) == 3
    assert len(list(read_rows(tmp_path / "all", ImportOptions(hub_split="test")))) == 1
    notes: list[str] = []
    list(import_files([tmp_path / "all"], ImportOptions(), notes.append))
    assert notes[0] == "split: train of train, test; imports.hub_split=NAME chooses another"
    line = one_line(lambda: list(read_rows(tmp_path / "all", ImportOptions(hub_split="tset"))))
    assert line.endswith("imports.hub_split must be one of its splits, got 'tset'. Did you mean test?")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("{", "not valid JSON"),
        ("{}", "_data_files must be a list of names in this folder, got nothing"),
        ('{"_data_files": [{"filename": "../a.arrow"}]}', "_data_files must be a list of names in this folder"),
        ('{"_data_files": [{"filename": "b.arrow"}]}', "b.arrow: no such file, but state.json names it"),
        ('{"_data_files": [{"filename": "a.arrow"}]}', "a.arrow: row 1: is not readable Arrow"),
    ],
)
def test_a_damaged_folder_is_one_line(state, words, tmp_path):
    (tmp_path / "state.json").write_text(state)
    (tmp_path / "a.arrow").write_bytes(b"ARROW1 not really")
    line = one_line(lambda: list(read_rows(tmp_path)))
    assert words in line
    assert gives_advice(line)
