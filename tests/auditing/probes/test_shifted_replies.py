"""Replies made out-of-distribution, each shift in its own way."""

from __future__ import annotations

from toys import comparisons

from guerdon.auditing.probes.shifted_replies import shift_replies
from guerdon.contracts import Comparison, Preference, Response, as_prompt, prompt_digest

ENGLISH = {"river", "small", "often", "answer", "bright", "seven", "history", "people", "always", "water", "good"}


def test_each_shift_changes_replies_in_its_own_way_and_repeats_itself():
    rows = comparisons(50)
    shifted = shift_replies(rows, 20)
    assert set(shifted) == {"gibberish", "word_salad", "other_answer", "other_language"}
    texts = {prompt_digest(c.prompt): c.responses[i % 2].text for i, c in enumerate(rows)}
    own = {prompt_digest(c.prompt): {r.text for r in c.responses} for c in rows}
    for name, (prompts, replies) in shifted.items():
        assert 10 < len(prompts) == len(replies) <= 20
        assert not any(reply.text in own[prompt_digest(p)] for p, reply in zip(prompts, replies, strict=True)), name
    for p, reply in zip(*shifted["gibberish"], strict=True):
        assert sorted(reply.text) in [sorted(text) for text in own[prompt_digest(p)]]
    for p, reply in zip(*shifted["word_salad"], strict=True):
        assert sorted(reply.text.split()) in [sorted(text.split()) for text in own[prompt_digest(p)]]
    for p, reply in zip(*shifted["other_language"], strict=True):
        assert len(reply.text) in [len(text) for text in own[prompt_digest(p)]]
        assert not set(reply.text.split()) & ENGLISH
    everything = {text for each in own.values() for text in each}
    assert all(reply.text in everything for reply in shifted["other_answer"][1])
    assert shift_replies(rows, 20) == shifted
    assert shift_replies(rows, 20, seed=1)["gibberish"] != shifted["gibberish"]
    assert texts


def test_a_reply_that_a_shift_does_not_change_is_left_out():
    rows = [
        Comparison(as_prompt(f"p{i}"), (Response(text), Response(text)), Preference(q=1.0))
        for i, text in enumerate(
            ["数据分布之外的文本没有拉丁字母可以替换", "机器学习模型的奖励并不总是可靠的东西", "123", ""]
        )
    ]
    assert set(shift_replies(rows, 10)) == {"gibberish", "other_answer"}
    assert shift_replies(rows[2:], 10) == {}
    assert shift_replies(rows, 0) == {}
