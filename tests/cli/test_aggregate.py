"""guerdon aggregate as a user sees it."""

from __future__ import annotations

import csv
import json

import pytest
from comparison_files import write_rows
from shell import guerdon

from guerdon.api import data
from guerdon.data.simulated import SimulatedAnnotator, simulate_judgments, simulate_pairs

CROWD = [*(SimulatedAnnotator(f"good {i}", 2.0) for i in range(4)), SimulatedAnnotator("=adversary", -2.0)]


@pytest.fixture
def judgments(tmp_path):
    path = tmp_path / "judgments.jsonl"
    data.write(path, simulate_judgments(simulate_pairs(200, 1), CROWD, 3, seed=1))
    return path


def test_labels_annotators_and_page_are_written(judgments, tmp_path):
    out, table, page = tmp_path / "labels.jsonl", tmp_path / "annotators.csv", tmp_path / "page.html"
    done = guerdon("aggregate", judgments, "--out", out, "--annotators", table, "--html", page, "aggregate.draws=100")
    assert done.code == 0
    labels = data.read(out)
    assert len(labels) == 200
    assert {sum(label.preference.votes) for label in labels} == {3}
    rows = list(csv.DictReader(table.read_text("utf-8").splitlines()))
    assert {row["annotator"]: row["flags"] for row in rows}["=adversary"] == "reversed"
    assert "adversary" in page.read_text("utf-8")
    assert "flagged as reversed" in done.out
    assert "=adversary" in done.out
    assert "200 labels in" in done.err


def test_json_is_one_object_and_tables_may_be_json(judgments, tmp_path):
    out, table = tmp_path / "labels.parquet", tmp_path / "annotators.json"
    done = guerdon("aggregate", judgments, "--out", out, "--annotators", table, "--json", "--method", "dawid_skene")
    body = json.loads(done.out)
    assert body["labels"] == len(data.read(out)) == 200
    assert body["report"]["about"]["method"] == "dawid_skene (chosen)"
    assert len(json.loads(table.read_text("utf-8"))) == 5


def test_the_votes_of_a_row_are_read_one_by_one(tmp_path):
    votes = [{"annotator": "ann", "label": "a"}, {"annotator": "ben", "label": "a"}]
    row = {"prompt": "Is it?", "response_a": "yes", "response_b": "no", "votes": votes}
    source = write_rows(tmp_path / "votes.jsonl", row, {**row, "prompt": "Was it?"}, {"prompt": "broken"})
    done = guerdon("aggregate", source, "--out", tmp_path / "labels.jsonl", "aggregate.draws=100")
    assert done.code == 0
    assert "4 judgments of 2 pairs by 2 annotators" in " ".join(done.out.split())
    assert done.err.count("1 row set aside") == 1, "the rows are read twice, and reported once"
    assert done.err.count("format: votes") == 1
    assert "2 labels in" in done.err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--method", "vote"], "aggregate.method must be 'auto', 'majority'"),
        (["--annotators", "table.txt"], "table.txt: the ending must be .json or .csv"),
        (["--method", "ability"], "method must be majority where no annotator has a name"),
        (["--out", "labels.txt"], "labels.txt: the ending must be .jsonl, .jsonl.gz or .parquet"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "d.jsonl", {"prompt": "Is it?", "responses": ["yes", "no"], "preference": {"q": 1.0}})
    done = guerdon("aggregate", "d.jsonl", "--out", "labels.jsonl", *words)
    assert done.code == 2
    assert line in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["d.jsonl"]
