"""The server as a process: start, links, ports, stopping, and what is left after it was killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
import sqlalchemy as sa
from annotation_server import API, Judging, Server
from annotation_site import fill
from shell import guerdon

from guerdon.annotation.accounts import insert_account
from guerdon.annotation.tokens import create_token
from guerdon.api.store import verify_store
from guerdon.data.ratings import PROMPTS
from guerdon.models.directory.starter import has_starter_ratings
from guerdon.runtime.web.listening import open_port
from guerdon.store import tables
from guerdon.store.database import open_database
from guerdon.store.location import locate


def test_annotate_serves_pairs_of_a_file_with_one_command_and_goes_on_with_the_same_one(tmp_path):
    (tmp_path / "pairs.csv").write_text("prompt,response_a,response_b\nWhy?,because,no idea\nHow?,so,thus\n")
    words = ("annotate", "pairs.csv", "--no-browser", "--port", 0)
    for done in (0, 1):
        with Server(tmp_path, words) as server, httpx2.Client(base_url=server.address, follow_redirects=True) as client:
            page = client.get(server.link)
            assert page.url.path == "/p/pairs/judge"
            client.headers["X-CSRF-Token"] = page.text.split('name="csrf" content="', 1)[1].split('"', 1)[0]
            api = "/api/v1/projects/pairs"
            assert client.get(f"{api}/me/progress").json()["done"] == done
            presentation = client.post(f"{api}/claim").json()["assignment"]["presentation"]
            assert client.post(f"{api}/presentations/{presentation}/judgment", json={"verdict": 1}).status_code == 200
            assert server.stop(signal.SIGTERM) == 0
            assert "Traceback" not in server.errors


def test_the_page_opens_before_a_long_file_is_read_and_all_of_it_is_added(tmp_path):
    (tmp_path / "pairs.jsonl").write_text(
        "".join(f'{{"prompt": "p{i}", "responses": ["a", "b"]}}\n' for i in range(1700)) + '{"prompt": "alone"}\n'
    )
    words = ("annotate", "pairs.jsonl", "--no-browser", "--no-auth", "--port", 0)
    with Server(tmp_path, words) as server, httpx2.Client(base_url=server.address, timeout=60) as client:
        status = "/api/v1/projects/pairs/status"
        _wait(lambda: client.get(status).json()["items"]["task"]["open"] == 1700)
        _wait(lambda: client.get(status).status_code == 200)
        server.stop()
    assert "1,700 items, 1,700 of them new\n1 row left out; the first is pairs.jsonl:1701: " in server.errors


def test_ctrl_c_stops_the_server_in_peace(tmp_path, monkeypatch):
    monkeypatch.setenv("GUERDON_HOME", str(tmp_path))  # without the starter kit
    with Server(tmp_path, ("annotate", "demo", "--no-browser", "--port", 0, "--no-auth")) as server:
        assert httpx2.get(f"{server.address}/p/demo/judge").status_code == 200
        assert server.stop(signal.SIGINT) == 0
        assert "Traceback" not in server.errors
        assert "demo: 12 built-in pairs" in server.errors


@pytest.mark.skipif(not has_starter_ratings(), reason="the ratings of the starter kit are not in GUERDON_HOME")
def test_the_demonstration_is_of_the_starter_kit_where_it_is_here(tmp_path):
    with Server(tmp_path, ("annotate", "demo", "--no-browser", "--port", 0, "--no-auth")) as server:
        claimed = httpx2.post(f"{server.address}/api/v1/projects/demo/claim", headers={"Origin": server.address})
        assert claimed.json()["assignment"]["prompt"][0]["raw"] in PROMPTS.values()
        server.stop()
        assert "demo: 200 pairs of texts from the starter kit" in server.errors


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = guerdon("annotate", "demo", "--no-browser", "--port", port, "--store", tmp_path / "a.db")
    assert ran.code == 2
    assert f"port {port} must be free" in ran.err
    assert not (tmp_path / "a.db").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--no-auth", "--host", "0.0.0.0"], "--no-auth must come with a host that only this machine reaches"),
        (["--host", "no such host"], "--host must be a name or an address of this machine"),
        (["--host", "192.0.2.1"], "--host must be an address of this machine"),
        (["--public-url", "annotate.example.org"], "--public-url must be http(s)://HOST"),
        (["--oidc-issuer", "https://id.example.org"], "single sign-on must have --oidc-issuer, --oidc-client-id"),
    ],
)
def test_a_server_that_cannot_be_is_one_line(tmp_path, words, line):
    ran = guerdon("annotate", "demo", "--no-browser", "--port", 0, "--store", tmp_path / "a.db", *words)
    assert ran.code == 2
    assert line in ran.err
    assert len(ran.err.splitlines()) == 1


KILLS = int(os.environ.get("GUERDON_KILLS", "3"))


def test_a_server_that_is_killed_loses_and_doubles_nothing(tmp_path):
    """kill -9 while four people judge; the same command again. GUERDON_KILLS=50 does it 50 times."""
    store = tmp_path / "team.db"
    with open_database(locate(store), create=True) as database:
        fill(database, 400 + 60 * KILLS)
        with database.writing() as connection:
            people = [insert_account(connection, f"p{i}", role="annotator", now=1.0) for i in range(4)]
        tokens = [create_token(database, person.id, "test", ["judge"], time.time()) for person in people]
    server = Server(tmp_path, ("annotation", "serve", store, "--no-browser", "--port", 0))
    port = server.address.rsplit(":", 1)[1]
    judging = Judging(server.address, tokens)
    threads = judging.start()
    for _ in range(KILLS):
        before = len(judging.acknowledged)
        _wait(lambda before=before: len(judging.acknowledged) >= before + 15)
        server.stop(signal.SIGKILL)
        server = Server(tmp_path, ("annotation", "serve", store, "--no-browser", "--port", port))
    with server:
        before = len(judging.acknowledged)
        _wait(lambda: len(judging.acknowledged) >= before + 15)
        judging.give_up.set()
        for thread in threads:
            thread.join(timeout=30)
    assert judging.unexpected == []
    stored = _judgments(store)
    assert len(set(stored)) == len(stored), "no answer is stored twice"
    assert set(judging.acknowledged) <= set(stored), "no answer that was confirmed is lost"
    assert len(set(stored) - set(judging.acknowledged)) <= len(tokens), "but for those on the way at the end"
    assert not [finding for finding in verify_store(store).findings if finding.severity == "error"]


def test_a_start_sets_counters_right_that_do_not_match_the_store_and_says_so(tmp_path):
    store = tmp_path / "team.db"
    with open_database(locate(store), create=True) as database:
        fill(database, 5)
        with database.writing() as connection:
            connection.exec_driver_sql("UPDATE items SET taken = 7 WHERE id = (SELECT min(id) FROM items)")
    with Server(tmp_path, ("annotation", "serve", store, "--no-browser", "--port", 0)) as server:
        server.stop()
    assert "replies: 1 counter did not match the store and was set right" in server.errors
    with open_database(locate(store)) as database, database.reading() as connection:
        assert connection.scalar(sa.select(sa.func.max(tables.items.c.taken))) == 0


def _wait(is_done) -> None:
    event = threading.Event()
    for _ in range(600):
        if is_done():
            return
        event.wait(0.05)
    raise AssertionError("people do not get on")


def _judgments(store) -> list[str]:
    with open_database(locate(store)) as database, database.reading() as connection:
        return list(connection.scalars(sa.select(tables.judgments.c.presentation_id)))


def test_the_commands_of_a_team(tmp_path):
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "p", "responses": ["a", "b"]}\n{"prompt": "p"}\n')
    (tmp_path / "rules.md").write_text("# Rules\nBe fair.")
    (tmp_path / "annotation.yaml").write_text(
        f"verdict: binary\nneed: 2\noverlap: 0\nguidelines: {tmp_path}/rules.md\n"
    )
    store = tmp_path / "team.db"
    ran = guerdon(
        "annotation", "init", store, "--project", "replies", "--config", tmp_path / "annotation.yaml", "--json"
    )
    assert ran.code == 0, ran.err
    assert '"project": "replies"' in ran.out
    assert guerdon("annotation", "init", store, "--project", "replies").code == 2
    added = guerdon("annotation", "add", store, tmp_path / "pairs.jsonl", "--project", "replies", "--json")
    assert '{"items": 1, "new": 1, "rejected": 1}' in added.out
    links = guerdon(
        "annotation", "invite", store, "--project", "replies", "--count", 2, "--address", "https://a.example"
    )
    assert len({*links.out.split()}) == 2
    assert all(link.startswith("https://a.example/invite/") for link in links.out.split())
    for words in (("--role", "king"), ("--project", "other"), ("--external-id", "x", "--count", "2")):
        ran = guerdon("annotation", "invite", store, "--project", "replies", *words)
        assert ran.code == 2
        assert len(ran.err.splitlines()) == 1
    with Server(tmp_path, ("annotation", "serve", store, "--no-browser", "--port", 0)) as server:
        page = httpx2.get(server.link, follow_redirects=True)
        assert page.status_code == 200
        link = links.out.split()[0].replace("https://a.example", server.address)
        assert "Welcome" in httpx2.get(link).text
        assert httpx2.post(f"{server.address}{API}/claim").status_code == 401


def test_responses_are_sent_at_once():
    """Nagle's algorithm holds the body back until the client has acknowledged the headers, which takes it 40 ms."""

    async def is_at_once() -> bool:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        listening = open_port("127.0.0.1", 0)
        async with await asyncio.start_server(answer, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            is_set = await accepted
            writer.close()
        return bool(is_set)

    with ThreadPoolExecutor(1) as thread:  # this one may hold the event loop of a browser test
        assert thread.submit(lambda: asyncio.run(is_at_once())).result()
