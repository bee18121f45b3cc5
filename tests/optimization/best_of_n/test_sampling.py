"""A pool is the same however it was drawn, and a prompt that cannot be answered is excluded without changing any other."""

from __future__ import annotations

import dataclasses
import json
import math
import tracemalloc

import numpy as np
import pytest
from pools import (
    FailingPolicy,
    FakeServer,
    OneSeedPolicy,
    RefusingServer,
    StuckServer,
    WordPolicy,
    brevity,
    draw_rows,
    numbered_prompts,
    options,
)
from toys import Good

from guerdon.config import PolicyOptions
from guerdon.contracts import GuerdonError, Message, Policy, digest
from guerdon.models.directory.policies import load_policy
from guerdon.models.remote_policy import PromptRefused
from guerdon.optimization.best_of_n.sampling import PoolSampler, SeededPolicy
from guerdon.optimization.rewards import combined


def test_a_row_holds_all_replies_with_their_rewards_and_the_index_of_the_first_best():
    rows, counts = draw_rows(numbered_prompts(5), gold=combined(brevity))
    assert counts == {"prompts": 5, "responses": 20, "excluded": 0}
    for i, row in enumerate(rows):
        assert set(row) == {"id", "prompt", "responses", "reward", "gold", "best"}
        assert row["prompt"] == [{"role": "user", "content": f"prompt {i}"}]
        assert row["id"] == digest([["user", f"prompt {i}"]])
        texts = [response["text"] for response in row["responses"]]
        assert row["reward"] == [text.split().count("good") for text in texts]
        assert row["gold"] == [-len(text) for text in texts]
        assert row["best"] == row["reward"].index(max(row["reward"]))
        assert {response["finish"] for response in row["responses"]} == {"stop"}
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_a_cut_reply_is_marked_as_cut():
    rows, _ = draw_rows(numbered_prompts(10), max_tokens=2)
    finishes = [response["finish"] for row in rows for response in row["responses"]]
    assert set(finishes) == {"stop", "length"}


def test_log_probabilities_spreads_and_p_values_are_kept():
    class Uncertain(Good):
        def score(self, prompts, responses):
            scores = super().score(prompts, responses)
            return dataclasses.replace(scores, std=scores.value + 1, shift_p=np.full(len(responses), 0.5))

    (row,), _ = draw_rows(numbered_prompts(1), OneSeedPolicy(), combined(Uncertain()))
    assert row["std"] == [value + 1 for value in row["reward"]]
    assert row["shift_p"] == [0.5] * 4
    assert row["log_prob"] == [-math.log(5) * len(response["text"].split()) for response in row["responses"]]


def test_prompts_at_once_changes_no_row():
    expected, _ = draw_rows(numbered_prompts(11))
    for size in (1, 2, 64):
        assert draw_rows(numbered_prompts(11), prompts_at_once=size)[0] == expected


def test_a_group_of_prompts_is_scored_in_one_call():
    sizes = []

    class Counting(Good):
        def score(self, prompts, responses):
            sizes.append(len(responses))
            return super().score(prompts, responses)

    draw_rows(numbered_prompts(7), reward=combined(Counting()))
    assert sizes == [12, 12, 4]


def test_a_policy_with_one_seed_per_call_draws_the_same_for_any_group_size():
    assert isinstance(OneSeedPolicy(), Policy)
    assert not isinstance(OneSeedPolicy(), SeededPolicy)
    together, _ = draw_rows(numbered_prompts(7), OneSeedPolicy(), prompts_at_once=7)
    assert draw_rows(numbered_prompts(7), OneSeedPolicy(), prompts_at_once=1)[0] == together
    without = [{name: value for name, value in row.items() if name != "log_prob"} for row in together]
    assert without == draw_rows(numbered_prompts(7))[0]


def test_a_repeated_prompt_and_another_seed_get_new_draws():
    rows, _ = draw_rows(["again"] * 4)
    texts = [json.dumps(row["responses"]) for row in rows]
    assert len(set(texts)) == 4
    assert len({row["id"] for row in rows}) == 1
    assert json.dumps(draw_rows(["again"], seed=1)[0][0]["responses"]) not in texts


@pytest.mark.parametrize("skip", [1, 3, 7, 10, 11])
def test_a_run_that_skips_prompts_gives_the_remaining_rows_of_a_full_run(skip):
    expected, _ = draw_rows(numbered_prompts(10))
    assert draw_rows(numbered_prompts(10), skip=skip)[0] == expected[skip:]


def test_prompts_are_streamed_and_rows_are_not_kept():
    most = 0

    def many():
        nonlocal most
        for i in range(3000):
            most = max(most, i - given)
            yield (Message("user", f"prompt {i} " + "word " * 100),)

    given = 0

    def count(rows):
        nonlocal given
        given += len(rows)

    tracemalloc.start()
    try:
        PoolSampler(WordPolicy(), combined(Good()), options(n=2)).run(many(), count)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
    assert given == 3000
    assert most <= 4


def test_no_prompts_are_an_error():
    with pytest.raises(GuerdonError, match="sample: there must be at least one prompt"):
        draw_rows([])


def test_excluded_prompts_are_counted_and_change_no_other_row():
    prompts = numbered_prompts(12)
    expected, _ = draw_rows(prompts)
    bad = {1: "", 4: "a long one", 5: " \n ", 8: "too long", 11: "long"}
    for index, prompt in bad.items():
        prompts[index] = prompt
    for policy in (WordPolicy(), OneSeedPolicy()):
        rows, counts = draw_rows(prompts, policy)
        assert counts == {"prompts": 12, "responses": 28, "excluded": 5}
        assert [row["id"] for row in rows] == [digest([["user", prompt]]) for prompt in prompts]
        for index, row in enumerate(rows):
            row.pop("log_prob", None)
            if index in bad:
                assert set(row) == {"id", "prompt", "excluded"}
                reason = (
                    "must have at most 512 tokens, got 900. Drop it." if bad[index].strip() else "the prompt is empty"
                )
                assert row["excluded"] == reason
            else:
                assert row == expected[index]


def test_a_reply_that_a_reward_refuses_excludes_its_prompt_only():
    def picky(prompts, responses):
        if any("3" in prompt[-1].content for prompt in prompts):
            raise ValueError("three")
        return [0.0] * len(responses)

    for gold in (None, combined(picky)):
        rows, counts = draw_rows(numbered_prompts(6), reward=combined(Good()) if gold else combined(picky), gold=gold)
        assert counts["excluded"] == 1
        assert rows[3]["excluded"].startswith("reward picky: raised ValueError (three) for 4 responses")


@pytest.mark.parametrize("which", ["reward", "gold"])
def test_a_reward_that_is_not_finite_is_never_written(which):
    def broken(prompts, responses):
        return [
            math.nan if "3" in p[-1].content and "good" in r.text else 1.0
            for p, r in zip(prompts, responses, strict=True)
        ]

    given = {"reward": combined(broken)} if which == "reward" else {"gold": combined(broken)}
    rows, counts = draw_rows(["prompt", "prompt 3 3", "last"], n=16, **given)
    assert counts["excluded"] == 1
    assert rows[1]["excluded"].startswith(f"{which}: ")
    assert rows[1]["excluded"].endswith("of 16 replies have no finite number")


def test_a_language_model_draws_the_same_for_any_group_size_and_refuses_long_prompts(tiny_dir):
    policy = load_policy(PolicyOptions(base=str(tiny_dir), max_prompt=40))
    prompts = ["write a review", "write " * 60, "write a review", "tell a story of a film", ""]
    expected, counts = draw_rows(prompts, policy, max_tokens=6, prompts_at_once=8)
    assert counts == {"prompts": 5, "responses": 12, "excluded": 2}
    assert "must have at most 40 tokens, got" in expected[1]["excluded"]
    assert not expected[1]["excluded"].startswith("prompt")
    assert expected[0]["responses"] != expected[2]["responses"]
    for skip, size in ((0, 1), (2, 2)):
        for row, other in zip(
            expected[skip:], draw_rows(prompts, policy, max_tokens=6, prompts_at_once=size, skip=skip)[0], strict=True
        ):
            assert row.get("responses") == other.get("responses")
            np.testing.assert_allclose(row.get("log_prob", 0), other.get("log_prob", 0), atol=1e-4)
    assert all(value < 0 for value in expected[0]["log_prob"])


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_policy_that_fails_for_good_stops_the_run_and_excludes_no_prompt(calls):
    rows = []
    with pytest.raises(GuerdonError, match="connection refused"):
        PoolSampler(FailingPolicy(calls), combined(Good()), options()).run(numbered_prompts(9), rows.extend)
    assert rows == draw_rows(numbered_prompts(9))[0][: 3 * calls]


def test_a_prompt_that_a_server_refuses_is_excluded_alone_and_no_reply_is_drawn_twice():
    server = FakeServer()
    prompts = ["prompt 0", "a long one", "prompt 2", "prompt 3", "prompt 4", "a long one"]
    rows, counts = draw_rows(prompts, server)
    assert counts == {"prompts": 6, "responses": 16, "excluded": 2}
    assert rows[1]["excluded"] == "http://localhost/v1: HTTP 400: too long. Drop it."
    assert [rows[i] for i in (0, 2, 3, 4)] == [draw_rows(["prompt 0", "x", *prompts[2:5]])[0][i] for i in (0, 2, 3, 4)]
    assert server.asked == 4 + 1  # one more to see whether it still answers
    with pytest.raises(PromptRefused):
        draw_rows(["a long one", "a long one"], RefusingServer())


def test_a_reward_that_fails_for_every_prompt_stops_the_run_with_its_own_error():
    def broken(prompts, responses):
        return 1 / 0

    with pytest.raises(GuerdonError, match="reward broken: raised ZeroDivisionError") as raised:
        draw_rows(numbered_prompts(3), reward=combined(broken))
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    with pytest.raises(GuerdonError, match=r"some of 4 responses must get a finite number, got nan for the first"):
        draw_rows(numbered_prompts(3), reward=combined(lambda prompts, responses: [math.nan] * len(responses)))


def test_a_policy_that_returns_too_few_replies_is_an_error():
    class Short(WordPolicy):
        def sample_with_seeds(self, prompts, n, *rest):
            return super().sample_with_seeds(prompts, n - 1, *rest)

    with pytest.raises(GuerdonError, match="sample must return 4 responses to each of 1 prompts, got 3 in all"):
        draw_rows(numbered_prompts(3), Short())


def test_an_invalid_prompt_is_named_by_its_index():
    with pytest.raises(GuerdonError, match=r"prompt 1: prompt\[0\] must be an object with role and content"):
        draw_rows(["a", [{"text": "b"}]])


def test_a_prompt_on_which_a_server_gives_up_is_excluded_alone():
    server = StuckServer()
    prompts = ["prompt 0", "stuck", "prompt 2", "prompt 3"]
    rows, counts = draw_rows(prompts, server)
    assert counts["excluded"] == 1
    assert rows[1]["excluded"] == "http://localhost/v1: no answer"
    assert [rows[i] for i in (0, 2, 3)] == [draw_rows(["prompt 0", "x", *prompts[2:]])[0][i] for i in (0, 2, 3)]
    assert (server.tried, server.asked) == (1, 3)


def test_a_bad_last_prompt_is_recognized_by_the_good_ones_before_it():
    """The reward would refuse an invented probe as well."""

    def picky(prompts, responses):
        if not all(prompt[-1].content in ("prompt 0", "prompt 1") for prompt in prompts):
            raise ValueError("unknown prompt")
        return [0.0] * len(responses)

    rows, counts = draw_rows(["prompt 0", "prompt 1", "prompt 9"], reward=combined(picky))
    assert counts["excluded"] == 1
    assert "unknown prompt" in rows[2]["excluded"]
