"""Which prompts a run uses, in which order, and which it leaves out."""

from __future__ import annotations

import pytest
from optimization_runs import HELD_OUT, PROMPTS, record_batches, small_policy, small_run

from guerdon import GuerdonError
from guerdon.contracts import as_prompt
from guerdon.optimization.prompts import prompts_of_update


def test_all_prompts_are_used_before_one_is_used_again():
    picked = [i for update in range(10) for i in prompts_of_update(7, 4, seed=3, update=update)]
    for start in range(0, 35, 7):
        assert sorted(picked[start : start + 7]) == list(range(7))
    assert picked[:7] != picked[7:14]


def test_prompts_that_cannot_be_answered_are_left_out_and_counted(tiny_dir, caplog):
    prompts = [*PROMPTS, as_prompt(" "), as_prompt("film " * 600), as_prompt("")]
    done = small_run(tiny_dir, train_prompts=prompts)
    assert done.excluded == {"empty": 2, "too long for policy.max_prompt or the context": 1}
    assert "prompts left out: 2 empty, 1 too long" in caplog.text
    with pytest.raises(
        GuerdonError, match=r"prompts: at least one of 2 must fit, got none \(empty\)\. Give other prompts"
    ):
        small_run(tiny_dir, train_prompts=[as_prompt(""), as_prompt(" ")])
    with pytest.raises(
        GuerdonError, match=r"optimize: at least one training prompt is required, got none\. Hold out fewer prompts"
    ):
        small_run(tiny_dir, train_prompts=[], held_out=HELD_OUT)


def test_a_prompt_that_the_template_refuses_is_left_out_and_counted(tiny_dir):
    policy = small_policy(tiny_dir)
    policy.tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + policy.tokenizer.chat_template
    )
    odd = as_prompt([{"role": "system", "content": "be kind"}, {"role": "user", "content": "write a tweet"}])
    assert small_run(tiny_dir, policy=policy, train_prompts=[*PROMPTS, odd]).excluded == {
        "refused by the chat template": 1
    }
    with pytest.raises(GuerdonError, match=r"at least one of 1 must fit, got none .*no system"):
        small_run(tiny_dir, policy=policy, train_prompts=[odd])


def test_a_prompt_used_twice_in_a_batch_gets_new_replies(tiny_dir, monkeypatch):
    batches = record_batches(monkeypatch)
    small_run(tiny_dir, train_prompts=PROMPTS[:2], samples=1, updates=1)
    replies = {
        (p, tuple(r.tolist())) for p, r in zip(batches[0].rollouts.prompts, batches[0].rollouts.token_ids, strict=True)
    }
    assert len(batches[0].rollouts.prompts) == 4
    assert len(replies) == 4
