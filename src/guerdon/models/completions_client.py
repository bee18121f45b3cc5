"""A client of one completions server: requests that are retried, a pool of connections, and errors as one line.

Whatever a server sends is untrusted text; the key is never shown.
"""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

import httpx2

from guerdon.io.server_url import normalize_url
from guerdon.models.completions_api import (
    COUNT_COMPLAINT,
    REQUEST_STATUSES,
    RETRIED_STATUSES,
    BadAnswer,
    Completion,
    NoLogProbs,
    advice_for,
    choose_key,
    error_message,
    parse_completions,
    retry_after,
)
from guerdon.models.http_connection import CONNECT_TIMEOUT, AnswerTooLarge, Connection, ssl_context
from guerdon.models.server_key import ServerKey, is_readable_by_others

log = logging.getLogger("guerdon")

BACKOFF, MAX_BACKOFF = 0.5, 30.0  # seconds before the second try; doubled for each later one, up to the maximum
QUIET_SECONDS = 5.0  # without an answer before a line says what is being waited for
MAX_LIST_BYTES = 1 << 23  # the names of a few thousand models
BYTES_PER_TOKEN = 1024  # at most, of one token in an answer with its log-probability
MAX_ANSWER_BYTES = 1 << 26  # whatever was requested: JSON takes 20 times its size once parsed


class RequestFailed(Exception):
    """A request that was given up: what happened, what to do, and whether the server refused the request itself.

    A server that refuses one request may well answer another. status: that of the answer, 0 where none came.
    """

    def __init__(self, problem: str, advice: str, *, status: int = 0) -> None:
        super().__init__(problem)
        self.problem, self.advice, self.status = problem, advice, status

    @property
    def is_refused_request(self) -> bool:
        """Whether the server says what is wrong with this request."""
        return self.status in REQUEST_STATUSES

    @property
    def line(self) -> str:
        """The problem and the advice as two sentences."""
        return f"{self.problem}{'' if self.problem.endswith(('!', '?')) else '.'} {self.advice}"


class TooManyReplies(Exception):
    """The server does not give this many replies to one request."""


@dataclass(frozen=True, slots=True)
class Request:
    """Replies `first` to `first + count` of prompt number `prompt`."""

    prompt: int
    first: int
    count: int

    def split(self, max_count: int) -> list[Request]:
        """The same replies as requests of at most `max_count`."""
        end = self.first + self.count
        return [Request(self.prompt, start, min(max_count, end - start)) for start in range(self.first, end, max_count)]


@dataclass(frozen=True, slots=True)
class _Trouble:
    """A try that failed and may be repeated. wait: seconds that the server asks for, 0.0 where it does not say."""

    problem: str
    status: int = 0
    wait: float = 0.0


class CompletionsClient:
    """Requests to one server.

    timeout: seconds for one answer. retries: tries after the first, when there is no answer, a status of 429 or 5xx, or an
    answer that cannot be read. log_probs: whether answers must hold log-probabilities.
    """

    def __init__(
        self, url: str, *, api_key: str | None, key_from_env: bool, timeout: float, retries: int, log_probs: bool
    ) -> None:
        self.url, self.timeout, self.retries, self.log_probs = normalize_url(url), timeout, retries, log_probs
        self._key = ServerKey(choose_key(api_key, key_from_env))
        if self._key and is_readable_by_others(self.url):
            log.warning("%s: the key is sent over plain http to another machine. Use https.", self.url)

    def list_models(self) -> list[str]:
        """Names of the models that the server has. Raises RequestFailed, after one try of a few seconds."""
        seconds = min(self.timeout, CONNECT_TIMEOUT)
        try:
            with self.connect(seconds) as connection:
                status, headers, content = connection.fetch("GET", f"{self.url}/models", None, seconds, MAX_LIST_BYTES)
        except (httpx2.RequestError, AnswerTooLarge) as error:
            raise RequestFailed(self._describe(error, seconds), advice_for(0)) from None
        if status != 200:
            raise RequestFailed(self._describe_status(status, headers, content), advice_for(status), status=status)
        try:
            return [str(model["id"]) for model in json.loads(content)["data"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RequestFailed("the answer lists no models", advice_for(404)) from None

    def connect(self, timeout: float | None = None) -> Connection:
        """A connection that sends the key."""
        return Connection(
            {"Content-Type": "application/json", **self._key.headers}, self.timeout if timeout is None else timeout
        )

    def post(self, connection: Connection, path: str, body: Mapping[str, Any], max_bytes: int = 1 << 20) -> bytes:
        """The content of the answer to one request at a path below the address. Raises RequestFailed, after one try."""
        content = json.dumps(body).encode()
        try:
            status, headers, answer = connection.fetch("POST", f"{self.url}/{path}", content, self.timeout, max_bytes)
        except (httpx2.RequestError, AnswerTooLarge) as error:
            raise RequestFailed(self._describe(error, self.timeout), advice_for(0)) from None
        if status != 200:
            raise RequestFailed(self._describe_status(status, headers, answer), advice_for(status), status=status)
        return answer

    def complete(
        self, connection: Connection, body: Mapping[str, Any], count: int, pool: RequestPool
    ) -> list[Completion]:
        """At most `count` completions, after as many tries as are allowed. Raises RequestFailed or TooManyReplies."""
        tried = 0
        while True:
            result = self._try_once(connection, body, count)
            tried += 1
            if not isinstance(result, _Trouble):
                return result
            failure = RequestFailed(f"{result.problem} (tries: {tried})", advice_for(result.status))
            if tried > self.retries:
                raise failure
            left = self.retries + 1 - tried
            pool.warn_once(
                f"{self.url}: {result.problem}; waiting for it, with {left} more {'tries' if left > 1 else 'try'}"
            )
            if pool.is_stopping.wait(_seconds_before_retry(result, tried)):
                raise failure

    def _try_once(self, connection: Connection, body: Mapping[str, Any], count: int) -> list[Completion] | _Trouble:
        url = f"{self.url}/{'completions' if 'prompt' in body else 'chat/completions'}"
        content = json.dumps(body).encode()
        max_bytes = min(MAX_ANSWER_BYTES, (1 << 20) + 8 * len(content) + count * body["max_tokens"] * BYTES_PER_TOKEN)
        status = 0
        try:
            status, headers, answer = connection.fetch("POST", url, content, self.timeout, max_bytes)
            if status == 200:
                return [self._redact(c) for c in parse_completions(answer, count, self.log_probs)]
        except NoLogProbs as error:
            raise RequestFailed(str(error), "Pass log_probs=False.") from None
        except (httpx2.RequestError, AnswerTooLarge, BadAnswer) as error:
            problem = self._describe(error, self.timeout)
            if "CERTIFICATE_VERIFY_FAILED" in problem:
                raise RequestFailed(problem, "Use a server whose certificate this machine trusts.") from None
            return _Trouble(problem, status)
        problem = self._describe_status(status, headers, answer)
        if count > 1 and status in (400, 422, 500, 501) and COUNT_COMPLAINT.search(problem):
            raise TooManyReplies
        if status < 500 and status not in RETRIED_STATUSES:
            raise RequestFailed(problem, advice_for(status), status=status)
        wait = retry_after(headers)
        if wait > self.timeout:
            raise RequestFailed(f"{problem}; the server asks to wait {wait:.0f} s", "Run the command again later.")
        return _Trouble(problem, status, wait)

    def _describe(self, error: Exception, seconds: float) -> str:
        """An error of the connection as one line."""
        if isinstance(error, httpx2.ConnectTimeout):
            return f"no connection within {min(seconds, CONNECT_TIMEOUT):g} s"
        if isinstance(error, httpx2.TimeoutException):
            return f"no answer within {seconds:g} s"
        return self.clean(str(error)) or type(error).__name__

    def _describe_status(self, status: int, headers: Mapping[str, str], content: bytes) -> str:
        """A status other than 200 and what the server says about it, as one line."""
        if 300 <= status < 400:
            return f"HTTP {status} to {self.clean(headers.get('location', 'nowhere'))}, which is not followed"
        return f"HTTP {status}: {self.clean(error_message(content)) or 'no message'}"

    def clean(self, text: str) -> str:
        """The text as one short line, without the key and without control characters that a terminal would obey."""
        return self._key.clean(text)

    def _redact(self, completion: Completion) -> Completion:
        """The completion without the key: replies are written to files."""
        return replace(completion, text=self._key.redact(completion.text))


class RequestPool:
    """Worker threads with one connection each; use it in a `with` statement.

    The threads are daemons, so neither Ctrl-C nor the end of the interpreter waits for an answer.
    """

    def __init__(self, client: CompletionsClient, num_workers: int) -> None:
        self.client = client
        self.num_pending = 0
        self.is_stopping = threading.Event()
        self._has_warned = False
        self._requests: SimpleQueue[tuple[Request, dict[str, Any]] | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[Request, list[Completion] | Exception]] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(num_workers)]

    def __enter__(self) -> Self:
        ssl_context()  # read the certificates once, before the threads need them
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_stopping.set()
        for _ in self._threads:
            self._requests.put(None)
        if kind is None:  # then every thread is idle
            for thread in self._threads:
                thread.join()

    def submit(self, request: Request, body: dict[str, Any]) -> None:
        """Send a request as soon as a worker is free."""
        self.num_pending += 1
        self._requests.put((request, body))

    def next_result(self) -> tuple[Request, list[Completion] | Exception]:
        """Wait for the next answer or error, in the order of arrival."""
        while True:
            try:
                result = self._results.get(timeout=None if self._has_warned else QUIET_SECONDS)
            except Empty:
                self.warn_once(f"{self.client.url}: no answer yet; waiting up to {self.client.timeout:g} s for each")
                continue
            self.num_pending -= 1
            return result

    def warn_once(self, line: str) -> None:
        """Log the first problem only: a server that is down would cause one line per request."""
        if not self._has_warned and not self.is_stopping.is_set():
            self._has_warned = True
            log.warning("%s", line)

    def _work(self) -> None:
        with self.client.connect() as connection:
            while (item := self._requests.get()) is not None and not self.is_stopping.is_set():
                request, body = item
                result: list[Completion] | Exception
                try:
                    result = self.client.complete(connection, body, request.count, self)
                except Exception as error:  # raised again in the thread that waits for the result
                    result = error
                self._results.put((request, result))


def _seconds_before_retry(trouble: _Trouble, tried: int) -> float:
    if trouble.wait:
        return trouble.wait + random.uniform(0, BACKOFF)
    backoff: float = min(MAX_BACKOFF, BACKOFF * 2 ** (tried - 1))
    return backoff * random.uniform(0.5, 1.0)  # random, so that workers do not come back all at once
