"""What the database itself refuses, and that every released schema comes up to date with its content."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from comparison_files import one_line, some_comparisons
from sqlalchemy import exc

from guerdon.api.store import add_to_store, create_store, store_status, verify_store
from guerdon.store import tables
from guerdon.store.database import open_database
from guerdon.store.location import locate
from guerdon.store.schema import SCHEMA, VERSION_TABLE

RELEASED = sorted((Path(__file__).parents[1] / "cases" / "store").glob("schema_*.sql"))
NewStore = Callable[[], str]


def statements_of(path: Path) -> list[str]:
    """The schema of a file of SQLite, one statement per table, index and trigger, white space aside."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name").fetchall()
    return [re.sub(r"\s+", " ", sql) for (sql,) in rows]


def test_the_tables_are_those_that_the_migrations_create(new_store: NewStore):
    with open_database(locate(new_store())) as database, database.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_server_default": False}
        )
        assert compare_metadata(context, tables.metadata) == []


def test_the_checks_of_the_tables_are_those_that_the_migrations_create(tmp_path):
    create_store(tmp_path / "migrated.db")
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'models.db'}")
    tables.metadata.create_all(engine)
    engine.dispose()

    def parts(path: Path) -> list[str]:
        statements = [sql for sql in statements_of(path) if "TRIGGER" not in sql and VERSION_TABLE not in sql]
        return sorted(part.strip(" )") for sql in statements for part in re.split(r",(?= CONSTRAINT| \w+ [A-Z])", sql))

    assert parts(tmp_path / "migrated.db") == parts(tmp_path / "models.db")


def test_the_newest_schema_is_the_frozen_one(tmp_path):
    create_store(tmp_path / "new.db")
    frozen = sqlite3.connect(tmp_path / "frozen.db")
    frozen.executescript((RELEASED[-1]).read_text())
    frozen.close()
    assert RELEASED[-1].name == f"schema_{SCHEMA}.sql"
    assert statements_of(tmp_path / "frozen.db") == statements_of(tmp_path / "new.db")


@pytest.mark.parametrize("script", RELEASED, ids=lambda path: path.stem)
def test_every_released_schema_comes_up_to_date_with_its_content(tmp_path, script: Path):
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(script.read_text())
    assert create_store(path)["schema"] == SCHEMA
    assert store_status(path)["judgments"] == 3
    assert not verify_store(path).findings


def test_a_store_of_schema_3_gets_the_right_number_of_judgments_that_are_left(tmp_path):
    """Its item needs three judgments and has those of two people, whatever was counted before."""
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((RELEASED[0].parent / "schema_3.sql").read_text())
        connection.execute("UPDATE items SET project = (SELECT name FROM projects)")
        connection.execute("INSERT INTO project_counts SELECT name, 'needed', 5, -7 FROM projects")
    create_store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT sum(n) FROM project_counts WHERE key = 'needed'").fetchone() == (1,)


def refused(store: str, *statements: str) -> None:
    """The last statement is refused for what it would do; those before it are not."""
    *first, last = statements
    with open_database(locate(store)) as database, database.engine.connect() as connection:
        for statement in first:
            connection.exec_driver_sql(statement)
        with pytest.raises(exc.DatabaseError) as error:
            connection.exec_driver_sql(last)
        is_a_slip = isinstance(error.value, exc.ProgrammingError | exc.OperationalError)
        assert not is_a_slip or "RaiseException" in str(error.value), error.value


@pytest.fixture
def filled(new_store: NewStore) -> str:
    store = new_store()
    add_to_store(store, some_comparisons(1))
    return store


CALL = (
    "INSERT INTO judge_calls (id, cache_key, request, response_raw, status, failure_code) "
    "SELECT 'call', 'key', '{{}}', {raw}, {status}"
)
FAILED, OK = CALL.format(raw="NULL", status="'failed', 'timeout'"), CALL.format(raw="'\"A\"'", status="'ok', NULL")
JUDGED_BY_CALL = (
    "INSERT INTO judgments (id, item_id, call_id, call_status, q, annotator_id, shown) "
    "SELECT 'j', min(id), 'call', {status}, 1.0, {judge}, '[0,1]' FROM items"
)
SOMEBODY = "(SELECT min(id) FROM annotators)"
HELD = (
    "INSERT INTO presentations (id, item_id, annotator_id, shown, origin, state) "
    "SELECT 'p', (SELECT min(id) FROM items), (SELECT min(id) FROM annotators), '[0,1]', 'claimed', 'held'"
)
JUDGED = (
    "INSERT INTO judgments (id, item_id, presentation_id, presentation_state, q) "
    "SELECT 'j', min(id), 'p', {state}, 1.0 FROM items"
)


@pytest.mark.parametrize(
    "statements",
    [
        (FAILED, JUDGED_BY_CALL.format(status="'ok'", judge=SOMEBODY)),
        (FAILED, JUDGED_BY_CALL.format(status="'failed'", judge=SOMEBODY)),
        (FAILED, JUDGED_BY_CALL.format(status="NULL", judge=SOMEBODY)),
        (
            OK,
            JUDGED_BY_CALL.format(status="'ok'", judge=SOMEBODY),
            "UPDATE judge_calls SET status = 'failed', failure_code = 'x'",
        ),
        (OK, JUDGED_BY_CALL.format(status="'ok'", judge="NULL")),
        (OK, *[JUDGED_BY_CALL.format(status="'ok'", judge=SOMEBODY).replace("'j'", f"'{i}'") for i in (1, 2)]),
        (CALL.format(raw="NULL", status="'ok', NULL"),),
        (CALL.format(raw="NULL", status="'failed', NULL"),),
        (HELD, JUDGED.format(state="'submitted'")),
        (HELD, JUDGED.format(state="'held'")),
        (HELD, JUDGED.format(state="NULL")),
        ("INSERT INTO judgments (id, item_id, q) SELECT 'j', min(id), 1.0 FROM items",),
        ("UPDATE judgments SET q = 0.0, groups = NULL",),
        ("DELETE FROM judgments",),
        ("UPDATE events SET at = 0",),
        ("DELETE FROM events",),
        ("UPDATE presentations SET state = 'expired'",),
        ("DELETE FROM presentations",),
        ("DELETE FROM items",),
        ("UPDATE items SET status = 'lost'",),
        (
            "INSERT INTO items (id, project, prompt_id) SELECT 'i', '', min(id) FROM prompts",
            "INSERT INTO labels (id, item_id, method, params, q, n_votes) VALUES ('l', 'i', 'm', '{}', 1.0, 1)",
        ),
    ],
    ids=lambda statements: " ".join(statements[-1].split()[:3]),
)
def test_the_database_refuses(filled: str, statements: tuple[str, ...]):
    refused(filled, *statements)


def test_an_ok_call_and_a_submitted_presentation_may_have_a_judgment_and_counters_follow(filled: str):
    with open_database(locate(filled)) as database:
        with database.writing() as connection:
            for statement in (OK, JUDGED_BY_CALL.format(status="'ok'", judge=SOMEBODY), HELD):
                connection.exec_driver_sql(statement)
            taken = "SELECT taken FROM items WHERE id = (SELECT min(id) FROM items)"
            before = connection.exec_driver_sql(taken).scalar()
            connection.exec_driver_sql("UPDATE presentations SET state = 'expired' WHERE id = 'p'")
            assert connection.exec_driver_sql(taken).scalar() == before - 1
            connection.exec_driver_sql("UPDATE presentations SET state = 'submitted' WHERE id = 'p'")
            assert connection.exec_driver_sql(taken).scalar() == before
            connection.exec_driver_sql(JUDGED.format(state="'submitted'").replace("'j'", "'k'"))
            again = "INSERT INTO judgments (id, item_id, presentation_id, presentation_state, q, revision, supersedes_revision) "
            connection.exec_driver_sql(f"{again} SELECT 'm', min(id), 'p', 'submitted', 0.0, 2, 1 FROM items")
    titles = {finding.title for finding in verify_store(filled).findings}
    assert titles == {"the id of a judgment is the hash of what it says"}  # the ids above are no hashes


def test_verify_names_what_was_changed_by_hand(tmp_path):
    store = tmp_path / "a.db"
    create_store(store)
    add_to_store(store, some_comparisons(2))
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE items SET taken = 7")
        connection.execute(
            'UPDATE responses SET content = \'{"text":"changed"}\' WHERE id = (SELECT min(id) FROM responses)'
        )
        connection.execute("DELETE FROM item_responses WHERE position = 1")
    titles = [finding.title for finding in verify_store(store).findings]
    assert len(titles) == 3
    assert titles[0] == "the id of a response is the hash of its content"
    assert titles[1].startswith("the id of an item")
    assert titles[2].startswith("an item's counter")


def test_a_store_of_a_newer_guerdon_is_one_line(new_store: NewStore):
    store = new_store()
    with open_database(locate(store)) as database, database.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9'")
    for act in (create_store, store_status):
        assert "newer Guerdon (schema 9, this one reads up to" in one_line(lambda act=act: act(store))
