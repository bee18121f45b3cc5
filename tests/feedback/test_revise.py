"""Critique and revision, and the pairs and rows that come of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scripted_judges import scripted, shown_first, tokens

from guerdon.config.feedback import ConstitutionOptions
from guerdon.config.judging import JudgeOptions
from guerdon.contracts import Response, as_prompt
from guerdon.feedback.constitution.compare import PrincipledVerdict, PrincipleJudge, is_verified
from guerdon.feedback.constitution.principles import Constitution, shipped_constitution
from guerdon.feedback.constitution.report import (
    PrincipleTally,
    RevisionTally,
    principle_report,
    revision_report,
)
from guerdon.feedback.constitution.revise import Chain, revise
from guerdon.feedback.constitution.rows import (
    chain_row,
    principle_comparisons,
    revision_pairs,
    sft_rows,
)
from guerdon.models.judges.calls import Answer, Question
from guerdon.models.judges.failures import Failure
from guerdon.models.judges.prompted import Pair
from guerdon.models.judges.verdicts import PairVerdict

PROMPT = as_prompt("How do I bake a cake?")
FIRST = Response("Throw things together and hope for the best, you clueless person, as always.", author="actor")
BETTER = "Mix flour, butter, sugar and eggs, and bake for forty minutes. It will work out well."
BEST = "Mix flour, butter, sugar and eggs, and bake for forty minutes at 180 degrees. Enjoy the cake!"


def chain_of(
    script: Callable[[Question], Answer | Failure], constitution: Constitution | None = None, **options: object
) -> Chain:
    chosen = ConstitutionOptions.model_validate({"revisions": 2, **options})
    conversation = revise(PROMPT, FIRST, constitution or shipped_constitution(), chosen, "row-1")
    [(_, chain)] = scripted(script).converse([conversation])
    return chain


def helpful_critic(question: Question) -> Answer:
    if question.purpose == "critique":
        return Answer("It insults the reader and gives no steps.", "stop")
    return Answer(f"Here is the revised response:\n\n{BETTER if question.sample == 0 else BEST}", "stop")


def test_every_step_revises_what_the_one_before_left() -> None:
    chain = chain_of(helpful_critic)
    assert [step.state for step in chain.steps] == ["revised", "revised"]
    assert [step.text for step in chain.steps] == [BETTER, BEST]
    assert len({step.principle for step in chain.steps}) == 2
    assert chain.last == BEST
    assert chain_row(chain)["steps"][0]["critique"] == "It insults the reader and gives no steps."


def test_the_critic_sees_the_current_text_and_its_own_critique() -> None:
    seen: list[Question] = []

    def keep(question: Question) -> Answer:
        seen.append(question)
        return helpful_critic(question)

    chain_of(keep)
    second = seen[2].messages[-1].content
    assert BETTER in second
    assert FIRST.text not in second
    assert [turn.role for turn in seen[3].messages] == ["system", "user", "assistant", "user"]


def test_no_change_needed_costs_one_call_and_changes_nothing() -> None:
    chain = chain_of(lambda question: Answer("No change needed.", "stop"))
    assert [step.state for step in chain.steps] == ["no_change", "no_change"]
    assert chain.last == FIRST.text
    assert list(revision_pairs(chain, ConstitutionOptions())) == []
    [row] = sft_rows(chain, ConstitutionOptions(), "source")
    assert row["messages"][-1] == {"role": "assistant", "content": FIRST.text}


@pytest.mark.parametrize("purpose", ["critique", "revise"])
def test_a_failed_call_changes_nothing_and_gives_no_row(purpose: str) -> None:
    chain = chain_of(lambda q: Failure("http_5xx", "down") if q.purpose == purpose else helpful_critic(q))
    assert [step.state for step in chain.steps] == ["failed", "failed"]
    assert chain.last == FIRST.text
    assert list(sft_rows(chain, ConstitutionOptions(), "source")) == []
    assert list(revision_pairs(chain, ConstitutionOptions())) == []
    tally = RevisionTally()
    tally.add_chain(chain)
    assert tally.failures == {"http_5xx": 2}


def test_pairs_of_steps_are_the_last_over_the_first_and_each_over_the_one_before() -> None:
    chain = chain_of(helpful_critic)
    steps = ConstitutionOptions(pairs="steps")
    pairs = [(pair.after, pair.before.text) for pair in revision_pairs(chain, steps)]
    assert pairs == [(BEST, FIRST.text), (BETTER, FIRST.text), (BEST, BETTER)]
    assert len(list(sft_rows(chain, ConstitutionOptions(sft="steps"), "source"))) == 2


def test_an_unchecked_pair_says_so_and_a_checked_one_has_the_judges_probability() -> None:
    chain = chain_of(helpful_critic)
    [pair] = revision_pairs(chain, ConstitutionOptions())
    comparison = pair.comparison("critic", "constitution guerdon")
    assert comparison.source == "constitution guerdon, unverified"
    checked = pair.checked(PairVerdict(0.8, 1.4), PairVerdict(0.5, 0.0), ConstitutionOptions())
    comparison = checked.comparison("critic", "constitution guerdon")
    assert comparison.source == "constitution guerdon"
    revision_is_first = comparison.responses[0].text == BEST
    assert comparison.q == pytest.approx(0.8 if revision_is_first else 0.2)
    assert comparison.annotator == f"critic/{chain.steps[-1].principle}"


@pytest.mark.parametrize(
    ("q", "helpful", "verified"),
    [(0.6, 0.35, True), (0.59, 0.9, False), (0.9, 0.34, False), (None, 0.9, False), (0.9, None, False)],
)
def test_a_pair_is_verified_only_by_two_verdicts(q: float | None, helpful: float | None, verified: bool) -> None:
    assert is_verified(PairVerdict(q, 0.0), PairVerdict(helpful, 0.0), ConstitutionOptions()) is verified


def principle_judge(script: Callable[[Question], Answer | Failure], **options: object) -> PrincipleJudge:
    judge = JudgeOptions.model_validate({"mode": "pair", "url": "http://localhost", "model": "m"})
    return PrincipleJudge(scripted(script), judge, shipped_constitution(), ConstitutionOptions.model_validate(options))


def test_principles_are_averaged_and_each_is_an_annotator() -> None:
    def by_principle(question: Question) -> Answer:
        likes = "true" in question.messages[0].content or "false" in question.messages[0].content
        return tokens((0.9 if likes else 0.7) if shown_first(question) == "good" else (0.1 if likes else 0.3))

    judge = principle_judge(by_principle, principles_per_pair=10)
    [(_, verdict)] = judge.compare([Pair(PROMPT, Response("good"), Response("bad"))])
    known = {name: each.q for name, each in verdict.by_principle.items()}
    assert len(known) == 10
    assert known["truth"] == pytest.approx(0.9)
    assert known["care"] == pytest.approx(0.7)
    assert verdict.q == pytest.approx((0.9 + 9 * 0.7) / 10)
    rows = list(principle_comparisons(PROMPT, [Response("good"), Response("bad")], verdict, "judge", "s"))
    assert {row.annotator for row in rows} == {f"judge/{name}" for name in known}


def test_half_of_the_principles_are_no_verdict() -> None:
    failed = PairVerdict(None, float("nan"), failures=(Failure("timeout"),))
    from guerdon.feedback.constitution.compare import combine

    assert combine({"a": PairVerdict(0.9, 2.2), "b": failed}).q is None
    assert combine({"a": PairVerdict(0.9, 2.2), "b": PairVerdict(0.7, 0.8), "c": failed}).q == pytest.approx(0.8)
    assert list(principle_comparisons(PROMPT, [FIRST, FIRST], combine({"b": failed}), "j", "s")) == []


def test_a_judge_that_always_says_1_is_seen_as_biased_under_each_principle() -> None:
    judge = principle_judge(lambda question: tokens(0.95), principles_per_pair=2)
    tally = PrincipleTally()
    pairs = [Pair(as_prompt(f"prompt {i}"), Response("a" * (i + 1)), Response("b")) for i in range(40)]
    for _, verdict in judge.compare(pairs):
        assert verdict.q == pytest.approx(0.5)
        tally.add(verdict)
    report = principle_report(tally, shipped_constitution(), {})
    biased = [finding for finding in report.findings if "prefers what is shown first" in finding.title]
    judged = [name for name, count in tally.judged.items() if count > 1]
    assert len(biased) >= len(judged) - 1
    assert all(report.estimates[f"flips/{name}"].value == 1.0 for name in tally.judged)


def test_a_principle_that_opposes_the_others_is_reported() -> None:
    tally = PrincipleTally()
    for _ in range(20):
        verdicts = {"a": PairVerdict(0.8, 1.0), "b": PairVerdict(0.7, 0.8), "odd": PairVerdict(0.1, -2.0)}
        tally.add(PrincipledVerdict(0.53, 0.1, verdicts))
    titles = [finding.title for finding in principle_report(tally, shipped_constitution(), {}).findings]
    assert "odd disagrees with the other principles" in titles


def test_the_report_counts_what_happened_by_principle_and_step() -> None:
    tally = RevisionTally()
    for _ in range(3):
        chain = chain_of(helpful_critic)
        tally.add_chain(chain)
        for pair in revision_pairs(chain, ConstitutionOptions()):
            tally.add_pair(pair.checked(PairVerdict(0.9, 2.2), PairVerdict(0.2, -1.4), ConstitutionOptions()))
    report = revision_report(tally, shipped_constitution(), {})
    assert report.estimates["revised"].value == 1.0
    assert report.estimates["verified"].value == 0.0
    assert report.estimates["verified/step 2"].n == 3
    assert report.estimates["length_ratio"].value == pytest.approx(len(BEST) / len(FIRST.text))
    assert "Most revisions are not better" in [finding.title for finding in report.findings]
