"""guerdon convert as a user sees it."""

from __future__ import annotations

import json

import pytest
from comparison_files import write_rows
from shell import guerdon

PAIRS = [
    {"prompt": "Name a color.", "chosen": "Red.", "rejected": "Tuesday.", "annotator": "ann"},
    {"prompt": "Name a tree.", "chosen": "Oak.", "rejected": "Seven."},
]
LABELED = [
    {"prompt": "Name a color.", "first": "Red.", "second": "Blue.", "label": "tie"},
    {"prompt": "Name a tree.", "first": "Oak.", "second": "Seven.", "label": "a"},
    {"prompt": "Name a fish.", "first": "", "second": "Cod.", "label": "b"},
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    write_rows(tmp_path / "pairs.jsonl", *PAIRS)
    write_rows(tmp_path / "labeled.jsonl", *LABELED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_several_files_become_one_and_what_is_lost_is_printed(here):
    ran = guerdon("convert", "pairs.jsonl", "labeled.jsonl", "out.jsonl", "--to", "trl", "--no-extras")
    assert ran.code == 0
    assert (
        "lost: 1 tie (dropped), order shown of all comparisons, id of all comparisons, annotator of 1 comparison"
        in ran.err
    )
    assert len((here / "out.jsonl").read_text().splitlines()) == 3
    (rejected,) = map(json.loads, (here / "out.rejected.jsonl").read_text().splitlines())
    assert rejected["place"].startswith("labeled.jsonl")


def test_options_may_follow_the_output(here):
    assert guerdon("convert", "labeled.jsonl", "out.jsonl", "export.ties=soft", "export.format=trl-text").code == 0
    row = json.loads((here / "out.jsonl").read_text().splitlines()[0])
    assert (row["prompt"], row["p_chosen"]) == ("Name a color.", 0.5)


def test_json_holds_the_losses_and_the_entry_of_llama_factory(here):
    ran = guerdon("convert", "pairs.jsonl", "out.jsonl", "--to", "llamafactory", "--json")
    facts = json.loads(ran.out)
    assert (facts["rows"], facts["rejected"], facts["lost"]) == (2, 0, {"order shown": 2})
    assert facts["dataset_info"]["out"]["columns"]["prompt"] == "instruction"
    ran = guerdon("convert", "pairs.jsonl", "out.jsonl", "--to", "llamafactory")
    entry = ran.out.partition("dataset_info.json: ")[2].splitlines()[0]
    assert json.loads(entry) == facts["dataset_info"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("pairs.jsonl", "out.jsonl", "--to", "openrhlf"), "--to must be a known format, got 'openrhlf'. Did you mean openrlhf?"),
        (("pairs.jsonl", "pairs.jsonl"), "pairs.jsonl: must not be what is read"),
        (("pairs.jsonl", "out.txt"), "out.txt: the ending must be .jsonl, .jsonl.gz or .parquet for trl, got '.txt'. Change"),
        (("labeled.jsonl", "out.jsonl", "--strict"), "labeled.jsonl:3: "),
        (("pairs.jsonl", "out.jsonl", "--ties", "keep"), "export.ties must be "),
        (("pairs.jsonl", "out.jsonl", "--to", "kto", "--ties", "soft"), "--ties must be drop for kto, got 'soft'. Leave"),
        (("none.jsonl", "out.jsonl"), "none.jsonl: no such file."),
        (("pairs.jsonl", ""), ".: must be a file, got a folder. Give the path of a file"),
        (("pairs.jsonl", "/"), "/: must be a file, got a folder. Give the path of a file"),
        (("pairs.jsonl", "out.jsonl", "--ties", "margin0", "--margin-scale", "0"), "--ties margin0 must come with margins"),
        (("pairs.jsonl", "out.jsonl", "--label-means", "first"), "--label-means must be about labels that are numbers"),
        (("pairs.jsonl", "out.jsonl", "imports.shp_score_ratio=2"), "imports.shp_score_ratio: format must be shp, got trl. Leave"),
        (("pairs.jsonl", "out.jsonl", "--column", "=prompt"), "--column must be OURS=THEIRS, got '=prompt'. Write"),
        (("pairs.jsonl", "out.jsonl", "--column", "prompt="), "--column must be OURS=THEIRS, got 'prompt='. Write"),
        (("pairs.jsonl", "out.jsonl", "--column", "prompt=a", "--column", "prompt=b"), "--column prompt must be given once, got a and b."),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_nothing_is_written(here, words, line):
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    ran = guerdon("convert", *words)
    assert ran.code == 2
    assert f"error: {line}" in ran.err.splitlines()[-1]
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before
