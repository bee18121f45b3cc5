"""What a new user brings, and the commands of docs/tools.md: from a spreadsheet, a TRL data set and an Argilla export to a model."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shell import guerdon as command
from snippets import judged_pairs

import guerdon

Row = dict[str, str]
NUM_ROWS = 80
TRAINING = ("train.lr=3e-3", "train.epochs=3", "train.batch_size=8")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*words: object, code: int = 0) -> Any:
    """What the command prints with --json."""
    ran = command(*words, "--json")
    assert ran.code == code, ran
    assert "Traceback" not in ran.err
    return json.loads(ran.out)


def assert_trains_a_model_that_scores(base: Path, data: object) -> None:
    """Split, train and score: the model prefers a kind answer that it has not seen."""
    parts = run("split", data, "--out", "parts", "split.train=0.8", "split.calibrate=0.1", "split.audit=0.1")
    assert parts["train"] > parts["calibrate"] > 0
    train = ("train", "--data", "parts/train.jsonl", "--held-out", "parts/calibrate.jsonl", "--out", "runs/mine")
    trained = run(*train, "--base", base, *TRAINING)
    assert trained["comparisons"] == parts["train"]
    answers = "we have great film 1 2 3 4.", "they have awful film 1 2 3 4."
    words = [word for answer in answers for word in ("--response", answer)]
    good, bad = run("score", trained["model"], "--prompt", "Write a review about 9 9 9 9.", *words)["rewards"]
    assert good > bad


# ---- A spreadsheet -------------------------------------------------------------------------------------------------


COLUMNS = {
    "prompt": "Frage (Question)", "first": "Antwort A", "second": "Antwort B", "label": "Besser", "annotator": "Wer"
}  # fmt: skip
MAPPED = [word for ours, theirs in COLUMNS.items() for word in ("--column", f"{ours}={theirs}")]


def sheet(rows: list[Row], delimiter: str) -> bytes:
    """As spreadsheets save it: byte-order mark, CRLF between rows, LF within cells, quotes doubled."""
    text = io.StringIO()
    table = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    table.writerow(["Nr.", *COLUMNS.values()])
    for i, row in enumerate(rows):
        sides = (row["chosen"], row["rejected"]) if i % 2 else (row["rejected"], row["chosen"])
        winner = {5: "Tie", 7: ""}.get(i, "BA"[i % 2])
        table.writerow([i + 1, row["prompt"] + ('\nOnly "one" line; please,' if i == 3 else ""), *sides, winner, "Ann"])
    return b"\xef\xbb\xbf" + text.getvalue().encode()


@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
def test_a_sheet_saved_as_csv_becomes_a_model(tiny_dir, delimiter):
    Path("survey.csv").write_bytes(sheet(judged_pairs(NUM_ROWS), delimiter))
    refused = command("import", "survey.csv", "--out", "survey.jsonl")
    assert refused.code == 2
    assert "--column first=left --column second=right --column label=winner" in refused.err

    imported = run("import", "survey.csv", "--out", "survey.jsonl", *MAPPED)
    assert (imported["comparisons"], imported["rejected"]) == (NUM_ROWS - 1, 1)
    (rejected,) = Path("survey.rejected.jsonl").read_text("utf-8").splitlines()
    assert (
        json.loads(rejected)["place"] == "survey.csv:10 (row 9)"
    )  # the header and a line end within a cell come before
    comparisons = guerdon.read("survey.jsonl")
    assert comparisons[3].prompt[0].content.endswith('.\nOnly "one" line; please,')
    assert comparisons[5].q == 0.5
    assert {comparison.annotator for comparison in comparisons} == {"Ann"}
    assert comparisons[0].responses[1].text == judged_pairs(NUM_ROWS)[0]["chosen"]
    assert comparisons[0].q == 0.0

    titles = {finding["title"]: finding["severity"] for finding in run("check", "survey.jsonl")["findings"]}
    assert "error" not in titles.values(), titles
    if delimiter == ";":
        assert_trains_a_model_that_scores(tiny_dir, "survey.jsonl")


# ---- A TRL data set ------------------------------------------------------------------------------------------------


def as_messages(row: Row) -> dict[str, list[dict[str, str]]]:
    """A row of the explicit form with messages."""
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return {name: [{"role": role, "content": row[name]}] for name, role in roles.items()}


def save_to_disk(folder: Path, rows: list[Any]) -> None:
    """A data set in the layout that datasets 5.2.0 writes."""
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text("{}")


def test_a_trl_data_set_in_any_file_becomes_a_model(tiny_dir):
    rows = judged_pairs(NUM_ROWS)
    Path("trl.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    messages = [as_messages(row) for row in rows]
    pq.write_table(pa.Table.from_pylist(messages), "trl.parquet")
    save_to_disk(Path("saved/train"), messages)
    save_to_disk(Path("saved/test"), messages[:5])
    Path("saved/dataset_dict.json").write_text('{"splits": ["train", "test"]}')

    comparisons = guerdon.read("trl.jsonl")
    assert len(comparisons) == NUM_ROWS
    assert guerdon.read("trl.parquet") == guerdon.read("saved") == comparisons
    assert len(guerdon.read("saved", hub_split="test")) == 5
    for row, comparison in zip(rows, comparisons, strict=True):
        best, worst = (comparison.responses[group[0]].text for group in comparison.preference.groups)
        assert (comparison.prompt[0].content, best, worst) == (row["prompt"], row["chosen"], row["rejected"])
    assert_trains_a_model_that_scores(tiny_dir, "saved")


# ---- An Argilla export ---------------------------------------------------------------------------------------------

ANSWERS: dict[str, Callable[[str, str], dict[str, Any]]] = {  # of a user who prefers the first of two fields
    "a label that names a field": lambda best, _: {"preference": best},
    "a ranking": lambda best, worst: {"preference": [best, worst]},
    "ratings": lambda best, worst: {f"{best}_rating": 5, f"{worst}_rating": 2},
}


def records(rows: list[Row], answer: Callable[[str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    """What `records.to_json` of argilla 2.8.0 writes: two users; the last record waits for its answers."""
    exported = []
    for i, row in enumerate(rows):
        sides = (row["chosen"], row["rejected"]) if i % 2 else (row["rejected"], row["chosen"])
        fields = "response1", "response2"
        best, worst = fields if i % 2 else fields[::-1]
        responses: dict[str, list[dict[str, Any]]] = {}
        for user in ("u-ann", "u-bob") if i < len(rows) - 1 else ():
            given = answer(best, worst) if i != 4 or user == "u-ann" else answer(worst, best)
            for question, value in given.items():
                responses.setdefault(question, []).append({"value": value, "user_id": user})
        exported.append(
            {
                "id": f"r{i}", "fields": {"prompt": row["prompt"], **dict(zip(fields, sides, strict=True))},
                "metadata": {"source": "app"}, "suggestions": {"preference": {"value": worst, "score": 0.5, "agent": "m"}},
                "responses": responses, "vectors": {}, "status": "pending", "_server_id": None,
            }
        )  # fmt: skip
    return exported


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_argilla_export_becomes_a_model(tiny_dir, kind):
    rows = judged_pairs(NUM_ROWS)
    Path("argilla.json").write_text(json.dumps(records(rows, ANSWERS[kind])))
    imported = run("import", "argilla.json", "--out", "argilla.jsonl")
    assert (imported["comparisons"], imported["rejected"]) == (NUM_ROWS - 1, 1)
    assert "judgments are missing" in Path("argilla.rejected.jsonl").read_text("utf-8")
    comparisons = guerdon.read("argilla.jsonl")
    assert {comparison.preference.votes for comparison in comparisons} == {(2, 0, 0), (0, 0, 2), (1, 0, 1)}
    assert comparisons[4].q == 0.5
    for row, comparison in zip(rows, comparisons, strict=False):
        if comparison.q != 0.5:
            assert comparison.responses[int(comparison.q == 0.0)].text == row["chosen"]

    findings = run("check", "argilla.jsonl")["findings"]
    assert "error" not in {finding["severity"] for finding in findings}, findings
    if kind == "a ranking":
        assert_trains_a_model_that_scores(tiny_dir, "argilla.jsonl")
