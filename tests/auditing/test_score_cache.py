"""A text is scored once, and a cached score is the score."""

from __future__ import annotations

import numpy as np
from toys import Counting, Good, comparisons

from guerdon.auditing import audit
from guerdon.auditing.run import AuditCache
from guerdon.auditing.score_cache import CachedJudge, CachedRewardModel
from guerdon.config import AuditOptions
from guerdon.contracts import Message, Prompt, Response, Scores, ToolCall, as_response

PARTS = ["accuracy", "people", "odds", "order", "mistakes", "uncertainty"]
OPTIONS = AuditOptions(draws=100, null_draws=100, bins=10, hygiene_rows=4, only=PARTS)


class Uncertain(Counting):
    """Gives everything that Scores can hold, and the spread of a margin."""

    def score(self, prompts, responses):
        value = super().score(prompts, responses).value
        zero = np.zeros(len(value), dtype=bool)
        return Scores(value, zero, value**2, np.stack([value, value + 1]), 1 / (1 + np.abs(value)))

    def score_pairs(self, prompts, responses, first, second):
        scores = self.score(prompts, responses)
        return scores, np.abs(scores.value[first] - scores.value[second]) + 1


def test_a_text_is_scored_once_and_its_score_does_not_change():
    model = Counting()
    cached = CachedRewardModel(model, {})
    prompts, responses = ["p"] * 4, ["good", "bad", "good", "good good"]
    first, again = (cached.score(prompts, responses) for _ in range(2))
    assert model.asked == 3
    assert first.value.tolist() == again.value.tolist() == Good().score(prompts, responses).value.tolist()
    assert first.std is first.members is first.shift_p is None


def test_another_prompt_or_a_cut_off_response_is_another_text():
    model = Counting()
    cached = CachedRewardModel(model, {})
    cached.score(["p", "q", "p"], ["good", "good", Response("good", finish="length")])
    assert model.asked == 3


def test_every_field_of_scores_is_cached():
    cached = CachedRewardModel(Uncertain(), {})
    args = (["p"] * 3, ["good", "bad", "good good"], np.array([0, 1]), np.array([1, 2]))
    for _ in range(2):
        scores, spread = cached.score_pairs(*args)
        plain, wanted = Uncertain().score_pairs(*args)
        for name in ("value", "truncated", "std", "members", "shift_p"):
            np.testing.assert_array_equal(getattr(scores, name), getattr(plain, name))
        np.testing.assert_array_equal(spread, wanted)
    assert cached.model.asked == 3


def test_a_judge_compares_a_pair_once_in_each_order():
    class Judge:
        asked = 0

        def log_odds(self, prompts, first, second):
            self.asked += len(prompts)
            return np.array([len(as_response(a).text) - len(as_response(b).text) for a, b in zip(first, second)])  # noqa: B905

    judge = Judge()
    cached = CachedJudge(judge, {})
    for _ in range(2):
        assert cached.log_odds(["p"] * 3, ["a", "bb", "a"], ["bb", "a", "bb"]).tolist() == [-1, 1, -1]
    assert judge.asked == 2


def test_the_audit_scores_each_response_once_whatever_the_number_of_parts():
    rows, model = comparisons(50), Counting()
    audit(model, rows, OPTIONS, hygiene=())
    assert model.asked == len({(r.prompt, s.text) for r in rows for s in r.responses})


def test_other_tools_or_tool_calls_make_another_text():
    model = Counting()
    cached = CachedRewardModel(model, {})
    plain = Prompt((Message("user", "2 + 2?"),))
    with_tools = Prompt(plain, ('{"name": "add"}',))
    call = Message("assistant", "", (ToolCall("add", '{"a": 2, "b": 2}', "1"),))
    turns = (call, Message("tool", "4", tool_call_id="1"), Message("assistant", "good"))
    cached.score([plain, with_tools, with_tools], ["good", "good", Response(messages=turns)])
    assert model.asked == 3


def test_a_cache_of_a_former_audit_may_be_given():
    cache, model = AuditCache(), Counting()
    first = audit(model, comparisons(30), OPTIONS, hygiene=(), cache=cache)
    asked = model.asked
    assert audit(model, comparisons(30), OPTIONS, hygiene=(), cache=cache) == first
    assert model.asked == asked
