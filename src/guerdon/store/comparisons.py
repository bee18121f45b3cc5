"""A store as a source of comparisons: what `--data store:preferences.db` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sqlalchemy as sa

from guerdon.contracts import Comparison, GuerdonError
from guerdon.errors import did_you_mean, field_error
from guerdon.io.schema import at_location
from guerdon.store.database import Database, open_database
from guerdon.store.items import comparisons_of
from guerdon.store.location import locate
from guerdon.store.reader import read_items
from guerdon.store.schema import require_schema
from guerdon.store.tables import labels

CHECKS = (
    "gold",
    "attention",
    "repeat",
    "training",
)  # purposes of items that check people, and say nothing new of responses


def read_store(
    source: object, each: bool = False, say: Callable[[str], None] = lambda line: None
) -> Iterator[Comparison]:
    """The comparisons of a store in constant memory, by rising id of the item: its label where it has one, else its judgments.

    each: one comparison per judgment, and no labels. Items that only check people are left out. `say` is called with a line about
    items that give none.
    """
    location = locate(source)
    unjudged = waiting = 0
    with open_database(location) as database:
        if location.labels is not None and not each:
            _require_labels(database, location.labels)
        for item_id, item in read_items(database):
            if item.facts.get("purpose") in CHECKS:
                continue
            is_empty = True
            try:
                for comparison in comparisons_of(item, each, location.labels):
                    is_empty = False
                    yield at_location(f"{location}: item {item_id}", comparison)
            except GuerdonError as error:
                raise GuerdonError(f"{location}: item {item_id}: {error}") from None
            unjudged += is_empty and not item.judgments
            waiting += is_empty and bool(item.judgments)
    if unjudged:
        say(f"{unjudged:,} item{'s' * (unjudged != 1)} without a judgment left out")
    if waiting:
        say(f"{waiting:,} item{'s' * (waiting != 1)} left out: the label is not accepted")


def _require_labels(database: Database, method: str) -> None:
    """Raise GuerdonError unless the store has labels of this method: a misspelled one would give votes instead."""
    with database.reading() as connection:
        require_schema(connection, database)
        methods = connection.execute(sa.select(labels.c.method).distinct().order_by(labels.c.method)).scalars().all()
    if method not in methods:
        advice = did_you_mean(method, methods) if methods else "Leave ?labels= out: the store has no labels."
        raise field_error(f"{database.location}: ?labels=", "a method with labels in the store", method, advice)
