"""guerdon store as a user sees it."""

from __future__ import annotations

import json

import pytest
from comparison_files import write_rows
from shell import guerdon

VOTES = [
    {"prompt": "Name a color.", "first": "Red.", "second": "Tuesday.", "label": "a", "annotator": "ann"},
    {"prompt": "Name a color.", "first": "Red.", "second": "Tuesday.", "label": "a", "annotator": "bob"},
    {"prompt": "Name a tree.", "first": "Oak.", "second": "Seven.", "label": "tie"},
    {"prompt": "Name a fish.", "first": "Sand.", "second": "Cod \ud800", "label": "b"},
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "votes.jsonl", *VOTES)
    for store in ("a.db", "b.db"):
        guerdon("store", "init", store)
    assert guerdon("store", "import", "a.db", "votes.jsonl").code == 0
    return tmp_path


@pytest.mark.parametrize("to", ["native", "trl", "kto-text"])
def test_a_store_is_exported_as_convert_writes_its_comparisons(here, to):
    exported = guerdon("store", "export", "a.db", "--to", to, "--out", "exported.jsonl", "--json")
    assert exported.code == guerdon("convert", "store:a.db", "converted.jsonl", "--to", to).code == 0
    for suffix in (".jsonl", ".rejected.jsonl"):
        files = [here / f"{name}{suffix}" for name in ("exported", "converted")]
        assert len({file.read_bytes() if file.exists() else None for file in files}) == 1
    facts = json.loads(exported.out)
    assert facts["rows"] == len((here / "exported.jsonl").read_text().splitlines()) > 0
    assert facts["rejected"] == (0 if to == "native" else 1)


def test_mistakes_in_the_form_are_one_line(here):
    ran = guerdon("store", "export", "a.db", "--to", "trk", "--out", "x.jsonl")
    assert (ran.code, ran.err) == (2, "error: --to must be a known format, got 'trk'. Did you mean trl?\n")
    ran = guerdon("store", "export", "none.db", "--to", "trl", "--out", "x.jsonl")
    assert ran.code == 2
    assert "none.db: no such store" in ran.err
    assert guerdon("store", "export", "a.db", "--to", "trl", "--out", "x.csv").code == 2
    assert not list(here.glob("x.*"))


def test_the_preferred_side_is_ours_or_theirs(here):
    ran = guerdon("store", "merge", "b.db", "a.db", "--prefer", "mine")
    assert (ran.code, ran.err) == (2, "error: --prefer must be ours or theirs, got 'mine'. Choose one of these.\n")
    assert guerdon("store", "merge", "b.db", "a.db", "--prefer", "theirs").code == 0
