"""The log of calls keeps what was answered: one row for each question, safe at once, whoever writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from guerdon.models.judges.calls import CallRecord, Usage
from guerdon.models.judges.failures import Failure
from guerdon.store import tables
from guerdon.store.calls import SqlCallLog, call_id, open_call_log

NewLocation = Callable[..., str]
KEY = "0123456789abcdef" * 4


def record(number: int = 0, **fields) -> CallRecord:
    key = f"{number:x}".rjust(4, "0") + KEY[4:]
    return CallRecord(**{"key": key, "model": "m", "request": '{"messages": []}', "raw": f"answer {number}", **fields})


def rows_of(log: SqlCallLog) -> list[dict]:
    with log.database.reading() as connection:
        query = sa.select(tables.judge_calls).order_by(tables.judge_calls.c.id)
        return [dict(row) for row in connection.execute(query).mappings()]


def test_a_call_comes_back_as_it_was_kept(new_location: NewLocation):
    raw = '{"text": "\\ud800 NUL \\u0000 \u202e back\\\\slash"}' + "\ud800\x00"
    tries = ({"status": 429, "seconds": 0.5}, {"status": 200, "seconds": 1.0})
    usage = Usage(7, 5, 1)
    kept = record(
        raw=raw,
        purpose="score",
        item="any name",
        shown=(1, 0),
        sample=2,
        attempts=tries,
        usage=usage,
        cost=0.25,
        at=9.0,
    )
    with open_call_log(new_location()) as log:
        log.add([kept])
        assert log.answers([kept.key, "f" * 64]) == {kept.key: raw}
        (row,) = rows_of(log)
    assert (row["purpose"], row["item_id"], row["shown"], row["sample_ix"], row["status"]) == (
        "score", "any name", [1, 0], 2, "ok",
    )  # fmt: skip
    assert row["attempts"] == list(tries)
    assert (row["tokens_in"], row["tokens_cached"], row["tokens_out"], row["cost"]) == (7, 5, 1, 0.25)


def test_a_success_replaces_a_failure_and_nothing_replaces_a_success(new_location: NewLocation):
    failed = record(raw=None, failure=Failure("timeout", "120 s"), attempts=({"error": "timeout"},))
    unreadable = record(raw="well", failure=Failure("unparsable"), attempts=({"status": 200},))
    ok = record(raw="1", attempts=({"status": 200, "n": 2},))
    with open_call_log(new_location()) as log:
        log.add([failed])
        assert log.answers([failed.key]) == {}
        log.add([unreadable])
        assert log.answers([failed.key]) == {failed.key: "well"}, "an answer without a verdict can be read again"
        log.add([ok])
        log.add([failed, unreadable])
        (row,) = rows_of(log)
    assert (row["status"], row["response_raw"], row["failure_code"], row["failure_reason"]) == ("ok", "1", None, None)
    assert [json.dumps(attempt) for attempt in row["attempts"]] == [
        '{"error": "timeout"}', '{"status": 200}', '{"n": 2, "status": 200}',
    ]  # fmt: skip


def test_two_records_of_one_question_in_a_batch_are_one_row(new_location: NewLocation):
    failed = record(raw=None, failure=Failure("timeout"), attempts=({"n": 1},))
    with open_call_log(new_location()) as log:
        log.add([failed, record(attempts=({"n": 2},)), failed])
        (row,) = rows_of(log)
    assert (row["status"], [attempt["n"] for attempt in row["attempts"]]) == ("ok", [1, 2, 1])


def test_many_threads_lose_nothing(new_location: NewLocation):
    with open_call_log(new_location()) as log:

        def work(start: int) -> None:
            for i in range(25):
                log.add([record(1000 * start + i)])
                assert log.answers([record(1000 * start + i).key])

        threads = [threading.Thread(target=work, args=(start,)) for start in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(rows_of(log)) == 150


def test_who_cannot_write_learns_it_and_the_log_goes_on(new_location: NewLocation):
    with open_call_log(new_location()) as log:
        with pytest.raises(Exception, match="failures_have_a_code"):
            log._write([{**_row(record(1)), "status": "failed"}])
        log.add([record(2)])
        assert [row["id"] for row in rows_of(log)] == [call_id(record(2).key)]


def _row(kept: CallRecord) -> dict:
    from guerdon.store.calls import call_row

    return call_row(kept)


def test_a_log_that_is_opened_again_goes_on(new_location: NewLocation):
    location = new_location()
    for number in (1, 2):
        with open_call_log(location) as log:
            log.add(record(i) for i in range(1200 * number))
    with open_call_log(location) as log:
        assert len(log.answers([record(i).key for i in range(2400)])) == 2400
