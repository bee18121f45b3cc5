"""Who gets which item, for how long, and in which order it is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from annotation.worlds import world

from guerdon.annotation.assignments import Assignment
from guerdon.annotation.claiming import NothingLeft, claim, heartbeat, release, skip
from guerdon.annotation.errors import AnswerError, Conflict, NotNow, NotYours
from guerdon.annotation.project import change_project

NewStore = Callable[[], str]


def test_each_item_is_judged_once_by_somebody(new_store: NewStore):
    with world(new_store(), 6) as w:
        shown = [w.judge(name).item_id for name in "ababab"]
        assert sorted(shown) == sorted(w.items())
        assert w.claim("a") == NothingLeft(0, None)
        assert {item["status"] for item in w.items().values()} == {"complete"}


def test_a_person_who_comes_back_gets_the_same_item_in_the_same_order(new_store: NewStore):
    with world(new_store()) as w:
        first, again = w.claim("a"), w.claim("a")
        assert (first.presentation_id, first.responses) == (again.presentation_id, again.responses)
        assert again.expires > first.expires
        assert w.claim("b").item_id != first.item_id


def test_no_person_judges_an_item_twice_and_overlap_is_exact(new_store: NewStore):
    with world(new_store(), 4, need=3) as w:
        shown = Counter((name, w.judge(name).item_id) for name in "abc" * 4)
        assert max(shown.values()) == 1
        assert Counter(item for _, item in shown) == dict.fromkeys(w.items(), 3)
        assert isinstance(w.claim("d"), NothingLeft)


def test_two_slots_of_a_pair_show_opposite_orders(new_store: NewStore):
    with world(new_store(), 8, need=2) as w:
        first = {(a := w.judge("a")).item_id: a.responses for _ in range(8)}
        second = {(a := w.judge("b")).item_id: a.responses for _ in range(8)}
        assert all(second[item] == shown[::-1] for item, shown in first.items())
        assert len({shown[0].text[-1] for shown in first.values()}) == 2, "not always the same side"


def test_an_item_that_was_skipped_goes_to_others_in_the_free_slot(new_store: NewStore):
    with world(new_store(), 1, need=2) as w:
        given_up = w.claim("a")
        skip(w.project, w.person("a"), given_up.presentation_id, "unclear", w.now)
        skip(w.project, w.person("a"), given_up.presentation_id, "unclear", w.now)
        assert w.claim("a") == NothingLeft(0, None)
        assert w.judge("b").responses == given_up.responses
        assert w.judge("c").responses == given_up.responses[::-1]


def test_after_max_skips_an_item_waits_for_an_adjudicator(new_store: NewStore):
    with world(new_store(), 1, max_skips=2) as w:
        for name in "ab":
            skip(w.project, w.person(name), w.claim(name).presentation_id, "harmful", w.now)
        assert [item["status"] for item in w.items().values()] == ["adjudicate"]
        assert w.claim("c") == NothingLeft(0, None)


def test_an_expired_lease_is_taken_back_by_the_next_claim(new_store: NewStore):
    with world(new_store(), 1, lease_seconds=60) as w:
        held = w.claim("a")
        assert w.claim("b") == NothingLeft(1, held.expires)
        w.now += 100
        assert w.claim("b").item_id == held.item_id
        with pytest.raises(Conflict, match="still be held"):
            heartbeat(w.project, w.person("a"), held.presentation_id, w.now)


def test_a_heartbeat_keeps_a_lease_and_a_release_gives_it_back(new_store: NewStore):
    with world(new_store(), 1, lease_seconds=60) as w:
        held = w.claim("a")
        for _ in range(3):
            w.now += 50
            assert heartbeat(w.project, w.person("a"), held.presentation_id, w.now) == w.now + 60
        assert isinstance(w.claim("b"), NothingLeft)
        release(w.project, w.person("a"), held.presentation_id)
        release(w.project, w.person("a"), held.presentation_id)
        assert w.claim("b").item_id == held.item_id


def test_what_is_not_ones_own_is_not_there(new_store: NewStore):
    with world(new_store()) as w:
        held = w.claim("a")
        for act in (
            lambda: heartbeat(w.project, w.person("b"), held.presentation_id, w.now),
            lambda: release(w.project, w.person("b"), held.presentation_id),
            lambda: skip(w.project, w.person("b"), held.presentation_id, "unclear", w.now),
            lambda: w.submit("b", held),
            lambda: w.submit("b", "no such id"),
        ):
            with pytest.raises(NotYours) as error:
                act()
            assert error.value.status == 404
        with pytest.raises(AnswerError, match="reason must be one of"):
            skip(w.project, w.person("a"), held.presentation_id, "bored", w.now)


@pytest.mark.parametrize("state", ["paused", "closed"])
def test_a_project_that_is_not_open_gives_out_nothing_but_takes_answers(new_store: NewStore, state: str):
    with world(new_store()) as w:
        held = w.claim("a")
        change_project(w.project, state=state)
        with pytest.raises(NotNow):
            claim(w.project, w.person("a"), w.now)
        assert w.submit("a", held).revision == 1


def test_a_ranking_is_shown_in_rows_of_a_square(new_store: NewStore):
    with world(new_store(), 1, k=4, need=4, verdict="rank") as w:
        first_place = []
        for name in "abcd":
            assignment = w.claim(name)
            assert isinstance(assignment, Assignment)
            first_place.append(assignment.responses[0])
            w.submit(name, assignment, ranking=[[handle] for handle in assignment.handles])
        assert len(set(first_place)) == 4
