"""Judges, rewards, rubrics, samples and constitutions against a real server: llama.cpp with the starter model, over HTTP."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from llama_server import MODEL_NAME, running_llama_server
from shell import guerdon

from guerdon.config.judging import JudgeOptions
from guerdon.contracts import Response, as_prompt
from guerdon.io import readers
from guerdon.models.judges.build import build_judge
from guerdon.models.judges.calls import MemoryCallLog
from guerdon.models.judges.comparing import Pair
from guerdon.models.judges.prompted import PromptedJudge
from guerdon.models.judges.rewards import as_reward_model

pytestmark = pytest.mark.skipif(
    find_spec("xllamacpp") is None, reason="needs xllamacpp, which has no build for this machine"
)

PROMPT = as_prompt("Write a tweet about tea.")
HAPPY, SAD = "I love this tea, it made my day!", "This tea is awful and I feel sick."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the server."""
    with running_llama_server(tmp_path_factory.mktemp("llama")) as url:
        yield url


def judge_of(url: str, log: MemoryCallLog, **options: object) -> PromptedJudge:
    """A judge that asks the starter model, which gives the verdicts little of its probability."""
    judge = build_judge(JudgeOptions.model_validate({"url": url, "model": MODEL_NAME, "min_mass": 0.0, **options}), log)
    assert isinstance(judge, PromptedJudge)
    return judge


def test_log_probabilities_are_proved_and_both_orders_agree_with_a_swap(server: str) -> None:
    log = MemoryCallLog()
    judge = judge_of(server, log)
    assert judge.interview.mode == "pair"  # chosen by asking
    forward = judge.log_odds([PROMPT], [HAPPY], [SAD])
    num_calls = len(log.records)
    backward = judge.log_odds([PROMPT], [SAD], [HAPPY])
    assert len(log.records) == num_calls  # the same two questions
    assert np.isfinite(forward).all()
    np.testing.assert_allclose(forward, -backward, atol=1e-9)
    judged = [record for record in log.records.values() if record.purpose == "judge"]
    assert all(record.usage.tokens_in and record.usage.tokens_out == 1 for record in judged)
    assert all(record.cost is None for record in judged)  # the price is unknown, not 0


def test_low_mass_is_a_failure_with_its_code_and_no_label(server: str) -> None:
    judge = judge_of(server, MemoryCallLog(), mode="pair", min_mass=0.999)
    [(_, verdict)] = judge.compare([Pair(PROMPT, Response(HAPPY), Response(SAD))])
    assert verdict.q is None
    assert {failure.code for failure in verdict.failures} == {"verdict_mass_low"}


def test_drawn_verdicts_are_read_or_typed(server: str) -> None:
    judge = judge_of(server, MemoryCallLog(), mode="pair_samples", samples=1, max_tokens=24, reasks=0)
    [(_, verdict)] = judge.compare([Pair(PROMPT, Response(HAPPY), Response(SAD))])
    assert len(verdict.orders) + len(verdict.failures) == 2
    assert {failure.code for failure in verdict.failures} <= {"unparsable", "truncated", "refusal", "empty"}
    assert (verdict.q is None) == (len(verdict.orders) < 2)


def test_scores_are_rewards(server: str) -> None:
    model = as_reward_model(judge_of(server, MemoryCallLog(), mode="score"))
    rewards = model.score([PROMPT, PROMPT], [HAPPY, SAD]).value
    assert np.isfinite(rewards).all()
    assert ((rewards >= 1) & (rewards <= 9)).all()


def test_what_does_not_fit_the_context_is_a_failure(server: str) -> None:
    judge = judge_of(server, MemoryCallLog(), mode="pair")
    [(_, verdict)] = judge.compare([Pair(PROMPT, Response("word " * 6000), Response(SAD))])
    assert {failure.code for failure in verdict.failures} == {"context_too_long"}
    assert math.isnan(verdict.log_odds)


def test_samples_are_judged_and_revised_from_the_command_line(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("judge.yaml").write_text(
        f"url: {server}\nmodel: {MODEL_NAME}\nmin_mass: 0\nmode: pair\nunresolved_max: 1\n", "utf-8"
    )
    Path("prompts.jsonl").write_text('{"prompt": "Write a tweet about rain."}\n', "utf-8")
    sampled = guerdon(
        "sample", "--policy", MODEL_NAME, f"policy.server={server}", "--prompts", "prompts.jsonl", "--out", "pool.jsonl",
        "--n", 2, "best_of_n.max_tokens=12",
    )  # fmt: skip
    assert sampled.code == 0, sampled.err
    words = ("constitution", "run", "pool.jsonl", "--critic", "judge.yaml")
    compared = guerdon(*words, "--out", "compared", "--flow", "compare", "constitution.principles_per_pair=1")
    assert compared.code == 0, compared.err
    [row] = readers.read_comparisons("compared/comparisons.jsonl")
    assert row.q is not None
    assert 0 < row.q < 1
    revised = guerdon(*words, "--out", "revised", "constitution.revisions=1", "constitution.max_tokens=48")
    assert revised.code == 0, revised.err
    chains = [json.loads(line) for line in Path("revised/chains.jsonl").read_text("utf-8").splitlines()]
    assert len(chains) == 2
    for chain in chains:
        [step] = chain["steps"]
        assert (step["state"] == "failed") == bool(step["reason"])


def test_a_rubric_a_card_and_candidates_from_the_command_line(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("judge.yaml").write_text(
        f"url: {server}\nmodel: {MODEL_NAME}\nmin_mass: 0\nmode: pair\nunresolved_max: 1\n", "utf-8"
    )
    rows = [{"prompt": f"Write a tweet about {topic}.", "chosen": HAPPY, "rejected": SAD} for topic in ("tea", "rain")]
    Path("people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    card = guerdon("judge-card", "--judge", "judge.yaml", "--data", "people.jsonl", "--out", "card", "--once", "--json")
    assert card.code == 0, card.err
    estimates = json.loads(card.out)["estimates"]
    assert (estimates["unresolved"]["value"], estimates["accuracy"]["n"]) == (0, 2)
    Path("rubric.yaml").write_text("license: CC0-1.0\ncriteria: [{id: happy, text: The response is happy.}]\n", "utf-8")
    words = ("rubric", "audit", "rubric.yaml", "--judge", "judge.yaml", "--data", "people.jsonl")
    audited = guerdon(*words, "--once", "--out", "audit")
    assert audited.code == 0, audited.err
    calls = (
        sqlite3.connect("audit/calls.db").execute("SELECT status FROM judge_calls WHERE purpose = 'score'").fetchall()
    )
    assert calls == [("ok",)] * 4, "the criterion, of each response"

    assert guerdon("store", "init", "team.db").code == 0
    sample = (
        "sample", "--policy", "judge.yaml", "--prompts", "people.jsonl", "--n", 2, "--store", "team.db", "--out", "r.jsonl",
        "best_of_n.max_tokens=12",
    )  # fmt: skip
    sampled = guerdon(*sample, "--json")
    assert sampled.code == 0, sampled.err
    facts = json.loads(sampled.out)
    assert (facts["new items"], facts["policies"][MODEL_NAME]["replies"]) == (2, 4)
    written = Path("r.jsonl").read_bytes()
    again = json.loads(guerdon(*sample, "--json").out)
    assert (again["policies"][MODEL_NAME]["calls"], Path("r.jsonl").read_bytes()) == ("0", written)
