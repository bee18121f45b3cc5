"""The queue: what is computed together, what is refused, and what a client that goes away leaves."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_site import Counted

from guerdon.contracts import GuerdonError
from guerdon.serving.errors import Overloaded, Stopping, TooLarge
from guerdon.serving.queue import QueueLimits, RewardQueue, _cheapest_together, _Request
from guerdon.serving.reading import Item, Reading


class Busy:
    """A queue whose worker is held in its first pass, so that everything else waits until `release`."""

    def __init__(self, *, can_merge: bool = True, clock=time.monotonic, **limits):
        self.go = threading.Event()
        self.model = Counted(can_merge=can_merge, go=self.go)
        self.queue = RewardQueue(self.model, QueueLimits(**limits), clock=clock)
        self.queue.start()
        self.first = self.send("the first")
        wait_until(lambda: self.model.passes)

    def send(self, *texts: str, deadline: float | None = None):
        readings = self.model.read([Item(f"items[{i}]", text=text) for i, text in enumerate(texts)])
        return self.queue.submit(readings, deadline)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go.set()
        self.queue.close(10)


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def scores(future):
    return [outcome.score for outcome in future.result(20)]


def test_an_idle_queue_runs_a_text_at_once_and_a_busy_one_everything_that_waits():
    with Busy() as busy:
        sent = [busy.send("one"), busy.send("two words", "three more words")]
        busy.go.set()
        assert [scores(future) for future in (busy.first, *sent)] == [[2.0], [1.0], [2.0, 3.0]]
    assert busy.model.passes == [["the first"], ["one", "two words", "three more words"]]


def test_texts_that_share_a_prompt_are_computed_together_past_others_that_wait():
    prompt = "a prompt of many letters: "
    with Busy(batch_tokens=60) as busy:
        sent = [busy.send(prompt + "x"), busy.send("z" * 55), busy.send(prompt + "y", prompt + "zz")]
        busy.go.set()
        for future in sent:
            future.result(20)
    assert busy.model.passes[1:] == [[prompt + "x", prompt + "y", prompt + "zz"], ["z" * 55]]


def test_a_text_longer_than_a_pass_runs_alone_and_a_large_request_is_divided():
    with Busy(batch_tokens=10) as busy:
        long, many = busy.send("a" * 30), busy.send("b" * 6, "c" * 6, "d" * 4)
        busy.go.set()
        assert scores(long) + scores(many) == [1.0] * 4
    assert busy.model.passes[1:] == [["a" * 30], ["b" * 6, "d" * 4], ["c" * 6]]


def test_a_judge_that_compares_gets_each_request_by_itself():
    with Busy(can_merge=False) as busy:
        sent = [busy.send("a", "b"), busy.send("a", "c")]
        busy.go.set()
        for future in sent:
            future.result(20)
    assert busy.model.passes[1:] == [["a", "b"], ["a", "c"]]


@pytest.mark.parametrize("limits", [{"items": 2}, {"tokens": 12}])
def test_a_full_queue_refuses_with_a_time_to_come_again(limits):
    with Busy(**limits) as busy:
        busy.send("abcde", "fghij")
        with pytest.raises(
            Overloaded, match=r"2 texts of 10 tokens are waiting, which is all that may wait"
        ) as refused:
            busy.send("klmno")
        assert refused.value.retry_after >= 1
        assert busy.queue.counts.refused == 1
        with pytest.raises(TooLarge, match="one request may hold"):
            busy.send(*["abcde"] * 3)


def test_work_that_the_measured_speed_cannot_finish_in_time_is_refused_at_once():
    with Busy() as busy:
        busy.go.set()
        busy.first.result(20)
        busy.go.clear()
        busy.queue._speed = 10.0  # tokens per second
        busy.send("x" * 50)
        wait_until(lambda: len(busy.model.passes) == 2)
        busy.send("y" * 50)
        with pytest.raises(Overloaded, match="10 s of work, too much for a deadline of 5 s") as refused:
            busy.send("z", deadline=5)
        assert refused.value.retry_after == 5
        busy.send("z", deadline=60)


def test_a_request_whose_deadline_passes_while_it_waits_is_not_computed():
    now = [0.0]
    with Busy(clock=lambda: now[0], deadline=100) as busy:
        late, in_time = busy.send("late", deadline=5), busy.send("in time")
        now[0] = 6.0
        busy.go.set()
        with pytest.raises(Overloaded, match="the deadline passed"):
            late.result(20)
        assert scores(in_time) == [2.0]
        assert busy.queue.counts.expired == 1
    assert busy.model.passes[1:] == [["in time"]]


def test_a_client_that_goes_away_takes_its_texts_with_it():
    with Busy() as busy:
        gone, stays = busy.send("gone", "gone too"), busy.send("stays")
        assert gone.cancel()
        busy.go.set()
        assert scores(stays) == [1.0]
        assert (busy.queue.counts.canceled, busy.queue.num_waiting_tokens) == (2, 0)
    assert busy.model.passes[1:] == [["stays"]]


def test_a_text_that_spoils_a_pass_spoils_no_other_request():
    with Busy() as busy:
        sent = [busy.send("poison"), busy.send("fine"), busy.send("fine too")]
        busy.go.set()
        with pytest.raises(GuerdonError, match="must be finite"):
            sent[0].result(20)
        assert scores(sent[1]) + scores(sent[2]) == [1.0, 2.0]


def test_a_fault_of_the_model_fails_its_requests_and_not_the_server(caplog):
    with Busy() as busy:
        broken = busy.send("bug")
        busy.go.set()
        with pytest.raises(RuntimeError, match="the server's log has the reason"):
            broken.result(20)
        assert scores(busy.send("fine")) == [1.0]
    assert "ZeroDivisionError: bug" in caplog.text


def test_closing_finishes_what_was_accepted_and_takes_nothing_more():
    busy = Busy()
    waiting = busy.send("accepted")
    closing = threading.Thread(target=busy.queue.close, args=(20,))
    closing.start()
    wait_until(lambda: busy.queue._is_closed)
    with pytest.raises(Stopping):
        busy.send("too late")
    busy.go.set()
    closing.join()
    assert scores(waiting) == [1.0]


def test_what_is_not_finished_in_time_is_told_that_the_server_stops():
    busy = Busy()
    waiting = busy.send("accepted")
    busy.queue.close(0.01)
    with pytest.raises(Stopping):
        waiting.result(20)
    busy.go.set()


@settings(max_examples=100)
@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=12), min_size=1, max_size=20), st.integers(1, 40))
def test_a_pass_takes_in_order_what_still_fits_where_shared_beginnings_count_once(texts, budget):
    def beginning(one, other):
        return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))

    rows = [np.array(text, dtype=np.int32) for text in texts]
    readings = [Reading(Item("text"), (), len(ids), ids, ids.astype(">u4").tobytes()) for ids in rows]
    request = _Request(readings, 0.0, [None] * len(texts), len(texts))
    taken = [i for _, i in _cheapest_together([(request, i) for i in range(len(texts))], budget)]
    expected, left = [], budget
    for i, text in enumerate(texts):
        added = max(1, len(text) - max((beginning(text, texts[j]) for j in expected), default=0))
        if left > 0 and (not expected or added <= left):
            expected.append(i)
            left -= added
    assert taken == expected


class Slow(Counted):
    """A model that takes half a millisecond per letter."""

    def score(self, readings):
        time.sleep(5e-4 * sum(reading.num_tokens for reading in readings))
        return super().score(readings)


def test_ten_times_overload_leaves_most_of_the_speed_to_answers_in_time():
    deadline, seconds, letters = 0.5, 3.0, 20
    most = seconds / (
        5e-4 * letters
    )  # texts that the model can score; without a limit, a pass would hold a deadline's work
    queue = RewardQueue(Slow(), QueueLimits(deadline=deadline))
    queue.start()
    in_time: list[float] = []
    refused, start = 0, time.monotonic()
    for i in range(int(1000 * seconds)):
        time.sleep(max(0.0, start + i / 1000 - time.monotonic()))
        sent = time.monotonic()
        try:
            future = queue.submit(queue.model.read([Item("items[0]", text=f"{i:0{letters}}")]))
        except Overloaded:
            refused += 1
        else:
            future.add_done_callback(
                lambda done, sent=sent: in_time.append(time.monotonic() - sent) if done.exception() is None else None
            )
    queue.close(10)
    assert refused > 2000
    assert sum(taken <= deadline for taken in in_time) > 0.5 * most
    assert sum(taken > deadline for taken in in_time) < 0.1 * len(in_time)
