"""A file with the reward after every token, and the report that says where it was gained."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from scoring_files import rows, write
from shell import guerdon as command

from guerdon import GuerdonError
from guerdon.api import scoring
from guerdon.contracts import as_prompt, as_response
from guerdon.reporting import to_html
from guerdon.scoring.bulk_scorer import BulkScorer
from guerdon.scoring.token_report import token_report


def lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def row_of(tokens, rewards, start=0.0, prompt="q"):
    return {
        "prompt": prompt,
        "response": "".join(tokens),
        "reward": rewards[-1],
        "token_rewards": {"start": start, "tokens": tokens, "rewards": rewards},
    }


def test_every_row_has_the_reward_after_each_token_and_its_own_reward_as_their_sum(model, tmp_path):
    source = write(tmp_path / "in.jsonl", rows(20))
    scoring.score_file(BulkScorer(model, per_token=True), source, tmp_path / "one.jsonl", chunk=8)
    scoring.score_file(BulkScorer(model), source, tmp_path / "plain.jsonl", chunk=8)
    for row, plain in zip(lines(tmp_path / "one.jsonl"), lines(tmp_path / "plain.jsonl"), strict=True):
        by_token = row.pop("token_rewards")
        is_single = "reward" in row
        rewards = [row["reward"]] if is_single else row["rewards"]
        for own, reward in zip([by_token] if is_single else by_token, rewards, strict=True):
            gains = np.diff([own["start"], *own["rewards"]])
            assert own["start"] + gains.sum() == pytest.approx(reward, abs=1e-6)
            assert len(own["tokens"]) == len(own["rewards"])
        expected = [plain["reward"]] if is_single else plain["rewards"]
        assert rewards == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert {key: row[key] for key in row if "reward" not in key} == {
            key: plain[key] for key in plain if "reward" not in key
        }


def test_the_rewards_of_tokens_pass_between_processes(model):
    scores = BulkScorer(model, per_token=True).score_texts([as_prompt("q")], [as_response("good film")])
    (own,), (copy,) = scores.tokens, pickle.loads(pickle.dumps(scores)).tokens
    assert copy.as_row() == own.as_row()


def test_a_run_without_the_rewards_of_tokens_is_another_run(model):
    assert BulkScorer(model, per_token=True).identity() != BulkScorer(model).identity()


def test_the_report_says_in_which_tenth_the_reward_was_gained():
    """Ten tokens a reply: the first reply gains 1 in its fourth token, the second 3 in its fourth and loses 2 in its last."""
    first = row_of(list("abcdefghij"), [0.0] * 3 + [1.0] * 7)
    second = row_of(list("abcdefghij"), [0.0] * 3 + [3.0] * 6 + [1.0], prompt="another")
    report = token_report([("1", first), ("2", second)], {})
    assert [e.value for e in report.curves["gain_by_part"].y] == [0, 0, 0, 2, 0, 0, 0, 0, 0, -1]
    assert report.estimates["gain"].value == 1
    assert report.estimates["gain"].n == 2
    assert report.estimates["gain_closing"].value == -1
    drawn = report.curves["reply_2"]
    assert drawn.x_names == tuple("abcdefghij")
    assert [e.value for e in drawn.y] == [0, 0, 0, 3, 0, 0, 0, 0, 0, -2]


def test_a_long_reply_is_drawn_in_stretches_that_keep_its_text_and_its_sum():
    tokens = [f"t{i} " for i in range(100)]
    rewards = np.random.default_rng(0).normal(size=100).cumsum()
    drawn = token_report([("1", row_of(tokens, rewards.tolist(), start=0.5))], {}).curves["reply_1"]
    assert len(drawn.x_names) == 24
    assert "".join(drawn.x_names) == "".join(tokens)
    assert sum(e.value for e in drawn.y) == pytest.approx(rewards[-1] - 0.5)


def test_hostile_text_is_escaped_on_the_page():
    page = to_html(token_report([("1", row_of(["<script>x", "</svg>", "\n"], [0.0, 1.0, 2.0], prompt="<b>q"))], {}))
    assert "<script>x" not in page
    assert "<b>q" not in page
    assert "&lt;script&gt;x" in page


def test_a_file_without_responses_has_no_report():
    with pytest.raises(GuerdonError, match="a report needs at least one response, got none"):
        token_report([("1", {"prompt": "q", "responses": [], "token_rewards": []})], {})


def test_the_command_writes_rows_and_a_page(model, tmp_path):
    source, out = write(tmp_path / "in.jsonl", rows(6)), tmp_path / "out.jsonl"
    ran = command("score", model, "--data", source, "--out", out, "--per-token", "--report", tmp_path / "page")
    assert ran.code == 0, ran.err
    assert "report.html" in ran.out
    assert all("token_rewards" in row for row in lines(out))
    page = (tmp_path / "page" / "report.html").read_text("utf-8")
    assert "Where the reward was gained" in page
    assert "not calibrated" in page


def test_the_command_prints_the_tokens_of_a_text(model):
    words = ("score", model, "--prompt", "is it a film ?", "--response", "yes it is", "--per-token")
    ran = command(*words)
    assert [line.split()[0] for line in ran.out.splitlines() if line.strip()][
        1:
    ] == "(before) yes it is <|im_end|>".split()
    (own,) = json.loads(command(*words, "--json").out)["token_rewards"]
    assert len(own["rewards"]) == 4


def test_a_report_without_the_rewards_of_tokens_is_refused(model, tmp_path):
    source = write(tmp_path / "in.jsonl", rows(2))
    ran = command("score", model, "--data", source, "--out", tmp_path / "o.jsonl", "--report", tmp_path / "page")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "--report must come with --per-token, got it without." in ran.err
    assert not (tmp_path / "o.jsonl").exists()
