"""Checks of a request before anything reads it: the host that it names, and the size of its body."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive


def refuse_length(headers: Headers, limit: int) -> tuple[int, str] | None:
    """Status and line of an error for a body whose header says that it is too long; None if it is not."""
    length = headers.get("content-length", "0")
    if not length.isdecimal() or not length.isascii():
        return 400, "Content-Length must be a number of bytes. Send the request again."
    if len(length) > 15 or int(length) > limit:
        return 413, f"the body must be at most {limit:,} bytes. Send less at once."
    return None


class LimitedBody:
    """Receives a body of at most so many bytes, whatever its headers said."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._left = receive, limit

    async def receive(self) -> Message:
        """The next part; an error once there were too many bytes."""
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, "the body is too long. Send less at once.")
        return message


def hostname(host: str) -> str | None:
    """The name in a Host header, in lower case, without port; None where there is none."""
    try:
        return urlsplit(f"//{host}").hostname if host and "@" not in host and "/" not in host else None
    except ValueError:
        return None


def is_address(name: str) -> bool:
    """Whether a host is an IP address, which no page of another site can point elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a server that listens on this host is reached from this machine alone."""
    if host == "localhost":
        return True
    return is_address(host) and ipaddress.ip_address(host).is_loopback


def hosts_of(names: Iterable[str]) -> frozenset[str]:
    """This machine's names, and others."""
    return frozenset({"localhost", socket.gethostname().lower(), *(name.lower() for name in names)})
