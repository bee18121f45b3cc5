"""The threads of a run: an event loop that sends calls, and a writer that keeps them. Closing it leaves no thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress

from guerdon.models.judges.calls import CallLog
from guerdon.models.judges.driver import Reading
from guerdon.models.judges.endpoint.calls import Call
from guerdon.models.judges.endpoint.dispatcher import Dispatcher, Terms
from guerdon.models.judges.endpoint.keeping import Keeper
from guerdon.models.judges.endpoint.server import Client, Server


class Session:
    """Calls go in, readings come out once their calls are kept. Its threads start with the first call."""

    def __init__(self, terms: Terms, servers: Sequence[Server], log: CallLog) -> None:
        self._terms, self._servers, self._log = terms, servers, log
        self._thread: threading.Thread | None = None
        self._is_ready = threading.Event()
        self._keeper: Keeper | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dispatcher: Dispatcher | None = None
        self._closing: asyncio.Event | None = None

    def submit(self, calls: Sequence[Call]) -> None:
        """Send calls."""
        if self._thread is None:
            self._keeper = Keeper(self._log)
            self._thread = threading.Thread(target=self._run, name="judge-calls", daemon=True)
            self._thread.start()
            self._is_ready.wait()
        if self._keeper is not None:
            self._keeper.expect(len(calls))
        if self._loop is not None and self._dispatcher is not None:
            with suppress(RuntimeError):  # the loop has ended with an error, which `take` raises
                self._loop.call_soon_threadsafe(self._dispatcher.submit, calls)

    def take(self) -> list[Reading]:
        """Readings of calls that are kept by now; waits for the first. Raises what ended the run, such as JudgeStopped."""
        assert self._keeper is not None
        return self._keeper.take()

    def close(self) -> None:
        """Cancel what is in flight, keep what arrived, and end the threads."""
        if self._thread is not None and self._loop is not None and self._closing is not None:
            with suppress(RuntimeError):  # the loop has ended with an error
                self._loop.call_soon_threadsafe(self._closing.set)
        if self._thread is not None:
            self._thread.join()
        if self._keeper is not None:
            self._keeper.close()

    def _run(self) -> None:
        assert self._keeper is not None
        try:
            asyncio.run(self._serve(self._keeper))
        except BaseException as error:  # raised again in the thread that waits for readings
            self._keeper.put(error)
        finally:
            self._is_ready.set()

    async def _serve(self, keeper: Keeper) -> None:
        clients = [Client(server.url, self._terms.key, self._terms.timeout) for server in self._servers]
        dispatcher = Dispatcher(self._terms, self._servers, clients, keeper)
        self._loop, self._dispatcher, self._closing = asyncio.get_running_loop(), dispatcher, asyncio.Event()
        self._is_ready.set()
        await self._closing.wait()
        await dispatcher.cancel()
        for client in clients:
            await client.close()
