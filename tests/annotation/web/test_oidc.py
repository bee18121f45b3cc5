"""Single sign-on at a provider of our own: a server on loopback with its keys, which answers as a test tells it to."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from annotation_site import Annotating, annotating

pytest.importorskip("joserfc", reason="needs guerdon[annotation]")
pytest.importorskip("authlib", reason="needs guerdon[annotation]")

from joserfc import jwt
from joserfc.jwk import RSAKey

from guerdon.annotation.accounts import account_by_login, set_state
from guerdon.annotation.invites import create_invite
from guerdon.annotation.web.oidc import Provider

SECRET = "kept by the server"


class StandIn:
    """A provider. claims: what its ID token says beyond issuer, audience and nonce. codes: by code, what the browser came with."""

    def __init__(self) -> None:
        self.key = self.signs_with = RSAKey.generate_key(2048, {"kid": "1", "use": "sig"})
        self.claims: dict[str, Any] = {"sub": "42", "email": "Ada@example.org", "name": "Ada"}
        self.algorithm = "RS256"
        self.challenges: dict[str, str] = {}
        self.nonces: dict[str, str] = {}
        self.now = 0.0
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(stand_in.metadata() if self.path.startswith("/.well-known") else stand_in.keys())

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.answer(*stand_in.token(form, self.headers.get("Authorization", "")))

            def answer(self, value: dict[str, Any], status: int = 200) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def metadata(self) -> dict[str, Any]:
        ends = {name: f"{self.issuer}/{name}" for name in ("authorize", "token", "jwks")}
        return {
            "issuer": self.issuer,
            "authorization_endpoint": ends["authorize"],
            "token_endpoint": ends["token"],
            "jwks_uri": ends["jwks"],
        }

    def keys(self) -> dict[str, Any]:
        return {"keys": [self.key.as_dict(private=False)]}

    def token(self, form: dict[str, list[str]], authorization: str) -> tuple[dict[str, Any], int]:
        code, verifier = form["code"][0], form["code_verifier"][0]
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        expected = "Basic " + base64.b64encode(f"guerdon:{SECRET}".encode()).decode()
        if self.challenges.pop(code, None) != challenge or authorization != expected:
            return {"error": "invalid_grant"}, 400
        claims = {"iss": self.issuer, "aud": "guerdon", "exp": int(self.now) + 300, "nonce": self.nonces[code]}
        header = {"alg": self.algorithm, "kid": "1"}
        token = jwt.encode(header, claims | self.claims, self.signs_with, algorithms=[self.algorithm])
        return {"access_token": "a", "token_type": "Bearer", "id_token": token}, 200

    def approve(self, location: str) -> dict[str, str]:
        """What the browser comes back with, after the person has signed in at the address that it was sent to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == (
            "code",
            "guerdon",
            "S256",
        )
        assert "openid" in asked["scope"].split()
        self.challenges["c1"], self.nonces["c1"] = asked["code_challenge"], asked["nonce"]
        return {"state": asked["state"], "code": "c1"}


@pytest.fixture
def provider():
    stand_in = StandIn()
    yield stand_in
    stand_in.server.shutdown()
    stand_in.server.server_close()


@pytest.fixture
def site(tmp_path, template, provider):
    known = Provider(provider.issuer, "guerdon", SECRET)
    with annotating(tmp_path, template=template, single_sign_on=known) as world:
        provider.now = world.now
        yield world


def sign_in(site: Annotating, provider: StandIn, invite: str = "", browser: Any = None) -> tuple[Any, Any]:
    """A browser that went to the provider and came back, and what it was answered."""
    browser = browser or site.browser()
    start = browser.get("/oidc/start", params={"invite": invite} if invite else None)
    assert start.status_code == 303, start.text
    return browser, browser.get("/oidc/callback", params=provider.approve(start.headers["location"]))


def invitation(site: Annotating) -> str:
    return create_invite(
        site.database, role="annotator", project="replies", created_by=site.people["owner"].id, now=site.now
    )


def test_an_invitation_and_a_provider_make_an_account_that_later_signs_in_without_one(site, provider):
    browser, answer = sign_in(site, provider, invitation(site))
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert browser.get("/p/replies/judge").status_code == 200
    again, answer = sign_in(site, provider)
    assert answer.status_code == 303
    page = again.get("/account").text
    assert "ada@example.org" in page
    assert "Ada" in page


def test_who_has_neither_account_nor_invitation_gets_in_nowhere(site, provider):
    browser, answer = sign_in(site, provider)
    assert answer.status_code == 403
    assert "invitation" in answer.text
    assert browser.get("/p/replies/judge").status_code != 200


def test_an_account_that_was_removed_stays_out(site, provider):
    sign_in(site, provider, invitation(site))
    account = account_by_login(site.database, "ada@example.org")
    set_state(site.database, account.id, "removed")
    assert sign_in(site, provider)[1].status_code == 403


@pytest.mark.parametrize(
    "lie",
    [
        {"aud": "another"},
        {"iss": "https://elsewhere.example.org"},
        {"nonce": "of another sign-in"},
        {"exp": 1},
        {"sub": None},
    ],
    ids=lambda lie: next(iter(lie)),
)
def test_a_token_that_says_something_false_is_refused(site, provider, lie):
    provider.claims |= lie
    _, answer = sign_in(site, provider, invitation(site))
    assert answer.status_code == 502
    assert "cannot be trusted" in answer.text


def test_a_token_that_others_signed_is_refused(site, provider):
    provider.signs_with = RSAKey.generate_key(2048, {"kid": "1", "use": "sig"})
    assert sign_in(site, provider, invitation(site))[1].status_code == 502


def test_a_sign_in_ends_in_the_browser_in_which_it_began(site, provider):
    start = site.browser().get("/oidc/start")
    stolen = provider.approve(start.headers["location"])
    assert site.browser().get("/oidc/callback", params=stolen).status_code == 403
    browser = site.browser()
    browser.get("/oidc/start")
    assert browser.get("/oidc/callback", params={"state": "guessed", "code": "c1"}).status_code == 403


def test_a_code_works_once(site, provider):
    browser = site.browser()
    start = browser.get("/oidc/start", params={"invite": invitation(site)})
    back = provider.approve(start.headers["location"])
    cookie = browser.cookies["guerdon-oidc"]
    assert browser.get("/oidc/callback", params=back).status_code == 303
    other = site.browser()
    other.cookies.set("guerdon-oidc", cookie, "localhost.local", "/oidc")
    assert other.get("/oidc/callback", params=back).status_code == 502


def test_a_provider_that_cannot_be_reached_is_one_line(tmp_path, template):
    gone = Provider("http://127.0.0.1:9", "guerdon", SECRET)
    with annotating(tmp_path, template=template, single_sign_on=gone) as world:
        answer = world.browser().get("/oidc/start")
    assert answer.status_code == 502
    assert "cannot be reached" in answer.text
    assert SECRET not in answer.text
