"""Who may do what: every endpoint against every role, nobody, and somebody else's work."""

from __future__ import annotations

import pytest
from annotation_site import ANSWER, API, Annotating
from starlette.routing import Route

from guerdon.store.annotation_tables import ACCOUNT_ROLES as ROLES

JUDGES = {"owner", "manager", "adjudicator", "annotator"}
READERS = {"owner", "manager", "adjudicator", "viewer", "service"}
FILLERS = {"owner", "manager", "service"}
ALL = set(ROLES)
ITEM = b'{"prompt": "p", "responses": ["a", "b"]}\n'

# Path, method, body, who may; ID is a presentation and DONE a judgment of the one who asks.
ENDPOINTS = [
    ("POST", "/claim", None, JUDGES),
    ("POST", "/presentations/ID/heartbeat", None, JUDGES),
    ("POST", "/presentations/ID/skip", {"reason": "unclear"}, JUDGES),
    ("POST", "/presentations/ID/release", None, JUDGES),
    ("POST", "/presentations/ID/judgment", ANSWER, JUDGES),
    ("POST", "/judgments/DONE/reopen", None, JUDGES),
    ("GET", "/me/history", None, JUDGES),
    ("GET", "/me/progress", None, JUDGES),
    ("POST", "/me/guidelines", "GUIDELINES", JUDGES),
    ("POST", "/items", ITEM, FILLERS),
    ("GET", "/status", None, READERS),
    ("GET", "/agreement", None, READERS),
    ("GET", "/labels", None, READERS),
    ("GET", "/export", None, READERS),
]
SCOPES = {"/items": "items", "/status": "read", "/agreement": "read", "/labels": "read", "/export": "read"}


def body_of(body, world):
    if body == "GUIDELINES":
        from guerdon.annotation.project import load_project

        return {"json": {"version": load_project(world.database, "replies").guidelines_version}}
    return {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}


def own_path(world: Annotating, role: str, path: str) -> str:
    """The path with an own presentation, or an own judgment, in it."""
    if "DONE" in path:
        worker = world.browser(role)
        judgment = worker.submit(worker.claim()["presentation"]).json()["judgment"]
        return path.replace("DONE", judgment["id"])
    return path.replace("ID", world.browser(role).claim()["presentation"]) if "ID" in path else path


def test_the_table_has_every_endpoint_of_a_project(site):
    routes = {
        (method, route.path.replace("{presentation}", "ID").replace("{judgment}", "DONE"))
        for route in _routes(site.app)
        for method in route.methods or ()
        if route.path.startswith("/api/")
    }
    assert routes == {(method, f"/api/v1/projects/{{project}}{path}") for method, path, *_ in ENDPOINTS}


def _routes(app):
    for route in app.routes:
        inner = getattr(route, "original_router", None)
        if isinstance(route, Route):
            yield route
        elif inner is not None:
            yield from (each for each in inner.routes if isinstance(each, Route))


def name_of(value):
    """The name of a parameter, the same in every process: a set has no order."""
    return "+".join(sorted(value)) if isinstance(value, set) else str(value)[:30]


@pytest.mark.parametrize(("method", "path", "body", "allowed"), ENDPOINTS, ids=name_of)
def test_each_endpoint_serves_its_roles_and_no_others(site, method, path, body, allowed):
    for role in ROLES:
        asked = own_path(site, role, path) if role in JUDGES else path.replace("ID", "0" * 32).replace("DONE", "0" * 32)
        response = site.browser(role).request(method, API + asked, **body_of(body, site))
        expected = 200 if role in allowed else 403
        assert response.status_code == expected, (role, response.text)
    nobody = site.browser().request(method, API + path.replace("ID", "0" * 32), **body_of(body, site))
    assert nobody.status_code in (401, 404)


@pytest.mark.parametrize(("method", "path", "body", "allowed"), ENDPOINTS, ids=name_of)
def test_a_token_serves_its_scope_alone(site, method, path, body, allowed):
    asked = own_path(site, "owner", path)
    scope = SCOPES.get(path, "judge")
    others = [each for each in ("judge", "items", "read") if each != scope]
    assert site.program("owner", *others).request(method, API + asked, **body_of(body, site)).status_code == 403
    assert site.program("owner", scope).request(method, API + asked, **body_of(body, site)).status_code == 200


@pytest.mark.parametrize("action", ["heartbeat", "skip", "release", "judgment"])
def test_the_work_of_others_cannot_be_touched_nor_told_from_none(site, action):
    presentation = site.browser("annotator").claim()["presentation"]
    bodies = {"skip": {"reason": "unclear"}, "judgment": ANSWER}
    stranger = site.browser("other")
    answers = [
        stranger.post(f"{API}/presentations/{each}/{action}", json=bodies.get(action))
        for each in (presentation, "f" * 32)
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].text.replace(presentation, "ID") == answers[1].text.replace("f" * 32, "ID")
    assert site.browser("annotator").claim()["presentation"] == presentation


def test_the_judgment_of_others_cannot_be_reopened(site):
    worker = site.browser("annotator")
    judgment = worker.submit(worker.claim()["presentation"]).json()["judgment"]["id"]
    assert site.browser("other").post(f"{API}/judgments/{judgment}/reopen").status_code == 404
    assert site.browser("owner").post(f"{API}/judgments/{judgment}/reopen").status_code == 404


def test_pages_send_strangers_to_sign_in_and_back(site):
    for path in ("/", "/account", "/p/replies/judge", "/p/replies/history"):
        response = site.browser().get(path)
        assert response.status_code == 303
        assert response.headers["location"].startswith("/login")
    assert "next=%2Fp%2Freplies%2Fjudge" in site.browser().get("/p/replies/judge").headers["location"]


@pytest.mark.parametrize("role", ROLES)
def test_the_page_to_judge_is_for_who_judges(site, role):
    expected = 200 if role in JUDGES else 403
    assert site.browser(role).get("/p/replies/judge").status_code == expected


def test_who_is_removed_is_signed_out_and_whose_account_is_paused_gets_no_items(site):
    from guerdon.annotation.accounts import set_state

    worker, program = site.browser("annotator"), site.program("annotator", "judge")
    held = worker.claim()["presentation"]
    set_state(site.database, site.people["annotator"].id, "paused")
    assert worker.submit(held).status_code == 200, "what was judged is not lost"
    assert worker.post(f"{API}/claim").status_code == 403
    set_state(site.database, site.people["annotator"].id, "removed")
    assert worker.post(f"{API}/claim").status_code == 401
    assert program.post(f"{API}/claim").status_code == 401


def test_a_project_that_does_not_exist_is_not_here(site):
    assert site.browser("owner").post("/api/v1/projects/other/claim").status_code == 404
    assert site.browser("owner").get("/p/other/judge").status_code == 404
