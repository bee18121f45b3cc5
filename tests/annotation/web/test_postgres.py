"""The application over PostgreSQL: what people, managers and programs do in a day."""

from __future__ import annotations

import json
import threading

import pytest
from annotation_site import API, Annotating, annotating_at, csrf_of

from guerdon.annotation.project import load_project
from guerdon.annotation.repair import repair
from guerdon.annotation.summaries import summarize
from guerdon.store.database import open_database
from guerdon.store.location import locate

MANAGE = "/p/replies/manage"
LINE = b'{"prompt": "new?", "responses": ["yes", "no"]}\n'


@pytest.fixture(scope="module")
def location(postgres_url, empty_database):
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE annotation_web TEMPLATE {empty_database}")
    return postgres_url.replace("/postgres?", "/annotation_web?")


@pytest.fixture(scope="module")
def shared(location):
    with annotating_at(location) as world:
        yield world


def test_a_day_of_annotation(shared: Annotating):
    first, second, owner = (shared.browser(who) for who in ("annotator", "other", "owner"))
    held = first.claim()
    assert second.claim()["presentation"] != held["presentation"]
    stored = [first.submit(held["presentation"], {"verdict": -2}, "key") for _ in range(2)]
    assert [answer.json()["judgment"]["repeated"] for answer in stored] == [False, True]
    bad = first.submit(held["presentation"], {"both_bad": True}, "another")
    assert bad.json()["judgment"]["revision"] == 2
    reopened = first.post(f"{API}/judgments/{bad.json()['judgment']['id']}/reopen")
    assert reopened.json()["assignment"]["answer"]["both_bad"]
    skipped = second.post(
        f"{API}/presentations/{second.claim()['presentation']}/skip?next=1", json={"reason": "unclear"}
    )
    assert "assignment" in skipped.json()["next"]
    assert shared.program("service", "items").post(f"{API}/items", content=LINE).json() == {"read": 1, "new": 1}
    (exported,) = map(json.loads, owner.get(f"{API}/export").text.splitlines())
    assert exported["preference"] == {"groups": [[0, 1]], "strength": 0.0}
    assert len(owner.get(f"{API}/export?all_revisions=true").text.splitlines()) == 2
    status = owner.get(f"{API}/status").json()
    assert (status["judgments"], status["revisions"], status["all_bad"]) == (1, 1, 1)
    assert first.get(f"{API}/me/progress").json()["done"] == 1


def test_managers_look_decide_and_pause(shared: Annotating):
    summarize(load_project(shared.database, "replies"), shared.now)
    owner = shared.browser("owner")
    for page in ("", "/people", "/agreement", "/disagreements", "/gold", "/settings"):
        assert owner.get(MANAGE + page).status_code == 200, page
    with shared.database.reading() as connection:
        item = connection.exec_driver_sql("SELECT min(id) FROM items WHERE status = 'open'").scalar()
    csrf = csrf_of(owner.get(f"{MANAGE}/settings").text)
    for form in ({"verdict": "bad"}, {"verdict": "-2", "known": "gold"}):
        answer = owner.post(f"{MANAGE}/disagreements/{item}", data={"csrf": csrf, **form})
        assert answer.status_code == 303, answer.text
    assert "Decided: both bad" in owner.get(f"{MANAGE}/disagreements/{item}").text
    for state, code in (("paused", 403), ("open", 200)):
        assert owner.post(f"{MANAGE}/settings", data={"csrf": csrf, "state": state}).status_code == 303
        shared.now += 5
        assert shared.browser("annotator").post(f"{API}/claim").status_code == code


def test_servers_that_start_at_once_set_counters_right_once(location, shared: Annotating):
    with shared.database.writing() as connection:
        connection.exec_driver_sql("UPDATE project_counts SET n = n + 3 WHERE key = 'items:task:open'")
        connection.exec_driver_sql("UPDATE items SET taken = taken + 1 WHERE purpose = 'task'")
    barrier, repaired = threading.Barrier(4), []

    def start() -> None:
        with open_database(locate(location)) as database:
            project = load_project(database, "replies")
            barrier.wait()
            repaired.append(repair(project))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(repaired) == 4
    assert sorted(repaired)[:3] == [0, 0, 0]
    assert repair(load_project(shared.database, "replies")) == 0
