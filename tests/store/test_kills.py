"""A process that is killed between any two writes, and then runs again, leaves the store that one without a kill leaves."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from comparison_files import some_comparisons

from guerdon import Comparison
from guerdon.api.store import add_to_store, create_store, export_store, merge_stores, verify_store
from guerdon.store import merge, writer
from guerdon.store.database import open_database
from guerdon.store.location import locate
from guerdon.store.tables import metadata

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
KILLED = 137
NEVER = 10**9
READS = ("SELECT", "BEGIN", "PRAGMA", "SHOW", "ROLLBACK")
NewStore = Callable[[], str]


def forked(work: Callable[[int], object]) -> tuple[int, int]:
    """The id of a process that does the work, with a pipe to write into, and the end of the pipe to read from."""
    reader, sender = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            work(sender)
            os._exit(0)
        except BaseException:
            os._exit(1)
    os.close(sender)
    return pid, reader


def run_and_kill(work: Callable[[], object], n: int) -> tuple[int, int]:
    """The exit code of a process that dies before its n-th write or commit, and how many it came to if it lived."""

    def counted(sender: int) -> None:
        writes = [0]

        def count(*event: object) -> None:
            is_read = len(event) > 2 and str(event[2]).lstrip().upper().startswith(READS)
            writes[0] += not is_read
            if not is_read and writes[0] == n:
                os._exit(KILLED)

        sa.event.listen(sa.Engine, "before_cursor_execute", count)
        sa.event.listen(sa.Engine, "commit", count)
        work()
        os.write(sender, str(writes[0]).encode())

    pid, reader = forked(counted)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    total = os.read(reader, 20)
    os.close(reader)
    return code, int(total or 0)


def content(store: str | Path) -> dict[str, set[tuple[object, ...]]]:
    """All rows of all tables, without the times of events."""
    with open_database(locate(store)) as database, database.reading() as connection:
        return {
            table.name: set(map(tuple, connection.execute(sa.select(*[sa.cast(c, sa.Text) for c in table.c if c.name != "at"]))))
            for table in metadata.sorted_tables
        }  # fmt: skip


def fill(store: str | Path) -> None:
    given_ones = list(some_comparisons(1))
    add_to_store(store, given_ones)
    add_to_store(store, given_ones[1:], labels="majority")


@pytest.mark.parametrize("action", ["import", "merge"])
def test_a_kill_before_any_write_and_the_same_command_again_leave_the_same_store(
    new_store: NewStore, monkeypatch, action: str
):
    for module in (writer, merge):
        monkeypatch.setattr(module, "ITEMS_AT_ONCE", 1)
    other, whole = new_store(), new_store()
    fill(other)
    work = fill if action == "import" else lambda store: merge_stores(store, [other])
    code, writes = run_and_kill(lambda: work(whole), NEVER)
    assert code == 0
    expected = content(whole)
    events = expected.pop("events")
    states: list[dict[str, set[tuple[object, ...]]]] = []
    for n in range(1, writes + 1):
        store = new_store()
        assert run_and_kill(lambda store=store: work(store), n)[0] == KILLED
        if (state := content(store)) in states:
            continue  # the same rows as after an earlier kill, which was resumed from
        states.append(state)
        assert not verify_store(store).findings, f"what the kill before write {n} leaves is whole"
        work(store)
        now = content(store)
        assert len(now.pop("events")) <= len(events) + 2
        assert now == expected, n
    assert {len(state["judgments"]) for state in states} == {0, 1, 2}, "kills fall between transactions too"
    assert not verify_store(whole).findings


def test_a_kill_before_any_write_of_init_leaves_a_database_that_init_completes(tmp_path):
    code, writes = run_and_kill(lambda: create_store(tmp_path / "whole.db"), NEVER)
    assert code == 0
    assert writes > 20
    for n in range(1, writes + 1):
        store = tmp_path / f"{n}.db"
        assert run_and_kill(lambda store=store: create_store(store), n)[0] == KILLED
        create_store(store)
        assert content(store) == content(tmp_path / "whole.db")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_an_import_that_the_system_kills_goes_on_with_the_same_command(new_store: NewStore, monkeypatch, share: float):
    monkeypatch.setattr(writer, "ITEMS_AT_ONCE", 3)
    given_ones, store, whole = list(some_comparisons(20)), new_store(), new_store()
    add_to_store(whole, given_ones)

    def reported(sender: int) -> Iterator[Comparison]:
        for each in given_ones:
            os.write(sender, b".")
            yield each

    pid, reader = forked(lambda sender: add_to_store(store, reported(sender)))
    count = 0
    while count < share * len(given_ones) and (dots := os.read(reader, 1)):
        count += len(dots)
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    os.close(reader)
    assert not verify_store(store).findings
    assert len(content(store)["judgments"]) < len(given_ones)
    add_to_store(store, given_ones)
    now, expected = content(store), content(whole)
    assert {**now, "events": None} == {**expected, "events": None}


def test_an_export_that_fails_leaves_the_older_file(tmp_path, monkeypatch):
    from guerdon import GuerdonError

    store, out = tmp_path / "a.db", tmp_path / "prefs.v1.jsonl"
    create_store(store)
    fill(store)
    out.write_text("older")
    code, _ = run_and_kill(lambda: export_store(store, out), 1)
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
from guerdon.store import writer
writer.ITEMS_AT_ONCE = 20
start = int(sys.argv[2])
add_to_store(sys.argv[1], [
    Comparison(f"q{i}", (Response("a"), Response(f"b{i % 3}")), Preference(q=1.0), annotator=f"w{i % 5}")
    for i in range(start, start + 200)
])
"""


def test_two_processes_may_write_at_once(new_store: NewStore, tmp_path):
    import subprocess

    from guerdon.api.store import store_status

    store, alone = new_store(), new_store()
    source = str(Path(writer.__file__).parents[2])
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
