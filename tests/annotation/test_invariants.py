"""What holds after any sequence of claims, answers, skips and pauses, by any of several people, and after any kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from annotation.worlds import World, world
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import guerdon
from guerdon.annotation.assignments import Assignment
from guerdon.annotation.claiming import heartbeat, release, skip
from guerdon.annotation.errors import Conflict
from guerdon.annotation.project import load_project
from guerdon.annotation.repair import repair
from guerdon.api.store import create_store, verify_store
from guerdon.store.database import open_database
from guerdon.store.location import locate

PEOPLE = st.sampled_from("abc")
NewStore = Callable[[], str]


class Work(RuleBasedStateMachine):
    """Three people, five pairs that two of them judge each, leases of 100 s."""

    folder: Path
    empty: Path

    @initialize()
    def start(self) -> None:
        path = shutil.copy(self.empty, self.folder / f"{len(os.listdir(self.folder))}.db")
        self.context = world(str(path), 5, need=2, lease_seconds=100.0, repeat=0.5, repeat_after=1, edit_window=2)
        self.world: World = self.context.__enter__()
        self.seen: dict[str, Assignment] = {}
        self.whose: dict[str, str] = {}

    def teardown(self) -> None:
        if hasattr(self, "context"):
            self.context.__exit__(None, None, None)

    @rule(who=PEOPLE)
    def claim(self, who: str) -> None:
        assignment = self.world.claim(who)
        if isinstance(assignment, Assignment):
            before = self.seen.get(assignment.presentation_id)
            assert before is None or before.responses == assignment.responses, "the same order after a reload"
            self.seen[assignment.presentation_id] = assignment
            self.whose[assignment.presentation_id] = who

    @rule(data=st.data(), verdict=st.integers(-3, 3), key=st.sampled_from([None, "k"]))
    def answer(self, data: st.DataObject, verdict: int, key: str | None) -> None:
        if self.seen:
            presentation = data.draw(st.sampled_from(sorted(self.seen)))
            try:
                self.world.submit(self.whose[presentation], presentation, key, verdict=verdict)
            except Conflict:
                pass

    @rule(data=st.data(), act=st.sampled_from(["skip", "release", "heartbeat"]))
    def give_back(self, data: st.DataObject, act: str) -> None:
        if not self.seen:
            return
        presentation = data.draw(st.sampled_from(sorted(self.seen)))
        project, who = self.world.project, self.world.person(self.whose[presentation])
        try:
            if act == "skip":
                skip(project, who, presentation, "unclear", self.world.now)
            elif act == "release":
                release(project, who, presentation)
            else:
                heartbeat(project, who, presentation, self.world.now)
        except Conflict:
            pass

    @rule(seconds=st.sampled_from([1, 60, 1000]))
    def wait(self, seconds: int) -> None:
        self.world.now += seconds

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "world"):
            check(self.world)


def check(w: World) -> None:
    """Counters are right, nobody judges an item twice, overlap is exceeded by late answers alone, and sides are balanced."""
    presentations: list[Any] = w.rows(
        "SELECT item_id, annotator_id, state, slot, shown, presentations.id FROM presentations"
    )
    judged = Counter(row[0] for row in w.rows("SELECT presentation_id FROM judgments WHERE revision = 1"))
    late = Counter(row[0] for row in w.rows("SELECT item_id FROM judgments WHERE late"))
    counted = [row for row in presentations if row[2] in ("held", "submitted")]
    for key, item in w.items().items():
        of_item = [row for row in counted if row[0] == key]
        assert item["taken"] == len(of_item)
        assert len({row[1] for row in of_item}) == len(of_item), "no person has an item twice"
        if item["purpose"] == "task":
            assert item["taken"] <= item["need"] + late[key]
            if not late[key]:
                assert len({row[3] for row in of_item}) == len(of_item), "a slot belongs to one person"
                sides = Counter(row[4] for row in of_item)
                assert len(of_item) < 2 or max(sides.values()) - min(sides.values(), default=0) <= 1
                assert len(of_item) < 2 or len(sides) == 2
    assert {row[5] for row in presentations if row[2] == "submitted"} == set(judged)
    assert (
        max((len([r for r in presentations if r[1] == who and r[2] == "held"]) for who in w.people.values()), default=0)
        <= 1
    )
    assert repair(w.project) == 0


def test_any_sequence_of_work_keeps_the_invariants(tmp_path, empty_file: Path):
    from hypothesis.stateful import run_state_machine_as_test

    folder = tmp_path / "stores"
    folder.mkdir()
    machine = type("Machine", (Work,), {"folder": folder, "empty": empty_file})
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=25, deadline=None))


WORK = """
import sys, time
from guerdon.annotation.answers import Answer
from guerdon.annotation.assignments import Assignment
from guerdon.annotation.claiming import claim, skip
from guerdon.annotation.project import add_annotator, load_project
from guerdon.annotation.submitting import submit
from guerdon.store.database import open_database
from guerdon.store.location import locate

store, name = sys.argv[1:]
with open_database(locate(store)) as database:
    project = load_project(database, "p")
    who = add_annotator(database, name)
    number = 0
    while isinstance(assignment := claim(project, who, time.time()), Assignment):
        number += 1
        key = assignment.presentation_id
        if number % 7 == 0:
            skip(project, who, key, "unclear", time.time())
        else:
            submit(project, who, key, Answer(verdict=(-1) ** number, active_ms=1.0), key, time.time())
        print(key, flush=True)
"""


def worker(store: str, name: str) -> subprocess.Popen[bytes]:
    source = str(Path(guerdon.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", WORK, store, name], env=environment, stdout=subprocess.PIPE)


def test_processes_that_work_at_once_keep_overlap_exact(new_store: NewStore):
    store = new_store()
    with world(store, 40, need=2, max_skips=100) as w:
        workers = [worker(store, name) for name in "abc"]
        assert [process.communicate(timeout=300)[0] and process.returncode for process in workers] == [0, 0, 0]
        w.people = dict(w.rows("SELECT name, id FROM annotators"))
        check(w)
        assert all(item["taken"] <= 2 for item in w.items().values())
    assert not verify_store(store).findings


def test_a_server_that_is_killed_loses_and_doubles_nothing(new_store: NewStore):
    """What a worker heard of is stored; it is killed after more and more answers, and goes on where it stopped."""
    store = new_store()
    with world(store, 60, need=1, max_skips=100) as w:
        heard: list[str] = []
        for kill in range(4):
            process = worker(store, "a")
            assert process.stdout is not None
            heard += [process.stdout.readline().decode().strip() for _ in range(3 + 2 * kill)]
            process.send_signal(signal.SIGKILL)
            heard += process.stdout.read().decode().split("\n")[:-1]
            process.wait()
            process.stdout.close()
            w.people = dict(w.rows("SELECT name, id FROM annotators"))
            check(w)
        process = worker(store, "a")
        heard += process.communicate(timeout=300)[0].decode().split()
        states = dict(w.rows("SELECT id, state FROM presentations"))
        assert all(states[key] in ("submitted", "skipped") for key in heard)
        assert len(set(heard)) == len(heard)
        assert len(states) == 60
    assert not verify_store(store).findings


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_kill_before_any_statement_of_a_claim_or_an_answer_leaves_nothing_or_all(tmp_path):
    """Between any two statements of a pair that is claimed and judged, and the same requests again end as without a kill."""
    whole = tmp_path / "whole.db"
    create_store(whole)
    with world(str(whole), 2):
        pass
    shutil.copy(whole, tmp_path / "kept.db")

    def work(store: Path, most: int) -> int:
        """How many statements the work runs; it dies before statement `most`."""
        pid = os.fork()
        if pid == 0:
            count = 0

            def watch(statement: str) -> None:
                nonlocal count
                count += 1
                if count == most:
                    os._exit(137)

            with open_database(locate(store)) as database:
                w = World(load_project(database, "p"), people={})
                w.person("a")
                with w.project.writer.transaction():
                    connection = w.project.writer.driver_connection
                connection.set_trace_callback(watch)
                assignment = w.claim("a")
                w.submit("a", assignment, "k", verdict=2)
                os._exit(min(count, 100))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    total = work(whole, 10**9)
    assert 10 < total < 100
    for most in range(1, total + 1):
        store = Path(shutil.copy(tmp_path / "kept.db", tmp_path / f"{most}.db"))
        assert work(store, most) == 137
        with open_database(locate(store)) as database:
            check(World(load_project(database, "p")))
        work(store, 10**9)
        assert not verify_store(store).findings
        with open_database(locate(store)) as database:
            w = World(load_project(database, "p"))
            assert len(w.rows("SELECT * FROM judgments")) == len(w.rows("SELECT * FROM presentations")) <= 2
