"""The sample of pairs."""

from __future__ import annotations

from toys import few_prompts

from guerdon.auditing.probes.sample import sample_corpus, sample_pairs
from guerdon.contracts import Comparison, Message, Preference, Response, ToolCall, as_prompt


def test_the_sample_is_bounded_spread_over_prompts_and_prefers_decided_pairs():
    many = few_prompts()
    pairs = sample_pairs(many, 10, seed=0)
    assert len(pairs) == 10
    assert {pair.group for pair in pairs} == {c.group for c in many}
    assert len({pair.id for pair in pairs}) == 10
    assert pairs != sample_pairs(many, 10, seed=1)


CALL = Message("assistant", "I look it up.", (ToolCall("weather"),))
TRAJECTORY = Response(messages=(CALL, Message("tool", "sunny in Rome"), Message("assistant", "It is sunny.")))


def test_a_response_in_several_messages_is_in_no_pair_and_not_in_the_corpus():
    """An edit of its text would leave half of a trajectory."""
    plain = [Response(f"It rains in Bonn {i}.") for i in range(3)]
    alone = Comparison(as_prompt("a"), (TRAJECTORY, plain[0]), Preference(q=1.0))
    among = Comparison(as_prompt("b"), (plain[1], TRAJECTORY, plain[2]), Preference(groups=((1,), (0,), (2,))))
    (pair,) = sample_pairs([alone, among], 10, seed=0)
    assert (pair.better, pair.worse) == (plain[1].text, plain[2].text)
    assert sample_corpus([alone, among], seed=0).answers
    assert not any("sunny" in answer for answer in map(str, sample_corpus([alone, among], seed=0).answers))
