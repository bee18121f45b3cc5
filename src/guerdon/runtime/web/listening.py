"""Runs the application until it is stopped: the port is taken before anything else, and requests in progress are finished."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from typing import Final

import uvicorn
from fastapi import FastAPI

from guerdon.errors import GuerdonError

STOP_SECONDS: Final = 5  # that requests in progress have to finish
MOST_CONNECTIONS: Final = 1000


def open_port(host: str, port: int) -> socket.socket:
    """A socket that listens on this host and port (0: any that is free); GuerdonError where it cannot."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError, OverflowError):
        raise GuerdonError(
            f"--host must be a name or an address of this machine, got {host!r}. Use 127.0.0.1."
        ) from None
    # With the protocol named, asyncio turns Nagle's algorithm off; else each response waits 40 ms for an acknowledgment
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise GuerdonError(_reason(error, host, port)) from None
    return listening


def run(
    app: FastAPI,
    listening: socket.socket,
    ready: Callable[[], None],
    trusted_proxies: Sequence[str] = (),
    *,
    stop_seconds: int = STOP_SECONDS,
    most_connections: int = MOST_CONNECTIONS,
) -> None:
    """Answer requests on the socket until Ctrl-C or SIGTERM. ready: called once the first request can come.

    trusted_proxies: addresses whose X-Forwarded-For and X-Forwarded-Proto are believed; those of others are not. stop_seconds:
    that requests in progress have to finish.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        timeout_graceful_shutdown=stop_seconds,
        limit_concurrency=most_connections,
        lifespan="off",
    )
    try:
        _Server(config, ready).run(sockets=[listening])
    except KeyboardInterrupt:
        pass  # the server has stopped already when it comes


def address_of(listening: socket.socket) -> str:
    """The URL that leads to the socket from this machine."""
    host, port, *_ = listening.getsockname()
    shown = "127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else host
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def _reason(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} must be free, got one that another program uses. Stop it, or pass another --port."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} needs rights that this user lacks. Pass a --port above 1023."
    return f"--host must be an address of this machine, got {host!r}. Use 127.0.0.1."
