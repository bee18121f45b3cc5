"""What all dialects share: the served models by name, each with its queue, and one way from items to outcomes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi import Request

from guerdon.config.serving import ServingOptions
from guerdon.errors import GuerdonError, counted, did_you_mean, show_value
from guerdon.serving.audit import AuditEntry, AuditLog
from guerdon.serving.errors import Overloaded, ServingError, TooLarge, UnknownModel, Unscorable
from guerdon.serving.metrics import Metrics
from guerdon.serving.queue import QueueLimits, RewardQueue
from guerdon.serving.watch import Watch

if TYPE_CHECKING:
    from guerdon.serving.models import Outcome, ServedModel
    from guerdon.serving.reading import Item

CLIENT_GONE: Final = 499  # nobody reads it; it is what proxies log


class ClientGone(Overloaded):
    """Whoever asked has closed the connection."""

    status = CLIENT_GONE

    def __init__(self) -> None:
        super().__init__("the client has gone. Send the request again.", 1)


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcomes of a request's items, in order, and who gave them."""

    model: ServedModel
    outcomes: list[Outcome]

    @property
    def tokens(self) -> int:
        """Of all texts."""
        return sum(outcome.tokens for outcome in self.outcomes)

    def scores(self) -> list[float]:
        """The numbers alone; raises Unscorable where one is missing."""
        for outcome in self.outcomes:
            if outcome.score is None:
                raise Unscorable(outcome.error or "there is no reward. Ask again.")
        return [outcome.score for outcome in self.outcomes if outcome.score is not None]


class Service:
    """Served models and their queues. Models on this machine compute in turns; judges that wait for servers do not."""

    def __init__(self, models: Sequence[ServedModel], options: ServingOptions, batch_tokens: int = 4096) -> None:
        self.options = options
        turn = threading.Lock()
        self.queues: dict[str, RewardQueue] = {}
        for model in models:
            tokens = batch_tokens * model.passes_at_once
            limits = QueueLimits(options.max_tokens, options.max_items, options.deadline, tokens)
            self.queues[model.name] = RewardQueue(model, limits, turn if model.needs_turn else None)
        self.metrics = Metrics(self.queues)
        self.watches = {name: Watch() for name in self.queues}
        self._names = _spellings(models)
        self._audit = None
        if options.audit_log is not None:
            fingerprints = {model.name: str(model.facts()["fingerprint"]) for model in models}
            self._audit = AuditLog(options.audit_log, options, fingerprints)
        self._reader = ThreadPoolExecutor(1, "read")  # tokenizers are of one thread

    def start(self) -> None:
        """Begin to score."""
        for queue in self.queues.values():
            queue.start()

    def close(self, seconds: float) -> None:
        """Finish what was accepted, for at most so long."""
        for queue in self.queues.values():
            queue.close(seconds)
            queue.model.close()
        self._reader.shutdown(cancel_futures=True)
        if self._audit is not None:
            self._audit.close()

    def queue(self, name: str | None) -> RewardQueue:
        """The queue of a model: by its name, or by the path that it was served from; the first one by default."""
        if name is None:
            return next(iter(self.queues.values()))
        known = self._names.get(name) or self._names.get(name.rstrip("/"))
        if known is None:
            raise UnknownModel(
                f"model must be one of {', '.join(self.queues)}, got {show_value(name)}. "
                f"{did_you_mean(name, list(self.queues)) or 'Correct it, or leave it out.'}"
            )
        return self.queues[known]

    async def score(
        self,
        request: Request,
        items: Sequence[Item],
        model: str | None = None,
        deadline: float | None = None,
        *,
        step: int | None = None,
        kl: Sequence[float] | None = None,
    ) -> Answer:
        """The outcomes of items. Work is dropped when the client goes; GuerdonError says why there is no answer.

        step, kl: of the training that asks, for the watch; kl is nats of each item's reply.
        """
        queue = self.queue(model)
        if len(items) > self.options.max_items:
            raise TooLarge(
                f"one request may hold {counted(self.options.max_items, 'text')}, got {len(items):,}. Send fewer at once."
            )
        name, path = queue.model.name, request.url.path
        client = None if request.client is None else request.client.host
        entry = AuditEntry(path, client, name, items, step)
        with self.metrics.timing(name, path), self._audited(entry):
            loop = asyncio.get_running_loop()
            entry.readings = readings = await loop.run_in_executor(self._reader, queue.model.read, items)
            waiting = asyncio.wrap_future(queue.submit(readings, deadline))
            seconds = min(deadline or self.options.deadline, self.options.deadline)
            entry.outcomes = outcomes = await _unless_gone(request, waiting, seconds)
        self.metrics.observe(name, outcomes)
        self.watches[name].observe(outcomes, step, kl)
        return Answer(queue.model, outcomes)

    @contextmanager
    def _audited(self, entry: AuditEntry) -> Iterator[None]:
        """Write what is inside into the audit log, however it ends."""
        try:
            yield
            entry.status = 200
        except ServingError as error:
            entry.status = error.status
            raise
        except GuerdonError:
            entry.status = 400
            raise
        finally:
            if self._audit is not None:
                self._audit.write(entry)


async def _unless_gone(request: Request, waiting: asyncio.Future[list[Outcome]], seconds: float) -> list[Outcome]:
    """What is waited for; canceled at the deadline, or when the client closes the connection."""
    gone: asyncio.Future[None] = asyncio.ensure_future(_disconnected(request))
    pending: set[asyncio.Future[Any]] = {waiting, gone}
    try:
        await asyncio.wait(pending, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        if gone.done():
            raise ClientGone
        raise Overloaded("the deadline passed. Try again later, or send less at once.", seconds / 2)
    finally:
        gone.cancel()
        waiting.cancel()


async def _disconnected(request: Request) -> None:
    """Returns when the client closes the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _spellings(models: Sequence[ServedModel]) -> dict[str, str]:
    """What clients call each model -> its name. Trainers send the path that they know."""
    names: dict[str, str] = {}
    for model in models:
        path = Path(model.path)
        for spelling in (model.path, str(path), str(path.resolve()), path.name):
            names.setdefault(spelling, model.name)
    return names | {model.name: model.name for model in models}
