"""Who asks, and whether they may: by the cookie of a session, by an API token, or as the one account of a local server."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from guerdon.annotation.accounts import Account
from guerdon.annotation.errors import NotYours, RequestError
from guerdon.annotation.project import Project, load_project
from guerdon.annotation.results import project_names
from guerdon.annotation.sessions import SECONDS_VALID, Session, open_session, session_of
from guerdon.annotation.tokens import account_of_token
from guerdon.annotation.web.security import SAFE_METHODS, Site
from guerdon.runtime.web.secrets import is_same_secret
from guerdon.store.database import Database

PROJECT_SECONDS = 1.0  # after which a project is read anew: somebody may have paused it
EVERYTHING = frozenset({"judge", "items", "read"})


class NotSignedIn(RequestError):
    """A request by nobody whom we know."""

    status = 401


class NotAllowed(RequestError):
    """A request that this person, token or page may not make."""

    status = 403


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks. csrf: what a page must repeat to change something; None for a program. scopes: what a token is for."""

    account: Account
    csrf: str | None
    scopes: frozenset[str] = EVERYTHING


@dataclass(slots=True)
class Application:
    """What the endpoints share.

    local: the account of everybody who asks, where nobody signs in. sign_in_secret: of the link that signs the owner in.
    clock: seconds since 1970.
    """

    database: Database
    site: Site
    local: Account | None = None
    sign_in_secret: str | None = None
    owner: Account | None = None
    single_sign_on: Any = None
    clock: Callable[[], float] = time.time
    local_csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    _projects: dict[str, tuple[float, Project]] = field(default_factory=dict)

    def person(self, request: Request, csrf: str | None = None) -> Person:
        """Who asks; an error where nobody signed in. csrf: of a form, which has no headers.

        A request that changes something and rests on a cookie must repeat the secret of its session.
        """
        person = self._person(request)
        if person is None:
            raise NotSignedIn("nobody is signed in. Sign in, or send a token as Authorization: Bearer TOKEN.")
        given = csrf or request.headers.get("x-csrf-token") or ""
        if request.method not in SAFE_METHODS and person.csrf is not None and self.local is None:
            if not is_same_secret(given, person.csrf):
                raise NotAllowed("the page is older than this session. Reload it, then try again.")
        return person

    def person_or_nobody(self, request: Request) -> Person | None:
        """Who asks, for pages that anybody may see."""
        return self._person(request)

    def enter(self, request: Request, name: str, roles: Set[str], scope: str) -> tuple[Account, Project]:
        """Who asks, and the project, for something that only these roles, and tokens of this scope, may do."""
        person = self.person(request)
        if person.account.role not in roles:
            raise NotAllowed(f"the role {person.account.role} may not do this. Ask a manager.")
        if scope not in person.scopes:
            raise NotAllowed(f"the token must have scope {scope}. Create one that has it.")
        return person.account, self.project(name)

    def project(self, name: str) -> Project:
        """The project of this name, as it was at most a second ago.

        It is the same object while nothing of it changes, because it holds hints that make claims fast.
        """
        now = self.clock()
        read, project = self._projects.get(name, (0.0, None))
        if project is None or not 0 <= now - read < PROJECT_SECONDS:
            if name not in project_names(self.database):
                raise NotYours("there is no such project. Go back to the list of projects.")
            fresh = load_project(self.database, name)
            project = project if project == fresh else fresh
            self._projects[name] = (now, project)
        return project

    def sign_in(self, request: Request, account: Account, response: Response) -> Response:
        """The response, which lets a browser be signed in."""
        token = open_session(self.database, account.id, self.clock())
        response.set_cookie(
            self.cookie(request),
            token,
            max_age=int(SECONDS_VALID),
            httponly=True,
            samesite="lax",
            secure=self.site.is_https,
        )
        return response

    def cookie(self, request: Request) -> str:
        """The name of the cookie. It has the port, because browsers share cookies between the ports of a host."""
        return "__Host-guerdon" if self.site.is_https else f"guerdon-{request.url.port or 80}"

    def cookie_value(self, request: Request) -> str | None:
        """The secret of the browser's session."""
        return request.cookies.get(self.cookie(request))

    def _person(self, request: Request) -> Person | None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            known = account_of_token(self.database, token.strip(), self.clock())
            return None if known is None else Person(known[0], None, known[1])
        if self.local is not None:
            return Person(self.local, self.local_csrf)
        session = self._session(request)
        return None if session is None else Person(session.account, session.csrf)

    def _session(self, request: Request) -> Session | None:
        token = self.cookie_value(request)
        return session_of(self.database, token, self.clock()) if token else None


def application_of(request: Request) -> Application:
    """The application that the request came to."""
    application: Application = request.app.state.guerdon
    return application
