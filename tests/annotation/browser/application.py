"""The application in this process, with a project of its own, at an address that a browser can open."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import uvicorn

from guerdon.annotation.accounts import create_account
from guerdon.annotation.claiming import claim
from guerdon.annotation.project import Project, add_annotator, add_items, create_project
from guerdon.annotation.web.app import create_app
from guerdon.config.annotation import AnnotationOptions
from guerdon.conversation import Prompt, Response, as_prompt, as_response
from guerdon.store import tables
from guerdon.store.database import open_database
from guerdon.store.items import unjudged_item
from guerdon.store.location import locate
from guerdon.store.schema import migrate

Pair = tuple[Prompt, Sequence[Response]]
PLAIN = {"overlap": 0.0, "training": 0, "gold": 0.0, "attention": 0.0, "repeat": 0.0}  # nothing comes in between


def pairs(number: int, k: int = 2) -> list[Pair]:
    return [
        (as_prompt(f"Question {i}?"), [as_response(f"Answer {i}, {'abcdefghi'[j]}.") for j in range(k)])
        for i in range(number)
    ]


@dataclass
class Site:
    """The application's address, and its store."""

    url: str
    project: Project

    @property
    def judge(self) -> str:
        return f"{self.url}/p/replies/judge"

    def claim_as_another(self, ahead: float) -> None:
        """Somebody else asks for work, so many seconds from now."""
        claim(self.project, add_annotator(self.project.database, "bob"), time.time() + ahead)

    def judgments(self) -> list[dict[str, Any]]:
        """Every revision of every judgment, the oldest first."""
        with self.project.database.reading() as connection:
            rows = connection.execute(sa.select(tables.judgments).order_by(tables.judgments.c.submitted_at)).mappings()
            return [dict(row) for row in rows]


@contextmanager
def running(folder: Path, items: Sequence[Pair], guidelines: str = "", **options: Any) -> Iterator[Site]:
    """The application with a project of these items. Nobody signs in."""
    with open_database(locate(folder / "annotations.db"), create=True) as database:
        migrate(database)
        project = create_project(
            database, "replies", AnnotationOptions(**PLAIN | options), guidelines=guidelines, secret="00" * 32
        )
        add_items(project, (unjudged_item(prompt, tuple(responses))[0] for prompt, responses in items))
        account = create_account(database, "ada", role="owner", now=time.time())
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            site = Site(f"http://127.0.0.1:{listener.getsockname()[1]}", project)
            app = create_app(database, local=account)
            server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
            thread = threading.Thread(target=server.run, args=([listener],))
            thread.start()
            while not server.started:
                time.sleep(0.01)
            try:
                yield site
            finally:
                server.should_exit = True
                thread.join()
