"""The web application: pages and endpoints over a store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from guerdon.annotation.accounts import Account
from guerdon.annotation.errors import RequestError
from guerdon.annotation.web import api, manage, oidc, pages
from guerdon.annotation.web.identity import Application, NotSignedIn
from guerdon.annotation.web.responses import FOLDER, error_response
from guerdon.annotation.web.security import HEADERS, Guard, Site
from guerdon.errors import GuerdonError, show_value
from guerdon.runtime.web.json_response import json_response
from guerdon.store.database import Database

_log = logging.getLogger("guerdon.annotation")


def create_app(
    database: Database,
    *,
    site: Site | None = None,
    local: Account | None = None,
    owner: Account | None = None,
    sign_in_secret: str | None = None,
    single_sign_on: oidc.Provider | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """The application over a store of the newest schema.

    site: where it is reached. local: the account of everybody, where nobody signs in. owner and sign_in_secret: who the link
    /sign-in?token=SECRET signs in. single_sign_on: where people may sign in instead of by password.
    """
    site = site or Site()
    app = FastAPI(title="Guerdon annotation", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.guerdon = Application(
        database,
        site,
        local=local,
        owner=owner,
        sign_in_secret=sign_in_secret,
        single_sign_on=single_sign_on,
        clock=clock,
    )
    app.include_router(api.router)
    app.include_router(pages.router)
    app.include_router(manage.router)
    if single_sign_on is not None:
        app.include_router(oidc.router)
    app.add_api_route("/health", _health, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"))
    app.add_middleware(Guard, site=site)
    app.add_exception_handler(GuerdonError, _on_guerdon_error)
    app.add_exception_handler(RequestValidationError, _on_wrong_values)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_fault)
    return app


def _health() -> Response:
    return json_response({"status": "ok"})


def _on_guerdon_error(request: Request, error: Any) -> Response:
    """A request that cannot be met; a store that cannot be read or written is not the fault of who asks."""
    if isinstance(error, NotSignedIn) and _is_page(request):
        return pages.redirect_to_login(request)
    if isinstance(error, RequestError):
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
        return error_response(error.status, str(error), is_page=_is_page(request), headers=headers)
    is_fault_of_store = str(error).startswith(str(request.app.state.guerdon.database.location))
    if is_fault_of_store:
        _log.error("%s", error)
        line = "the store cannot be read or written now. Try again; if it goes on, look at the server's log."
        return error_response(503, line, is_page=_is_page(request), headers={"Retry-After": "5"})
    return error_response(400, str(error), is_page=_is_page(request))


def _on_wrong_values(request: Request, error: Any) -> Response:
    """Values of the wrong kind: the first of them, in one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    line = f"{where}: {first['msg']}, got {show_value(first.get('input'))}. Correct the request."
    return error_response(404 if first["loc"][0] == "path" else 422, line, is_page=_is_page(request))


def _on_http_error(request: Request, error: Any) -> Response:
    lines = {404: "there is nothing at this address.", 405: "this address does not take this method."}
    line = lines.get(error.status_code, str(error.detail))
    return error_response(error.status_code, line, is_page=_is_page(request), headers=error.headers)


def _on_fault(request: Request, error: Exception) -> Response:
    """Our own mistake; the log of the server has its traceback."""
    line = "something went wrong on the server, and what you sent may not be stored. Try again."
    return error_response(500, line, is_page=_is_page(request), headers=HEADERS)


def _is_page(request: Request) -> bool:
    return not request.url.path.startswith("/api/")
