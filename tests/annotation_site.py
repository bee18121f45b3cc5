"""A store with a project, people of each role, and browsers and programs that use the application over it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from guerdon.annotation.accounts import Account, insert_account, list_accounts
from guerdon.annotation.project import add_items, create_project
from guerdon.annotation.sessions import open_session, session_of
from guerdon.annotation.tokens import create_token
from guerdon.annotation.web.app import create_app
from guerdon.annotation.web.security import Site
from guerdon.config import AnnotationOptions
from guerdon.contracts import Message, Prompt, Response
from guerdon.store.annotation_tables import ACCOUNT_ROLES as ROLES
from guerdon.store.database import Database, open_database
from guerdon.store.items import Item, unjudged_item
from guerdon.store.location import locate
from guerdon.store.schema import migrate

HERE = "http://localhost:8040"
API = "/api/v1/projects/replies"
ANSWER = {"verdict": -2}


def pairs(count: int, start: int = 0) -> list[Item]:
    """Pairs that differ."""
    numbers = range(start, start + count)
    return [
        unjudged_item(Prompt([Message("user", f"Question {i}?")]), (Response(f"good {i}"), Response(f"bad {i}")))[0]
        for i in numbers
    ]


@dataclass
class Annotating:
    """The application, its store, a clock that tests turn, and an account of each role, without passwords."""

    database: Database
    app: Any
    people: dict[str, Account]
    now: float = field(default_factory=time.time)

    def browser(self, who: str | None = None, **settings: Any) -> Browser:
        """A browser in which this person is signed in, or nobody."""
        client = Browser(self.app, base_url=HERE, raise_server_exceptions=False, follow_redirects=False, **settings)
        if who is not None:
            token = open_session(self.database, self.people[who].id, self.now)
            client.cookies.set("guerdon-8040", token, "localhost.local")
            session = session_of(self.database, token, self.now)
            assert session is not None
            client.headers["X-CSRF-Token"] = session.csrf
        return client

    def program(self, who: str, *scopes: str) -> Browser:
        """A program with a token of this person."""
        token = create_token(self.database, self.people[who].id, "test", scopes, self.now)
        client = self.browser()
        client.headers["Authorization"] = f"Bearer {token}"
        return client


class Browser(TestClient):
    """A client that knows the project."""

    def claim(self) -> dict[str, Any]:
        """The next assignment."""
        response = self.post(f"{API}/claim")
        assert response.status_code == 200, response.text
        return dict(response.json()["assignment"])

    def submit(self, presentation: str, answer: dict[str, Any] = ANSWER, key: str | None = None) -> Any:
        """The response to an answer."""
        headers = {"Idempotency-Key": key} if key else {}
        return self.post(f"{API}/presentations/{presentation}/judgment", json=answer, headers=headers)


def csrf_of(page: str) -> str:
    """The secret that a page repeats."""
    return page.split('name="csrf" value="', 1)[1].split('"', 1)[0]


@contextmanager
def annotating(
    folder: Path, items: int = 20, site: Site | None = None, template: Path | None = None, **settings: Any
) -> Iterator[Annotating]:
    """The application over a new store, or over a copy of the store of an earlier one of as many items, which is faster."""
    path = folder / "annotations.db"
    if template is not None:
        shutil.copy(template, path)
    with annotating_at(str(path), items, site, is_filled=template is not None, **settings) as world:
        yield world


@contextmanager
def annotating_at(
    location: str, items: int = 20, site: Site | None = None, is_filled: bool = False, **settings: Any
) -> Iterator[Annotating]:
    """The application over the store at a path or URL."""
    with open_database(locate(location), create=True) as database:
        people = people_of(database) if is_filled else fill(database, items)
        world = Annotating(database, None, people)
        world.app = create_app(database, site=site, clock=lambda: world.now, **settings)
        yield world


def fill(database: Database, items: int) -> dict[str, Account]:
    """The schema, a project, its items and the people."""
    migrate(database)
    options = AnnotationOptions(training=0)
    project = create_project(database, "replies", options, guidelines="Be *fair*.", secret="00" * 32)
    add_items(project, pairs(items))
    with database.writing() as connection:
        for role in ROLES:
            insert_account(connection, f"{role}1", role=role, now=1.0)
        insert_account(connection, "annotator2", role="annotator", now=1.0)
    return people_of(database)


def people_of(database: Database) -> dict[str, Account]:
    """An account of each role, by the role; `other` is a second annotator."""
    accounts = {account.login: account for account in list_accounts(database)}
    return {**{role: accounts[f"{role}1"] for role in ROLES}, "other": accounts["annotator2"]}
