"""A process that is killed between any two writes, and then runs again, leaves the store that one without a kill leaves."""

from __future__ import annotations

import os
import sqlite3
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from comparison_files import some_comparisons

from guerdon.api.store import add_to_store, create_store, export_store, merge_stores, verify_store
from guerdon.data.store import writer
from guerdon.data.store.database import open_database
from guerdon.data.store.location import locate
from guerdon.data.store.tables import metadata

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
KILLED = 137
NEVER = 10**9


def run_and_kill(work: Callable[[], object], n: int) -> tuple[int, int]:
    """The exit code of a process that is killed before its n-th statement or commit, and how many it came to."""
    reader, sender = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        counted = [0]

        def count(*_: object) -> None:
            counted[0] += 1
            if counted[0] == n:
                os._exit(KILLED)

        try:
            sa.event.listen(sa.Engine, "before_cursor_execute", count)
            sa.event.listen(sa.Engine, "commit", count)
            work()
            os.write(sender, str(counted[0]).encode())
            os._exit(0)
        except BaseException:
            os._exit(1)
    os.close(sender)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    total = os.read(reader, 20)
    os.close(reader)
    return code, int(total or 0)


def content(path: Path) -> dict[str, set[tuple[object, ...]]]:
    """All rows of all tables, without the times of events."""
    with open_database(locate(path)) as database, database.reading() as connection:
        return {
            table.name: set(map(tuple, connection.execute(sa.select(*[sa.cast(c, sa.Text) for c in table.c if c.name != "at"]))))
            for table in metadata.sorted_tables
        }  # fmt: skip


def fill(path: Path) -> None:
    create_store(path)
    add_to_store(path, some_comparisons(4))
    add_to_store(path, list(some_comparisons(4))[1::2], labels="majority")


def merge_in(path: Path, other: Path) -> None:
    create_store(path)
    merge_stores(path, [other])


@pytest.mark.parametrize("action", ["import", "merge"])
def test_a_kill_at_any_statement_and_the_same_command_again_leave_the_same_store(tmp_path, monkeypatch, action: str):
    monkeypatch.setattr(writer, "ITEMS_AT_ONCE", 3)
    other = tmp_path / "other.db"
    fill(other)
    work = fill if action == "import" else lambda path: merge_in(path, other)
    whole = tmp_path / "whole.db"
    code, statements = run_and_kill(lambda: work(whole), NEVER)
    assert code == 0
    expected = content(whole)
    step = max(1, statements // 9)
    for n in range(1, statements + 1, step):
        path = tmp_path / f"{n}.db"
        assert run_and_kill(lambda path=path: work(path), n)[0] == KILLED
        work(path)
        now = content(path)
        events, wanted = now.pop("events"), {name: rows for name, rows in expected.items() if name != "events"}
        assert now == wanted, n
        assert len(events) <= len(expected["events"]) + 2
        assert not verify_store(path).findings


def test_what_a_killed_import_left_is_whole_before_it_runs_again(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "ITEMS_AT_ONCE", 2)
    code, statements = run_and_kill(lambda: fill(tmp_path / "whole.db"), NEVER)
    assert code == 0
    seen = set()
    for n in range(statements // 3, statements, max(1, statements // 9)):
        path = tmp_path / f"{n}.db"
        run_and_kill(lambda path=path: fill(path), n)
        with sqlite3.connect(path) as connection:
            if not connection.execute("SELECT name FROM sqlite_master WHERE name = 'judgments'").fetchall():
                continue
        assert not verify_store(path).findings
        seen.add(len(content(path)["judgments"]))
    assert len(seen) > 2, "the kills fall between transactions"


def test_an_export_that_fails_leaves_the_older_file(tmp_path, monkeypatch):
    from guerdon import GuerdonError

    store, out = tmp_path / "a.db", tmp_path / "prefs.v1.jsonl"
    fill(store)
    out.write_text("older")
    code, _ = run_and_kill(lambda: export_store(store, out), 4)
    assert code == KILLED
    assert out.read_text() == "older"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GuerdonError, match="No space left"):
        export_store(store, out)
    assert out.read_text() == "older"
    monkeypatch.undo()
    export_store(store, out)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


WRITE = """
import sys
from guerdon.api.store import add_to_store
from guerdon.contracts import Comparison, Preference, Response
from guerdon.data.store import writer
writer.ITEMS_AT_ONCE = 20
start = int(sys.argv[2])
add_to_store(sys.argv[1], [
    Comparison(f"q{i}", (Response("a"), Response(f"b{i % 3}")), Preference(q=1.0), annotator=f"w{i % 5}")
    for i in range(start, start + 200)
])
"""


def test_two_processes_may_write_at_once(new_store: Callable[[], str], tmp_path):
    import subprocess

    from guerdon.api.store import store_status

    store, alone = new_store(), new_store()
    source = str(Path(writer.__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": source}
    words = [sys.executable, "-c", WRITE, store]
    processes = [subprocess.Popen([*words, str(start)], env=environment) for start in (0, 100)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    for start in (100, 0):
        subprocess.run([sys.executable, "-c", WRITE, alone, str(start)], env=environment, check=True)
    assert store_status(store)["judgments"] == 300
    assert not verify_store(store).findings
    for name, each in (("a", store), ("b", alone)):
        export_store(each, tmp_path / f"{name}.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
