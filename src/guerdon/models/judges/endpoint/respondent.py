"""A model behind one or several servers that answers the questions of many conversations at once.

The thread that iterates over the results drives the conversations and looks answers up in the log; an event loop in a second
thread sends calls; a third writes them to the log. Nothing is handed on before it is kept.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeVar

from guerdon.config.judging import JudgeOptions
from guerdon.contracts import Message, digest
from guerdon.errors import field_error
from guerdon.io.server_url import normalize_url
from guerdon.models.judges.calls import Answer, CallLog, Question
from guerdon.models.judges.driver import Conversation, Finished, Reading, advance, known_readings
from guerdon.models.judges.endpoint.budget import Budget, Prices
from guerdon.models.judges.endpoint.calls import Call
from guerdon.models.judges.endpoint.completions import parse
from guerdon.models.judges.endpoint.dispatcher import Terms, stopped_by
from guerdon.models.judges.endpoint.pacing import Backoff, Breaker
from guerdon.models.judges.endpoint.server import Server
from guerdon.models.judges.endpoint.session import Session
from guerdon.models.judges.endpoint.troubles import rejects_log_probs
from guerdon.models.judges.failures import JudgeStopped
from guerdon.models.server_key import ServerKey, is_readable_by_others
from guerdon.progress import note

T = TypeVar("T")

CHUNK: Final = 256  # conversations that start, and whose answers are looked up, together
MIN_OPEN: Final = 1024  # conversations that are open at once
OPEN_PER_CALL: Final = 4  # the same, for each call that may be in flight


@dataclass(slots=True)
class _Open:
    """A conversation that waits for readings."""

    position: int
    conversation: Conversation[Any]
    questions: tuple[Question, ...]
    readings: list[Reading | None] = field(default_factory=list)
    missing: int = 0


class EndpointRespondent:
    """Asks the model that a judge's options name. Fulfills Respondent.

    log: where calls are kept; what it holds is not asked again. budget: limits, by default those of the options; several judges
    may share one; with one of no calls at all, it reads what the log holds and needs no key.
    """

    def __init__(
        self,
        options: JudgeOptions,
        log: CallLog,
        *,
        budget: Budget | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        options.require()
        urls = [options.url] if isinstance(options.url, str) else list(options.url or [])
        now = time.monotonic()
        self.log, self.budget = log, budget or Budget.of(options)
        self.servers = [Server(url, options, now) for url in dict.fromkeys(map(normalize_url, urls))]
        self._model = str(options.model)
        self.terms = Terms(
            model=self._model,
            key=ServerKey.from_env(None if self.budget.max_calls == 0 else options.key_env, "judge.key_env"),
            prices=Prices.of(options),
            budget=self.budget,
            breaker=Breaker(),
            backoff=backoff or Backoff(),
            tries=options.tries,
            timeout=options.timeout,
        )
        if self.budget.max_cost is not None and self.terms.prices.name is None:
            claim = "left out where prices are unknown"
            raise field_error(
                "judge.max_cost",
                claim,
                self.budget.max_cost,
                "Give price_in and price_out, or a price table that has this model.",
            )
        self._width = max(MIN_OPEN, OPEN_PER_CALL * options.max_concurrency * len(self.servers))
        if self.terms.key:
            for server in self.servers:
                if is_readable_by_others(server.url):
                    note(f"{server.url}: the key is sent over plain http to another machine. Use https.")

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model

    @property
    def fingerprint(self) -> str:
        """A hash of the protocol and the model. Servers are not part of it: they share what was answered."""
        return digest(["chat completions", self._model])

    # ---- Conversations -------------------------------------------------------------------------------------------------------

    def converse(self, conversations: Iterable[Conversation[T]]) -> Iterator[tuple[int, T]]:
        """Drive the conversations; yields the position and the result of each, in any order.

        A bounded number is open at once. Raises JudgeStopped where calls fail in a way that later calls would, too. However the
        iteration ends, calls in flight are canceled, and what was answered is kept.
        """
        session = Session(self.terms, self.servers, self.log)
        try:
            yield from _Drive(self, session, conversations).results()
        except JudgeStopped:
            self.terms.breaker.recent.clear()  # the next run starts with a clean slate
            raise
        finally:
            session.close()

    # ---- Log-probabilities ---------------------------------------------------------------------------------------------------

    def gives_log_probs(self) -> bool:
        """Whether answers come with log-probabilities, as two questions show whose answer is certain.

        They must be those of at least two alternatives, with probabilities that add up to at most 1, and differ between the
        questions. A server that ignores or refuses the request for them gives none. Raises JudgeStopped without an answer.
        """
        [(_, readings)] = self.converse([_probe()])
        for reading in readings:
            if reading.failure is not None:
                if rejects_log_probs(reading.failure):
                    return False
                raise stopped_by(f"{self.servers[0].url}: {reading.failure}")
        first, second = (reading.value for reading in readings)
        are_plausible = all(_are_plausible(answer) for answer in (first, second))
        return are_plausible and first.alternatives != second.alternatives


class _AnswerReader:
    """Reads an answer as itself."""

    def read(self, answer: Answer) -> Answer:
        """The answer."""
        return answer


def _probe() -> Conversation[list[Reading]]:
    texts = [f"Reply with the digit {digit} and nothing else." for digit in (1, 2)]
    questions = [
        Question((Message("user", text),), _AnswerReader(), options=("1", "2"), purpose="probe", item="probe")
        for text in texts
    ]
    readings = yield questions
    return list(readings)


def _are_plausible(answer: Answer) -> bool:
    values = answer.alternatives.values()
    return len(values) >= 2 and math.fsum(map(math.exp, values)) <= 1.01


class _Drive:
    """The conversations of one run: which are open, and which calls they wait for."""

    def __init__(
        self, respondent: EndpointRespondent, session: Session, conversations: Iterable[Conversation[Any]]
    ) -> None:
        self._respondent, self._session = respondent, session
        self._source = enumerate(conversations)
        self._has_more, self._num_open = True, 0
        self._unasked: list[_Open] = []  # their questions are not looked up yet
        self._ready: deque[_Open] = deque()  # all their readings are in
        self._pending: dict[str, list[tuple[_Open, int]]] = {}  # who waits for a call, by its key

    def results(self) -> Iterator[tuple[int, Any]]:
        """Position and result of each conversation."""
        while True:
            yield from self._start_conversations()
            while self._unasked or self._ready:
                self._ask(self._unasked)
                yield from self._advance_ready()
                yield from self._start_conversations()
            if not self._pending:
                return
            for reading in self._session.take():
                for task, index in self._pending.pop(reading.key):
                    self._set(task, index, reading)

    def _start_conversations(self) -> Iterator[tuple[int, Any]]:
        """Open new ones, many at a time: their answers are looked up together."""
        room = self._respondent._width - self._num_open
        if not self._has_more or (room < CHUNK and self._num_open):
            return
        count = 0
        for position, conversation in islice(self._source, min(room, CHUNK)):
            count += 1
            self._num_open += 1
            yield from self._continue(_Open(position, conversation, ()), None)
        self._has_more = count > 0

    def _advance_ready(self) -> Iterator[tuple[int, Any]]:
        while self._ready:
            task = self._ready.popleft()
            yield from self._continue(task, [reading for reading in task.readings if reading is not None])

    def _continue(self, task: _Open, readings: list[Reading] | None) -> Iterator[tuple[int, Any]]:
        """Send a conversation its readings; its result if that ends it, else its questions wait to be looked up."""
        try:
            task.questions = tuple(advance(task.conversation, readings))
        except Finished as end:
            self._num_open -= 1
            yield task.position, end.result
            return
        task.readings, task.missing = [None] * len(task.questions), len(task.questions)
        self._unasked.append(task)

    def _ask(self, tasks: list[_Open]) -> None:
        """Take readings from the log where it has them, and send the other questions, each once."""
        self._unasked = []
        respondent = self._respondent
        waiting_for: dict[str, list[tuple[_Open, int]]] = {}
        questions: dict[str, Question] = {}
        for task in tasks:
            for index, question in enumerate(task.questions):
                key = question.key(respondent.fingerprint)
                if key in self._pending:
                    self._pending[key].append((task, index))
                    continue
                waiting_for.setdefault(key, []).append((task, index))
                questions.setdefault(key, question)
        known = known_readings(respondent.log, questions, parse)
        calls = []
        for key, waiting in waiting_for.items():
            if key in known:
                for task, index in waiting:
                    self._set(task, index, known[key])
            else:
                self._pending[key] = waiting
                calls.append(Call.of(key, questions[key], respondent.name, respondent.terms.prices))
        if calls:
            self._session.submit(calls)

    def _set(self, task: _Open, index: int, reading: Reading) -> None:
        task.readings[index] = reading
        task.missing -= 1
        if not task.missing:
            self._ready.append(task)
