"""Verdicts of judges in a store: judgments of ok calls, one label for each resolved pair, and nothing for the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scripted_judges import judge_by, shown_first, tokens

from guerdon.api.judging import _stored, stored_judge
from guerdon.api.store import export_store, import_prefs, merge_stores, store_status, verify_store
from guerdon.contracts import Response, as_prompt
from guerdon.feedback.judging import JudgingTally, Unjudged, judge_pairs
from guerdon.models.judges.failures import Failure
from guerdon.store.calls import open_call_log
from guerdon.store.comparisons import read_store
from guerdon.store.database import open_database
from guerdon.store.location import locate
from guerdon.store.reader import read_items

NewStore = Callable[[], str]


def prefers_good(question):
    if "Q1?" in question.messages[1].content:
        return Failure("http_5xx", "502")
    return tokens(0.9 if shown_first(question).startswith("good") else 0.2)


def rows(number: int, swapped: bool = False) -> list[Unjudged]:
    pairs = [(Response(f"good {i}"), Response(f"bad {i}")) for i in range(number)]
    return [Unjudged(as_prompt(f"Q{i}?"), pair[::-1] if swapped else pair) for i, pair in enumerate(pairs)]


def run(store: str, given: list[Unjudged], script=prefers_good, **options) -> int:
    """Judge into the store; returns how many questions were asked."""
    with open_call_log(store, create=False) as log:
        judge = judge_by(script, **options)
        judge.respondent.log = log
        stored = stored_judge(judge.options, judge)
        list(_stored(judge_pairs(judge, given, JudgingTally()), log.database, stored))
        return len(judge.respondent.asked)


def test_a_resolved_pair_has_a_judgment_for_each_call_and_a_label_and_others_have_calls_alone(new_store: NewStore):
    store = new_store()
    run(store, rows(4))
    status = store_status(store)
    assert {name: status[name] for name in ("items", "judgments", "labels", "judge_calls", "failed_judge_calls")} == {
        "items": 4, "judgments": 6, "labels": 3, "judge_calls": 8, "failed_judge_calls": 2,
    }  # fmt: skip
    assert status["labels_by_judge"] == 3
    assert status["annotators_of_kind_llm"] == 1
    assert not verify_store(store).findings
    with open_database(locate(store)) as database:
        items = [item for _, item in read_items(database)]
    for item in items:
        for judgment in item.judgments:
            first = item.responses[judgment.shown[0]].text
            assert judgment.preference.q == pytest.approx(0.9 if first.startswith("good") else 0.2)
        for label in item.labels:
            good = [response.text.startswith("good") for response in item.responses]
            assert label.preference.q == pytest.approx(0.85 if good[0] else 0.15)
            assert label.params["mode"] == "pair"


def test_the_same_run_again_adds_nothing_asks_only_what_failed_and_swapped_responses_change_nothing(
    new_store: NewStore,
):
    store = new_store()
    run(store, rows(4))
    before = store_status(store)
    assert run(store, rows(4, swapped=True)) == 2
    assert store_status(store) == before
    run(store, rows(4), lambda question: tokens(0.9 if shown_first(question).startswith("good") else 0.2))
    after = store_status(store)
    assert (after["failed_judge_calls"], after["judge_calls"], after["labels"]) == (0, 8, 4)
    assert not verify_store(store).findings


def test_another_way_to_combine_is_another_judge_with_the_same_calls(new_store: NewStore):
    store = new_store()
    run(store, rows(3))
    assert run(store, rows(3), combine="logit_mean") == 2, "only what failed is asked"
    status = store_status(store)
    assert (status["judge_calls"], status["judgments"], status["labels"]) == (6, 8, 4)


def test_labels_of_a_judge_are_read_exported_and_merged(new_store: NewStore, tmp_path):
    store, again, merged = new_store(), new_store(), new_store()
    run(store, rows(3))
    q = sorted(comparison.preference.q for comparison in read_store(f"store:{store}"))
    assert all(value == pytest.approx(0.15) or value == pytest.approx(0.85) for value in q)
    export_store(store, tmp_path / "a.jsonl")
    import_prefs(again, [tmp_path / "a.jsonl"])
    export_store(again, tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    merge_stores(merged, [again, store])
    assert store_status(merged) | {"store": "", "events": 0} == store_status(store) | {"store": "", "events": 0}
    assert not verify_store(merged).findings


def test_a_judge_without_calls_of_its_own_has_its_verdicts_as_calls(new_store: NewStore):
    store = new_store()
    run(store, rows(1), lambda question: tokens_of_score(question), mode="score", low=1, high=3)
    status = store_status(store)
    assert (status["judgments"], status["labels"]) == (1, 1)
    assert not verify_store(store).findings


def tokens_of_score(question):
    from guerdon.models.judges.calls import Answer

    good = "good" in question.messages[1].content
    return Answer("3", "length", {"3" if good else "1": -0.01})
