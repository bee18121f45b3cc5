"""Requests that are wrong, empty, huge, malformed or repeated get one line and a 4xx, and never break anything."""

from __future__ import annotations

import json

import pytest
from annotation_site import ANSWER, API, annotating

BODIES = [
    b"", b"{", b"null", b"[]", b"0", b'"x"', b"\xff\xfe", b'{"verdict": ', b"[" * 50_000, b'{"verdict": NaN}',
    b'{"verdict": 1e999}', b'{"verdict": "2"}', b'{"verdict": 4}', b'{"verdict": 1.5}', b'{"verdict": true}',
    b'{"verdict": 1, "item_id": "x"}', b'{"verdict": 1, "late": true}', b'{"verdict": 1, "annotator_id": "x"}',
    b'{"verdict": 1, "revision": 7}', b'{"verdict": 1, "both_bad": true}', b'{"verdict": 1, "flags": ["made up"]}',
    b'{"verdict": 1, "axes": {"__class__": 1}}', b'{"verdict": 1, "active_ms": -1}', b'{"verdict": 1, "ranking": [["a"]]}',
    b'{"verdict": 99999999999999999999999999999999999999}', b'{"rationale": "x"}', b'{"verdict": {}}',
    b'{"verdict": 1, "rationale": "\\ud800"}',
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:30]))
def test_an_answer_that_is_none_is_refused_in_one_line_and_stores_nothing(site, body):
    client = site.browser("annotator")
    presentation = client.claim()["presentation"]
    path = f"{API}/presentations/{presentation}/judgment"
    response = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert 400 <= response.status_code < 500
    line = response.json()["error"]
    assert "\n" not in line
    assert len(line) < 400
    assert client.get(f"{API}/me/history").json() == {"judgments": []}
    assert client.claim()["presentation"] == presentation


@pytest.mark.parametrize("text", ["\x00", "\u202e", "🧵" * 10, "x" * 90_000, "\\u0000", "'; DROP TABLE items; --"])
def test_a_rationale_of_any_characters_comes_back_as_it_was(site, text):
    client = site.browser("annotator")
    body = json.dumps({**ANSWER, "rationale": text}).encode()
    path = f"{API}/presentations/{client.claim()['presentation']}/judgment"
    assert client.post(path, content=body, headers={"Content-Type": "application/json"}).status_code == 200
    assert client.get(f"{API}/me/history").json()["judgments"][0]["answer"]["rationale"] == text
    lines = site.browser("owner").get(f"{API}/export").text.splitlines()
    assert [json.loads(line)["rationale"] for line in lines] == [text]


@pytest.mark.parametrize("id", ["x", "0" * 31, "0" * 33, "%00" * 32, "Z" * 32, "..%2f..", "é" * 32])
def test_an_id_of_another_form_is_not_here(site, id):
    client = site.browser("annotator")
    for path in (f"/presentations/{id}/heartbeat", f"/presentations/{id}/judgment", f"/judgments/{id}/reopen"):
        assert client.post(API + path, json=ANSWER).status_code == 404


@pytest.mark.parametrize("name", ["%00", "x" * 300, "%F0%9F%A7%B5", "'%20OR%201=1", "..%2fother", "%ff"])
def test_a_project_of_any_name_that_does_not_exist_is_not_here(site, name):
    client = site.browser("owner")
    assert client.post(f"/api/v1/projects/{name}/claim").status_code == 404
    assert client.get(f"/p/{name}/judge").status_code == 404


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=201", "limit=1e3", "limit=-1"])
def test_a_number_out_of_its_range_is_refused(site, query):
    assert site.browser("annotator").get(f"{API}/me/history?{query}").status_code == 422
    assert site.browser("annotator").get(f"{API}/me/progress?day_start=nan").status_code == 422


def test_the_same_answer_twice_is_stored_once_and_another_one_under_its_key_is_refused(site):
    client = site.browser("annotator")
    presentation = client.claim()["presentation"]
    first, second = client.submit(presentation, key="k1"), client.submit(presentation, key="k1")
    assert first.json()["judgment"] | {"repeated": True} == second.json()["judgment"]
    assert client.submit(presentation, {"verdict": 3}, key="k1").status_code == 409
    assert client.submit(presentation, {"verdict": 3}, key="k2").json()["judgment"]["revision"] == 2
    assert client.submit(presentation, key="x" * 201).status_code == 422


def test_an_answer_gives_the_next_item_in_the_same_request(site):
    client = site.browser("annotator")
    seen = [client.claim()["presentation"]]
    for _ in range(3):
        response = client.post(f"{API}/presentations/{seen[-1]}/judgment?next=1", json=ANSWER)
        seen.append(response.json()["next"]["assignment"]["presentation"])
    response = client.post(f"{API}/presentations/{seen[-1]}/skip?next=1", json={"reason": "unclear"})
    seen.append(response.json()["next"]["assignment"]["presentation"])
    assert len(set(seen)) == 5


def test_when_all_is_judged_there_is_nothing_left(tmp_path):
    with annotating(tmp_path, items=2) as world:
        client = world.browser("annotator")
        client.submit(client.claim()["presentation"])
        last = client.post(f"{API}/presentations/{client.claim()['presentation']}/judgment?next=true", json=ANSWER)
        assert last.json()["next"] == {"done": True, "held_by_others": 0, "next_expiry": None}


def test_a_claim_tells_nothing_that_would_unblind(site):
    text = json.dumps(site.browser("annotator").claim())
    with site.database.reading() as connection:
        import sqlalchemy as sa

        from guerdon.store import tables

        ids = [*connection.scalars(sa.select(tables.items.c.id)), *connection.scalars(sa.select(tables.responses.c.id))]
    assert not any(each in text for each in ids)
    assert "purpose" not in text


def test_a_judgment_is_counted_and_exported_with_a_pseudonym(site):
    client = site.browser("annotator")
    client.submit(client.claim()["presentation"])
    owner = site.browser("owner")
    assert owner.get(f"{API}/status").json()["judgments"] == 1
    (row,) = [json.loads(line) for line in owner.get(f"{API}/export").text.splitlines()]
    assert row["preference"]["strength"] == 2.0
    assert row["annotator"] != "annotator1"
    assert "annotator1" not in json.dumps(row)
    client.post(f"{API}/judgments/{client.get(f'{API}/me/history').json()['judgments'][0]['judgment']}/reopen")
    history = client.get(f"{API}/me/history").json()["judgments"][0]
    assert history["answer"]["verdict"] == -2
    assert history["can_change"]


def test_guidelines_are_new_until_they_are_read_in_this_version(site):
    client = site.browser("annotator")
    page = client.get("/p/replies/judge").text
    assert "Be <em>fair</em>." in page
    assert 'data-guidelines-new="true"' in page
    version = page.split('data-guidelines-version="', 1)[1].split('"', 1)[0]
    assert client.post(f"{API}/me/guidelines", json={"version": "another"}).status_code == 400
    assert client.post(f"{API}/me/guidelines", json={"version": version}).status_code == 200
    assert 'data-guidelines-new="false"' in client.get("/p/replies/judge").text


# ---- Items ---------------------------------------------------------------------------------------------------------


def line(number: int) -> bytes:
    return json.dumps({"prompt": f"New question {number}?", "responses": ["yes", "no"]}).encode()


def test_items_are_read_as_they_come_and_the_same_ones_again_add_nothing(site):
    client = site.browser("owner")
    body = b"\n".join(line(i) for i in range(1200)) + b"\n\n"
    chunks = (body[i : i + 1000] for i in range(0, len(body), 1000))
    assert client.post(f"{API}/items", content=chunks).json() == {"read": 1200, "new": 1200}
    assert client.post(f"{API}/items", content=body).json() == {"read": 1200, "new": 0}
    assert client.post(f"{API}/items", content=b"").json() == {"read": 0, "new": 0}


@pytest.mark.parametrize(
    "bad",
    [
        b"{", b"[]", b"7", b'{"prompt": "p"}', b'{"prompt": "p", "responses": ["a"]}', b'{"prompt": 1, "responses": ["a", "b"]}',
        b'{"prompt": "p", "responses": ["a", "a"]}', b'{"prompt": "p", "responses": ["a", "b", "c"]}', b"\xff", b"[" * 9000,
        b'{"prompt": "p", "responses": "ab"}', b'{"prompt": "p", "responses": [{"text": "a"}, {"text": 1}]}', b"\x00",
    ],
    ids=repr,
)  # fmt: skip
def test_a_bad_line_is_named_and_what_was_added_before_stays(site, bad):
    client = site.browser("owner")
    body = b"\n".join([*(line(i) for i in range(600)), bad, line(601)])
    response = client.post(f"{API}/items", content=body)
    assert response.status_code == 422
    assert "\n" not in response.json()["error"]
    assert "601" in response.json()["error"]
    assert client.get(f"{API}/status").json()["items"] == {"task": {"open": 520}}


def test_a_page_of_an_error_is_a_page(site):
    response = site.browser().get("/nowhere")
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/html")
    assert "There is nothing at this address." in response.text


def test_a_store_that_fails_is_no_fault_of_who_asks(site, monkeypatch):
    from guerdon.annotation.web import api
    from guerdon.contracts import GuerdonError

    def full(*_: object) -> None:
        raise GuerdonError(f"{site.database.location}: cannot be written: the disk is full. Free space.")

    client = site.browser("annotator")
    monkeypatch.setattr(api.claiming, "claim", full)
    response = client.post(f"{API}/claim")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    assert str(site.database.location) not in response.text


def test_our_own_mistake_is_a_500_without_its_traceback(site, monkeypatch):
    from guerdon.annotation.web import api

    client = site.browser("annotator")
    monkeypatch.setattr(api.claiming, "claim", lambda *_: 1 / 0)
    response = client.post(f"{API}/claim")
    assert response.status_code == 500
    assert "division" not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]
