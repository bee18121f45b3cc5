"""Every page and every form against every role, nobody, a forged request and a program; test_roles.py has the API.

A route that is in neither table fails the first test here: somebody has to say who may use it.
"""

from __future__ import annotations

import pytest
from annotation.web.test_roles import ENDPOINTS, JUDGES
from annotation_site import Annotating
from starlette.routing import Mount, Route

from guerdon.annotation.web.app import create_app
from guerdon.store.annotation_tables import ACCOUNT_ROLES as ROLES

EVERYBODY = set(ROLES)
LOOKERS = {"owner", "manager", "viewer"}
DECIDERS = {"owner", "manager", "adjudicator"}
MANAGERS = {"owner", "manager"}
PASSWORD = "a long new password"

# Path, form of a POST, who may, and the status for them. ITEM, OTHER and TOKEN stand for what the test puts there.
SIGNED_IN = [
    ("GET", "/", None, EVERYBODY, (200, 303)),
    ("GET", "/account", None, EVERYBODY, (200,)),
    ("GET", "/p/{project}/judge", None, JUDGES, (200,)),
    ("GET", "/p/{project}/history", None, JUDGES, (200,)),
    ("GET", "/p/{project}/manage", None, LOOKERS, (200,)),
    ("GET", "/p/{project}/manage/people", None, LOOKERS, (200,)),
    ("GET", "/p/{project}/manage/agreement", None, LOOKERS, (200,)),
    ("GET", "/p/{project}/manage/settings", None, LOOKERS, (200,)),
    ("GET", "/p/{project}/manage/disagreements", None, DECIDERS, (200,)),
    ("GET", "/p/{project}/manage/disagreements/{item}", None, DECIDERS, (200,)),
    ("GET", "/p/{project}/manage/gold", None, MANAGERS, (200,)),
    ("POST", "/p/{project}/manage/people", {"account": "OTHER", "state": "paused"}, MANAGERS, (303,)),
    ("POST", "/p/{project}/manage/people", {"account": "OTHER", "role": "viewer"}, MANAGERS, (303,)),
    ("POST", "/p/{project}/manage/settings", {"state": "paused"}, MANAGERS, (303,)),
    ("POST", "/p/{project}/manage/disagreements/{item}", {"verdict": "1"}, DECIDERS, (303,)),
    ("POST", "/p/{project}/manage/disagreements/{item}", {"verdict": "1", "known": "gold"}, MANAGERS, (303,)),
    ("POST", "/p/{project}/manage/disagreements/{item}", {"verdict": "1", "known": "training"}, MANAGERS, (303,)),
    ("POST", "/account/password", {"new": PASSWORD}, EVERYBODY, (303,)),
    ("POST", "/account/tokens", {"name": "mine", "scopes": ["judge"]}, EVERYBODY, (200,)),
    ("POST", "/account/tokens/revoke", {"token": "TOKEN"}, EVERYBODY, (303,)),
    ("POST", "/account/sign-out-everywhere", {}, EVERYBODY, (303,)),
    ("POST", "/logout", {}, EVERYBODY, (303,)),
]
# What anybody may ask for, with what comes of it without the secret that it takes.
OPEN = [
    ("GET", "/health", None, 200),
    ("GET", "/login", None, 200),
    ("POST", "/login", {"login": "owner1", "password": "wrong"}, 403),
    ("GET", "/sign-in", None, 422),
    ("GET", "/sign-in?token=wrong", None, 403),
    ("GET", "/invite/{token}", None, 410),
    ("POST", "/invite/{token}", {"login": "eve", "password": PASSWORD}, 410),
    ("GET", "/p/{project}", None, 303),  # to where people judge, which asks who it is
    ("GET", "/static/judge.js", None, 200),
]
ONLY_WITH_A_PROVIDER = {("GET", "/oidc/start"), ("GET", "/oidc/callback")}  # test_oidc.py


def routes(app):
    """Method and path of each route; a folder of files is its path."""
    for route in app.routes:
        inner = getattr(route, "original_router", None)
        if isinstance(route, Mount):
            yield ("GET", route.path)
        for each in [route] if inner is None else inner.routes:
            if isinstance(each, Route):
                yield from ((method, each.path) for method in each.methods or () if method != "HEAD")


def test_every_route_is_in_a_table(site):
    app = create_app(site.database, single_sign_on=object())
    api = {(method, f"/api/v1/projects/{{project}}{path}") for method, path, *_ in ENDPOINTS}
    known = api | {row[:2] for row in SIGNED_IN} | ONLY_WITH_A_PROVIDER
    known |= {(method, "/static" if path.startswith("/static/") else path.split("?")[0]) for method, path, *_ in OPEN}
    names = {"{presentation}": "ID", "{judgment}": "DONE"}
    there = set()
    for method, path in routes(app):
        for name, short in names.items():
            path = path.replace(name, short)
        there.add((method, path))
    assert there == known


def filled(site: Annotating, path: str, form: dict | None, role: str) -> tuple[str, dict]:
    """The path and the form of somebody with this role, with what stands for an item, a person and a token."""
    from guerdon.annotation.tokens import create_token, list_tokens

    with site.database.reading() as connection:
        item = connection.exec_driver_sql("SELECT min(id) FROM items WHERE purpose = 'task'").scalar()
    form = dict(form or {})
    if form.get("account") == "OTHER":
        form["account"] = site.people["other"].id
    if form.get("token") == "TOKEN":
        create_token(site.database, site.people[role].id, "mine", ["judge"], site.now)
        (held,) = list_tokens(site.database, site.people[role].id)
        form["token"] = held.token_hash
    return path.replace("{project}", "replies").replace("{item}", item), form


def name_of(value):
    return "+".join(sorted(value)) if isinstance(value, set | dict) else str(value)


@pytest.mark.parametrize(("method", "path", "form", "allowed", "codes"), SIGNED_IN, ids=name_of)
def test_a_page_serves_its_roles_and_no_others(site, method, path, form, allowed, codes):
    for role in ROLES:
        browser = site.browser(role)
        csrf = browser.headers.pop("X-CSRF-Token")
        address, given = filled(site, path, form, role)
        if method == "POST":
            forged = browser.post(address, data={**given, "csrf": "forged"})
            assert forged.status_code == 403, (role, "a form of another site is refused")
            assert browser.post(address, data=given).status_code == 422, (role, "a form without the secret is refused")
        answer = browser.request(method, address, data={**given, "csrf": csrf} if method == "POST" else None)
        assert answer.status_code in (codes if role in allowed else (403,)), (role, answer.text)
        assert not answer.headers.get("location", "").startswith("http")


@pytest.mark.parametrize(("method", "path", "form", "allowed", "codes"), SIGNED_IN, ids=name_of)
def test_nobody_is_sent_to_sign_in_and_a_program_changes_nothing(site, method, path, form, allowed, codes):
    address, given = filled(site, path, form, "owner")
    body = {**given, "csrf": "x"} if method == "POST" else None
    stranger = site.browser().request(method, address, data=body)
    assert (stranger.status_code, stranger.headers["location"].split("?")[0]) == (303, "/login")
    if method == "POST" and path != "/logout":
        program = site.program("owner", "judge", "items", "read").post(address, data=body)
        assert program.status_code == 403


@pytest.mark.parametrize(("method", "path", "form", "code"), OPEN, ids=name_of)
def test_what_is_open_gives_nothing_away(site, method, path, form, code):
    answer = site.browser().request(method, path.replace("{project}", "replies"), data=form)
    assert answer.status_code == code, answer.text
    assert "set-cookie" not in answer.headers
    assert "owner1" not in answer.text.replace('value="owner1"', "")
