"""Checks on held-out prompts: the same prompts every time, judged by reward and gold, with the KL of their replies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from optimization_runs import HELD_OUT, brevity, kindness, small_policy, small_run

import guerdon
from guerdon import GuerdonError
from guerdon.contracts import as_prompt
from guerdon.optimization.check_measures import measure_check
from guerdon.optimization.checks import read_checks


def test_every_check_has_the_same_prompts_judged_by_reward_and_gold(tiny_dir, tmp_path):
    done = small_run(
        tiny_dir, held_out=HELD_OUT, gold=brevity, folder=tmp_path, check_every=2, updates=5, check_prompts=3
    )
    assert [check.update for check in done.checks] == [0, 2, 4, 5]
    assert {check.prompts for check in done.checks} == {done.checks[0].prompts}
    for check in done.checks:
        assert len(check.prompts) == 3
        replies = [guerdon.Response(text) for text in check.texts]
        assert check.proxy.tolist() == kindness(None, replies)
        assert check.gold.tolist() == brevity(None, replies)
    assert done.checks[0].kl.tolist() == [0, 0, 0]
    assert read_checks(tmp_path / "checks.jsonl")[-1].texts == done.checks[-1].texts


def test_the_kl_of_a_check_is_that_of_its_replies(tiny_dir):
    done = small_run(tiny_dir, held_out=HELD_OUT, check_every=3, lora_rank=0, lr=0.01, kl_coef=0.0)
    last = done.checks[-1]
    replies = [
        guerdon.Response(t, finish="stop" if f else "length") for t, f in zip(last.texts, last.finished, strict=True)
    ]
    rollouts = guerdon.contracts.Rollouts(tuple(HELD_OUT), tuple(replies))
    exact = [len(t.split()) + f == size for t, f, size in zip(last.texts, last.finished, last.length, strict=True)]
    expected = done.policy.log_probs(rollouts) - small_policy(tiny_dir, 0).log_probs(rollouts)
    assert any(exact)
    np.testing.assert_allclose(last.kl[exact], expected[exact], atol=1e-4)
    assert np.abs(last.kl).max() > 0.01


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_held_out_reply_without_a_reward_is_missing_from_the_means_only(tiny_dir, tmp_path, bad):
    def sometimes_bad(prompts, responses):
        return [bad if "him" in p[-1].content else float(len(r.text)) for p, r in zip(prompts, responses, strict=True)]

    done = small_run(tiny_dir, kindness, held_out=HELD_OUT, gold=sometimes_bad, folder=tmp_path, check_every=1)
    for check in [*done.checks, *read_checks(tmp_path / "checks.jsonl")]:
        assert np.isnan(check.gold).tolist() == [False, True, False, False]
        assert measure_check(check)["gold"].n == 3
        assert math.isfinite(measure_check(check)["gold"].value)


def test_held_out_prompts_that_do_not_fit_are_replaced_by_others(tiny_dir, caplog):
    policy = small_policy(tiny_dir, max_prompt=40)
    long = as_prompt("write " * 60)
    done = small_run(tiny_dir, policy=policy, held_out=[long, *HELD_OUT], check_every=3, check_prompts=4)
    assert done.excluded == {"held out, too long for policy.max_prompt or the context": 1}
    assert len(done.checks[0].prompts) == 4
    assert "held-out prompts left out: 1 too long" in caplog.text
    with pytest.raises(GuerdonError, match="held-out prompts: at least one of 1 must fit, got none"):
        small_run(tiny_dir, policy=policy, held_out=[long], check_every=3)


def test_a_gold_on_few_prompts_is_warned_about(tiny_dir, caplog):
    small_run(tiny_dir, gold=brevity, held_out=HELD_OUT, check_every=3)
    assert "gold judges 4 distinct prompts; a trend needs 8 or more" in caplog.text
