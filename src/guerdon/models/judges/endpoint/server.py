"""One server: its address, a client that trusts nothing it sends, and what it can take at the moment."""

from __future__ import annotations

import asyncio

import httpx2

from guerdon.config.judging import JudgeOptions
from guerdon.models.http_connection import CONNECT_TIMEOUT, MAX_ERROR_BYTES, AnswerTooLarge, ssl_context
from guerdon.models.judges.endpoint.pacing import AdaptiveLimit, Backoff, TokenBucket
from guerdon.models.server_key import ServerKey

STREAK = 3  # tries without an answer in a row before the other servers get the calls for a while


class Server:
    """A server's pace. It outlives the client, which belongs to one event loop."""

    def __init__(self, url: str, options: JudgeOptions, now: float) -> None:
        self.url = url
        self.limit = AdaptiveLimit(options.concurrency, options.max_concurrency)
        self.requests = TokenBucket(options.requests_per_minute, now)
        self.tokens = TokenBucket(options.tokens_per_minute, now)
        self.in_flight, self.paused_until, self.streak = 0, now, 0

    @property
    def has_slot(self) -> bool:
        """Whether another call may be in flight."""
        return self.in_flight < int(self.limit.limit)

    def wait(self, tokens: int, now: float) -> float:
        """Seconds until the server takes a call of so many tokens, apart from those in flight."""
        return max(self.paused_until - now, self.requests.wait(1.0, now), self.tokens.wait(tokens, now))

    def pause(self, seconds: float, now: float) -> None:
        """Send nothing for so long."""
        self.paused_until = max(self.paused_until, now + seconds)

    def add_failure(self, now: float, backoff: Backoff) -> None:
        """Count a try without an answer: a server that is down must not look like one with little to do."""
        self.streak += 1
        if self.streak >= STREAK:
            self.pause(backoff.seconds(self.streak - STREAK), now)


class Client:
    """Requests to one server, many at once. TLS is verified, no redirect is followed, and no compression is accepted.

    Each request in flight has an httpx client of its own, with one kept connection: a shared one looks at all its connections
    for each request.
    """

    def __init__(self, url: str, key: ServerKey, timeout: float) -> None:
        self.url = httpx2.URL(f"{url}/chat/completions")  # parsed once
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **key.headers}
        self._timeout = httpx2.Timeout(None, connect=min(timeout, CONNECT_TIMEOUT))  # `post` limits the whole
        self._idle: list[httpx2.AsyncClient] = []

    async def close(self) -> None:
        """Close the connections; no request may be in flight."""
        for http in self._idle:
            await http.aclose()

    async def post(self, content: bytes, seconds: float, max_bytes: int) -> tuple[int, httpx2.Headers, bytes]:
        """Status, headers and body. Raises TimeoutError after so many seconds in all, httpx2.RequestError, AnswerTooLarge."""
        http = self._idle.pop() if self._idle else self._new()
        try:
            async with asyncio.timeout(seconds), http.stream("POST", self.url, content=content) as answer:
                return answer.status_code, answer.headers, await _body(answer, max_bytes)
        finally:
            self._idle.append(http)

    def _new(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            verify=ssl_context(), follow_redirects=False, headers=self._headers, timeout=self._timeout
        )


async def _body(answer: httpx2.Response, max_bytes: int) -> bytes:
    if (coding := answer.headers.get("content-encoding", "identity")) != "identity":
        raise httpx2.DecodingError(f"the answer is compressed ({coding:.40}), which was not accepted")
    body = bytearray()
    async for part in answer.aiter_raw():
        body += part
        if answer.status_code != 200 and len(body) >= MAX_ERROR_BYTES:
            break
        if len(body) > max_bytes:
            raise AnswerTooLarge(f"an answer of more than {max_bytes:,} bytes")
    return bytes(body)
