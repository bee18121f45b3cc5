"""Create, fill, read, merge and verify a store of judgments."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from guerdon.contracts import Comparison, GuerdonError, Report
from guerdon.progress import ProgressBar


def create_store(store: str | Path) -> dict[str, str]:
    """Create a store, or bring the schema of one up to date; returns the schema before ("none" for a new store) and after."""
    from guerdon.store.database import open_database
    from guerdon.store.location import locate
    from guerdon.store.schema import migrate

    with open_database(locate(store), create=True) as database:
        before, after = migrate(database)
    return {"store": str(locate(store)), "schema_before": before or "none", "schema": after}


def add_to_store(
    store: str | Path, comparisons: Iterable[Comparison], *, kind: str = "unknown", labels: str | None = None
) -> dict[str, int]:
    """Write comparisons as judgments, or as the labels of a method; returns how many rows of each table are new.

    kind: of their annotators: human, llm, principle, rule, reward_model, simulated or unknown. The same comparisons
    again add nothing.
    """
    from guerdon.store.items import KINDS, item_of, labeled_item_of

    if kind not in KINDS:
        raise GuerdonError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}. Choose one of these.")
    items = (labeled_item_of(each, labels) if labels else item_of(each, kind) for each in comparisons)
    return _add(store, items, "comparisons")


def import_prefs(store: str | Path, files: Sequence[str | Path]) -> dict[str, int]:
    """Write the items of files of the single-file form, with all that they hold; returns how many rows are new."""
    from guerdon.store.prefs_file import read_prefs

    return _add(store, (item for file in files for item in read_prefs(file)), "items")


def prefs_files(files: Sequence[str]) -> list[str]:
    """Those of the files that are of the single-file form."""
    from guerdon.store.prefs_file import is_prefs_file

    return [file for file in files if is_prefs_file(file)]


def export_store(store: str | Path, out: str | Path) -> dict[str, int]:
    """Write the whole store as one file, .jsonl (also .gz and .zst) or .parquet; returns how many of each it holds."""
    from guerdon.store.database import open_database
    from guerdon.store.location import locate
    from guerdon.store.prefs_file import write_prefs
    from guerdon.store.reader import read_items

    with open_database(locate(store)) as database, ProgressBar(None, "export", "items") as bar:
        header = write_prefs(out, _counted(read_items(database), bar))
    return {"items": header.items, "judgments": header.judgments, "labels": header.labels}


def merge_stores(store: str | Path, others: Sequence[str | Path], prefer: str | None = None) -> dict[str, int]:
    """Add to a store all that other stores hold; returns how many rows of each table are new.

    prefer: whose judgment is the newest revision where both corrected one in different ways, "ours" (`store`) or "theirs";
    without it, that is an error.
    """
    from guerdon.store.database import open_database
    from guerdon.store.location import locate
    from guerdon.store.merge import merge
    from guerdon.store.revisions import as_side

    side = as_side(prefer)
    with open_database(locate(store)) as database, ProgressBar(None, "merge", "rows") as bar:
        before = _counts(database)
        for other in others:
            with open_database(locate(other)) as source:
                merge(database, source, bar.advance, side)
        return record_new_rows(database, before, "merge", [str(locate(other)) for other in others])


def store_status(store: str | Path) -> dict[str, Any]:
    """What a store holds, counted."""
    from guerdon.store.database import open_database
    from guerdon.store.location import locate
    from guerdon.store.status import store_facts

    with open_database(locate(store)) as database:
        return store_facts(database)


def verify_store(store: str | Path) -> Report:
    """Whether ids match contents, counters match rows, references name rows, and each label rests on a judgment."""
    from guerdon.store.database import open_database
    from guerdon.store.location import locate
    from guerdon.store.verify import verify

    with open_database(locate(store)) as database:
        return verify(database)


def _add(store: str | Path, items: Iterable[Any], unit: str) -> dict[str, int]:
    from guerdon.store.database import open_database
    from guerdon.store.location import locate
    from guerdon.store.writer import add_items

    with open_database(locate(store)) as database, ProgressBar(None, "import", unit) as bar:
        before = _counts(database)
        add_items(database, items, bar.advance)
        return record_new_rows(database, before, "import", [])


def record_new_rows(database: Any, before: dict[str, int], action: str, subjects: Sequence[str]) -> dict[str, int]:
    """How many rows each table has more than before; an event records it, unless nothing is new."""
    from guerdon.store.writer import record_event

    after = _counts(database)
    new = {name: after[name] - before[name] for name in before}
    if any(new.values()):
        with database.writing() as connection:
            record_event(connection, action, ", ".join(subjects), new, time.time())
    return new


def _counts(database: Any) -> dict[str, int]:
    from guerdon.store.writer import count_rows

    return count_rows(database)


def _counted(pairs: Iterable[Any], bar: ProgressBar) -> Iterator[Any]:
    for pair in pairs:
        yield pair
        bar.advance()
