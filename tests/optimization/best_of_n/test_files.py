"""A pool's file resumes after a kill, is never drawn twice, and is read back as it was drawn."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pools import (
    SPEC,
    FailingPolicy,
    FakeServer,
    OneSeedPolicy,
    StuckServer,
    WordPolicy,
    brevity,
    draw_rows,
    numbered_prompts,
    options,
    write_toy_pool,
)
from toys import Good

from guerdon.contracts import GuerdonError, Response, Rollouts, as_prompt
from guerdon.io import run_folder
from guerdon.models.remote_policy import ServerError
from guerdon.optimization.best_of_n.files import read_pool, write_pool
from guerdon.optimization.best_of_n.report import to_report
from guerdon.optimization.rewards import combined

TESTS = Path(__file__).parents[2]


def test_a_killed_run_resumes_without_gaps_or_repeats(tmp_path):
    out = tmp_path / "pool.jsonl"
    script = (
        "import sys; from pathlib import Path; from pools import WordPolicy, write_toy_pool; "
        "write_toy_pool(Path(sys.argv[1]), 300, policy=WordPolicy(0.02))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, out], cwd=TESTS)
    partial = tmp_path / "pool.jsonl.partial"
    deadline = time.monotonic() + 100
    while not (partial.exists() and partial.stat().st_size > 4000) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert {path.name for path in tmp_path.iterdir()} == {"pool.jsonl.partial", "pool.jsonl.journal"}
    before = partial.read_bytes().count(b"\n")
    assert 0 < before < 300
    for name in ("partial", "journal"):  # what a power cut may leave
        with (tmp_path / f"pool.jsonl.{name}").open("ab") as file:
            file.write(b'{"half')

    policy = WordPolicy()
    counts, body = write_toy_pool(out, 300, policy=policy)
    assert 0 < policy.calls < 100
    assert counts == {"prompts": 300, "responses": 1200, "excluded": 0}
    assert body == write_toy_pool(tmp_path / "whole.jsonl", 300)[1]
    names = {"pool.jsonl", "whole.jsonl"}
    assert {path.name for path in tmp_path.iterdir()} == names | {f"{name}.made.json" for name in names}


@pytest.mark.parametrize("lives", [0, 1, 2, 3, 5, 8])
def test_replies_that_arrived_before_a_server_died_are_not_drawn_again(tmp_path, lives):
    with pytest.raises(ServerError, match="connection refused"):
        write_toy_pool(tmp_path / "pool.jsonl", 9, policy=FakeServer(lives))
    partial = tmp_path / "pool.jsonl.partial"
    assert (partial.read_bytes().count(b"\n") if partial.exists() else 0) == lives
    again = FakeServer()
    assert write_toy_pool(tmp_path / "pool.jsonl", 9, policy=again) == write_toy_pool(tmp_path / "whole.jsonl", 9)
    assert again.asked == 9 - lives


def test_a_finished_pool_is_not_drawn_again(tmp_path):
    out, details = tmp_path / "pool.jsonl", {"and": "1"}
    first = write_toy_pool(out, details=details)
    policy = WordPolicy()

    def draws(**given):
        policy.calls = 0
        result = write_toy_pool(out, policy=policy, **given)
        return policy.calls > 0, result

    assert draws(details=details) == (False, first)
    assert draws()[0]  # not everything that a row depends on is known
    assert draws(details={"and": "2"})[0]
    assert draws(details=details)[0]
    assert not draws(details=details)[0]


@pytest.mark.parametrize("is_redrawn", [False, True])
def test_a_pool_whose_record_a_kill_prevented_is_whole_all_the_same(tmp_path, monkeypatch, is_redrawn):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    out, policy = tmp_path / "pool.jsonl", WordPolicy()
    if is_redrawn:  # over one that was drawn by an older version, say, whose record is there
        write_toy_pool(out, 20, details={"version": "older"})
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_receipt", killed)
        with pytest.raises(KeyboardInterrupt):
            write_toy_pool(out, 20, details={"version": "newer"})
    assert out.is_file()
    counts, body = write_toy_pool(out, 20, policy=policy, details={"version": "newer"})
    assert counts["prompts"] == 20
    assert policy.calls == 0
    assert body == write_toy_pool(tmp_path / "whole.jsonl", 20)[1]
    assert not list(tmp_path.glob("*.journal"))


def test_a_pool_that_was_made_of_something_else_is_refused_and_stays(tmp_path):
    out = tmp_path / "pool.jsonl"
    _, body = write_toy_pool(out)
    policy = WordPolicy()
    with pytest.raises(
        GuerdonError,
        match=r"belongs to a run that differs in set of options\. Delete it to start over, or pass another path\.",
    ):
        write_toy_pool(out, policy=policy, seed=1)
    for change in (
        lambda: (tmp_path / "pool.jsonl.made.json").write_text("[]"),
        lambda: (tmp_path / "pool.jsonl.made.json").unlink(),
        lambda: out.write_bytes(body[:-1]),
    ):
        change()
        with pytest.raises(GuerdonError, match="was not written by this command"):
            write_toy_pool(out, policy=policy)
    assert policy.calls == 0
    assert out.read_bytes() == body[:-1]


def test_a_pool_is_written_only_to_a_file_that_can_be_read_again(tmp_path):
    policy = WordPolicy()
    with pytest.raises(GuerdonError, match=r"r\.py: the ending must be \.jsonl, got '\.py'\. Change the ending\."):
        write_toy_pool(tmp_path / "r.py", policy=policy)
    assert policy.calls == 0


@pytest.mark.parametrize("log_probs", [False, True])
def test_replies_that_cannot_be_written_yet_are_saved_when_a_server_dies(tmp_path, log_probs):
    """The first of three prompts is answered last: the replies to the other two are not asked for again."""

    class LastFirst(StuckServer):
        """Answers a group of prompts in reverse."""

        def sample_with_seeds(self, prompts, n, max_tokens, temperature, seeds):
            if len(prompts) < 2:
                return super().sample_with_seeds(prompts, n, max_tokens, temperature, seeds)
            try:
                reverse = super().sample_with_seeds(prompts[::-1], n, max_tokens, temperature, seeds[::-1])
            except ServerError as error:
                partial, log_prob = (
                    {len(prompts) - 1 - i: replies for i, replies in part.items()}
                    for part in (error.partial, error.log_prob)
                )
                raise ServerError("gone", partial, log_prob, 0) from None
            return reverse.select([i * n + j for i in range(len(prompts))[::-1] for j in range(n)])

    out = tmp_path / "pool.jsonl"
    with pytest.raises(ServerError, match="gone"):
        write_toy_pool(out, 3, policy=LastFirst(log_probs, lives=2))
    assert {path.name for path in tmp_path.iterdir()} == {"pool.jsonl.replies.json"}
    again = LastFirst(log_probs)
    pool = write_toy_pool(out, 3, policy=again)
    assert again.asked == 1
    assert {path.name for path in tmp_path.iterdir()} == {"pool.jsonl", "pool.jsonl.made.json"}
    assert pool == write_toy_pool(tmp_path / "whole.jsonl", 3, policy=StuckServer(log_probs))


def test_texts_that_the_reward_did_not_see_whole_are_reported(tmp_path):
    class ShortSighted(Good):
        def score(self, prompts, responses):
            scores = super().score(prompts, responses)
            return dataclasses.replace(scores, truncated=np.array(["1" in p[-1].content for p in prompts]))

    out = tmp_path / "pool.jsonl"
    write_pool(out, WordPolicy(), combined(ShortSighted()), numbered_prompts(3), options())
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row.get("partly_read") for row in rows] == [None, [1] * 4, None]
    pool = read_pool(out)
    assert pool.rollouts.truncated.tolist() == [False] * 4 + [True] * 4 + [False] * 4
    finding = next(f for f in to_report(pool).findings if f.title == "The reward saw only part of some texts")
    assert finding.evidence == "33.3 % of replies, with their prompts, lost their beginning"


def test_a_run_with_other_options_does_not_resume(tmp_path):
    out = tmp_path / "pool.jsonl"
    with pytest.raises(GuerdonError, match="refused"):
        write_toy_pool(out, policy=FailingPolicy(2))
    with pytest.raises(GuerdonError, match=r"belongs to a run that differs in set of options\."):
        write_toy_pool(out, seed=1)
    assert write_toy_pool(out, prompts_at_once=2)[0]["prompts"] == 40
    assert out.read_bytes() == write_toy_pool(tmp_path / "whole.jsonl")[1]


def test_exclusions_are_counted_over_all_parts_of_a_resumed_run(tmp_path):
    prompts = [prompt if i % 5 else "" for i, prompt in enumerate(numbered_prompts(20))]
    arguments = (combined(Good()), prompts, options())
    with pytest.raises(GuerdonError, match="refused"):
        write_pool(tmp_path / "pool.jsonl", FailingPolicy(4), *arguments, identity=SPEC)
    counts = write_pool(tmp_path / "pool.jsonl", WordPolicy(), *arguments, identity=SPEC)
    assert counts == {"prompts": 20, "responses": 64, "excluded": 4}
    pool = read_pool(tmp_path / "pool.jsonl")
    assert len(pool.rollouts.prompts_once) == 16
    assert pool.excluded[1] == (f"{tmp_path / 'pool.jsonl'}:6", "the prompt is empty")


def test_a_lone_surrogate_survives_the_file(tmp_path):
    class HalfCharacter(WordPolicy):
        def sample_with_seeds(self, prompts, n, *rest):
            repeated = tuple(as_prompt(prompt) for prompt in prompts for _ in range(n))
            return Rollouts(repeated, tuple(Response("\ud83d good\u2028") for _ in repeated))

    write_pool(tmp_path / "pool.jsonl", HalfCharacter(), combined(Good()), ["a \udc00"], options())
    rollouts = read_pool(tmp_path / "pool.jsonl").rollouts
    assert rollouts.prompts[0][0].content == "a \udc00"
    assert [response.text for response in rollouts.responses] == ["\ud83d good\u2028"] * 4


def test_a_pool_is_read_as_it_was_drawn(tmp_path):
    write_pool(
        tmp_path / "a.jsonl", OneSeedPolicy(), combined(Good()), numbered_prompts(5), options(), gold=combined(brevity)
    )
    rows, _ = draw_rows(numbered_prompts(5), OneSeedPolicy(), gold=combined(brevity))
    pool = read_pool(tmp_path / "a.jsonl")
    rollouts = pool.rollouts
    assert (rollouts.samples, pool.excluded) == (4, ())
    assert rollouts.prompts_once == tuple(as_prompt(row["prompt"]) for row in rows)
    assert [response.text for response in rollouts.responses] == [
        reply["text"] for row in rows for reply in row["responses"]
    ]
    for name in ("reward", "gold", "log_prob"):
        assert rollouts.by_prompt(getattr(rollouts, name)).tolist() == [row[name] for row in rows]
    assert rollouts.reward_by_prompt.argmax(axis=1).tolist() == [row["best"] for row in rows]
    assert rollouts.std is rollouts.shift_p is rollouts.truncated is None


def test_a_reward_of_null_is_a_missing_reward(tmp_path):
    path = tmp_path / "pool.jsonl"
    path.write_text('{"prompt": "p", "responses": ["a", "b"], "reward": null}\n')
    with pytest.raises(GuerdonError, match=r"pool\.jsonl:1: reward is missing\. Draw the pool"):
        read_pool(path)


def row_of(**changes):
    row = {"prompt": "p", "responses": ["a", "b"], "reward": [1.0, 2.0], "best": 1} | changes
    return {name: value for name, value in row.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (
            {"responses": ["a"], "reward": [1.0], "best": 0},
            r"must have 2 replies as .*pool\.jsonl:1 has, got 1\. Draw all prompts with one n",
        ),
        ({"reward": [1.0]}, r"reward must be a list of 2 numbers, one per response, got \[1\.0\]"),
        ({"reward": [1.0, math.nan]}, r"reward\[1\] must be a finite number, got nan"),
        ({"reward": [1.0, "2"]}, r"reward\[1\] must be a finite number, got '2'"),
        ({"reward": None}, r"reward is missing\. Draw the pool"),
        ({"responses": [], "reward": [], "best": 0}, "responses is missing"),
        ({"gold": [1.0, 2.0]}, "gold must be in all rows or in none, got it in some"),
        ({"log_prob": [-1.0, 2.0]}, r"log_prob\[1\] must be a log-probability"),
        ({"shift_p": [0.0, 2.0]}, r"shift_p\[1\] must be a probability"),
        ({"best": 0}, r"best must be the index of the highest reward, 1, got 0\. Leave best out"),
        ({"rewards": [1.0]}, r"rewards is not a known field\. Did you mean reward\?"),
        ({"responses": ["a", 3]}, r"responses\[1\]"),
        ({"prompt": None}, "row must be an object with prompt and response"),
    ],
)
def test_an_invalid_row_is_named_by_its_line(tmp_path, changes, error):
    path = tmp_path / "pool.jsonl"
    path.write_text(json.dumps(row_of()) + "\n" + json.dumps(row_of(**changes)) + "\n")
    with pytest.raises(GuerdonError, match=rf"pool\.jsonl:2: {error}"):
        read_pool(path)


def test_a_pool_of_exclusions_only_is_an_error(tmp_path):
    path = tmp_path / "pool.jsonl"
    path.write_text(json.dumps({"id": "a", "prompt": [], "excluded": "the prompt is empty"}) + "\n")
    with pytest.raises(GuerdonError, match=r"every prompt was excluded \(the prompt is empty\)"):
        read_pool(path)
