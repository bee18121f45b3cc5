"""What a dead process was writing is removed, what a running one writes is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from leftovers import of_dead_process

from guerdon.io import temporary, writers
from guerdon.io.temporary import temporary_path


def test_leftovers_of_dead_processes_are_removed_with_the_next_write(tmp_path):
    dead, folder, running = (
        of_dead_process(tmp_path / "a"),
        of_dead_process(tmp_path / "b"),
        temporary_path(tmp_path / "c"),
    )
    mine = tmp_path / ".mine.tmp"
    for path in (dead, running, mine):
        path.write_text("x")
    (folder / "deep").mkdir(parents=True)
    temporary._swept.discard(tmp_path)  # as in a process that has not written here yet
    writers.write_text(tmp_path / "new", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([running.name, ".mine.tmp", "new"])


def test_what_another_process_writes_now_stays(tmp_path):
    code = (
        "import sys; from pathlib import Path; from guerdon.io.temporary import temporary_path\n"
        "temporary_path(Path(sys.argv[1])).write_text('x'); print('written', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "a"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "written\n"
        temporary.remove_abandoned(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        other.communicate()
    temporary.remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_computers_leftovers_go_after_a_day_without_a_change(tmp_path):
    ours = of_dead_process(tmp_path / "a")
    for name, age in (("young", 3600), ("old", 2 * temporary.ABANDONED)):
        path = tmp_path / f".{name}.ffffff-1-1-00000000.tmp"
        path.write_text("x")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert temporary.NAME.fullmatch(ours.name)["host"] != "ffffff"
    temporary.remove_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".young.ffffff-1-1-00000000.tmp"]


def test_the_longest_names_have_temporary_ones_too(tmp_path):
    names = {temporary_path(Path(tmp_path / ("é" * 120 + last))).name.rpartition("~")[2][:16] for last in "ab"}
    assert len(names) == 2
    writers.write_text(tmp_path / ("a" * 255), "x")
    assert len(list(tmp_path.iterdir())) == 1
