"""Transactions at the speed of the driver."""

from __future__ import annotations

import gc
import sqlite3

import sqlalchemy as sa

from guerdon.api.store import create_store
from guerdon.store import tables
from guerdon.store.database import open_database
from guerdon.store.direct import Statement, writer_of
from guerdon.store.location import locate

NEWEST = Statement(sa.select(tables.prompts.c.id).limit(1))


def test_a_row_that_was_read_leaves_no_cursor_behind(tmp_path):
    """A cursor that outlives its transaction resets its statement while another thread runs it: SQLite calls that misuse."""
    create_store(tmp_path / "store.db")
    gc.collect()  # what other tests left
    with open_database(locate(tmp_path / "store.db")) as database, writer_of(database).transaction() as transaction:
        transaction.first(NEWEST)
        transaction.all(NEWEST)
        assert not [each for each in gc.get_objects() if type(each) is sqlite3.Cursor]
