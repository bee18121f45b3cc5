"""Other sites, other hosts, headers, static files and large bodies."""

from __future__ import annotations

import pytest
from annotation_site import ANSWER, API, HERE, annotating

from guerdon.annotation.web.security import LARGEST_BODY, Site


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost:9999", "https://localhost:8040", "null", ""]
)
@pytest.mark.parametrize("path", ["/login", f"{API}/claim", "/logout"])
def test_a_page_of_another_site_changes_nothing(site, origin, path):
    client = site.browser("annotator")
    response = client.post(path, headers={"Origin": origin}, data={})
    assert response.status_code == 403
    assert "another site" in response.text


def test_own_pages_and_programs_may(site):
    client = site.browser("annotator")
    assert client.post(f"{API}/claim", headers={"Origin": HERE}).status_code == 200
    assert client.post(f"{API}/claim", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert client.post(f"{API}/claim", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post(f"{API}/claim", headers={"Sec-Fetch-Site": "same-site"}).status_code == 403


@pytest.mark.parametrize("csrf", ["", "x", "\xe9", "other"])
def test_a_cookie_without_the_secret_of_the_page_changes_nothing(site, csrf):
    client = site.browser("annotator")
    given = site.browser("other").headers["X-CSRF-Token"] if csrf == "other" else csrf
    headers = [(b"X-CSRF-Token", given.encode("latin-1"))]
    del client.headers["X-CSRF-Token"]
    assert client.post(f"{API}/claim", headers=headers).status_code == 403
    assert client.get(f"{API}/me/progress").status_code == 200, "what changes nothing needs none"


@pytest.mark.parametrize("path", ["/logout", "/account/password", "/account/tokens", "/account/sign-out-everywhere"])
def test_forms_repeat_the_secret_too(site, path):
    client = site.browser("annotator")
    del client.headers["X-CSRF-Token"]
    fields = {"csrf": "x", "new": "another password", "name": "n", "scopes": "read"}
    wanted = {"/account/password": ["csrf", "new"], "/account/tokens": ["csrf", "name", "scopes"]}.get(path, ["csrf"])
    response = client.post(path, data={name: fields[name] for name in wanted})
    assert response.status_code == 403
    assert client.get("/account").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8040", "localhost.evil.example", "", "a@localhost", "[::1", "x/y"]
)
def test_a_name_that_points_here_by_somebody_elses_will_is_refused(site, host):
    response = site.browser().get("/login", headers={"Host": host})
    assert response.status_code == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8040", "[::1]:8040", "192.168.1.7"])
def test_own_names_and_addresses_are_served(site, host):
    assert site.browser().get("/login", headers={"Host": host}).status_code == 200


def test_a_public_address_is_served_with_its_origin_and_secure_cookies(tmp_path, template):
    with annotating(tmp_path, template=template, site=Site("https://annotate.example.org")) as world:
        world.app.state.guerdon.sign_in_secret, world.app.state.guerdon.owner = "secret", world.people["owner"]
        headers = {"Host": "annotate.example.org", "Origin": "https://annotate.example.org"}
        response = world.browser().get("/sign-in?token=secret", headers=headers)
        cookie = response.headers["set-cookie"]
        assert cookie.startswith("__Host-guerdon=")
        assert "Secure" in cookie
        assert "Path=/;" in cookie
        assert "Domain" not in cookie
        assert response.headers["strict-transport-security"]
        form = {"login": "x", "password": "y"}
        assert world.browser().post("/login", data=form, headers=headers).status_code == 403
        assert "do not match" in world.browser().post("/login", data=form, headers=headers).text


@pytest.mark.parametrize(
    "path", ["/login", "/nowhere", "/static/theme.js", f"{API}/status", "/p/replies/judge", "/invite/x"]
)
def test_each_response_has_the_headers(site, path):
    headers = site.browser("owner").get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")
    assert "server" not in headers


def test_refusals_have_the_headers_too(site):
    for response in (
        site.browser().get("/", headers={"Host": "evil.example"}),
        site.browser().post("/login", content=b"x" * (LARGEST_BODY + 1)),
    ):
        assert response.status_code in (413, 421)
        assert "default-src 'none'" in response.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "../app.py",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "..\\app.py",
        "....//app.py",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "%00",
        ".",
    ],
)
def test_static_files_are_those_of_their_folder(site, path):
    response = site.browser().get(f"/static/{path}")
    assert response.status_code in (404, 405)
    assert "create_app" not in response.text
    assert "root:" not in response.text


def test_no_page_loads_anything_from_another_host(site):
    import re

    client = site.browser("owner")
    pages = [
        client.get(path).text for path in ("/login", "/account", "/p/replies/judge", "/p/replies/history", "/nowhere")
    ]
    for page in pages:
        assert not re.findall(r'(?:src|href|action)="(?!/|#)[^"]', page)
        assert "<style" not in page
        assert " style=" not in page
        assert not re.findall(r"<script(?![^>]* src=)", page)
        assert not re.findall(r"\son\w+=", page)


def test_no_description_of_the_api_is_served_that_would_load_scripts_from_elsewhere(site):
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert site.browser("owner").get(path).status_code == 404


def test_texts_of_data_stay_texts_in_pages(tmp_path, template):
    from guerdon.annotation.accounts import insert_account
    from guerdon.annotation.project import create_project
    from guerdon.config import AnnotationOptions

    attack = '"><img src=x onerror=alert(1)>'
    with annotating(tmp_path, template=template) as world:
        with world.database.writing() as connection:
            world.people["eve"] = insert_account(connection, "eve", role="owner", now=1.0, display_name=attack)
        create_project(world.database, "<b onclick=x>", AnnotationOptions())
        client = world.browser("eve")
        for path in ("/", "/account", "/p/%3Cb%20onclick=x%3E/judge", f"/login?next=/{attack}"):
            page = client.get(path).text
            assert "<img" not in page
            assert "<b onclick" not in page


def test_a_body_is_at_most_as_long_as_it_may_be_whatever_its_header_says(site):
    client = site.browser("annotator")
    path = f"{API}/presentations/{'0' * 32}/judgment"
    long = b'{"rationale": "' + b"x" * LARGEST_BODY + b'"}'
    assert client.post(path, content=long).status_code == 413
    chunks = iter([long[:1000], long[1000:]])
    response = client.post(path, content=chunks, headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert client.post(path, content=b"{}", headers={"Content-Length": "-1"}).status_code == 400
    assert client.post(path, content=b"{}", headers={"Content-Length": "9" * 30}).status_code == 413


def test_without_accounts_everybody_on_this_machine_is_the_owner_but_other_sites_are_nobody(tmp_path, template):
    with annotating(tmp_path, template=template) as world:
        world.app.state.guerdon.local = world.people["owner"]
        client = world.browser()
        assert client.get("/p/replies/judge").status_code == 200
        presentation = client.post(f"{API}/claim", headers={"Origin": HERE}).json()["assignment"]["presentation"]
        assert client.submit(presentation, ANSWER).status_code == 200
        assert client.post(f"{API}/claim", headers={"Origin": "https://evil.example"}).status_code == 403
        assert client.get("/login").headers["location"] == "/"
