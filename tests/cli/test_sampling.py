"""guerdon sample: responses of a policy in a file that score reads, or on the screen."""

import json

import pytest
from errors import gives_advice
from optimization_runs import PROMPTS, kindness, small_policy
from shell import guerdon as run

import guerdon
from guerdon.io.schema import conversation_from_row
from guerdon.models.policy import LanguagePolicy

FEW = ("best_of_n.max_tokens=4", "--n", 3)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": p[-1].content}) + "\n" for p in PROMPTS[:3]))
    return path


def rows(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_file_holds_the_responses_that_best_of_n_would_draw(tiny_dir, tmp_path, prompts):
    out, pool = tmp_path / "replies.jsonl", tmp_path / "pool.jsonl"
    ran = run("sample", "--policy", tiny_dir, "--prompts", prompts, "--out", out, *FEW, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out) == {"prompts": 3, "responses": 9, "excluded": 0, "out": str(out)}
    guerdon.best_of_n(small_policy(tiny_dir, 0), kindness, PROMPTS[:3], pool, n=3, max_tokens=4)
    assert [row["responses"] for row in rows(out)] == [row["responses"] for row in rows(pool)]
    assert all(row.keys() == {"id", "prompt", "responses", "log_prob"} for row in rows(out))


def test_the_file_is_what_score_reads_and_not_a_pool(tiny_dir, tmp_path, prompts):
    out = tmp_path / "replies.jsonl"
    run("sample", "--policy", tiny_dir, "--prompts", prompts, "--out", out, *FEW)
    for row in rows(out):
        prompt, responses, is_single = conversation_from_row("here", row)
        assert (prompt[-1].role, len(responses), is_single) == ("user", 3, False)
    ran = run("audit", "overoptimization", out)
    assert ran.code == 2
    assert "replies.jsonl:1: reward is missing. Draw the pool with guerdon optimize best-of-n." in ran.err


def test_the_same_command_resumes(tiny_dir, tmp_path, prompts, monkeypatch):
    out = tmp_path / "replies.jsonl"
    words = ("sample", "--policy", tiny_dir, "--prompts", prompts, *FEW, "best_of_n.prompts_at_once=1", "--out")
    assert run(*words, tmp_path / "whole.jsonl").code == 0
    sample, calls = LanguagePolicy.sample_with_seeds, []

    def dying(self, *given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return sample(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(LanguagePolicy, "sample_with_seeds", dying)
        assert run(*words, out).code == 130
    assert not out.exists()
    assert run(*words, out).code == 0
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.fixture
def commands(tiny_dir, tmp_path, prompts):
    """sample and best-of-n with the same policy, prompts and options."""
    reward = tmp_path / "reward.py"
    reward.write_text("def length(prompts, responses):\n    return [float(len(r.text)) for r in responses]\n")
    words = ("--policy", tiny_dir, "--prompts", prompts, *FEW)
    best_of_n = ("optimize", "best-of-n", *words, "--reward", f"{reward}:length")
    return {"sample": ("sample", *words), "best-of-n": best_of_n}


@pytest.mark.parametrize(("first", "second"), [("best-of-n", "sample"), ("sample", "best-of-n")])
def test_a_finished_pool_and_a_finished_sample_never_replace_each_other(commands, tmp_path, first, second):
    out = tmp_path / "replies.jsonl"
    ran = run(*commands[first], "--out", out)
    assert ran.code == 0, ran.err
    before = out.read_bytes()
    ran = run(*commands[second], "--out", out)
    assert ran.code == 2
    assert f"{out}: belongs to a run that differs in reward" in ran.err
    assert out.read_bytes() == before


def test_a_prompt_on_the_command_line_prints_its_responses(tiny_dir):
    ran = run("sample", "--policy", tiny_dir, "--prompt", "write a tweet", *FEW, "--json")
    assert ran.code == 0, ran.err
    responses = json.loads(ran.out)["responses"]
    assert len(responses) == 3
    assert {response["finish"] for response in responses} <= {"stop", "length"}
    ran = run("sample", "--policy", tiny_dir, "--prompt", "write a tweet", *FEW)
    assert len(ran.out.splitlines()) >= 3


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "a file or a prompt must be given, got neither"),
        (("--prompt", "a", "--out", "x.jsonl"), "got --out and --prompt"),
        (("--prompts", "{prompts}"), "got --prompts. Give"),
        (("--prompts", "{prompts}", "--out", "{prompts}"), "must not be what is read, which the command would replace"),
        (("--prompts", "{prompts}", "--out", "x.txt"), "x.txt"),
        (("--prompts", "nowhere.jsonl", "--out", "x.jsonl"), "nowhere.jsonl"),
        (("--prompt", "a", "--n", 0), "best_of_n.n must be greater than or equal to 1, got 0"),
    ],
)
def test_a_mistake_is_one_line(tiny_dir, prompts, words, complaint, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = prompts.read_bytes()
    ran = run("sample", "--policy", tiny_dir, *(str(word).replace("{prompts}", str(prompts)) for word in words))
    assert ran.code == 2
    line = ran.err.splitlines()[-1]
    assert complaint in line
    assert gives_advice(line.removeprefix("error: "))
    assert prompts.read_bytes() == before
