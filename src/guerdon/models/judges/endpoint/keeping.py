"""A thread that writes calls to the log, many in one transaction, and hands each on only when it is safe."""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue
from typing import TypeVar

from guerdon.models.judges.calls import CallLog, CallRecord
from guerdon.models.judges.driver import Reading

MOST_RECORDS = 1000  # of one transaction
LINGER = 0.05  # seconds that a record waits for others while calls are in flight: a transaction costs as much as several calls

T = TypeVar("T")
Arrival = Reading | BaseException
"""The reading of a call, or what ends the run."""


class Keeper:
    """Writes records in the order in which they come. Readings without a record, and errors, pass through in the same order."""

    def __init__(self, log: CallLog) -> None:
        self._log = log
        self._incoming: SimpleQueue[tuple[Arrival, CallRecord | None] | None] = SimpleQueue()
        self._outgoing: SimpleQueue[Arrival] = SimpleQueue()
        self._expected = self._arrived = 0  # each is written by one thread
        self._thread = threading.Thread(target=self._work, name="judge-log", daemon=True)
        self._thread.start()

    def expect(self, count: int) -> None:
        """So many more readings will come."""
        self._expected += count

    def put(self, arrival: Arrival, record: CallRecord | None = None) -> None:
        """Keep a record, then hand on its reading."""
        self._arrived += 1
        self._incoming.put((arrival, record))

    def take(self) -> list[Reading]:
        """All readings that are safe by now; waits for the first. Raises what ended the run."""
        arrivals = [self._outgoing.get(), *_rest(self._outgoing)]
        for arrival in arrivals:
            if isinstance(arrival, BaseException):
                raise arrival
        return [arrival for arrival in arrivals if isinstance(arrival, Reading)]

    def close(self) -> None:
        """Write what is left, and end the thread."""
        self._incoming.put(None)
        self._thread.join()

    def _work(self) -> None:
        is_open = True
        while is_open:
            batch = [self._incoming.get()]
            if batch[0] is not None and self._arrived < self._expected:
                time.sleep(LINGER)
            batch += _rest(self._incoming, MOST_RECORDS - 1)
            is_open = None not in batch
            kept = [entry for entry in batch if entry is not None]
            try:
                if records := [record for _, record in kept if record is not None]:
                    self._log.add(records)
            except BaseException as error:  # raised again in the thread that waits for readings
                self._outgoing.put(error)
                return
            for arrival, _ in kept:
                self._outgoing.put(arrival)


def _rest(queue: SimpleQueue[T], most: int = 100_000) -> list[T]:
    """What is in the queue now."""
    items: list[T] = []
    try:
        while len(items) < most:
            items.append(queue.get_nowait())
    except Empty:
        pass
    return items
