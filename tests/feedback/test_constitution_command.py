"""`guerdon constitution run` and `lint`, against a scripted server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeServer, Reply, completion
from shell import guerdon

from guerdon.io import readers

GOOD = "Boil fresh water, pour it over the leaves, and wait for four minutes. Enjoy your tea."
BAD = "Just boil some water, you fool, and do not ask me such silly things again, ever."


def critic(body: dict[str, Any], tried: int) -> dict[str, Any] | Reply:
    """Criticizes, rewrites, and prefers the rewritten text wherever it is shown."""
    last = body["messages"][-1]["content"]
    if body.get("logprobs"):
        if "<response-1-" not in last:  # the two questions that show whether there are log-probabilities
            return completion("1", "length", {"1": 0.98, "2": 0.02} if "digit 1" in last else {"1": 0.03, "2": 0.97})
        first = last.split("<response-1-", 1)[1].split("</response", 1)[0]
        p = 0.9 if "Boil fresh water" in first else 0.1
        return completion("1", "length", {"1": p, "2": 1 - p})
    if "Critique request" in last:
        return completion("It insults the reader." if BAD in last else "No change needed.")
    return completion(f"Here is the revised response:\n\n{GOOD}")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [{"prompt": f"How do I make tea, {i}?", "response": BAD} for i in range(5)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def judge_file(folder: Path, url: str, **options: Any) -> Path:
    path = folder / "critic.yaml"
    path.write_text(json.dumps({"url": url, "model": "tiny", "mode": "pair", **options}), "utf-8")
    return path


def test_revisions_become_rows_and_verified_pairs_and_a_second_run_costs_nothing(tmp_path: Path, rows: Path) -> None:
    out = tmp_path / "out"
    with JudgeServer(critic) as server:
        words = ("--quiet", "constitution", "run", rows, "--critic", judge_file(tmp_path, server.url), "--out", out)
        first = guerdon(*words)
        assert (first.code, first.err) == (0, "")
        num_calls = sum(server.tries.values())
        files = {path.name: path.read_bytes() for path in out.glob("*.jsonl")}
        assert guerdon(*words).code == 0
        assert sum(server.tries.values()) == num_calls
    assert {path.name: path.read_bytes() for path in out.glob("*.jsonl")} == files
    pairs = list(readers.read_comparisons(out / "comparisons.jsonl"))
    assert len(pairs) == 5
    for pair in pairs:
        better = pair.responses[0 if pair.q > 0.5 else 1]
        assert better.text == GOOD
        assert max(pair.q, 1 - pair.q) == pytest.approx(0.9)
    assert {pair.source for pair in pairs} == {"constitution guerdon"}
    sft = [json.loads(line) for line in files["sft.jsonl"].splitlines()]
    assert [row["messages"][-1]["content"] for row in sft] == [GOOD] * 5
    chains = [json.loads(line) for line in files["chains.jsonl"].splitlines()]
    assert [[step["state"] for step in chain["steps"]] for chain in chains] == [["revised", "no_change"]] * 5
    assert (out / "report.html").exists()


def test_a_pair_that_the_judge_does_not_prefer_is_set_aside_as_unverified(tmp_path: Path, rows: Path) -> None:
    def hates_it(body: dict[str, Any], tried: int) -> Any:
        if body.get("logprobs") and "<response-1-" in body["messages"][-1]["content"]:
            return completion("1", "length", {"1": 0.5, "2": 0.5})
        return critic(body, tried)

    out = tmp_path / "out"
    with JudgeServer(hates_it) as server:
        assert (
            guerdon("constitution", "run", rows, "--critic", judge_file(tmp_path, server.url), "--out", out).code == 0
        )
    assert (out / "comparisons.jsonl").read_text() == ""
    unverified = list(readers.read_comparisons(out / "unverified.jsonl"))
    assert {pair.source for pair in unverified} == {"constitution guerdon, unverified"}


def test_a_run_in_which_most_calls_fail_ends_with_exit_code_3_and_no_pair(tmp_path: Path, rows: Path) -> None:
    out = tmp_path / "out"
    with JudgeServer(lambda body, tried: completion("The response begins by", "length")) as server:
        ran = guerdon("constitution", "run", rows, "--critic", judge_file(tmp_path, server.url), "--out", out)
    assert ran.code == 3, ran.err
    assert "truncated 10" in ran.out
    assert (out / "comparisons.jsonl").read_text() == (out / "sft.jsonl").read_text() == ""


def test_pairs_are_compared_under_principles_that_are_annotators(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "Tea?", "responses": [GOOD, BAD]}) + "\n", "utf-8")
    out = tmp_path / "out"
    with JudgeServer(critic) as server:
        ran = guerdon(
            "constitution", "run", path, "--critic", judge_file(tmp_path, server.url), "--out", out, "--flow", "compare"
        )
        assert ran.code == 0, ran.err
    [mean] = readers.read_comparisons(out / "comparisons.jsonl")
    assert mean.q == pytest.approx(0.9)
    each = list(readers.read_comparisons(out / "by_principle.jsonl"))
    assert len({row.annotator for row in each}) == 4
    [details] = [json.loads(line) for line in (out / "checks.jsonl").read_text("utf-8").splitlines()]
    assert (details["q"], details["spread"]) == (pytest.approx(0.9), pytest.approx(0.0, abs=1e-9))
    assert len(details["by_principle"]) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rows.jsonl", "--critic", "none.yaml"), "none.yaml"),
        (
            ("rows.jsonl", "--critic", "critic.yaml", "--constitution", "none.yaml"),
            "constitution must be guerdon or a YAML file",
        ),
        (("none.jsonl", "--critic", "critic.yaml"), "none.jsonl"),
        (
            ("rows.jsonl", "--critic", "critic.yaml", "--flow", "compare"),
            "rows.jsonl: a row must have two or more responses",
        ),
        (("rows.jsonl", "--critic", "critic.yaml", "--flow", "both"), "constitution.flow must be"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    judge_file(tmp_path, "http://127.0.0.1:9")
    ran = guerdon("constitution", "run", *words, "--out", "out")
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1, ran.err


def test_a_judge_that_writes_nothing_is_no_critic(tmp_path: Path, rows: Path) -> None:
    judge = tmp_path / "rule.py"
    judge.write_text("def prefer(prompt, first, second):\n    return 0.0\n", "utf-8")
    critic_file = tmp_path / "critic.yaml"
    critic_file.write_text(f"kind: python\nfunction: {judge}:prefer\n", "utf-8")
    ran = guerdon("constitution", "run", rows, "--critic", critic_file, "--out", tmp_path / "out")
    assert ran.code == 2
    assert "judge.kind must be endpoint or local, which answer questions, got 'python'" in ran.err


def test_lint_exits_1_on_errors(tmp_path: Path) -> None:
    assert guerdon("constitution", "lint").code == 0
    path = tmp_path / "c.yaml"
    path.write_text("id: mine\nlicense: CC0-1.0\nprinciples: [{id: idle}]\n", "utf-8")
    ran = guerdon("constitution", "lint", path)
    assert ran.code == 1
    assert "idle can do nothing" in ran.out
