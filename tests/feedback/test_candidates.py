"""Candidates: replies of several policies to each prompt, where a failed call is no reply."""

from __future__ import annotations

import pytest
from scripted_judges import scripted

from guerdon.config import BestOfNOptions
from guerdon.contracts import as_prompt, prompt_digest
from guerdon.feedback.candidates import CandidatePolicy, Candidates, CandidateTally, draw_candidates
from guerdon.io.schema import conversation_from_row
from guerdon.models.judges.calls import Answer, Question
from guerdon.models.judges.failures import Failure

PROMPTS = [as_prompt(f"Write about {topic}.") for topic in ("rain", "tea", "trains")]


def drawn_by(*scripts, n: int = 2, logs=None, **options) -> tuple[list[Candidates], list]:
    respondents = [scripted(script) for script in scripts]
    for respondent, log in zip(respondents, logs or [], strict=False):
        respondent.log = log
    policies = [CandidatePolicy(f"policy {i}", each, 0.02) for i, each in enumerate(respondents)]
    return list(draw_candidates(policies, PROMPTS, BestOfNOptions(n=n, **options))), respondents


def echo(question: Question) -> Answer:
    return Answer(f"{question.messages[-1].content} {question.sample}", "stop")


def shout(question: Question) -> Answer:
    return Answer(f"{question.messages[-1].content} {question.sample}!".upper(), "length")


def test_each_prompt_has_the_replies_of_every_policy_with_their_author_and_settings():
    drawn, _ = drawn_by(echo, shout, temperature=0.5, max_tokens=7, seed=3)
    assert [each.prompt for each in drawn] == PROMPTS
    assert [(r.text, r.author, r.finish) for r in drawn[1].responses] == [
        ("Write about tea. 0", "policy 0", "stop"),
        ("Write about tea. 1", "policy 0", "stop"),
        ("WRITE ABOUT TEA. 0!", "policy 1", "length"),
        ("WRITE ABOUT TEA. 1!", "policy 1", "length"),
    ]
    row = drawn[1].row()
    assert row["id"] == prompt_digest(PROMPTS[1])
    assert [origin["sample"] for origin in row["origins"]] == [0, 1, 0, 1]
    assert {(o["temperature"], o["max_tokens"]) for o in row["origins"]} == {(0.5, 7)}
    assert len({o["call"] for each in drawn for o in each.row()["origins"]}) == 12, (
        "although the policies are one model"
    )
    prompt, responses, is_single = conversation_from_row("here", row)
    assert (prompt, [r.author for r in responses], is_single) == (
        PROMPTS[1],
        ["policy 0"] * 2 + ["policy 1"] * 2,
        False,
    )


def test_a_reply_depends_on_the_prompt_the_seed_and_its_number_only():
    def seed(question: Question) -> Answer:
        return Answer(str(question.seed), "stop")

    [first], [other] = [drawn_by(seed, n=3, seed=s)[0][:1] for s in (0, 1)]
    again = drawn_by(seed, n=2)[0]
    seeds = [r.text for each in drawn_by(seed, n=3)[0] for r in each.responses]
    assert len(set(seeds)) == 9
    assert [r.text for r in again[0].responses] == [r.text for r in first.responses][:2]
    assert {r.text for r in first.responses}.isdisjoint(r.text for r in other.responses)


def test_a_failed_call_is_no_reply_and_only_it_is_asked_again():
    def flaky(question: Question) -> Answer | Failure:
        return (
            Failure("timeout", "30 s")
            if question.sample == 1 and "tea" in question.messages[-1].content
            else echo(question)
        )

    drawn, [respondent] = drawn_by(flaky)
    tally = CandidateTally()
    for each in drawn:
        tally.add(each)
    assert [len(each.responses) for each in drawn] == [2, 1, 2]
    assert drawn[1].row()["failed"] == [{"policy": "policy 0", "sample": 1, "code": "timeout", "reason": "30 s"}]
    assert len(drawn[1].row()["origins"]) == 1
    assert tally.facts("policy 0") == {"replies": 5, "failed: timeout": 1}
    assert tally.failed_share("policy 0") == pytest.approx(1 / 6)
    again, [second] = drawn_by(echo, logs=[respondent.log])
    assert [(q.sample, q.messages[-1].content) for q in second.asked] == [(1, "Write about tea.")]
    assert [len(each.responses) for each in again] == [2, 2, 2]


@pytest.mark.parametrize(
    ("answer", "text", "code"),
    [
        (Answer("", "stop"), None, "empty"),
        (Answer(" \n", "length"), None, "empty"),
        (Answer("no", "content_filter"), None, "content_filter"),
        (Answer("", "stop", refusal="I will not."), None, "refusal"),
        (Answer("<think>so far", "length"), None, "truncated"),
        (Answer("<think>hm</think>\n\n Tea. ", "stop"), "Tea. ", None),
        (Answer("I'm sorry, but I can't.", "stop"), "I'm sorry, but I can't.", None),
        (Answer(" as it is\n", "stop"), " as it is\n", None),
    ],
)
def test_a_reply_is_the_text_as_it_is_and_what_is_none_has_a_code(answer, text, code):
    [first, *_], _ = drawn_by(lambda question: answer, n=1)
    [draw] = first.draws
    assert (draw.response and draw.response.text, draw.failure and draw.failure.code) == (text, code)
    assert ("excluded" in first.row()) == (text is None)


def test_replies_of_one_text_are_not_compared():
    texts = iter("abab")
    [first, *_], _ = drawn_by(lambda question: Answer(next(texts, "c"), "stop"), n=4)
    assert [[r.text for r in pair] for pair in first.comparable(in_pairs=True)] == [["a", "b"]]
    assert [[r.text for r in group] for group in first.comparable(in_pairs=False)] == [["a", "b"]]
    [same, *_], _ = drawn_by(lambda question: Answer("a", "stop"), n=3)
    assert list(same.comparable(in_pairs=True)) == list(same.comparable(in_pairs=False)) == []
