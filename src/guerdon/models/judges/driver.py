"""Conversations with a model that judges: each asks questions, gets the readings, and ends with a verdict.

A conversation is a generator that yields questions and is sent a reading for each; what it returns is the result. Whatever
answers, a server, an engine or a file, drives many of them at once. Results never depend on timing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

from guerdon.models.judges.calls import Answer, CallLog, CallRecord, Question, Unreadable, Usage
from guerdon.models.judges.failures import NOT_SENT, Failure

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the answer to a question holds. Either `value` or `failure` is set. key: of the call."""

    key: str
    value: Any = None
    failure: Failure | None = None


Conversation = Generator[Sequence[Question], Sequence[Reading], T]


class Respondent(Protocol):
    """Answers questions: a server, a model on this machine, a script.

    name: of the model. fingerprint: a hash of whatever changes its answers; keys of calls depend on it.
    """

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of what changes the answers."""
        ...

    def gives_log_probs(self) -> bool:
        """Whether answers come with the log-probabilities of their first token, as shown by asking."""
        ...

    def converse(self, conversations: Iterable[Conversation[T]]) -> Iterator[tuple[int, T]]:
        """Drive the conversations; yields the position and the result of each, in any order."""
        ...


RETRIED_READINGS = frozenset({"unparsable", "schema_invalid", "empty"})


def ask(questions: Sequence[Question], reasks: int, reminder: str = "") -> Conversation[list[Reading]]:
    """The readings of questions. What cannot be read is asked again: with a new seed, then with a reminder as well.

    An answer that was cut gets one more try with twice the tokens. Refusals and filtered answers are final.
    """
    readings = list((yield questions))
    latest = list(questions)
    for again in range(1, reasks + 1):
        rows = [i for i, reading in enumerate(readings) if _needs_repeat(reading, again)]
        if not rows:
            break
        for i in rows:
            latest[i] = _repeated(latest[i], questions[i], readings[i], again, reminder)
        answered = yield [latest[i] for i in rows]
        for i, reading in zip(rows, answered, strict=True):
            readings[i] = reading
    return readings


def together(conversations: Sequence[Conversation[T]]) -> Conversation[list[T]]:
    """Hold several conversations as one: their questions are put together, and their results come in order."""
    results: dict[int, T] = {}
    pending: dict[int, Sequence[Question]] = {}
    readings: dict[int, Sequence[Reading] | None] = dict.fromkeys(range(len(conversations)))
    while True:
        for i, answered in readings.items():
            try:
                pending[i] = advance(conversations[i], answered)
            except Finished as end:
                results[i] = end.result
        if not pending:
            return [results[i] for i in range(len(conversations))]
        answers = iter((yield [question for questions in pending.values() for question in questions]))
        readings = {i: [next(answers) for _ in questions] for i, questions in pending.items()}
        pending = {}


def in_order(results: Iterable[tuple[int, T]]) -> Iterator[T]:
    """Results in the order of their positions. Holds those that came before their turn: as many as are in flight."""
    early: dict[int, T] = {}
    turn = 0
    for position, result in results:
        early[position] = result
        while turn in early:
            yield early.pop(turn)
            turn += 1


def _needs_repeat(reading: Reading, again: int) -> bool:
    code = reading.failure.code if reading.failure else None
    return code in RETRIED_READINGS or (code == "truncated" and again == 1)


def _repeated(latest: Question, original: Question, reading: Reading, again: int, reminder: str) -> Question:
    assert reading.failure is not None
    if reading.failure.code == "truncated":
        return latest.again(max_tokens=2 * latest.max_tokens)
    messages = original.messages
    if again > 1 and reminder:
        last = messages[-1]
        messages = (*messages[:-1], type(last)(last.role, f"{last.content}\n\n{reminder}"))
    return latest.again(messages=messages, seed=original.seed + again, sample=latest.sample)


# ---- Reading and recording ---------------------------------------------------------------------------------------------


def read(question: Question, key: str, answer: Answer) -> Reading:
    """The reading of an answer."""
    try:
        return Reading(key, value=question.reader.read(answer))
    except Unreadable as error:
        return Reading(key, failure=error.failure)


def record_of(
    question: Question, key: str, model: str, reading: Reading, answer: Answer | None, raw: str | None, **facts: Any
) -> CallRecord:
    """What the ledger keeps of a call. answer, raw: None where there was no answer. facts: attempts, cost, latency."""
    return CallRecord(
        key=key,
        model=model,
        request=json.dumps(question.body(), ensure_ascii=False),
        raw=raw,
        failure=reading.failure,
        finish=answer.finish if answer else None,
        purpose=question.purpose,
        item=question.item,
        shown=question.shown,
        sample=question.sample,
        usage=answer.usage if answer else Usage(),
        at=time.time(),
        **facts,
    )


# ---- Conversations in waves ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Open:
    """A conversation that waits for readings of its questions."""

    position: int
    conversation: Conversation[Any]
    questions: Sequence[Question]


class Finished(Exception):
    """A conversation has ended with a result."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result


def advance(conversation: Conversation[Any], readings: Sequence[Reading] | None) -> Sequence[Question]:
    """The next questions of a conversation, given the readings of its last ones. Raises Finished with the result."""
    try:
        while True:
            questions = next(conversation) if readings is None else conversation.send(readings)
            if questions:
                return questions
            readings = []
    except StopIteration as end:
        raise Finished(end.value) from None


AnswerAll = Callable[[Sequence[Question]], Sequence[Answer | Failure]]


class WaveRespondent:
    """Drives conversations wave after wave: up to `width` of them put their questions together, and all are answered.

    For whatever answers many questions at once: a model on this machine, a function, a provider's batch files, a cluster.
    log_probs: whether answers come with log-probabilities, or how to learn it. parse: reads a kept answer.
    cost_of: what a call cost, by its usage.
    """

    def __init__(
        self,
        name: str,
        fingerprint: str,
        answer_all: AnswerAll,
        log: CallLog,
        *,
        log_probs: bool | Callable[[], bool],
        width: int = 256,
        parse: Callable[[str], Answer] = Answer.from_json,
        cost_of: Callable[[Usage], float | None] = lambda usage: None,
    ) -> None:
        self.name, self.fingerprint, self.log, self.width = name, fingerprint, log, width
        self._answer_all, self._log_probs = answer_all, log_probs
        self._parse, self._cost_of = parse, cost_of

    def gives_log_probs(self) -> bool:
        """Whether answers come with log-probabilities."""
        return self._log_probs if isinstance(self._log_probs, bool) else self._log_probs()

    def converse(self, conversations: Iterable[Conversation[T]]) -> Iterator[tuple[int, T]]:
        """Drive the conversations; results come wave by wave."""
        waiting = enumerate(conversations)
        active: list[Open] = []
        while True:
            for position, conversation in islice(waiting, self.width - len(active)):
                try:
                    active.append(Open(position, conversation, advance(conversation, None)))
                except Finished as end:
                    yield position, end.result
            if not active:
                return
            readings = iter(self._readings([question for task in active for question in task.questions]))
            still: list[Open] = []
            for task in active:
                answered = [next(readings) for _ in task.questions]
                try:
                    task.questions = advance(task.conversation, answered)
                    still.append(task)
                except Finished as end:
                    yield task.position, end.result
            active = still

    def _readings(self, questions: Sequence[Question]) -> list[Reading]:
        keys = [question.key(self.fingerprint) for question in questions]
        readings = known_readings(self.log, dict(zip(keys, questions, strict=True)), self._parse)
        missing = {key: question for key, question in zip(keys, questions, strict=True) if key not in readings}
        if missing:
            records = []
            for (key, question), answer in zip(missing.items(), self._answer_all(list(missing.values())), strict=True):
                if isinstance(answer, Failure):
                    readings[key], raw, given = Reading(key, failure=answer), None, None
                else:
                    readings[key], raw, given = read(question, key, answer), answer.to_json(), answer
                if isinstance(answer, Failure) and answer.code in NOT_SENT:
                    continue
                cost = self._cost_of(given.usage) if given else None
                records.append(record_of(question, key, self.name, readings[key], given, raw, cost=cost))
            self.log.add(records)
        return [readings[key] for key in keys]


def known_readings(
    log: CallLog, questions: dict[str, Question], parse: Callable[[str], Answer] = Answer.from_json
) -> dict[str, Reading]:
    """Readings of the answers that the log keeps, by key. Answers that hold no verdict are left out: they are asked for again."""
    readings = {}
    for key, raw in log.answers(list(questions)).items():
        reading = read(questions[key], key, parse(raw))
        if reading.failure is None:
            readings[key] = reading
    return readings
