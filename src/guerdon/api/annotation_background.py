"""What a server of annotation does beside answering: summaries, warnings about texts, and keeping answers on the disk.

One thread looks at each project from time to time, and does what has changed. A failure is noted and never ends the server.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from guerdon.annotation.project import Project
    from guerdon.store.database import Database

__all__ = ["background", "text_warnings", "work_once"]

SECONDS_TO_START: Final = 5.0  # before the first look, so that the first page comes at once
SECONDS: Final = 20.0  # between two looks
SECONDS_TO_DISK: Final = 5.0  # of answers, at most, that a power failure may take
REST: Final = 10.0  # times as long as a look took, at least, before the next one: people come first
SAMPLE: Final = 2000  # items whose texts are looked at
MOST_EXAMPLES: Final = 3

_log = logging.getLogger("guerdon.annotation")


@contextmanager
def background(database: Database) -> Iterator[None]:
    """Work of this kind for as long as the block runs."""
    stopped = threading.Event()
    seen: dict[str, Any] = {}

    def run() -> None:
        pause = SECONDS_TO_START
        while not stopped.wait(pause):
            start = time.monotonic()
            try:
                work_once(database, seen)
            except Exception:  # whatever it is, people go on judging
                _log.exception("the summaries could not be computed")
            pause = max(SECONDS, REST * (time.monotonic() - start))

    def keep_on_disk() -> None:
        while not stopped.wait(SECONDS_TO_DISK):
            with suppress(sqlite3.OperationalError):  # a full disk, say, which answers that come now tell of
                database.sync()

    threads = [
        threading.Thread(target=run, name="annotation summaries", daemon=True),
        threading.Thread(target=keep_on_disk, name="annotation on disk", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join(timeout=30)


def work_once(database: Database, seen: dict[str, Any]) -> None:
    """Compute what has changed in each project. seen: the counts at the last look, kept by the caller."""
    from guerdon.annotation.counting import project_counts
    from guerdon.annotation.project import load_project
    from guerdon.annotation.results import project_names
    from guerdon.annotation.summaries import summarize, write_summary

    for name in project_names(database):
        counts = project_counts(database, name)
        items = sum(number for key, number in counts.items() if key.startswith("items:"))
        judgments = counts.get("judgments", 0), counts.get("revisions", 0)
        project = load_project(database, name)
        if seen.get(f"items {name}") != items:
            write_summary(project, "warnings", text_warnings(project), time.time())
            seen[f"items {name}"] = items
        if seen.get(f"judgments {name}") != (judgments, items):
            summarize(project, time.time())
            seen[f"judgments {name}"] = judgments, items


def text_warnings(project: Project, sample: int = SAMPLE) -> dict[str, Any]:
    """Texts that tell who wrote them, or that nobody wrote: {"items": looked at, "findings": [{"title", "evidence", "advice"}]}."""
    from guerdon.config import CheckOptions
    from guerdon.contracts import Comparison, Preference
    from guerdon.data.checks import texts
    from guerdon.data.checks.contract import Data
    from guerdon.errors import show_value

    titles = {
        texts.IDENTITY: ("Responses that name their maker", "People may judge the name. Replace or drop them."),
        texts.FAILED: ("Error messages as responses", texts.FAILED.remedy),
        texts.CUT: (
            "Unfinished responses",
            "People judge the cut, not the text. Collect them again with a higher limit.",
        ),
        texts.EMPTY: ("Empty responses", texts.EMPTY.remedy),
    }
    data = Data(CheckOptions())
    check, number = texts.Texts(data), 0
    examples: dict[Any, list[str]] = {fault: [] for fault in titles}
    affected = dict.fromkeys(titles, 0)
    for shown in _sampled(project, sample):
        number += 1
        faults: set[Any] = set()
        for best in range(len(shown.responses)):  # an unfinished response is a fault of the one that is preferred
            comparison = Comparison(shown.prompt, shown.responses, Preference(groups=((best,),)))
            faults.update(check.faults(data.read(comparison)))
        for fault in titles.keys() & faults:
            affected[fault] += 1
            if len(examples[fault]) < MOST_EXAMPLES:
                examples[fault].append(show_value(shown.prompt[-1].content if shown.prompt else "", 60))
    findings = [
        {
            "title": title,
            "evidence": f"{affected[fault]:,} of {number:,} items, such as {', '.join(examples[fault])}",
            "advice": advice,
        }
        for fault, (title, advice) in titles.items()
        if affected[fault]
    ]
    return {"items": number, "findings": findings}


def _sampled(project: Project, sample: int) -> Iterator[Any]:
    """The texts of the first items in the order of the project, which is random."""
    import sqlalchemy as sa

    from guerdon.annotation.assignments import contents
    from guerdon.store import tables

    items = tables.items.c
    query = sa.select(items.id).where(items.project == project.name, items.purpose == "task").limit(sample)
    with project.database.reading() as connection:
        ids = [*connection.scalars(query)]
    for start in range(0, len(ids), 50):  # short transactions, between which people get theirs
        with project.writer.transaction() as transaction:
            some = [contents(transaction, item_id) for item_id in ids[start : start + 50]]
        yield from some
