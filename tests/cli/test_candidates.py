"""guerdon sample with several policies, servers and a store: replies for judges and people to compare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comparison_files import write_rows
from errors import gives_advice
from judge_server import JudgeServer, completion, error, misbehaving, share
from shell import guerdon

PROMPTS = [{"prompt": f"write a {word}"} for word in ("tweet", "review", "question")]
FEW = ("--n", 2, "best_of_n.max_tokens=6")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with prompts and a store."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "prompts.jsonl", *PROMPTS)
    assert guerdon("store", "init", "team.db").code == 0
    return tmp_path


def server_file(name: str, url: str, **options) -> str:
    Path(f"{name}.yaml").write_text(json.dumps({"model": name, "url": url, "tries": 1, **options}))
    return f"{name}.yaml"


def writes(body: dict, tried: int) -> dict:
    return completion(f"{body['messages'][-1]['content']} {share(body, 'reply'):.6f}", usage=(9, 6))


def rows(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def status() -> dict:
    return json.loads(guerdon("store", "status", "team.db", "--json").out)


def test_a_model_here_and_a_server_reply_and_a_judge_labels_what_the_store_holds(folder, tiny_dir):
    with JudgeServer(writes) as server:
        words = (
            "sample", "--policy", tiny_dir, "--policy", server_file("writer", server.url), "--prompts", "prompts.jsonl",
            "--out", "replies.jsonl", "--store", "team.db", *FEW,
        )  # fmt: skip
        ran = guerdon(*words, "--json")
        assert ran.code == 0, ran.err
        written, facts = Path("replies.jsonl").read_bytes(), json.loads(ran.out)
        assert len({b["seed"] for b in server.bodies}) == 6
        assert {(b["temperature"], b["max_tokens"], b["model"]) for b in server.bodies} == {(1.0, 6, "writer")}
        again = guerdon(*words, "--json")
        assert (sum(server.tries.values()), again.code, Path("replies.jsonl").read_bytes()) == (6, 0, written)
    assert {name: facts["policies"][name]["replies"] for name in (str(tiny_dir), "writer")} == {
        str(tiny_dir): 6,
        "writer": 6,
    }
    assert facts["new items"] == 18
    assert json.loads(again.out)["new items"] == 0
    assert [[r["author"] for r in row["responses"]] for row in rows("replies.jsonl")] == [
        [str(tiny_dir)] * 2 + ["writer"] * 2
    ] * 3
    assert (status()["items"], status()["judgments"], status()["judge_calls"]) == (18, 0, 12)
    Path("longer.py").write_text(
        "def longer(prompt, first, second):\n    return float(len(first.text) - len(second.text)) + 0.5\n"
    )
    Path("judge.yaml").write_text("kind: python\nfunction: longer.py:longer\n")
    ran = guerdon("judge", "store:team.db", "--judge", "judge.yaml", "--store", "team.db")
    assert ran.code == 0, ran.err
    assert (status()["items"], status()["judged_items"], status()["labels"]) == (18, 18, 18), (
        "the items that sample made"
    )
    assert guerdon("store", "verify", "team.db").code == 0


def test_a_file_alone_is_what_judges_read(folder, tiny_dir):
    with JudgeServer(writes) as server:
        ran = guerdon(
            "sample",
            "--policy",
            server_file("writer", server.url),
            "--prompts",
            "prompts.jsonl",
            "--out",
            "r.jsonl",
            *FEW,
        )
        assert ran.code == 0, ran.err
    assert "writer: replies" in ran.out
    assert Path("r.calls.db").exists()
    Path("longer.py").write_text(
        "def longer(prompt, first, second):\n    return float(len(first.text) - len(second.text)) + 0.5\n"
    )
    Path("judge.yaml").write_text("kind: python\nfunction: longer.py:longer\n")
    ran = guerdon("judge", "r.jsonl", "--judge", "judge.yaml", "--out", "labels.jsonl")
    assert ran.code == 0, ran.err
    assert len(rows("labels.jsonl")) == 3
    assert (
        guerdon("sample", "--policy", "writer.yaml", "--prompts", "prompts.jsonl", "--out", "r.jsonl", *FEW).code == 0
    ), "no server"


def test_failed_calls_are_no_replies_are_counted_and_exit_with_3_until_they_succeed(folder):
    is_broken = True

    def script(body: dict, tried: int):
        return error("the worker died", 500) if is_broken and "review" in str(body) else writes(body, tried)

    with JudgeServer(script) as server:
        words = (
            "sample",
            "--policy",
            server_file("writer", server.url),
            "--prompts",
            "prompts.jsonl",
            "--out",
            "r.jsonl",
            *FEW,
        )
        ran = guerdon(*words, "--json")
        assert ran.code == 3, ran.err
        assert json.loads(ran.out)["policies"]["writer"]["failed: http_5xx"] == 2
        assert json.loads(ran.out)["prompts without a reply"] == 1
        assert [("excluded" in row, len(row.get("failed", []))) for row in rows("r.jsonl")] == [
            (False, 0),
            (True, 2),
            (False, 0),
        ]
        is_broken, before = False, sum(server.tries.values())
        ran = guerdon(*words)
        assert (ran.code, sum(server.tries.values()) - before) == (0, 2), ran.err
    assert all(len(row["responses"]) == 2 for row in rows("r.jsonl"))


def test_a_server_that_misbehaves_loses_nothing_and_gives_no_reply_twice(folder):
    write_rows(folder / "prompts.jsonl", *({"prompt": f"write {i}"} for i in range(40)))
    with JudgeServer(misbehaving(writes, 1.0)) as server:
        words = (
            "sample", "--policy", server_file("writer", server.url, tries=3, timeout=1.0, unresolved_max=1), "--prompts", "prompts.jsonl",
            "--out", "r.jsonl", *FEW,
        )  # fmt: skip
        ran = guerdon(*words)
        assert ran.code == 0, ran.err
    samples = [
        (row["id"], each["sample"])
        for row in rows("r.jsonl")
        for each in [*row.get("origins", []), *row.get("failed", [])]
    ]
    assert len(samples) == len(set(samples)) == 80
    assert any("failed" in row for row in rows("r.jsonl"))


def test_all_replies_to_a_prompt_are_one_item_on_request(folder):
    with JudgeServer(writes) as server:
        ran = guerdon(
            "sample", "--policy", server_file("writer", server.url), "--prompts", "prompts.jsonl", "--store", "team.db", "--items", "all",
            "--n", 4,
        )  # fmt: skip
    assert ran.code == 0, ran.err
    assert (status()["items"], status()["responses"]) == (3, 12)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--out", "r.jsonl"), "--prompts must be given"),
        (("--prompts", "prompts.jsonl"), "must have somewhere to go"),
        (("--prompts", "prompts.jsonl", "--store", "none.db"), "none.db"),
        (("--prompts", "prompts.jsonl", "--store", "team.db", "--n", 1), "best_of_n.n must be 2 or more"),
        (("--prompts", "prompts.jsonl", "--store", "team.db", "--items", "three"), "items must be pairs or all"),
        (("--prompts", "prompts.jsonl", "--out", "r.csv"), "r.csv"),
        (("--prompts", "prompts.jsonl", "--out", "r.jsonl", "--policy", "writer.yaml"), "must have different names"),
        (
            ("--prompts", "prompts.jsonl", "--out", "r.jsonl", "policy.server=http://x"),
            "policy.server must be left out",
        ),
        (("--prompts", "prompts.jsonl", "--out", "old.jsonl"), "belongs to another run"),
        (("--prompts", "tools.jsonl", "--out", "r.jsonl"), "tools must be left out here"),
        (
            ("--prompts", "prompts.jsonl", "--out", "r.jsonl", "--policy", "rule.yaml"),
            "judge.kind must be endpoint or local",
        ),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_asked(folder, words, complaint):
    server_file("writer", "http://127.0.0.1:9")
    Path("rule.yaml").write_text("kind: python\nfunction: x.py:f\n")
    Path("old.jsonl.made.json").write_text("{}")
    write_rows(folder / "tools.jsonl", {"prompt": "hi", "tools": [{"type": "function", "function": {"name": "f"}}]})
    ran = guerdon("sample", "--policy", "writer.yaml", *words)
    line = ran.err.splitlines()[-1]
    assert ran.code == 2, ran.err
    assert complaint in line
    assert gives_advice(line.removeprefix("error: "))
    assert not Path("r.jsonl").exists()
