"""Benchmarks by the Python function and by the command: files, hub names, files of scores."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
from published import PAIRS, REWARDBENCH2, items_of, write
from toys import Good
from typer.testing import CliRunner

import guerdon
from guerdon.benchmarks.scoring import score_items
from guerdon.contracts import GuerdonError


def test_rows_without_ids_are_matched_by_order_with_a_note(tmp_path):
    data = write(tmp_path / "pairs.jsonl", PAIRS)
    scores = write(tmp_path / "m_all.jsonl", [{"chosen": i, "rejected": 0.5} for i in range(3)])
    report = guerdon.benchmark(None, data, scores=scores, draws=100)
    assert report.estimates["score"].value == pytest.approx(2 / 3)
    assert "Scores were matched by order" in {finding.title for finding in report.findings}
    assert report.about["scores"] == str(scores)


def test_known_scores_give_the_report_that_the_model_gives(tmp_path):
    items = items_of("rewardbench2")
    scores = [
        {"id": i.id, "scores": s[0].tolist()} for i, s in zip(items, score_items(Good(), items).scores, strict=True)
    ]
    data, file = write(tmp_path / "d.jsonl", REWARDBENCH2), write(tmp_path / "s.jsonl", scores)
    by_model, by_scores = (
        guerdon.benchmark(Good(), data, draws=100),
        guerdon.benchmark(None, data, scores=file, draws=100),
    )
    assert repr(by_model.estimates) == repr(by_scores.estimates)
    assert repr(by_model.sections) == repr(by_scores.sections)


def test_exactly_one_of_a_model_and_scores_must_be_given(tmp_path):
    data = write(tmp_path / "d.jsonl", PAIRS)
    for model, scores in ((Good(), data), (None, None)):
        with pytest.raises(GuerdonError, match=r"must be given, got (both|neither)\. Give a model"):
            guerdon.benchmark(model, data, scores=scores)


def test_a_hub_name_is_read_from_its_published_split(monkeypatch):
    asked = []

    class Datasets(ModuleType):
        @staticmethod
        def load_dataset(name, split, streaming):
            asked.append((name, split))
            return REWARDBENCH2

    monkeypatch.setitem(sys.modules, "datasets", Datasets("datasets"))
    report = guerdon.benchmark(Good(), "allenai/reward-bench-2", draws=100)
    assert report.about["benchmark"] == "RewardBench 2"
    guerdon.benchmark(Good(), "org/other", hub_split="validation", name="rewardbench2", draws=100)
    assert asked == [("allenai/reward-bench-2", "test"), ("org/other", "validation")]


def test_the_command_writes_a_report_and_takes_scores_for_the_model(tmp_path):
    from guerdon.cli.app import app

    data = write(tmp_path / "d.jsonl", PAIRS)
    scores = write(tmp_path / "s.jsonl", [{"id": x, "scores": [1, 0]} for x in "abc"])
    given = [
        "benchmark",
        "benchmark.draws=100",
        "--data",
        str(data),
        "--scores",
        str(scores),
        "--out",
        str(tmp_path / "o"),
    ]
    done = CliRunner().invoke(app, [*given[:1], *given[2:], given[1]])
    assert done.exit_code == 0, done.output
    assert "Preference pairs gives 100.0 %" in " ".join(done.output.split())
    assert (tmp_path / "o" / "report.html").exists()
    assert CliRunner().invoke(app, [*given, "--json"]).exit_code == 0  # an override is no MODEL
    refused = CliRunner().invoke(app, ["benchmark", "--data", str(data)])
    assert isinstance(refused.exception, GuerdonError)


def test_a_path_may_hold_an_equals_sign_and_scores_may_be_several_files(tmp_path):
    from guerdon.cli.app import app
    from guerdon.cli.options import model_and_overrides

    folder = tmp_path / "dataset=mine,seed=1"
    data = write(folder / "d.jsonl", PAIRS)
    files = [write(folder / f"judge=m,{x}.jsonl", [{"id": x, "scores": [1, 0]}]) for x in "abc"]
    words = ["benchmark", "benchmark.draws=100", "--data", str(data)]
    done = CliRunner().invoke(app, [*words, *(word for file in files for word in ("--scores", str(file)))])
    assert done.exit_code == 0, done.output
    assert model_and_overrides(str(folder), ["a=1"]) == (str(folder), ["a=1"])
    assert model_and_overrides("runs/lr=1/model", None) == ("runs/lr=1/model", [])
    assert model_and_overrides("audit.draws=9", ["a=1"]) == (None, ["audit.draws=9", "a=1"])


def test_a_json_file_may_hold_one_object_per_line(tmp_path):
    lines = "".join(json.dumps(row) + "\n" for row in PAIRS)
    (tmp_path / "d.json").write_text(lines, encoding="utf-8")
    assert guerdon.benchmark(Good(), tmp_path / "d.json", draws=100).about["items"] == "3"
    (tmp_path / "d.json").write_text("{", encoding="utf-8")
    with pytest.raises(GuerdonError, match="is not valid JSON"):
        guerdon.benchmark(Good(), tmp_path / "d.json")
