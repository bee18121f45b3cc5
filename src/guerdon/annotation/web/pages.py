"""The pages: sign in, accept an invitation, one's account, the list of projects, and where people judge."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Form, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import RedirectResponse, Response

from guerdon.annotation import signing_in, tokens
from guerdon.annotation.accounts import JUDGE, guidelines_seen
from guerdon.annotation.errors import RequestError
from guerdon.annotation.invites import Invite, accept_invite, read_invite
from guerdon.annotation.passwords import SHORTEST
from guerdon.annotation.rendering import guidelines_html
from guerdon.annotation.results import project_names
from guerdon.annotation.sessions import close_session, close_sessions_of
from guerdon.annotation.web.identity import Application, NotAllowed, Person, application_of
from guerdon.annotation.web.responses import page_response
from guerdon.errors import GuerdonError
from guerdon.runtime.web.secrets import is_same_secret

router: Final = APIRouter(include_in_schema=False)

Text = Annotated[str, Field(max_length=2000)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LoginForm(_Form):
    """Who signs in, and the page to go to."""

    login: Text
    password: Text
    next: Text = "/"


class InviteForm(_Form):
    """The account that an invitation makes."""

    login: Text
    name: Text = ""
    password: Text


class OwnForm(_Form):
    """A form of somebody who is signed in."""

    csrf: Text


class PasswordForm(OwnForm):
    """A new password, and the one before it."""

    old: Text = ""
    new: Text


class TokenForm(OwnForm):
    """A new API token."""

    name: Text
    scopes: Annotated[list[Text], Field(max_length=10)] = []
    days: Annotated[int, Field(ge=1, le=3650)] = 90


class RevokeForm(OwnForm):
    """The token that ends."""

    token: Text


# ---- Signing in ----------------------------------------------------------------------------------------------------


@router.get("/login")
def login_page(request: Request, next: Annotated[str, Query(max_length=2000)] = "/") -> Response:
    """The form to sign in."""
    if application_of(request).local is not None:
        return see_other("/")
    return _login_page(application_of(request), own_path(next))


@router.post("/login")
def login(request: Request, form: Annotated[LoginForm, Form()]) -> Response:
    """Sign in with a password."""
    application = application_of(request)
    try:
        account = signing_in.sign_in(
            application.database, form.login, form.password, address_of(request), application.clock()
        )
    except signing_in.TooManyFailures as error:
        response = _login_page(application, own_path(form.next), form.login, str(error), error.status)
        response.headers["Retry-After"] = str(error.seconds)
        return response
    except signing_in.LoginRefused as error:
        return _login_page(application, own_path(form.next), form.login, str(error), error.status)
    return application.sign_in(request, account, see_other(own_path(form.next)))


@router.get("/sign-in")
def sign_in_by_link(request: Request, token: Annotated[str, Query(max_length=200)]) -> Response:
    """Sign in the owner by the link that the server printed, which holds until the server stops."""
    application = application_of(request)
    secret, owner = application.sign_in_secret, application.owner
    if secret is None or owner is None or not is_same_secret(token, secret):
        raise NotAllowed("this link belongs to a server that has stopped. Use the link that it printed last.")
    return application.sign_in(request, owner, see_other("/"))


@router.post("/logout")
def logout(request: Request, form: Annotated[OwnForm, Form()]) -> Response:
    """Sign out of this browser."""
    application = application_of(request)
    application.person(request, form.csrf)
    if token := application.cookie_value(request):
        close_session(application.database, token)
    response = see_other("/login")
    response.delete_cookie(application.cookie(request), secure=application.site.is_https, httponly=True)
    return response


@router.get("/invite/{token}")
def invite_page(request: Request, token: str) -> Response:
    """The form that makes an account."""
    application = application_of(request)
    invite = read_invite(application.database, token, application.clock())
    return _invite_page(application, invite, token)


@router.post("/invite/{token}")
def accept(request: Request, token: str, form: Annotated[InviteForm, Form()]) -> Response:
    """Make the account, and sign it in."""
    application = application_of(request)
    database, now = application.database, application.clock()
    invite = read_invite(database, token, now)
    try:
        account, _ = accept_invite(
            database, token, form.login, now=now, password=form.password, display_name=form.name or None
        )
    except RequestError:
        raise
    except GuerdonError as error:
        return _invite_page(application, invite, token, form, str(error))
    return application.sign_in(request, account, see_other(_start_of(invite)))


# ---- One's account -------------------------------------------------------------------------------------------------


@router.get("/account")
def account_page(request: Request) -> Response:
    """Who is signed in, with the forms for password and tokens."""
    application = application_of(request)
    return _account_page(application, application.person(request))


@router.post("/account/password")
def change_password(request: Request, form: Annotated[PasswordForm, Form()]) -> Response:
    """Change the password; other browsers are signed out."""
    application = application_of(request)
    person = application.person(request, form.csrf)
    _require_browser(person)
    try:
        signing_in.change_password(
            application.database, person.account, form.old, form.new, address_of(request), application.clock()
        )
    except GuerdonError as error:
        return _account_page(application, person, error=str(error))
    return application.sign_in(request, person.account, see_other("/account"))


@router.post("/account/sign-out-everywhere")
def sign_out_everywhere(request: Request, form: Annotated[OwnForm, Form()]) -> Response:
    """Sign out of all browsers."""
    application = application_of(request)
    person = application.person(request, form.csrf)
    _require_browser(person)
    close_sessions_of(application.database, person.account.id)
    return see_other("/login")


@router.post("/account/tokens")
def create_token(request: Request, form: Annotated[TokenForm, Form()]) -> Response:
    """A new API token, which is shown once."""
    application = application_of(request)
    person = application.person(request, form.csrf)
    _require_browser(person)
    try:
        token = tokens.create_token(
            application.database, person.account.id, form.name, form.scopes, application.clock(), form.days
        )
    except GuerdonError as error:
        return _account_page(application, person, error=str(error))
    return _account_page(application, person, new_token=token)


@router.post("/account/tokens/revoke")
def revoke_token(request: Request, form: Annotated[RevokeForm, Form()]) -> Response:
    """End an API token."""
    application = application_of(request)
    person = application.person(request, form.csrf)
    _require_browser(person)
    if not tokens.revoke_token(application.database, person.account.id, form.token):
        raise RequestError("no such token. Reload the page.")
    return see_other("/account")


# ---- Projects ------------------------------------------------------------------------------------------------------


@router.get("/")
def start(request: Request) -> Response:
    """The project, or the list of projects where there are several."""
    application = application_of(request)
    person = application.person(request)
    names = project_names(application.database)
    if len(names) == 1 and person.account.role in JUDGE:
        return see_other(project_path(names[0], "judge"))
    return page_response("projects.html.j2", **_shared(person), projects=[(name, project_path(name)) for name in names])


@router.get("/p/{project}")
def project_page(project: str) -> Response:
    """Where people judge."""
    return see_other(project_path(project, "judge"))


@router.get("/p/{project}/judge")
def judge_page(request: Request, project: str) -> Response:
    """Where people judge."""
    return _work_page(request, project, "judge.html.j2")


@router.get("/p/{project}/history")
def history_page(request: Request, project: str) -> Response:
    """Own judgments, to change one."""
    return _work_page(request, project, "history.html.j2")


def _work_page(request: Request, name: str, template: str) -> Response:
    application = application_of(request)
    person = application.person(request)
    account, project = application.enter(request, name, JUDGE, "judge")
    seen = guidelines_seen(application.database, account.id, project.name)
    guidelines = {
        "html": guidelines_html(project.guidelines),
        "version": project.guidelines_version,
        "is_new": bool(project.guidelines) and seen != project.guidelines_version,
    }
    return page_response(
        template,
        **_shared(person),
        project=project.name,
        api=api_path(project.name),
        options=project.options,
        guidelines=guidelines,
    )


# ---- Helpers -------------------------------------------------------------------------------------------------------


def own_path(path: str) -> str:
    """The path if it leads to a page of this application; the start page otherwise."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if is_own else "/"


def project_path(name: str, page: str = "") -> str:
    """The path of a page of a project."""
    return f"/p/{_quoted(name)}" + (f"/{page}" if page else "")


def api_path(name: str) -> str:
    """The path below which a project's API is."""
    return f"/api/v1/projects/{_quoted(name)}"


def _quoted(name: str) -> str:
    return quote(name, safe="", errors="replace")


def see_other(path: str) -> Response:
    """Go to another page with GET."""
    return RedirectResponse(path, 303)


def address_of(request: Request) -> str:
    """The address of who asks, as the server knows it."""
    return request.client.host if request.client else "unknown"


def redirect_to_login(request: Request) -> Response:
    """Sign in first, then come back."""
    path = request.url.path if request.method == "GET" and request.url.path != "/" else ""
    return see_other(f"/login?{urlencode({'next': path})}" if path else "/login")


def _require_browser(person: Person) -> None:
    if person.csrf is None:
        raise NotAllowed("accounts must be changed in a browser. Sign in there.")


def _shared(person: Person) -> dict[str, Any]:
    """What each page of somebody who is signed in shows."""
    return {"account": person.account, "csrf": person.csrf or ""}


def _start_of(invite: Invite) -> str:
    return project_path(invite.project, "judge") if invite.project and invite.role in JUDGE else "/"


def _login_page(application: Application, next: str, login: str = "", error: str = "", status: int = 200) -> Response:
    return page_response(
        "login.html.j2", status, next=next, login=login, error=error, sso=application.single_sign_on is not None
    )


def _invite_page(
    application: Application, invite: Invite, token: str, form: InviteForm | None = None, error: str = ""
) -> Response:
    return page_response(
        "invite.html.j2",
        422 if error else 200,
        invite=invite,
        token=token,
        login=form.login if form else "",
        name=form.name if form else "",
        error=error,
        shortest=SHORTEST,
        sso=application.single_sign_on is not None,
    )


def _account_page(application: Application, person: Person, error: str = "", new_token: str = "") -> Response:
    held = tokens.list_tokens(application.database, person.account.id)
    return page_response(
        "account.html.j2",
        422 if error else 200,
        **_shared(person),
        tokens=held,
        scopes=tokens.SCOPES,
        new_token=new_token,
        error=error,
        shortest=SHORTEST,
        is_local=application.local is not None,
    )
