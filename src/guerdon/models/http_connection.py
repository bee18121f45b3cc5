"""A connection to an untrusted HTTP server: every request is bounded in time and in bytes, whatever the server sends."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from types import TracebackType
from typing import Any, Self

import httpx2

CONNECT_TIMEOUT = 10.0  # seconds to wait for a connection
MAX_ERROR_BYTES = 100_000  # of an answer with a status other than 200, enough for its message


class AnswerTooLarge(Exception):
    """An answer of more bytes than the request can have asked for."""


class Connection:
    """Requests one after another over one kept connection; use it in a `with` statement.

    TLS is verified, no redirect is followed, which would take the key elsewhere, and no compression is accepted: it
    could make a few bytes into gigabytes.
    """

    def __init__(self, headers: Mapping[str, str], timeout: float) -> None:
        self._http = httpx2.Client(
            verify=ssl_context(),
            follow_redirects=False,
            headers={**headers, "Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
        )
        self._stream: Any = None  # httpcore's, of the connection in use

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def fetch(
        self, method: str, url: str, content: bytes | None, seconds: float, max_bytes: int
    ) -> tuple[int, httpx2.Headers, bytes]:
        """Status, headers and body. Raises httpx2.ReadTimeout after so many seconds in all, and AnswerTooLarge.

        httpx starts its own timeout again with every byte, header line and interim answer, so a second thread shuts the
        connection when the time is over.
        """
        is_over = threading.Event()
        watch = threading.Timer(seconds, self._shut, [is_over])
        watch.daemon = True
        watch.start()
        try:
            return self._read(method, url, content, max_bytes)
        except httpx2.RequestError:
            if is_over.is_set():
                raise httpx2.ReadTimeout("the answer came too slowly") from None
            raise
        finally:
            watch.cancel()

    def _read(self, method: str, url: str, content: bytes | None, max_bytes: int) -> tuple[int, httpx2.Headers, bytes]:
        with self._http.stream(method, url, content=content, extensions={"trace": self._note_stream}) as answer:
            if (coding := answer.headers.get("content-encoding", "identity")) != "identity":
                raise httpx2.DecodingError(f"the answer is compressed ({coding:.40}), which was not accepted")
            body = bytearray()
            for part in answer.iter_raw(1 << 16):
                body += part
                if answer.status_code != 200 and len(body) >= MAX_ERROR_BYTES:
                    return answer.status_code, answer.headers, bytes(body[:MAX_ERROR_BYTES])
                if len(body) > max_bytes:
                    raise AnswerTooLarge(f"an answer of more than {max_bytes:,} bytes")
            return answer.status_code, answer.headers, bytes(body)

    def _note_stream(self, event: str, info: Mapping[str, Any]) -> None:
        """httpcore's trace: keep the newest stream, which is what a request reads from."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._stream = info["return_value"]

    def _shut(self, is_over: threading.Event) -> None:
        is_over.set()
        if self._stream is not None:
            with suppress(
                OSError
            ):  # closed already; the plain socket's method, for a TLS socket's own is not thread-safe
                socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)


@cache
def ssl_context() -> ssl.SSLContext:
    """The certificates to trust; reading them takes longer than a request."""
    return httpx2.create_ssl_context()
