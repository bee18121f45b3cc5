"""One queue in front of one model: what waits together and begins alike is computed together, whoever sent it.

A worker thread takes the text that has waited the longest, then those that add the fewest tokens to it, up to the budget of a
pass. So an idle server runs a text at once, and a busy one fills its passes. A request is done when all its texts are; large
requests share passes with small ones, and hold them up by one pass at most.

Under overload, what would be late is refused at once. Otherwise the queue would be as long as the deadline, each text would be
taken when its time is nearly over, and everything would be computed in vain.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from guerdon.errors import GuerdonError, counted
from guerdon.models.engine.prefix_tree import common_prefix_length
from guerdon.serving.errors import BackendAway, Overloaded, Stopping, TooLarge
from guerdon.serving.models import Outcome, ServedModel
from guerdon.serving.reading import Reading

log = logging.getLogger("guerdon.serving")

SMOOTHING: Final = 0.2  # weight of the last pass in the measured speed
PASS_SHARE: Final = 0.25  # of the deadline that a pass may take
ACCEPTED_SHARE: Final = 0.75  # of its deadline that a request may take, by the measured speed, to be accepted
NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What may wait. tokens, items: of all requests. deadline: seconds that a request may take. batch_tokens: of one pass."""

    tokens: int = 1_000_000
    items: int = 4096
    deadline: float = 120.0
    batch_tokens: int = 4096


@dataclass(eq=False, slots=True)
class _Request:
    """Texts that were sent together. left: those not scored yet. expires: on the queue's clock."""

    readings: Sequence[Reading]
    expires: float
    outcomes: list[Outcome | None]
    left: int
    future: Future[list[Outcome]] = field(default_factory=Future)


_Waiting = tuple[_Request, int]  # a request and the position of one of its texts


@dataclass(slots=True)
class QueueCounts:
    """Since the start. refused: because of a full queue or a deadline that could not be met; expired: that waited too long."""

    passes: int = 0
    items: int = 0
    tokens: int = 0
    refused: int = 0
    expired: int = 0
    canceled: int = 0
    failed: int = 0
    seconds: float = 0.0


class RewardQueue:
    """Texts that wait for one model, and the thread that scores them.

    turn: held while a model computes, so that several models on one machine take turns. clock: seconds, for deadlines.
    """

    def __init__(
        self,
        model: ServedModel,
        limits: QueueLimits,
        turn: threading.Lock | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model, self.limits = model, limits
        self.counts = QueueCounts()
        self._turn, self._clock = turn or threading.Lock(), clock
        self._waiting: list[_Waiting] = []
        self._tokens = self._computing = 0
        self._speed: float | None = None
        self._is_closed = False
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._run, name=f"score {model.name}", daemon=True)

    # ---- For those who ask -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to score."""
        self._worker.start()

    def submit(self, readings: Sequence[Reading], deadline: float | None = None) -> Future[list[Outcome]]:
        """The outcomes to come. Canceling the future drops what is not computed yet.

        Raises Overloaded where there is no room, or where the measured speed shows that the deadline cannot be met.
        """
        seconds = min(deadline or NEVER, self.limits.deadline)
        tokens = sum(reading.num_tokens for reading in readings)
        if len(readings) > self.limits.items or tokens > self.limits.tokens:
            raise TooLarge(
                f"one request may hold {counted(self.limits.items, 'text')} and {counted(self.limits.tokens, 'token')}, got "
                f"{counted(len(readings), 'text')} and {counted(tokens, 'token')}. Send fewer at once."
            )
        request = _Request(readings, self._clock() + seconds, [None] * len(readings), len(readings))
        with self._changed:
            if self._is_closed:
                raise Stopping
            self._refuse_overload(len(readings), tokens, seconds)
            self._waiting += [(request, i) for i in range(len(readings))]
            self._tokens += tokens
            self._changed.notify()
        return request.future

    @property
    def num_waiting(self) -> int:
        """Texts in the queue."""
        return len(self._waiting)

    @property
    def num_waiting_tokens(self) -> int:
        """Their tokens."""
        return self._tokens

    @property
    def seconds_of_work(self) -> float:
        """How long what waits and what is being computed will take, by the measured speed; 0.0 before the first pass."""
        return (self._tokens + self._computing) / self._speed if self._speed else 0.0

    def close(self, seconds: float) -> None:
        """Take nothing more, finish what was accepted for at most so long, and fail what is left."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._worker.join(seconds)
        with self._changed:
            waiting, self._waiting = self._waiting, []
        for request, _ in waiting:
            _fail(request, Stopping())

    def _refuse_overload(self, items: int, tokens: int, seconds: float) -> None:
        work = self.seconds_of_work
        is_full = len(self._waiting) + items > self.limits.items or self._tokens + tokens > self.limits.tokens
        if self._waiting and (is_full or work + self._seconds_for(tokens) > ACCEPTED_SHARE * seconds):
            self.counts.refused += 1
            reason = (
                "all that may wait" if is_full else f"{work:.0f} s of work, too much for a deadline of {seconds:g} s"
            )
            raise Overloaded(
                f"{self.model.name}: {counted(len(self._waiting), 'text')} of {counted(self._tokens, 'token')} are waiting, which is "
                f"{reason}. Try again later, or send less at once.",
                work / 2,
            )

    @property
    def _pass_tokens(self) -> int:
        """The most tokens of the next pass: as many as take PASS_SHARE of the server's deadline, at least one text."""
        if self._speed is None:
            return self.limits.batch_tokens
        return max(1, min(self.limits.batch_tokens, int(PASS_SHARE * self.limits.deadline * self._speed)))

    def _seconds_for(self, tokens: int) -> float:
        """How long a request of so many tokens takes once its turn has come; later texts may fill its last pass."""
        return max(tokens, self._pass_tokens) / self._speed if self._speed else 0.0

    # ---- The worker ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                self._drop_ended()
                batch = self._take()
                if not batch and self._is_closed:
                    return
            if batch:
                self._compute(batch)

    def _drop_ended(self) -> None:
        """Remove texts whose client has gone, whose request failed, or whose deadline has passed."""
        now = self._clock()
        kept: list[_Waiting] = []
        for entry in self._waiting:
            request, i = entry
            if not request.future.done() and request.expires >= now:
                kept.append(entry)
                continue
            self._tokens -= request.readings[i].num_tokens
            if request.future.cancelled():  # codespell:ignore
                self.counts.canceled += 1
            elif not request.future.done():
                self.counts.expired += 1
                line = "the deadline passed before the request was computed. Try again later, or send less at once."
                _fail(request, Overloaded(f"{self.model.name}: {line}", self.seconds_of_work / 2))
        self._waiting = kept

    def _take(self) -> list[_Waiting]:
        """The texts of the next pass, taken out of the queue."""
        if not self._waiting:
            return []
        if not self.model.can_merge:  # rewards that depend on the group: a request is computed by itself
            first = self._waiting[0][0]
            batch = [entry for entry in self._waiting if entry[0] is first]
        else:
            batch = _cheapest_together(self._waiting, self._pass_tokens)
        taken = set(map(id, batch))
        self._waiting = [entry for entry in self._waiting if id(entry) not in taken]
        self._tokens -= _num_tokens(batch)
        return batch

    def _compute(self, batch: list[_Waiting]) -> None:
        readings = [request.readings[i] for request, i in batch]
        self._computing = _num_tokens(batch)
        try:
            with self._turn:
                start = time.perf_counter()
                outcomes = self.model.score(readings)
                seconds = time.perf_counter() - start
        except BackendAway as error:  # whatever is sent to it now: nothing in this pass is to blame
            for request, _ in batch:
                _fail(request, error)
            self.counts.failed += len(batch)
        except GuerdonError as error:
            self._settle_apart(batch, error)
        except Exception:  # a fault of ours: these requests fail, the server goes on
            log.exception("%s: a pass failed", self.model.name)
            fault = RuntimeError("the model failed; the server's log has the reason")
            for request, _ in batch:
                _fail(request, fault)
            self.counts.failed += len(batch)
        else:
            self._count(len(batch), seconds)
            for (request, i), outcome in zip(batch, outcomes, strict=True):
                _settle(request, i, outcome)
        finally:
            self._computing = 0

    def _settle_apart(self, batch: list[_Waiting], error: GuerdonError) -> None:
        """One text spoiled a pass: score each request's texts by themselves, so that it spoils no other request."""
        requests = list(dict.fromkeys(request for request, _ in batch))
        if len(requests) == 1:
            _fail(requests[0], error)
            self.counts.failed += len(batch)
            return
        for request in requests:
            self._compute([entry for entry in batch if entry[0] is request])

    def _count(self, items: int, seconds: float) -> None:
        self.counts.passes += 1
        self.counts.items += items
        self.counts.tokens += self._computing
        self.counts.seconds += seconds
        speed = self._computing / max(seconds, 1e-6)
        self._speed = speed if self._speed is None else (1 - SMOOTHING) * self._speed + SMOOTHING * speed


def _cheapest_together(waiting: Sequence[_Waiting], budget: int) -> list[_Waiting]:
    """The first text, and as many others as fit into a pass of so many unique tokens, in the order of their arrival.

    What a text adds is what it does not share with its closest neighbor among those taken, so texts that share a prompt with one
    of them still fit when others no longer do.
    """
    keys: list[bytes] = []
    sorted_ids: list[np.ndarray] = []
    taken: list[_Waiting] = []
    left = budget
    for entry in waiting:
        reading = entry[0].readings[entry[1]]
        at = bisect_left(keys, reading.key)
        if taken and not _may_share(reading, keys[max(0, at - 1) : at + 1], reading.num_tokens - left):
            continue  # most of a long queue ends here, in a microsecond each
        shared = max(
            (common_prefix_length(reading.ids, other) for other in sorted_ids[max(0, at - 1) : at + 1]), default=0
        )
        left -= max(1, reading.num_tokens - shared)
        keys.insert(at, reading.key)
        sorted_ids.insert(at, reading.ids)
        taken.append(entry)
        if left <= 0:
            break
    return taken


def _may_share(reading: Reading, keys: Sequence[bytes], tokens: int) -> bool:
    """Whether a text begins with so many tokens of one of those with these keys. A key has 4 bytes for each token."""
    if tokens <= 0:
        return True
    beginning = reading.key[: 4 * tokens]
    return len(beginning) == 4 * tokens and any(key.startswith(beginning) for key in keys)


def _num_tokens(entries: Sequence[_Waiting]) -> int:
    return sum(request.readings[i].num_tokens for request, i in entries)


def _settle(request: _Request, i: int, outcome: Outcome) -> None:
    if request.outcomes[i] is None:
        request.outcomes[i] = outcome
        request.left -= 1
    if not request.left and not request.future.done() and request.future.set_running_or_notify_cancel():
        request.future.set_result([outcome for outcome in request.outcomes if outcome is not None])


def _fail(request: _Request, error: Exception) -> None:
    if not request.future.done() and request.future.set_running_or_notify_cancel():
        request.future.set_exception(error)
