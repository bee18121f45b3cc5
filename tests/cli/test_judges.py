"""judge.yaml in place of a model: audit, benchmark, compare, best-of-n, with what it cost and where it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import JudgeServer, completion
from shell import guerdon
from toys import comparisons

from guerdon.api.judge_cards import CARD_TITLE
from guerdon.config import Config
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


# ---- Calls that are kept, and cards -----------------------------------------------------------------------------------------


def says(body: dict[str, Any], tried: int) -> dict[str, Any]:
    """Prefers the response with more "good" in it, in words or as a score."""
    text = body["messages"][-1]["content"]
    if body["max_tokens"] == 16:
        return completion(str(min(9, 1 + text.count("good"))), usage=(50, 1))
    first, second = (text.split(f"Response {i}")[-1].split("Response")[0].count("good") for i in (1, 2))
    return completion(f"Verdict: {1 if first >= second else 2}", usage=(50, 4))


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer(says) as running:
        yield running


@pytest.fixture
def asking(folder: Path, server: JudgeServer) -> Path:
    """The folder with a judge behind the server, and a store."""
    options = {"model": "tiny", "url": server.url, "mode": "pair_samples", "samples": 1, "tries": 1}
    (folder / "judge.yaml").write_text(json.dumps(options))
    assert guerdon("store", "init", folder / "calls.db").code == 0
    return folder


ONLY = 'audit.only=["accuracy","order"]'
QUICK = ("audit.draws=100", "audit.null_draws=100", "--json")


@pytest.mark.parametrize("command", ["audit", "benchmark", "compare", "best-of-n"])
def test_calls_are_kept_in_a_store_and_the_same_command_asks_nothing(
    asking: Path, server: JudgeServer, tiny_dir: Path, command: str
) -> None:
    rows = [{"id": str(i), "prompt": f"Q{i}", "chosen": "good " * (1 + i % 3), "rejected": "bad"} for i in range(20)]
    (asking / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (asking / "prompts.jsonl").write_text('{"prompt": "write a tweet"}\n')
    words: tuple[object, ...] = {
        "audit": ("audit", "--judge", asking / "judge.yaml", "--data", asking / "data.jsonl", ONLY, *QUICK),
        "benchmark": ("benchmark", "--judge", asking / "judge.yaml", "--data", asking / "pairs.jsonl", "--json"),
        "compare": ("compare", asking / "judge.yaml", asking / "goods.yaml", "--data", asking / "data.jsonl", *QUICK[::2]),
        "best-of-n": (
            "optimize", "best-of-n", "--policy", tiny_dir, "--reward", asking / "judge.yaml", "--prompts",
            asking / "prompts.jsonl", "--n", "3", "--out", asking / "pool.jsonl", "best_of_n.max_tokens=6",
        ),
    }[command]  # fmt: skip
    first = guerdon(*words, "--store", asking / "calls.db")
    assert first.code == 0, first.err
    calls = sum(server.tries.values())
    assert calls > 0
    for path in asking.glob("pool.*"):
        path.unlink()
    again = guerdon(*words, "--store", asking / "calls.db")
    assert (again.code, sum(server.tries.values())) == (0, calls), again.err
    assert "answers reused" in again.out + again.err
    missing = guerdon(*words, "--store", asking / "none.db")
    assert missing.code == 2
    assert "store init" in missing.err


def test_a_store_or_a_card_without_a_judge_is_refused(asking: Path) -> None:
    for name in ("--store", "--card"):
        result = guerdon("audit", "model", "--data", asking / "data.jsonl", name, asking / "calls.db")
        assert result.code == 2
        assert f"{name} must come with --judge" in result.err
    result = guerdon(
        "optimize", "best-of-n", "--reward", "model", "--prompts", asking / "data.jsonl", "--out", asking / "x.jsonl",
        "--store", asking / "calls.db",
    )  # fmt: skip
    assert result.code == 2
    assert "--store must come with a judge.yaml among the rewards" in result.err


def test_options_go_over_those_of_a_judge_that_rewards(asking: Path, tiny_dir: Path, server: JudgeServer) -> None:
    (asking / "prompts.jsonl").write_text('{"prompt": "write a tweet"}\n')
    words = (
        "optimize", "best-of-n", "--policy", tiny_dir, "--prompts", asking / "prompts.jsonl", "--n", "3",
        "best_of_n.max_tokens=6", "--out", asking / "pool.jsonl", "judge.mode=score", "judge.score_by=text",
    )  # fmt: skip
    result = guerdon(*words, "--reward", asking / "judge.yaml")
    assert result.code == 0, result.err
    assert "mode score" in result.err
    assert sum(server.tries.values()) <= 3, "one call for each response, none for pairs"
    idle = guerdon(*words, "--reward", f"{asking}/judges.py:goods")
    assert idle.code == 2
    assert "must come with --reward judge.yaml" in idle.err


def test_a_config_that_lists_all_defaults_changes_no_judge(asking: Path) -> None:
    (asking / "config.yaml").write_text(json.dumps(Config().model_dump(mode="json")))
    result = guerdon(
        "audit", "--judge", asking / "goods.yaml", "--data", asking / "data.jsonl", ONLY, *QUICK, "--config",
        asking / "config.yaml",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert json.loads(result.out)["about"]["judge"] == "goods (python)"


def test_the_card_of_a_judge_is_a_section_of_its_audit(asking: Path) -> None:
    people = [
        {"prompt": f"Q{i}?", "responses": ["good good", "bad"], "preference": {"q": i % 4 / 4, "votes": [i % 4, 0, 4 - i % 4]}}
        for i in range(1, 21)
    ]  # fmt: skip
    (asking / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in people))
    words = ("audit", "--judge", asking / "judge.yaml", "--data", asking / "data.jsonl", ONLY, *QUICK)
    bare = guerdon(*words, "--store", asking / "calls.db")
    assert CARD_TITLE not in bare.out
    card = guerdon(
        "judge-card", "--judge", asking / "judge.yaml", "--data", asking / "people.jsonl", "--out", asking / "card",
        "--store", asking / "calls.db", "--once",
    )  # fmt: skip
    assert card.code == 0, card.err
    stored = guerdon(*words, "--store", asking / "calls.db", "--out", asking / "report")
    assert [part["title"] for part in json.loads(stored.out)["sections"]].count(CARD_TITLE) == 1
    assert CARD_TITLE in (asking / "report" / "report.html").read_text("utf-8")
    given = guerdon(*words, "--card", asking / "card" / "card.json")
    assert CARD_TITLE in given.out, given.err
    assert json.loads(given.out)["gate"] == json.loads(bare.out)["gate"], "a card decides nothing"
    other = guerdon(*words, "--card", asking / "card" / "card.json", "judge.seed=5")
    assert other.code == 2
    assert "must be the card of this judge" in other.err
