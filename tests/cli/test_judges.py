"""judge.yaml in place of a model: audit, benchmark, compare, best-of-n, with what it cost and where it fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from shell import guerdon
from toys import comparisons

from guerdon.io.writers import write_comparisons
from guerdon.optimization import read_pool

JUDGE = """
def goods(prompt, first, second):
    return float(first.text.split().count("good") - second.text.split().count("good"))

def silent(prompt, first, second):
    if (len(first.text) + len(second.text)) % 7 == 0:
        raise ValueError("too hard")
    return goods(prompt, first, second)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "judges.py").write_text(JUDGE)
    for name in ("goods", "silent"):
        (tmp_path / f"{name}.yaml").write_text(f"kind: python\nfunction: {tmp_path}/judges.py:{name}\n")
    write_comparisons(tmp_path / "data.jsonl", comparisons(120, odds=2.0))
    return tmp_path


def test_an_audit_of_a_judge_says_what_it_did(folder: Path) -> None:
    options = ["audit.draws=100", "audit.null_draws=100", "--json"]
    only = 'audit.only=["accuracy","order","unresolved"]'
    result = guerdon("audit", "--judge", folder / "goods.yaml", "--data", folder / "data.jsonl", only, *options)
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["about"]["judge"] == "goods (python)"
    assert report["about"]["pairs judged"] == "120"
    failing = guerdon("audit", "--judge", folder / "silent.yaml", "--data", folder / "data.jsonl", only, *options)
    assert failing.code == 3
    assert "failed: silent has no verdict on" in failing.err
    patient = guerdon(
        "audit", "--judge", folder / "silent.yaml", "--data", folder / "data.jsonl", only, *options,
        "judge.unresolved_max=0.9",
    )  # fmt: skip
    assert patient.code == 0


def test_a_model_and_a_judge_are_refused_together(folder: Path) -> None:
    result = guerdon("audit", "model", "--judge", folder / "goods.yaml", "--data", folder / "data.jsonl")
    assert result.code == 2
    assert "got MODEL and --judge and --data" in result.err


def test_judges_are_compared(folder: Path) -> None:
    result = guerdon(
        "compare", folder / "goods.yaml", folder / "silent.yaml", "--data", folder / "data.jsonl",
        "judge.unresolved_max=0.9", "audit.draws=100", "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["estimates"]["agreement"]["value"] == 1.0
    assert "on which one of them has no verdict" in report["about"]["left out"]


def test_a_judge_takes_a_benchmark_and_undecided_items_are_left_out(folder: Path) -> None:
    rows = [
        {"id": str(i), "prompt": f"Question {i}", "chosen": "good " * (i % 3 + 1), "rejected": "bad " * (i % 5 + 1)}
        for i in range(60)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fine = guerdon("benchmark", "--judge", folder / "goods.yaml", "--data", folder / "pairs.jsonl", "--json")
    assert fine.code == 0, fine.err
    assert json.loads(fine.out)["estimates"]["score"]["value"] == 1.0
    silent = guerdon("benchmark", "--judge", folder / "silent.yaml", "--data", folder / "pairs.jsonl", "--json")
    assert silent.code == 3
    report = json.loads(silent.out)
    assert report["estimates"]["score"]["value"] == 1.0
    assert report["estimates"]["score"]["n"] < 60
    assert report["findings"][0]["title"] == "The judge has no verdict on some items"


def test_a_judge_chooses_the_best_of_n(folder: Path, tiny_dir: Path) -> None:
    (folder / "prompts.jsonl").write_text('{"prompt": "write a tweet"}\n{"prompt": "write a review"}\n')
    result = guerdon(
        "optimize", "best-of-n", "--policy", tiny_dir, "--reward", folder / "goods.yaml", "--prompts",
        folder / "prompts.jsonl", "--n", "4", "--out", folder / "pool.jsonl", "best_of_n.max_tokens=12",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "judge: goods (python); pairs judged:" in result.err
    reward = read_pool(folder / "pool.jsonl").rollouts.reward
    assert reward is not None
    assert len(reward) == 8
    assert np.isfinite(reward).all()
