"""What every request and response has to meet: the host asked for, the page it comes from, its size, and safe headers."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guerdon.annotation.web.responses import error_response
from guerdon.runtime.web.guard import LimitedBody, hostname, is_address, refuse_length

LARGEST_BODY: Final = 2**20  # bytes of an answer or a form
LARGEST_UPLOAD: Final = 2**34  # of items, which are read line by line
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True, slots=True)
class Site:
    """Where the application is reached. public_url: as people type it, where that is not the address it listens on."""

    public_url: str | None = None
    hosts: frozenset[str] = field(default_factory=lambda: frozenset({"localhost", socket.gethostname().lower()}))

    @property
    def is_https(self) -> bool:
        """Whether people reach it by https, so that cookies may demand it."""
        return (self.public_url or "").startswith("https://")

    def accepts_host(self, host: str) -> bool:
        """Whether the application answers to this Host header.

        A page of another site can let its own name point at this machine (DNS rebinding), but its name is then in the
        header. An IP address has no name that could be pointed elsewhere.
        """
        name = hostname(host)
        return name is not None and (name in self.hosts or name == hostname(self._public_host) or is_address(name))

    def accepts_origin(self, origin: str, host: str, scheme: str) -> bool:
        """Whether a page of this origin may change something: the application's own pages alone."""
        return origin in (f"{scheme}://{host}", self._public_origin)

    @property
    def _public_host(self) -> str:
        return urlsplit(self.public_url or "").netloc

    @property
    def _public_origin(self) -> str | None:
        if self.public_url is None:
            return None
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}"


class Guard:
    """The application behind checks of host, origin and size; adds the headers to each response."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self.app, self.site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        send = _with_headers(send, self.site, is_static=scope["path"].startswith("/static/"))
        limit = LARGEST_UPLOAD if scope["path"].endswith("/items") else LARGEST_BODY
        refusal = self._refusal(scope, headers, limit)
        if refusal is not None:
            status, line = refusal
            await error_response(status, line, is_page=not scope["path"].startswith("/api/"))(scope, receive, send)
            return
        body = LimitedBody(receive, limit)
        await self.app(scope, body.receive, send)

    def _refusal(self, scope: Scope, headers: Headers, limit: int) -> tuple[int, str] | None:
        """Status and line of an error for a request that goes no further."""
        host = headers.get("host", "")
        if not self.site.accepts_host(host):
            return (
                421,
                "this name is not known here. Use the address that the server printed, or start it with --public-url.",
            )
        if scope["method"] not in SAFE_METHODS and not self._is_own(scope, headers, host):
            return 403, "the request came from another site. Open the page again from its own address."
        return refuse_length(headers, limit)

    def _is_own(self, scope: Scope, headers: Headers, host: str) -> bool:
        """Whether a request comes from a page of the application, or from no page at all."""
        origin = headers.get("origin")
        if origin is not None:
            return self.site.accepts_origin(origin, host, scope["scheme"])
        return headers.get("sec-fetch-site", "none") in ("same-origin", "none")


def _with_headers(send: Send, site: Site, is_static: bool) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            if site.is_https:
                headers["Strict-Transport-Security"] = "max-age=31536000"
            headers.setdefault("Cache-Control", "no-cache" if is_static else "no-store")
        await send(message)

    return sending
