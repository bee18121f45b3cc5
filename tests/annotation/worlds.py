"""Projects to test on, with a clock that the test turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from guerdon.annotation.answers import Answer
from guerdon.annotation.assignments import Assignment
from guerdon.annotation.claiming import claim
from guerdon.annotation.project import Project, add_annotator, add_items, create_project
from guerdon.annotation.submitting import Submission, submit
from guerdon.config import AnnotationOptions
from guerdon.contracts import Comparison, Preference, Response
from guerdon.store import tables
from guerdon.store.database import open_database
from guerdon.store.location import locate

PLAIN = {
    "overlap": 0.0,
    "adaptive_max": 1,
    "training": 0,
    "gold": 0.0,
    "attention": 0.0,
    "repeat": 0.0,
}  # nothing comes in between


def pairs(number: int, k: int = 2, start: int = 0) -> Iterator[Comparison]:
    for i in range(start, start + number):
        responses = tuple(Response(f"answer {i} {chr(97 + j)}") for j in range(k))
        yield Comparison(f"question {i}", responses, Preference(groups=((0,),)))


@dataclass
class World:
    """A project, its people, and the time."""

    project: Project
    now: float = 1_800_000_000.0
    people: dict[str, str] = field(default_factory=dict)

    def person(self, name: str) -> str:
        if name not in self.people:
            self.people[name] = add_annotator(self.project.database, name)
        return self.people[name]

    def claim(self, name: str) -> Any:
        self.now += 1
        return claim(self.project, self.person(name), self.now)

    def submit(self, name: str, assignment: Assignment | str, key: str | None = None, **answer: Any) -> Submission:
        self.now += 1
        key_of = assignment if isinstance(assignment, str) else assignment.presentation_id
        return submit(self.project, self.person(name), key_of, Answer(**(answer or {"verdict": -1})), key, self.now)

    def judge(self, name: str, **answer: Any) -> Assignment:
        """The item that the person got and judged."""
        assignment = self.claim(name)
        assert isinstance(assignment, Assignment)
        self.submit(name, assignment, **answer)
        return assignment

    def items(self) -> dict[str, Any]:
        with self.project.database.reading() as connection:
            return {row["id"]: dict(row) for row in connection.execute(sa.select(tables.items)).mappings()}

    def rows(self, query: str) -> list[Any]:
        with self.project.database.reading() as connection:
            return list(connection.exec_driver_sql(query))


@contextmanager
def world(store: str, number: int = 5, k: int = 2, **options: Any) -> Iterator[World]:
    """A project of so many items in a store that is there, with options over PLAIN."""
    with open_database(locate(store)) as database:
        settings = AnnotationOptions(**{**PLAIN, **options})
        project = create_project(database, "p", settings, now=1.0, secret="secret")
        add_items(project, pairs(number, k))
        yield World(project)
