"""The application: every dialect over one service, with errors in the words of the dialect that asked."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from guerdon.errors import GuerdonError, show_value
from guerdon.runtime.web.guard import LimitedBody, hostname, hosts_of, is_address, refuse_length
from guerdon.runtime.web.json_response import json_response
from guerdon.runtime.web.secrets import is_same_secret
from guerdon.serving.dialects import nim, openrlhf, own, sglang, shared_paths, tei, vllm
from guerdon.serving.dialects.common import openai_error, service_of
from guerdon.serving.errors import Overloaded, ServingError
from guerdon.serving.schema import PATH
from guerdon.serving.service import Service
from guerdon.serving.watch_report import server_report

if TYPE_CHECKING:
    from guerdon.contracts import Report

__all__ = ["Access", "create_app"]

PAGE: Final = "/watch"
PAGE_SECONDS: Final = 30  # after which a browser looks again
PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Refresh": str(PAGE_SECONDS),
}
OPEN_PATHS: Final = frozenset({"/health"})  # that need no token
PLAIN_ERRORS: Final = frozenset({PATH, "/get_reward", "/health", "/info", "/metrics", "/v1/watch", PAGE})
MEGABYTE: Final = 2**20

_log = logging.getLogger("guerdon.serving")


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask. token: that every request must bear; None where only this machine reaches the server. hosts: names by which the
    server may be asked, where there is no token: a page of another site can let its own name point here (DNS rebinding)."""

    token: str | None = None
    hosts: frozenset[str] = field(default_factory=lambda: hosts_of(()))

    def refusal(self, path: str, headers: Headers) -> tuple[int, str] | None:
        """Status and line of an error for a request that goes no further."""
        if self.token is None:
            name = hostname(headers.get("host", ""))
            if name is None or not (name in self.hosts or is_address(name)):
                return 421, "this name is not known here. Use the address that the server printed."
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if path == PAGE and scheme.lower() == "basic":
            given = _password(given)
        elif scheme.lower() != "bearer":
            given = ""
        if path in OPEN_PATHS or is_same_secret(given.strip(), self.token):
            return None
        if path == PAGE:
            return 401, "a token is needed. Give it as the password, with any name."
        return 401, "a token is needed. Send Authorization: Bearer TOKEN."


def _password(given: str) -> str:
    """Of HTTP's basic authentication, which a browser asks for; empty where there is none."""
    try:
        return base64.b64decode(given, validate=True).decode("utf-8").partition(":")[2]
    except ValueError:
        return ""


def create_app(service: Service, access: Access | None = None, page: Callable[[Report], str] | None = None) -> FastAPI:
    """The application over a started service. page: draws the watch for browsers."""
    app = FastAPI(title="Guerdon rewards", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.service = service
    for dialect in (own, shared_paths, vllm, sglang, openrlhf, tei, nim):
        app.include_router(dialect.router)
    app.add_api_route("/health", _health, methods=["GET"])
    app.add_api_route("/metrics", _metrics, methods=["GET"])
    app.add_api_route("/v1/models", _models, methods=["GET"])
    app.add_api_route("/info", _info, methods=["GET"])
    app.add_api_route("/v1/watch", _watch, methods=["GET"])
    if page is not None:
        app.state.page = page
        app.add_api_route(PAGE, _page, methods=["GET"], include_in_schema=False)
    app.add_middleware(_Guard, access=access or Access(), limit=service.options.max_body * MEGABYTE)
    app.add_exception_handler(GuerdonError, _on_guerdon_error)
    app.add_exception_handler(RequestValidationError, _on_wrong_values)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_fault)
    return app


# ---- What the server says of itself --------------------------------------------------------------------------------


def _health() -> Response:
    """Whether the server answers. Models are warm before it does."""
    return json_response({"status": "ok"})


def _metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(service_of(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _models(request: Request) -> Response:
    """The served models, as OpenAI's API lists them."""
    queues = service_of(request).queues
    data = [
        {"id": name, "object": "model", "owned_by": "guerdon", "max_model_len": queue.model.max_length}
        for name, queue in queues.items()
    ]
    return json_response({"object": "list", "data": data})


def _watch(request: Request) -> Response:
    """Sums over the rewards that were given, by step of the training that used them."""
    return json_response({"models": {name: watch.as_json() for name, watch in service_of(request).watches.items()}})


def _page(request: Request) -> Response:
    """The watch as a page that loads nothing, runs nothing, and is read again by itself."""
    html = request.app.state.page(server_report(service_of(request).watches))
    return Response(html, media_type="text/html; charset=utf-8", headers=PAGE_HEADERS)


def _info(request: Request) -> Response:
    """What rewards depend on: hashes of each model, its template and its calibration, and the server's limits."""
    from guerdon import __version__

    service = service_of(request)
    facts = [queue.model.facts() for queue in service.queues.values()]
    return json_response({"version": __version__, "models": facts, "limits": service.options.model_dump(mode="json")})


# ---- Requests that go no further -----------------------------------------------------------------------------------


class _Guard:
    """The application behind checks of the token, the host and the size of the body."""

    def __init__(self, app: ASGIApp, access: Access, limit: int) -> None:
        self.app, self.access, self.limit = app, access, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self.access.refusal(scope["path"], headers) or refuse_length(headers, self.limit)
        if refusal is not None:
            await _error(scope["path"], *refusal)(scope, receive, send)
            return
        await self.app(scope, LimitedBody(receive, self.limit).receive, send)


def _error(path: str, status: int, line: str, words: Any = None, retry_after: int | None = None) -> Response:
    """One line in the JSON of the dialect to which a path belongs. words: the dialect's, where the path has two."""
    line = " ".join(line.split())
    challenge = 'Basic realm="guerdon", charset="UTF-8"' if path == PAGE else "Bearer"
    headers = {"WWW-Authenticate": challenge} if status == 401 else {}
    headers |= {} if retry_after is None else {"Retry-After": str(retry_after)}
    if words is None:
        words = tei.error if path == "/predict" else _plain_error if path in PLAIN_ERRORS else openai_error
    return json_response(words(status, line), status, headers)


def _plain_error(status: int, line: str) -> dict[str, Any]:
    return {"error": line}


def _on_guerdon_error(request: Request, error: Any) -> Response:
    """A request that cannot be met, or not now."""
    status = error.status if isinstance(error, ServingError) else 400
    retry_after = error.retry_after if isinstance(error, Overloaded) else None
    return _error(request.url.path, status, str(error), getattr(request.state, "error", None), retry_after)


def _on_wrong_values(request: Request, error: Any) -> Response:
    """Values of the wrong kind: the first of them, in one line."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        line = f"the body must be JSON, got an error at character {first['loc'][-1]}: {first['ctx']['error']}."
    elif first["loc"] == ("body",):
        sent = request.headers.get("content-type", "none")
        line = f"the body must be a JSON object under Content-Type: application/json, got {show_value(first.get('input'))} under {sent}."
    else:
        where = ".".join(str(part) for part in first["loc"][1:])
        line = f"{where}: {first['msg']}, got {show_value(first.get('input'))}. Correct the request."
    return _error(request.url.path, 422 if request.url.path == "/predict" else 400, line)


def _on_http_error(request: Request, error: Any) -> Response:
    lines = {
        400: "the body must be JSON in UTF-8.",  # the only one that FastAPI raises by itself
        404: "there is nothing at this address.",
        405: "this address does not take this method.",
    }
    return _error(request.url.path, error.status_code, lines.get(error.status_code, str(error.detail)))


def _on_fault(request: Request, error: Exception) -> Response:
    """Our own mistake; the log of the server has its traceback. Never a number."""
    _log.error("%s failed", request.url.path, exc_info=error)
    return _error(
        request.url.path, 500, "something went wrong on the server. Its log has the reason; send the request again."
    )
