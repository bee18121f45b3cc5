"""The conformance checks fail each planted fault, and pass the same model without it."""

from __future__ import annotations

import numpy as np
import pytest
from toys import BatchNorm, Constant, Forgetful, Good, PaddedRows, PaddingLeak, WrongPosition

from guerdon.contracts import (
    Response,
    Rollouts,
    Scores,
    as_prompt,
    as_response,
)
from guerdon.testing import check_judge, check_policy, check_reward_model


@pytest.mark.parametrize("model", [PaddedRows(), Good(), Constant()])
def test_a_conforming_model_passes(model):
    check_reward_model(model)


@pytest.mark.parametrize("model", [PaddingLeak(), BatchNorm(), WrongPosition()])
def test_a_score_that_depends_on_its_batch_fails(model):
    with pytest.raises(AssertionError, match="standard deviations"):
        check_reward_model(model)


def test_dropout_left_on_fails():
    with pytest.raises(AssertionError, match="a score changed by"):
        check_reward_model(Forgetful())


class Broken:
    def __init__(self, change):
        self.change = change

    def score(self, prompts, responses):
        return self.change(PaddedRows().score(prompts, responses))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: Scores(s.value.astype(np.float32), s.truncated), "value must be float64, got float32"),
        (lambda s: Scores(s.value[:1], s.truncated), r"value must have shape \[6\], got \[1\]"),
        (lambda s: Scores(s.value * np.nan, s.truncated), "value must be finite, got 6 other values"),
        (lambda s: Scores(s.value, s.truncated.astype(int)), "truncated must be bool, got int64"),
        (lambda s: Scores(s.value, s.truncated, std=s.value[:, None]), r"std must have shape \[0\], got \[0, 1\]"),
    ],
)
def test_a_broken_shape_is_named_with_its_numbers(change, message):
    with pytest.raises(AssertionError, match=message):
        check_reward_model(Broken(change))


def test_a_model_must_accept_zero_rows():
    class Empty(Good):
        def score(self, prompts, responses):
            assert prompts, "cannot score nothing"
            return super().score(prompts, responses)

    with pytest.raises(AssertionError, match="cannot score nothing"):
        check_reward_model(Empty())


class LengthJudge:
    def __init__(self, noise=0.0):
        self.noise, self.rng = noise, np.random.default_rng(0)

    def log_odds(self, prompts, first, second):
        sizes = [len(as_response(a).text) - len(as_response(b).text) for a, b in zip(first, second, strict=True)]
        return np.array(sizes, dtype=np.float64) + self.noise * self.rng.normal(size=len(sizes))


def test_a_judge_must_repeat_its_log_odds():
    check_judge(LengthJudge())
    with pytest.raises(AssertionError, match="a second time"):
        check_judge(LengthJudge(noise=1.0))


class Parrot:
    def __init__(self, finish="stop", seeded=True):
        self.finish, self.seeded, self.calls = finish, seeded, 0

    def sample(self, prompts, n, max_tokens, temperature, seed):
        self.calls += 1
        start = seed if self.seeded else self.calls
        texts = [f"{start + i}" for _ in prompts for i in range(n)]
        asked = tuple(as_prompt(p) for p in prompts for _ in range(n))
        return Rollouts(asked, tuple(Response(text, finish=self.finish) for text in texts))


def test_a_policy_must_report_finish_reasons_and_repeat_a_seed():
    check_policy(Parrot())
    with pytest.raises(AssertionError, match="stop or length"):
        check_policy(Parrot(finish=None))
    with pytest.raises(AssertionError, match="the same seed must give the same responses, got 6 different"):
        check_policy(Parrot(seeded=False))
