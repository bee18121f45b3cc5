"""Items that come in between, what is counted of a person's work, and items on which people disagree."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from annotation.worlds import pairs, world

from guerdon.annotation.assignments import Assignment
from guerdon.annotation.claiming import NothingLeft
from guerdon.annotation.counting import project_counts
from guerdon.annotation.errors import Conflict, NotNow
from guerdon.annotation.known_answers import add_attention_items, set_gold
from guerdon.annotation.project import add_items
from guerdon.annotation.quality import is_unreliable
from guerdon.annotation.repair import repair
from guerdon.api.store import export_store, verify_store
from guerdon.store.comparisons import read_store

NewStore = Callable[[], str]


def towards(assignment: Assignment, letter: str) -> int:
    """The verdict for the response that ends in this letter."""
    return -1 if assignment.responses[0].text.endswith(letter) else 1


def known(w, number: int, purpose: str, winner: str = "a") -> list[str]:
    """Known answers for the first tasks: the response that ends in `winner` is better."""
    ids = []
    for item_id in sorted(w.items())[:number]:
        texts = [row[0] for row in w.rows(
            "SELECT content FROM responses JOIN item_responses ON response_id = responses.id "
            f"WHERE item_id = '{item_id}' ORDER BY position"
        )]  # fmt: skip
        best = next(i for i, text in enumerate(texts) if text.endswith(f'{winner}"}}'))
        ids.append(set_gold(w.project, item_id, [[best], [1 - best]], None, "boss", w.now, purpose))
    return ids


def test_training_comes_first_and_shows_the_answer_which_then_stands(new_store: NewStore):
    with world(new_store(), 6, training=2) as w:
        training = known(w, 3, "training")
        for verdict_of, passed in (("a", True), ("b", False)):
            assignment = w.claim("p")
            assert (assignment.purpose, assignment.item_id in training) == ("training", True)
            submission = w.submit("p", assignment, verdict=towards(assignment, verdict_of))
            assert submission.feedback is not None
            assert submission.feedback.passed is passed
            best = assignment.handles.index(submission.feedback.ranking[0][0])
            assert assignment.responses[best].text.endswith("a")
            with pytest.raises(Conflict, match="after the right one was shown"):
                w.submit("p", assignment, verdict=3)
        assert w.claim("p").purpose == "task"


def test_gold_comes_at_its_rate_unannounced_and_an_unreliable_person_is_paused(new_store: NewStore):
    with world(new_store(), 60, gold=0.5, warn_after=2, pause_after=4, edit_window=0) as w:
        known(w, 20, "gold")
        who = w.person("p")
        with w.project.database.writing() as connection:
            row = f"'1', '{who}', 'p', 0"
            connection.exec_driver_sql(f"INSERT INTO accounts (id, annotator_id, login, created) VALUES ({row})")
        purposes: list[str] = []

        def work() -> None:
            while True:
                assignment = w.claim("p")
                purposes.append(assignment.purpose)
                w.submit("p", assignment, verdict=towards(assignment, "b"))

        with pytest.raises(NotNow, match="paused"):
            work()
        assert purposes.count("gold") == 4
        assert purposes.count("task") in (3, 4, 5), "one of two claims"
        seen, passed = w.rows("SELECT gold_seen, gold_passed FROM work_counts")[0]
        assert (seen, passed) == (4, 0)


def test_a_person_is_unreliable_where_a_low_accuracy_is_probable():
    # P(accuracy < 0.7) under Beta(2 + passed, 1 + failed), by hand: of Beta(2, 5) it is 0.989, of Beta(4, 3) 0.744.
    assert is_unreliable(0, 4, 0.7)
    assert not is_unreliable(2, 4, 0.7)
    assert not is_unreliable(0, 4, 0.0)


def test_repeats_show_an_own_pair_in_the_opposite_order_and_count_nothing_toward_need(new_store: NewStore):
    store = new_store()
    with world(store, 12, repeat=0.5, repeat_after=2) as w:
        shown, repeats = {}, 0
        while isinstance(assignment := w.claim("p"), Assignment):
            w.submit("p", assignment, verdict=towards(assignment, "a"))
            texts = tuple(response.text for response in assignment.responses)
            if assignment.purpose == "repeat":
                repeats += 1
                assert shown[frozenset(texts)] == texts[::-1]
            else:
                shown[frozenset(texts)] = texts
        assert repeats >= 3
        assert w.rows("SELECT repeats_seen, repeats_agreed, submitted FROM work_counts") == [
            (repeats, repeats, 12 + repeats)
        ]
        assert project_counts(w.project.database, "p")["judgments"] == 12
    assert not verify_store(store).findings
    assert len(list(read_store(store))) == 12, "a repetition is no second comparison"


def test_people_who_disagree_get_company_up_to_a_limit(new_store: NewStore):
    options = {"need": 3, "adaptive_max": 5, "unresolved": "adjudicate"}
    with world(new_store(), 1, **options) as w:
        for name, letter in zip("vwxyz", "ababa", strict=True):
            assignment = w.claim(name)
            w.submit(name, assignment, verdict=towards(assignment, letter))
        assert w.claim("q") == NothingLeft(0, None)
        assert [(item["need"], item["taken"], item["status"]) for item in w.items().values()] == [(5, 5, "adjudicate")]


def test_people_who_agree_get_none(new_store: NewStore):
    with world(new_store(), 1, need=3, adaptive_max=5) as w:
        for name in "vwx":
            assignment = w.claim(name)
            w.submit(name, assignment, verdict=towards(assignment, "a"))
        assert [(item["need"], item["status"]) for item in w.items().values()] == [(3, "complete")]


def test_attention_items_have_the_reply_to_another_prompt(new_store: NewStore):
    with world(new_store(), 10, attention=0.5) as w:
        assert add_attention_items(w.project, 4) == 4
        for _ in range(8):
            assignment = w.claim("p")
            question = assignment.prompt[-1].content.split()[1]
            answers = [response.text.split()[1] for response in assignment.responses]
            if assignment.purpose == "attention":
                assert answers.count(question) == 1
                w.submit("p", assignment, verdict=-1 if answers[0] == question else 1)
            else:
                w.submit("p", assignment)
        ((seen, passed),) = w.rows("SELECT attention_seen, attention_passed FROM work_counts")
        assert seen == passed == 4


def test_nobody_judges_what_they_wrote(new_store: NewStore):
    from dataclasses import replace

    with world(new_store(), 0) as w:
        comparison = next(pairs(1))
        mine = replace(comparison.responses[0], author="ann")
        add_items(w.project, [replace(comparison, responses=(mine, comparison.responses[1]), id="", group="")])
        assert w.claim("ann") == NothingLeft(0, None)
        assert isinstance(w.claim("bob"), Assignment)


def test_the_same_items_again_change_nothing_and_an_import_is_counted_at_the_next_start(new_store: NewStore):
    with world(new_store(), 5, overlap=0.5) as w:
        before = w.items()
        assert add_items(w.project, pairs(5)) == 0
        assert w.items() == before
        assert add_items(w.project, pairs(3, start=5)) == 3
        assert repair(w.project) == 0
        with w.project.database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE items SET taken = 1, status = 'retired' WHERE id = (SELECT min(id) FROM items)"
            )
        assert repair(w.project) == 4
        assert repair(w.project) == 0
        assert {item["taken"] for item in w.items().values()} == {0}
        assert project_counts(w.project.database, "p")["items:task:open"] == 7


def test_no_secret_leaves_with_an_export(new_store: NewStore, tmp_path):
    store = new_store()
    with world(store, 2) as w:
        w.judge("a")
        secret = w.project.secret
    export_store(store, tmp_path / "prefs.v1.jsonl")
    text = (tmp_path / "prefs.v1.jsonl").read_text()
    assert f'"{secret}"' not in text
    assert "handles" not in text
