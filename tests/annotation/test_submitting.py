"""What becomes of answers that come once, twice, late, or again with a change."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from annotation.worlds import world

from guerdon.annotation.answers import Answer
from guerdon.annotation.claiming import NothingLeft, skip
from guerdon.annotation.counting import project_counts
from guerdon.annotation.errors import AnswerError, Conflict, NotNow, NotYours
from guerdon.annotation.exporting import exported
from guerdon.annotation.progress import own_progress
from guerdon.annotation.project import change_project
from guerdon.annotation.submitting import history, reopen, submit_and_claim
from guerdon.api import annotation_background
from guerdon.api.store import create_store, verify_store
from guerdon.contracts import Preference
from guerdon.store.reader import read_items

NewStore = Callable[[], str]
ANSWER = Answer(verdict=2)


def test_the_same_key_with_the_same_answer_is_stored_once(new_store: NewStore):
    with world(new_store(), 1) as w:
        held = w.claim("a")
        first = w.submit("a", held, "k", verdict=2, active_ms=1000.0)
        again = w.submit("a", held, "k", verdict=2, active_ms=1200.0)
        assert (again.judgment_id, again.repeated, again.revision) == (first.judgment_id, True, 1)
        with pytest.raises(Conflict, match="Idempotency-Key") as error:
            w.submit("a", held, "k", verdict=1)
        assert error.value.status == 409
        assert len(w.rows("SELECT * FROM judgments")) == 1


def test_another_answer_is_a_new_revision_and_the_first_one_stays(new_store: NewStore):
    store = new_store()
    with world(store, 1) as w:
        held = w.claim("a")
        w.submit("a", held, verdict=-3)
        assert w.submit("a", held, "k2", verdict=1, rationale="On second thought.").revision == 2
        assert w.submit("a", held, verdict=1, rationale="On second thought.").repeated
        ((_, item),) = read_items(w.project.database)
        (judgment,) = item.judgments
        assert (judgment.preference.groups, judgment.preference.strength) == (((1,), (0,)), 1.0)
        assert judgment.earlier[0].preference.groups == ((0,), (1,))
        assert project_counts(w.project.database, "p")["judgments"] == 1
    assert not verify_store(store).findings


def test_both_bad_is_a_tie_that_the_default_mode_stores_counts_exports_and_gives_back(new_store: NewStore):
    store = new_store()
    with world(store, 2) as w:
        held = w.judge("a", both_bad=True)
        w.judge("a", verdict=0)
        newest, oldest = history(w.project, w.person("a"), 10)
        assert oldest.answer["both_bad"]
        assert "verdict" not in oldest.answer
        assert not newest.answer["both_bad"]
        counts = project_counts(w.project.database, "p")
        assert (counts["all_bad"], counts["judgments"]) == (1, 2)
        stored = {
            i.judgments[0].details.get("all_bad", False): i.judgments[0] for _, i in read_items(w.project.database)
        }
        assert stored[True].preference == stored[False].preference == Preference(groups=((0, 1),), strength=0.0)
        assert [each.preference.groups for each in exported(w.project, each=True)] == [((0, 1),)] * 2
        w.submit("a", held, verdict=1)
        assert project_counts(w.project.database, "p")["all_bad"] == 0
    assert not verify_store(store).findings


def test_both_bad_comes_without_a_verdict_and_where_the_project_has_it(new_store: NewStore):
    with world(new_store(), 1) as w, pytest.raises(AnswerError, match="verdict must be left out"):
        w.judge("a", both_bad=True, verdict=1)
    with (
        world(new_store(), 1, verdict="binary_tie") as w,
        pytest.raises(AnswerError, match="both_bad must be left out"),
    ):
        w.judge("a", both_bad=True)


def test_answers_are_in_the_file_itself_within_seconds_and_outlive_a_power_failure(tmp_path, monkeypatch):
    """What is in the file without its journal, as after a power failure that took what had not been written."""
    monkeypatch.setattr(annotation_background, "SECONDS_TO_DISK", 0.02)
    store, end = str(tmp_path / "a.db"), time.monotonic() + 20
    create_store(store)

    def in_the_file() -> int:
        shutil.copy(store, tmp_path / "alone.db")
        with closing(sqlite3.connect(tmp_path / "alone.db")) as connection:
            try:
                return int(connection.execute("SELECT count(*) FROM judgments").fetchone()[0])
            except sqlite3.DatabaseError:  # copied while it was being written
                return 0

    with world(store, 3) as w, annotation_background.background(w.project.database):
        w.judge("a")
        w.judge("a")
        while (number := in_the_file()) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        assert number == 2


def test_a_late_answer_is_kept_and_counted_even_where_the_item_is_complete(new_store: NewStore):
    store = new_store()
    with world(store, 1, lease_seconds=60) as w:
        late = w.claim("a")
        w.now += 100
        w.judge("b")
        assert w.submit("a", late, verdict=3).late
        assert [row[0] for row in w.rows("SELECT taken FROM items")] == [2]
        assert project_counts(w.project.database, "p") == {
            "items:task:complete": 1, "items:task:open": 0, "judgments": 2, "late": 1, "needed": 0, f"hour:{int(w.now // 3600)}": 2,
        }  # fmt: skip
    assert not verify_store(store).findings


def test_a_late_answer_ends_the_lease_that_the_same_person_has_on_the_item_again(new_store: NewStore):
    with world(new_store(), 1, lease_seconds=60, need=2) as w:
        first = w.claim("a")
        w.now += 100
        w.judge("b")  # takes the slot of a's lease, which has expired
        again = w.claim("a")
        assert again.presentation_id != first.presentation_id
        assert again.responses == first.responses[::-1], "an order belongs to a presentation for good"
        assert w.submit("a", first).late
        assert isinstance(w.claim("a"), NothingLeft)
        with pytest.raises(Conflict, match="already"):
            w.submit("a", again)


def test_old_answers_and_skipped_items_cannot_be_changed(new_store: NewStore):
    with world(new_store(), 5, edit_window=2) as w:
        first = w.judge("a")
        w.judge("a")
        w.judge("a")
        with pytest.raises(Conflict, match="newest 2"):
            w.submit("a", first, verdict=3)
        skipped = w.claim("a")
        skip(w.project, w.person("a"), skipped.presentation_id, "unclear", w.now)
        with pytest.raises(Conflict, match="skipped"):
            w.submit("a", skipped)


def test_history_gives_answers_back_and_reopens_the_newest(new_store: NewStore):
    with world(new_store(), 4, edit_window=2) as w:
        for verdict in (-3, 0, 2):
            w.judge("a", verdict=verdict, flags=["spam"])
        entries = history(w.project, w.person("a"), 10)
        assert [(entry.answer["verdict"], entry.can_change) for entry in entries] == [(2, True), (0, True), (-3, False)]
        assignment = reopen(w.project, w.person("a"), entries[0].judgment_id)
        assert assignment.answer is not None
        assert assignment.answer["flags"] == ["spam"]
        assert w.submit("a", assignment, verdict=-1).revision == 2
        with pytest.raises(NotYours):
            reopen(w.project, w.person("b"), entries[0].judgment_id)
        progress = own_progress(w.project, w.person("a"), 0.0)
        assert (progress.done, progress.today, progress.remaining) == (3, 3, 1)


def test_an_answer_is_stored_with_the_next_claim_or_although_there_is_none(new_store: NewStore):
    with world(new_store(), number=2) as w:
        first = w.claim("ann")
        stored, following = submit_and_claim(w.project, w.person("ann"), first.presentation_id, ANSWER, "k", w.now)
        assert stored.revision == 1
        assert following.presentation_id == w.claim("ann").presentation_id, "what was given out is held"
        again, same = submit_and_claim(w.project, w.person("ann"), first.presentation_id, ANSWER, "k", w.now)
        assert again.repeated
        assert same.presentation_id == following.presentation_id
        change_project(w.project, state="paused")
        _, refusal = submit_and_claim(w.project, w.person("ann"), following.presentation_id, ANSWER, "l", w.now)
        assert isinstance(refusal, NotNow)
        assert len(w.rows("SELECT id FROM judgments")) == 2
        assert project_counts(w.project.database, "p")["items:task:complete"] == 2


def test_after_the_last_answer_an_expired_item_of_somebody_else_is_given_out(new_store: NewStore):
    with world(new_store(), number=2) as w:
        held = w.claim("ben")
        mine = w.claim("ann")
        w.now += 1e6
        _, following = submit_and_claim(w.project, w.person("ann"), mine.presentation_id, ANSWER, "k", w.now)
        assert following.item_id == held.item_id
