"""Accounts, passwords, sessions, invitations and the wait after failures."""

from __future__ import annotations

import re

import pytest
from annotation_site import API, Annotating, Browser, csrf_of

from guerdon.annotation import passwords, signing_in
from guerdon.annotation.accounts import account_by_login, create_account
from guerdon.annotation.invites import create_invite
from guerdon.annotation.sessions import SECONDS_VALID
from guerdon.contracts import GuerdonError

PASSWORD = "correct horse battery"


@pytest.fixture
def ann(site: Annotating) -> Annotating:
    create_account(site.database, "ann", role="annotator", now=site.now, password=PASSWORD)
    return site


def log_in(site: Annotating, login: str = "ann", password: str = PASSWORD, **fields: str) -> tuple[Browser, object]:
    client = site.browser()
    return client, client.post("/login", data={"login": login, "password": password, **fields})


def test_a_password_opens_a_session_that_lasts_until_it_expires(ann):
    client, response = log_in(ann)
    assert (response.status_code, response.headers["location"]) == (303, "/")
    assert client.get("/account").status_code == 200
    ann.now += SECONDS_VALID - 1
    assert client.get("/account").status_code == 200
    ann.now += 2
    assert client.get("/account").headers["location"] == "/login?next=%2Faccount"


def test_the_cookie_is_kept_from_scripts_and_other_sites_and_its_secret_from_the_store(ann):
    client, response = log_in(ann)
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    secret = client.cookies["guerdon-8040"]
    content = b"".join(path.read_bytes() for path in ann.database.location.path.parent.glob("annotations.db*"))
    assert secret.encode() not in content
    assert PASSWORD.encode() not in content
    assert b"$argon2id$v=19$m=65536,t=3,p=4$" in content


def test_a_log_out_ends_the_session_on_the_server(ann):
    client, _ = log_in(ann)
    secret = client.cookies["guerdon-8040"]
    assert client.post("/logout", data={"csrf": csrf_of(client.get("/account").text)}).status_code == 303
    client.cookies.set("guerdon-8040", secret, "localhost.local")
    assert client.get("/account").status_code == 303


@pytest.mark.parametrize(
    ("login", "password"), [("ann", "wrong password"), ("nobody", PASSWORD), ("annotator1", "no password")]
)
def test_a_wrong_login_and_a_wrong_password_read_the_same(ann, login, password):
    response = log_in(ann, login, password)[1]
    assert response.status_code == 403
    assert "login and password do not match" in response.text
    assert "set-cookie" not in response.headers


def test_an_unknown_name_takes_the_same_hash_work(ann, monkeypatch):
    """What takes the time is one argon2 computation with the parameters of real hashes: for each of them exactly one."""
    verified = []

    class Counting:
        def __getattr__(self, name):
            return getattr(hasher, name)

        def verify(self, password_hash, password):
            verified.append(re.match(r"\$argon2id\$v=\d+\$[^$]+", password_hash)[0])
            return hasher.verify(password_hash, password)

    hasher = passwords._HASHER
    monkeypatch.setattr(passwords, "_HASHER", Counting())
    log_in(ann, "ann", "wrong password")
    log_in(ann, "nobody", "wrong password")
    log_in(ann, "annotator1", "an account without a password")
    assert len(verified) == 3
    assert len(set(verified)) == 1


def test_failures_make_one_wait_longer_and_longer_even_with_the_right_password(ann, monkeypatch):
    monkeypatch.setattr(signing_in, "is_password", lambda password, password_hash: password == PASSWORD)
    for _ in range(5):
        assert log_in(ann, "ann", "wrong password")[1].status_code == 403
    waits = []
    for _ in range(10):
        response = log_in(ann)[1]
        assert response.status_code == 429
        waits.append(int(response.headers["retry-after"]))
        ann.now += waits[-1]
        assert log_in(ann, "ann", "wrong password")[1].status_code == 403
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    ann.now += 300
    assert log_in(ann)[1].status_code == 303
    assert log_in(ann, "ann", "wrong password")[1].status_code == 403, "a success forgets the failures"
    assert log_in(ann)[1].status_code == 303


def test_guesses_at_many_names_make_their_address_wait(ann, monkeypatch):
    monkeypatch.setattr(signing_in, "is_password", lambda password, password_hash: False)
    codes = [log_in(ann, f"name{i}", "guess")[1].status_code for i in range(52)]
    assert codes == [403] * 50 + [429] * 2


def test_an_old_hash_is_replaced_when_its_owner_signs_in(ann):
    from argon2 import PasswordHasher

    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    signing_in.store_password(ann.database, account_by_login(ann.database, "ann").id, weak)
    assert log_in(ann)[1].status_code == 303
    assert "m=65536" in signing_in.password_hash_of(ann.database, "ann")[1]


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil.example", "/a\r\nSet-Cookie: b=c"]
)
def test_a_login_leads_to_no_other_site(ann, target):
    response = log_in(ann, next=target)[1]
    assert response.headers["location"] == "/"


def test_a_new_password_signs_out_other_browsers(ann):
    first, second = log_in(ann)[0], log_in(ann)[0]
    form = {"csrf": csrf_of(first.get("/account").text), "old": PASSWORD, "new": "another password"}
    wrong = first.post("/account/password", data={**form, "old": "wrong"})
    assert wrong.status_code == 422
    assert first.post("/account/password", data=form).status_code == 303
    assert first.get("/account").status_code == 200
    assert second.get("/account").status_code == 303
    assert log_in(ann)[1].status_code == 403
    assert log_in(ann, password="another password")[1].status_code == 303


@pytest.mark.parametrize("password", ["", "short", "x" * 1001])
def test_a_password_has_a_length(password):
    with pytest.raises(GuerdonError, match="password must be 10 to 1000 characters"):
        passwords.hash_password(password)


# ---- Invitations ---------------------------------------------------------------------------------------------------


def test_an_invitation_makes_one_account_and_signs_it_in(site):
    token = create_invite(site.database, role="annotator", now=site.now, project="replies", external_id="worker 7")
    client = site.browser()
    assert "replies" in client.get(f"/invite/{token}").text
    form = {"login": "Bea@Example.org", "name": "Bea 木", "password": PASSWORD}
    response = client.post(f"/invite/{token}", data=form)
    assert (response.status_code, response.headers["location"]) == (303, "/p/replies/judge")
    account = account_by_login(site.database, "bea@example.org")
    assert (account.role, account.display_name, account.external_id) == ("annotator", "Bea 木", "worker 7")
    assert "Bea 木" in client.get("/account").text
    again = site.browser().post(f"/invite/{token}", data={**form, "login": "eve"})
    assert again.status_code == 410
    assert account_by_login(site.database, "eve") is None


def test_an_invitation_is_not_spent_on_a_form_that_is_refused(site):
    token = create_invite(site.database, role="annotator", now=site.now)
    client = site.browser()
    for form in (
        {"login": "annotator1", "password": PASSWORD},
        {"login": "x y", "password": PASSWORD},
        {"login": "bea", "password": "short"},
    ):
        response = client.post(f"/invite/{token}", data=form)
        assert response.status_code == 422
        assert 'role="alert"' in response.text
    assert client.post(f"/invite/{token}", data={"login": "bea", "password": PASSWORD}).status_code == 303


def test_an_invitation_expires_and_a_wrong_one_is_none(site):
    token = create_invite(site.database, role="annotator", now=site.now, days=1)
    site.now += 86_401
    for each in (token, "x" * 43, "木"):
        assert site.browser().get(f"/invite/{each}").status_code == 410


def test_an_invitation_gives_no_role_but_its_own(site):
    token = create_invite(site.database, role="annotator", now=site.now)
    form = {"login": "bea", "password": PASSWORD, "role": "owner"}
    assert site.browser().post(f"/invite/{token}", data=form).status_code == 422
    assert account_by_login(site.database, "bea") is None


def test_of_two_who_use_an_invitation_at_once_one_gets_in(site):
    from concurrent.futures import ThreadPoolExecutor

    token = create_invite(site.database, role="annotator", now=site.now)

    def accept(i: int) -> int:
        return site.browser().post(f"/invite/{token}", data={"login": f"bea{i}", "password": PASSWORD}).status_code

    with ThreadPoolExecutor(4) as pool:
        codes = sorted(pool.map(accept, range(4)))
    assert codes == [303, 410, 410, 410]


# ---- Links and tokens ----------------------------------------------------------------------------------------------


def test_the_link_of_the_server_signs_the_owner_in_and_no_other_link_does(tmp_path, template):
    from annotation_site import annotating

    with annotating(tmp_path, template=template) as site:
        site.app.state.guerdon.sign_in_secret, site.app.state.guerdon.owner = "s" * 43, site.people["owner"]
        client = site.browser()
        assert client.get("/sign-in?token=" + "t" * 43).status_code == 403
        assert client.get("/account").status_code == 303
        assert client.get("/sign-in?token=" + "s" * 43).status_code == 303
        assert "owner1" in client.get("/account").text


def test_a_server_without_a_link_has_none(site):
    for token in ("", "None", "x"):
        assert site.browser().get("/sign-in", params={"token": token}).status_code == 403


def test_a_token_is_made_on_the_page_shown_once_and_revoked(site):
    client = site.browser("owner")
    csrf = client.headers["X-CSRF-Token"]
    page = client.post("/account/tokens", data={"csrf": csrf, "name": "ci", "scopes": ["read"], "days": "1"}).text
    token = re.search(r"guerdon_[\w-]{43}", page)[0]
    assert token not in client.get("/account").text
    program = site.browser()
    program.headers["Authorization"] = f"Bearer {token}"
    assert program.get(f"{API}/status").status_code == 200
    assert program.post("/account/tokens", data={"csrf": "x", "name": "more", "scopes": ["judge"]}).status_code == 403
    handle = re.search(r'name="token" value="(\w+)"', client.get("/account").text)[1]
    assert (
        site.browser("manager").post("/account/tokens/revoke", data={"csrf": csrf, "token": handle}).status_code != 303
    )
    assert program.get(f"{API}/status").status_code == 200
    assert client.post("/account/tokens/revoke", data={"csrf": csrf, "token": handle}).status_code == 303
    assert program.get(f"{API}/status").status_code == 401


def test_a_token_expires(site):
    program = site.program("owner", "read")
    assert program.get(f"{API}/status").status_code == 200
    client = site.browser("owner")
    csrf = client.headers["X-CSRF-Token"]
    page = client.post("/account/tokens", data={"csrf": csrf, "name": "ci", "scopes": ["read"], "days": "1"}).text
    program.headers["Authorization"] = "Bearer " + re.search(r"guerdon_[\w-]{43}", page)[0]
    site.now += 86_401
    assert program.get(f"{API}/status").status_code == 401
