"""Several vLLM servers that sample from one policy: adapters loaded by name, requests balanced, servers that fail set aside.

A server takes new weights over HTTP as LoRA adapters only (POST /v1/load_lora_adapter), which must lie where it can read them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

from guerdon.contracts import GuerdonError
from guerdon.models.completions_api import BadAnswer
from guerdon.models.completions_client import CompletionsClient, RequestFailed
from guerdon.models.http_connection import Connection, ssl_context
from guerdon.models.token_completions import (
    OtherSampling,
    PlainSampling,
    TokenReply,
    TokenRequest,
    parse_token_replies,
)

log = logging.getLogger("guerdon")

MAX_FAILURES = 3  # in a row, after which a server counts as gone until it answers again
MAX_TRIES = 8  # of one request, by servers that answer others
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a server that failed is asked again; doubled each time
POLL = 0.1  # seconds between looks at whether a server's pause is over
LOAD_SECONDS = 120.0  # for an adapter
HEAD_START = 5.0  # seconds that the first request waits for servers that are loading, so that all get a share
LASTING_STATUSES = frozenset({400, 401, 403, 413, 422})  # another server would say the same


class NoServerLeft(GuerdonError):
    """No server answers any more. The run's last state is as good as before."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A version of the policy's adapters. name: changes with the weights. path: of its folder, which servers read.

    prefix: what the names of all versions of this run begin with.
    """

    name: str
    path: str
    prefix: str
    rank: int


@dataclass(eq=False, slots=True)
class _Server:
    """A server, what it is busy with, and how it fails. Only the thread that sends requests out changes it."""

    client: CompletionsClient
    loaded: str | None = None
    in_flight: int = 0
    outstanding: int = 0  # replies
    failures: int = 0  # in a row; those of requests that were out together count once
    failed_at: float = 0.0
    paused_until: float = 0.0
    problem: str = ""
    queue: SimpleQueue[_Task | None] = field(default_factory=SimpleQueue)

    @property
    def is_alive(self) -> bool:
        return self.failures < MAX_FAILURES


@dataclass(frozen=True, slots=True)
class _Task:
    """What a worker does: complete a request, or load the adapter if there is none."""

    start: float
    position: int = -1
    request: TokenRequest | None = None


_Outcome = tuple[_Server, _Task, "list[TokenReply] | Exception"]


class RolloutServers:
    """Servers that sample replies as token ids, each from the adapter that is current.

    urls: with or without /v1. workers: requests that each server has at once. timeout: seconds for one answer, and for any
    server to come back once all are gone. key_from_env: send OPENAI_API_KEY.
    """

    def __init__(
        self,
        urls: Sequence[str],
        sampling: PlainSampling,
        *,
        workers: int = 16,
        timeout: float = 600.0,
        key_from_env: bool = False,
    ) -> None:
        self.sampling, self.workers, self.timeout = sampling, workers, timeout
        try:
            self._servers = [_Server(_client(url, timeout, key_from_env)) for url in urls]
        except GuerdonError as error:
            raise GuerdonError(f"optimize.rollouts: {error}") from None
        addresses = [server.client.url for server in self._servers]
        if twice := next((url for url in addresses if addresses.count(url) > 1), None):
            raise GuerdonError(f"optimize.rollouts must name each server once, got {twice} twice. Leave one out.")

    def load(self, adapter: Adapter) -> None:
        """Load an adapter into every server. Raises GuerdonError about the first that does not answer or take it."""
        for server in self._servers:
            try:
                with server.client.connect(LOAD_SECONDS) as connection:
                    load_adapter(server.client, connection, adapter)
            except RequestFailed as error:
                raise GuerdonError(f"optimize.rollouts: {server.client.url}: {error.line}") from None
            server.loaded = adapter.name

    def unload(self, adapter: Adapter) -> None:
        """Remove an adapter from the servers that answer."""
        for server in self._servers:
            if server.is_alive and server.loaded == adapter.name:
                with server.client.connect() as connection:
                    _unload(server.client, connection, adapter.name)
            server.loaded = None

    def sample(self, adapter: Adapter, requests: Sequence[TokenRequest]) -> list[list[TokenReply]]:
        """The replies to each request, from this adapter. Each goes to the server with the fewest replies outstanding.

        A request that fails is sent to another server. Raises NoServerLeft, and GuerdonError if a server refuses a request
        or samples in another way than asked.
        """
        with _Call(self._servers, adapter, self.sampling, self.workers) as call:
            return _run(call, requests, self.timeout)


def _client(url: str, timeout: float, key_from_env: bool) -> CompletionsClient:
    return CompletionsClient(url, api_key=None, key_from_env=key_from_env, timeout=timeout, retries=0, log_probs=False)


def _run(call: _Call, requests: Sequence[TokenRequest], patience: float) -> list[list[TokenReply]]:
    """Send requests out until each has its replies."""
    todo = deque(range(len(requests)))
    replies: dict[int, list[TokenReply]] = {}
    failed_on: dict[int, list[_Server]] = {}
    tries = dict.fromkeys(todo, 0)
    start = last_success = time.monotonic()
    while len(replies) < len(requests):
        call.load_where_needed()
        can_send = not call.is_loading or time.monotonic() > start + HEAD_START
        while can_send and todo and (server := call.choose(failed_on.get(todo[0], []))) is not None:
            position = todo.popleft()
            call.submit(server, position, requests[position])
        if not any(server.is_alive for server in call.servers) and time.monotonic() - last_success > patience:
            raise NoServerLeft(call.all_gone(patience))
        outcome = call.next_outcome()
        if outcome is None:
            continue
        server, task, result = outcome
        if not isinstance(result, Exception):
            if task.request is not None:
                replies[task.position] = result
                last_success = time.monotonic()
                call.note_success(server)
            continue
        was_alive = server.is_alive
        call.note_failure(server, task, result)
        if task.request is None:
            continue
        todo.appendleft(task.position)
        failed_on.setdefault(task.position, []).append(server)
        tries[task.position] += was_alive and not _is_silent(result)
        if tries[task.position] >= MAX_TRIES:
            raise GuerdonError(
                f"optimize.rollouts: {server.client.url}: {server.problem}. It answers other requests, so look at its log."
            )
    return [replies[position] for position in range(len(requests))]


class _Call:
    """The threads of one call, each with its own connection to one server; use it in a `with` statement.

    The threads are daemons, so that an error does not wait for answers that nobody needs.
    """

    def __init__(self, servers: list[_Server], adapter: Adapter, sampling: PlainSampling, workers: int) -> None:
        self.servers, self.adapter, self.sampling, self.workers = servers, adapter, sampling, workers
        self._outcomes: SimpleQueue[_Outcome] = SimpleQueue()
        self._is_over = threading.Event()
        for server in servers:  # what an earlier call left behind when it failed
            server.queue, server.in_flight, server.outstanding = SimpleQueue(), 0, 0
        self._threads = [
            threading.Thread(target=self._work, args=(server, server.queue), daemon=True)
            for server in servers
            for _ in range(workers)
        ]

    def __enter__(self) -> Self:
        ssl_context()  # read the certificates once, before the threads need them
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        for server in self.servers:
            for _ in range(self.workers):
                server.queue.put(None)

    # ---- Sending requests out --------------------------------------------------------------------------------------

    def load_where_needed(self) -> None:
        """Let each server load the adapter that has not done so, if its pause is over."""
        now = time.monotonic()
        for server in self.servers:
            if server.loaded != self.adapter.name and not server.in_flight and now >= server.paused_until:
                server.in_flight += 1
                server.queue.put(_Task(now))

    @property
    def is_loading(self) -> bool:
        """Whether a server that is expected to answer has not said that it holds the adapter."""
        return any(
            server.in_flight and server.loaded != self.adapter.name and server.is_alive for server in self.servers
        )

    def choose(self, failed: Sequence[_Server]) -> _Server | None:
        """The server for a request: one where it has not failed, then the one with the fewest replies outstanding."""
        now = time.monotonic()
        ready = [
            server
            for server in self.servers
            if server.loaded == self.adapter.name
            and now >= server.paused_until
            and server.in_flight < (1 if server.failures else self.workers)
        ]
        return min(ready, key=lambda server: (failed.count(server), server.outstanding), default=None)

    def submit(self, server: _Server, position: int, request: TokenRequest) -> None:
        """Let a server complete a request."""
        server.in_flight += 1
        server.outstanding += request.count
        server.queue.put(_Task(time.monotonic(), position, request))

    def next_outcome(self) -> _Outcome | None:
        """The next answer or error; None if there is none yet. Raises at once what another server would not mend."""
        try:
            server, task, result = self._outcomes.get(timeout=POLL)
        except Empty:
            return None
        server.in_flight -= 1
        server.outstanding -= task.request.count if task.request is not None else 0
        if isinstance(result, OtherSampling):
            advice = "Serve the policy's own base model with vLLM, or leave this server out."
            raise GuerdonError(f"optimize.rollouts: {server.client.url}: {result}. {advice}")
        if isinstance(result, RequestFailed) and task.request is not None and result.status in LASTING_STATUSES:
            raise GuerdonError(f"optimize.rollouts: {server.client.url}: {result.line}")
        if isinstance(result, Exception) and not isinstance(result, RequestFailed | BadAnswer):
            raise result
        if task.request is None and not isinstance(result, Exception):
            server.loaded = self.adapter.name
        return server, task, result

    # ---- How servers fail ------------------------------------------------------------------------------------------

    def note_success(self, server: _Server) -> None:
        """The server is as good as any other again."""
        if server.failures:
            log.warning("%s: answers again", server.client.url)
        server.failures = 0

    def note_failure(self, server: _Server, task: _Task, error: Exception) -> None:
        """Pause a server, longer each time. What was out when it failed before is the same failure."""
        problem = error.problem if isinstance(error, RequestFailed) else str(error)
        server.problem = server.client.clean(problem).rstrip(".")
        if isinstance(error, RequestFailed) and error.status == 404:
            server.loaded = None  # it has restarted without its adapters
        if task.start < server.failed_at:
            return
        server.failures += 1
        server.failed_at = time.monotonic()
        server.paused_until = server.failed_at + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (server.failures - 1))
        if _is_silent(error):
            server.loaded = None  # ask what it holds before it gets replies to sample
        if server.failures == 1:
            others = " Its replies are asked of other servers." if len(self.servers) > 1 else ""
            log.warning("%s: %s. It is asked again later.%s", server.client.url, server.problem, others)

    def all_gone(self, seconds: float) -> str:
        """The error when no server is left, with what each said last."""
        problems = "; ".join(f"{server.client.url}: {server.problem}" for server in self.servers)
        return (
            f"optimize.rollouts: a server must answer within {seconds:g} s, got none of {len(self.servers)} ({problems}). "
            "Start one and repeat the command, which resumes from its last checkpoint."
        )

    # ---- Workers ---------------------------------------------------------------------------------------------------

    def _work(self, server: _Server, queue: SimpleQueue[_Task | None]) -> None:
        with server.client.connect() as connection:
            while (task := queue.get()) is not None and not self._is_over.is_set():
                result: list[TokenReply] | Exception
                try:
                    result = self._answer(server.client, connection, task)
                except Exception as error:  # raised again, or noted, by the thread that waits for the result
                    result = error
                self._outcomes.put((server, task, result))

    def _answer(self, client: CompletionsClient, connection: Connection, task: _Task) -> list[TokenReply]:
        request = task.request
        if request is None:
            load_adapter(client, connection, self.adapter)
            return []
        body = {
            "model": self.adapter.name,
            "prompt": request.prompt_ids,
            "n": request.count,
            "seed": request.seed,
            **self.sampling.fields(),
        }
        content = client.post(connection, "completions", body, request.max_bytes(self.sampling))
        return parse_token_replies(content, request, self.sampling)


def _is_silent(error: Exception) -> bool:
    """Whether a server did not answer at all."""
    return isinstance(error, RequestFailed) and error.status == 0


# ---- Adapters --------------------------------------------------------------------------------------------------------


def load_adapter(client: CompletionsClient, connection: Connection, adapter: Adapter) -> None:
    """Load an adapter unless the server has it, and unload the run's older ones. Raises RequestFailed with what to do."""
    try:
        names = client.list_models()
    except RequestFailed as error:
        raise RequestFailed(error.problem, _address_advice(error), status=error.status) from None
    if adapter.name not in names:
        try:
            client.post(connection, "load_lora_adapter", {"lora_name": adapter.name, "lora_path": adapter.path})
        except RequestFailed as error:
            if error.status == 400 and adapter.name in client.list_models():
                return  # another process of this run was faster
            raise RequestFailed(error.problem, _loading_advice(error, adapter), status=error.status) from None
    for name in names:
        if name.startswith(adapter.prefix) and name != adapter.name:
            _unload(client, connection, name)


def _unload(client: CompletionsClient, connection: Connection, name: str) -> None:
    try:
        client.post(connection, "unload_lora_adapter", {"lora_name": name})
    except RequestFailed as error:
        log.warning("%s: %s stays loaded: %s", client.url, name, error.problem)


def _address_advice(error: RequestFailed) -> str:
    if error.status in (401, 403):
        return "Export its key as OPENAI_API_KEY and set optimize.rollout_key_from_env=true."
    return "Start vLLM there, or correct the address."


def _loading_advice(error: RequestFailed, adapter: Adapter) -> str:
    if error.status in (0, 401, 403):
        return _address_advice(error)
    if adapter.name in error.problem or adapter.path in error.problem:
        return "The server must be able to read that path: set optimize.rollout_folder to a folder that it shares."
    return (
        "The server must take LoRA adapters while it runs: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and "
        f"`vllm serve MODEL --enable-lora --max-lora-rank {max(8, 1 << (adapter.rank - 1).bit_length())}`."
    )
