"""One call to a model that judges: the question, the answer as it came, and what is kept of both.

A question knows how its answer is read. Reading is a pure function of the answer, so a kept answer can be read again without
another call. Log-probabilities are nats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from guerdon.contracts import Message, digest
from guerdon.conversation import message_dict
from guerdon.models.chat_template import replace_surrogates
from guerdon.models.judges.failures import Failure, FailureCode

Purpose = Literal["judge", "score", "sample", "critique", "revise", "draft", "probe"]


class Unreadable(Exception):
    """An answer that holds no verdict: the code of the failure, and why."""

    def __init__(self, code: FailureCode, reason: str = "") -> None:
        super().__init__(reason)
        self.failure = Failure(code, reason)


class Reader(Protocol):
    """Turns an answer into what was asked for."""

    def read(self, answer: Answer) -> Any:
        """The verdict, score or text that the answer holds. Raises Unreadable."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What is sent to a model, and how its answer is read.

    options: the texts of which one is the answer; a model that gives log-probabilities is asked for those of the first token.
    max_tokens, temperature, seed: of the answer. sample: which of several equal questions this is. response_format: OpenAI's.
    purpose, item, shown: what the call is for, which item it is about, and the order in which responses are shown; they are
    kept with the call and change nothing of it.
    """

    messages: tuple[Message, ...]
    reader: Reader
    options: tuple[str, ...] = ()
    max_tokens: int = 1
    temperature: float = 0.0
    seed: int = 0
    sample: int = 0
    response_format: Mapping[str, Any] | None = None
    purpose: Purpose = "judge"
    item: str = ""
    shown: tuple[int, ...] = ()

    def body(self) -> dict[str, Any]:
        """What distinguishes the answer of one question from another's, in the fields of OpenAI's chat completions."""
        body: dict[str, Any] = {
            "messages": [chat_message(message) for message in self.messages],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }
        if self.options:
            body |= {"logprobs": True, "top_logprobs": 20}
        if self.response_format:
            body["response_format"] = dict(self.response_format)
        return body

    def key(self, model: str) -> str:
        """The name under which the answer of a model (by its fingerprint) is kept."""
        return digest([model, self.body(), self.sample], 64)

    def again(self, **changes: Any) -> Question:
        """The same question with other fields."""
        return replace(self, **changes)


def chat_message(message: Message) -> dict[str, Any]:
    """The message as OpenAI's API takes it: lone surrogates replaced, arguments of tool calls as JSON text."""
    row = message_dict(message)
    row["content"] = replace_surrogates(row["content"])
    for call, row_call in zip(message.tool_calls, row.get("tool_calls", ()), strict=True):
        row_call["function"]["arguments"] = call.arguments
    return row


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a call: read, of those from a prefix cache, and written; None where the server did not say."""

    tokens_in: int | None = None
    tokens_cached: int | None = None
    tokens_out: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered.

    finish: "stop", "length", "content_filter", or the server's own word; None where it gave none.
    alternatives: log-probability of each listed alternative for the first token of the answer; empty without log-probabilities.
    refusal: the model's refusal, where the API has a field for it. raw: the text as a server wrote it, where one did.
    """

    text: str
    finish: str | None = None
    alternatives: Mapping[str, float] = field(default_factory=dict)
    refusal: str | None = None
    usage: Usage = Usage()
    raw: str | None = None

    def to_json(self) -> str:
        """The text that is kept: what the server wrote, else everything but the usage."""
        if self.raw is not None:
            return self.raw
        return json.dumps({"text": self.text, "finish": self.finish, "alternatives": dict(self.alternatives)})

    @classmethod
    def from_json(cls, text: str) -> Answer:
        """The answer that `to_json` wrote."""
        row = json.loads(text)
        return cls(row["text"], row["finish"], row["alternatives"])


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What is kept of one call: the ledger's row.

    key: the question and the model. raw: the answer as it came, None where there was none. failure: None where a verdict was
    read. attempts: one mapping per try: HTTP status or error, and seconds. cost: in the price table's currency, None where the
    price is unknown. latency: seconds of the last try. at: seconds since 1970.
    """

    key: str
    model: str
    request: str
    raw: str | None
    failure: Failure | None = None
    finish: str | None = None
    purpose: Purpose = "judge"
    item: str = ""
    shown: tuple[int, ...] = ()
    sample: int = 0
    attempts: tuple[Mapping[str, Any], ...] = ()
    usage: Usage = Usage()
    cost: float | None = None
    prices: str | None = None
    latency: float | None = None
    at: float = 0.0


class CallLog(Protocol):
    """Where calls are kept. Both methods may be called from any thread."""

    def answers(self, keys: Sequence[str]) -> Mapping[str, str]:
        """The raw answers that are kept, by key; also those that held no verdict."""
        ...

    def add(self, records: Iterable[CallRecord]) -> None:
        """Keep calls. They are safe once this returns; a later record of a key replaces an earlier one."""
        ...


class MemoryCallLog:
    """Calls kept in memory: for judges that are used from Python without a store."""

    def __init__(self) -> None:
        self.records: dict[str, CallRecord] = {}

    def answers(self, keys: Sequence[str]) -> Mapping[str, str]:
        """The raw answers that are kept, by key."""
        rows = ((key, self.records.get(key)) for key in keys)
        return {key: row.raw for key, row in rows if row is not None and row.raw is not None}

    def add(self, records: Iterable[CallRecord]) -> None:
        """Keep calls."""
        self.records.update((record.key, record) for record in records)
