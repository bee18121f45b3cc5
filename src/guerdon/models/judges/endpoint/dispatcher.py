"""Sends calls from one event loop: to the server with the least outstanding, as many as it takes, each until it has an outcome."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from guerdon.models.completions_api import error_message
from guerdon.models.http_connection import AnswerTooLarge
from guerdon.models.judges.calls import Answer
from guerdon.models.judges.driver import Reading, read
from guerdon.models.judges.endpoint.budget import Amount, Budget, Prices, Room
from guerdon.models.judges.endpoint.calls import Call
from guerdon.models.judges.endpoint.completions import NoCompletion, parse_completion
from guerdon.models.judges.endpoint.keeping import Keeper
from guerdon.models.judges.endpoint.pacing import Backoff, Breaker
from guerdon.models.judges.endpoint.server import Client, Server
from guerdon.models.judges.endpoint.troubles import Trouble, trouble_of
from guerdon.models.judges.failures import Failure, JudgeStopped
from guerdon.models.server_key import ServerKey

log = logging.getLogger("guerdon")

SHARED_BUDGET_WAIT = 0.05  # seconds before a budget is looked at again whose reservations another judge holds


@dataclass(frozen=True, slots=True)
class Terms:
    """On which calls are sent. They are the same for all calls of a run."""

    model: str
    key: ServerKey
    prices: Prices
    budget: Budget
    breaker: Breaker
    backoff: Backoff
    tries: int
    timeout: float


class Dispatcher:
    """The calls of one run. All of it runs in the event loop's thread."""

    def __init__(self, terms: Terms, servers: Sequence[Server], clients: Sequence[Client], keeper: Keeper) -> None:
        self.terms, self.servers, self.keeper = terms, servers, keeper
        self._clients: Mapping[str, Client] = {
            server.url: client for server, client in zip(servers, clients, strict=True)
        }
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Call] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = self._has_warned = False

    def submit(self, calls: Iterable[Call]) -> None:
        """Send calls as soon as a server takes them."""
        self._waiting.extend(calls)
        self._pump()

    async def cancel(self) -> None:
        """Give up whatever is in flight."""
        self._is_stopped = True
        for server in self.servers:
            server.in_flight = 0
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self, error: BaseException) -> None:
        """End the run with an error; readings that came before it go first."""
        if not self._is_stopped:
            self._is_stopped = True
            self._waiting.clear()
            self.keeper.put(error)

    # ---- Which call goes where, and when -------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Start waiting calls while a server takes them; otherwise the end of a call or a timer pumps again."""
        while self._waiting and not self._is_stopped:
            call = self._waiting[0]
            server = self._next_server(call)
            if server is None:
                return
            room = self.terms.budget.reserve(call.most)
            if room is Room.LATER:
                self._pump_in(SHARED_BUDGET_WAIT)
                return
            self._waiting.popleft()
            if room is Room.NO:
                self._finish_unsent(call)
                continue
            server.in_flight += 1
            server.requests.use(1.0)
            server.tokens.use(call.likely_tokens)
            task = self._loop.create_task(self._try(call, server))
            self._tasks.add(task)
            task.add_done_callback(self._end_task)

    def _next_server(self, call: Call) -> Server | None:
        """The server with the least in flight of those that take the call now; a timer is set for those that will later."""
        now = self._loop.time()
        with_slot = [server for server in self.servers if server.has_slot]
        waits = [server.wait(call.likely_tokens, now) for server in with_slot]
        ready = [server for server, wait in zip(with_slot, waits, strict=True) if wait <= 0.0]
        if ready:
            return min(ready, key=lambda server: server.in_flight)
        if waits:
            self._pump_in(min(waits))
        return None

    def _pump_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._pump)

    def _end_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:  # codespell:ignore
            self.stop(error)
        self._pump()

    # ---- One try -------------------------------------------------------------------------------------------------------------

    async def _try(self, call: Call, server: Server) -> None:
        used = call.most  # of a try that is given up: it may be billed
        sent = self._loop.time()
        try:
            outcome = await self._exchange(call, server, sent)
            used = self._use_of(outcome, call)
        finally:
            self.terms.budget.settle(call.most, used)
            if not self._is_stopped:
                server.in_flight -= 1
        if isinstance(outcome, Trouble):
            self._note_trouble(outcome, server, sent)
            self._retry_or_finish(call, outcome)
        else:
            server.limit.add_response(sent, self._loop.time())
            server.streak = 0
            self._finish(call, *outcome)

    async def _exchange(self, call: Call, server: Server, sent: float) -> tuple[str, Answer] | Trouble:
        """The raw answer and what it says, or the trouble. The try is added to the call."""
        terms, status = self.terms, None
        outcome: tuple[str, Answer] | Trouble
        try:
            status, headers, content = await self._clients[server.url].post(call.content, terms.timeout, call.max_bytes)
            body = terms.key.redact(content.decode("utf-8", "replace"))
            if status == 200:
                outcome = body, parse_completion(body)
            else:
                message = terms.key.clean(error_message(body.encode()))
                if 300 <= status < 400:
                    message = f"to {terms.key.clean(headers.get('location', 'nowhere'))}, which is not followed"
                outcome = trouble_of(status, headers, body, message)
        except (TimeoutError, httpx2.TimeoutException):
            outcome = Trouble(Failure("timeout", f"no answer within {terms.timeout:g} s"))
        except NoCompletion as error:
            outcome = trouble_of(error.status or 500, {}, str(error), terms.key.clean(str(error)))
        except (httpx2.RequestError, AnswerTooLarge) as error:
            outcome = self._broken(error)
        fact: dict[str, Any] = {"status": status} if status is not None else {}
        if isinstance(outcome, Trouble):
            fact["error"] = outcome.failure.code
        call.attempts.append({**fact, "seconds": round(self._loop.time() - sent, 4), "url": server.url})
        return outcome

    def _broken(self, error: Exception) -> Trouble:
        reason = self.terms.key.clean(str(error)) or type(error).__name__
        is_fatal = "CERTIFICATE_VERIFY_FAILED" in reason
        return Trouble(Failure("network", reason), is_fatal=is_fatal)

    def _use_of(self, outcome: tuple[str, Answer] | Trouble, call: Call) -> Amount:
        """What a try used: as the server counts, nothing if it refused, and all that it may have used otherwise."""
        if isinstance(outcome, Trouble):
            was_refused = outcome.failure.code not in ("timeout", "network")
            return Amount(0, 0.0) if was_refused else Amount(call.most.tokens, call.most.cost)
        usage = outcome[1].usage
        cost = self.terms.prices.cost_of(usage)
        if usage.tokens_in is None or usage.tokens_out is None:
            return call.most
        return Amount(usage.tokens_in + usage.tokens_out, cost)

    def _note_trouble(self, trouble: Trouble, server: Server, sent: float) -> None:
        """Pace the server by what it says."""
        now = self._loop.time()
        if trouble.failure.code == "rate_429":
            server.limit.decrease(sent, now)
        if trouble.wait:
            server.pause(trouble.wait + self.terms.backoff.seconds(0), now)
        if len(self.servers) > 1 and trouble.failure.code in ("network", "timeout", "http_5xx"):
            server.add_failure(now, self.terms.backoff)
        if trouble.is_worth_another_try and not self._has_warned:
            self._has_warned = True
            log.warning(
                "%s: %s; the call is tried again, up to %d times", server.url, trouble.failure, self.terms.tries
            )

    def _retry_or_finish(self, call: Call, trouble: Trouble) -> None:
        call.last_trouble = trouble
        if not trouble.is_worth_another_try or len(call.attempts) >= self.terms.tries:
            self._finish(call, None, trouble)
            return
        wait = 0.0 if trouble.wait else self.terms.backoff.seconds(len(call.attempts) - 1)
        self._loop.call_later(wait, self._wait_again, call)

    def _wait_again(self, call: Call) -> None:
        self._waiting.appendleft(call)
        self._pump()

    # ---- The end of a call ---------------------------------------------------------------------------------------------------

    def _finish(self, call: Call, raw: str | None, outcome: Answer | Trouble) -> None:
        """Keep the call, hand on its reading, and stop the run if it must."""
        if isinstance(outcome, Trouble):
            if self._is_stopped:
                return
            reading, answer = Reading(call.key, failure=outcome.failure), None
        else:
            reading, answer = read(call.question, call.key, outcome), outcome
        self.keeper.put(reading, call.record(
            self.terms.model, self.terms.prices, raw=raw, answer=answer, failure=reading.failure
        ))  # fmt: skip
        is_probe = call.question.purpose == "probe"
        if isinstance(outcome, Trouble) and outcome.is_fatal and not is_probe:
            self.stop(stopped_by(f"{self.servers[0].url}: {outcome.failure}"))
        elif (reason := self.terms.breaker.add(reading.failure)) and not is_probe:
            self.stop(stopped_by(f"{self.servers[0].url}: {reason}"))

    def _finish_unsent(self, call: Call) -> None:
        """A call that the budget has no room for: kept only if it was tried before."""
        if call.last_trouble is not None:
            self._finish(call, None, call.last_trouble)
        else:
            self.keeper.put(Reading(call.key, failure=Failure("budget_stop")))


def stopped_by(reason: str) -> JudgeStopped:
    """The error of a run that stops."""
    return JudgeStopped(
        f"{reason}. What was answered is kept; correct the cause, and the same command goes on from there."
    )
