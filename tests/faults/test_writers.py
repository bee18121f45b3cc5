"""Whatever happens while a command writes: nothing that was there is lost, and the same command then gives the same bytes."""

from __future__ import annotations

import contextlib
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faults.commands import ELSEWHERE, WRITERS, Writer, make_folder
from faults.harness import KILLED, Ended, disk_full_from, kill_at, run, stop_at
from leftovers import hidden
from shell import guerdon as guerdon_here

from guerdon.cli.destinations import destinations_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")

Contents = dict[str, bytes]
KEPT = {".guerdon-parts"}  # hidden, and meant to stay


@dataclass(frozen=True)
class Undisturbed:
    """All files before and after a command to which nothing happens, its outputs, and the number of its operations."""

    before: Contents
    after: Contents
    outputs: Contents
    operations: int


@dataclass
class Bench:
    """A folder to work in, and what each command makes of it when nothing happens."""

    folder: Path
    original: Path
    runs: dict[str, Undisturbed] = field(default_factory=dict)

    def reset(self, writer: Writer) -> None:
        """The folder as it is before the command."""
        shutil.rmtree(self.folder, ignore_errors=True)
        kept = self.original.with_name(writer.older.replace("/", "_") or self.original.name)
        if not kept.exists():
            shutil.copytree(self.original, self.folder)
            assert run(writer.older, self.folder).code == 0
            self.folder.rename(kept)
        shutil.copytree(kept, self.folder)

    def undisturbed(self, writer: Writer) -> Undisturbed:
        if writer.words not in self.runs:
            self.reset(writer)
            before = contents(self.folder)
            ended = run(writer.words, self.folder)
            assert ended.code == 0, ended.err
            self.runs[writer.words] = Undisturbed(before, contents(self.folder), self.outputs(writer), ended.operations)
        return self.runs[writer.words]

    def outputs(self, writer: Writer) -> Contents:
        names = {path for pattern in writer.outputs for path in self.folder.glob(pattern) if path.is_file()}
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in names}

    def assert_nothing_lost(self, writer: Writer) -> None:
        """Every file that was there is whole, as it was or as the command leaves it; so is every output."""
        whole, now = self.undisturbed(writer), contents(self.folder)
        for name, value in whole.before.items():
            if name in now:
                assert now[name] in (value, whole.after.get(name)), name
            else:  # its folder is between two renames
                assert value in now.values(), name
        for name, value in whole.outputs.items():
            assert now.get(name) in (None, value, whole.before.get(name)), name

    def assert_repeated(self, writer: Writer) -> None:
        """The same command again ends with the same bytes, and leaves nothing of the failed one behind."""
        again = run(writer.words, self.folder)
        assert again.code == 0, again.err
        assert self.outputs(writer) == self.undisturbed(writer).outputs
        assert not [name for name in hidden(self.folder) if Path(name).name not in KEPT]
        assert not [*self.folder.rglob("*.partial"), *self.folder.rglob("*.journal")]


def contents(folder: Path) -> Contents:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def spread(operations: int, points: int) -> list[int]:
    """At most `points` of the operations 1 to n, the first and the last among them."""
    count = min(points, operations)
    return sorted({1 + round(i * (operations - 1) / max(1, count - 1)) for i in range(count)})


def assert_one_line(ended: Ended) -> None:
    assert ended.code == 2, ended
    assert ended.err.splitlines()[-1].startswith("error: "), ended.err
    assert "Traceback" not in ended.err


@pytest.fixture(scope="module")
def bench(tiny_dir, tmp_path_factory) -> Bench:
    top = tmp_path_factory.mktemp("faults")
    make_folder(top / "original", tiny_dir)
    import_all(shutil.copytree(top / "original", top / "imports"))
    return Bench(top / "work", top / "original")


def import_all(folder: Path) -> None:
    """Import what the commands import, so that no fork has to; training itself would leave threads that a fork lacks."""
    import guerdon.api.training
    import guerdon.training.loop  # noqa: F401

    for name in ("uncertainty", "audit", "best-of-n", "calibrate", "repair", "import to Parquet"):
        with contextlib.chdir(folder):
            shutil.rmtree("new", ignore_errors=True)
            assert guerdon_here(*WRITERS[name].words.split()).code == 0


def test_every_command_that_writes_is_held_to_this():
    from guerdon.cli.app import app

    writing = {c.name or c.callback.__name__ for c in app.registered_commands if destinations_of(c.callback)}
    tested = {name for name in writing for writer in WRITERS.values() if f"{writer.words} ".startswith(f"{name} ")}
    assert writing - tested == set(ELSEWHERE)


@pytest.mark.parametrize("name", WRITERS)
def test_a_kill_at_any_operation_loses_nothing_and_the_same_command_goes_on(bench, name):
    writer = WRITERS[name]
    for n in spread(bench.undisturbed(writer).operations, writer.points):
        bench.reset(writer)
        assert run(writer.words, bench.folder, kill_at(n)).code == KILLED, n
        bench.assert_nothing_lost(writer)
        bench.assert_repeated(writer)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_loses_nothing(bench, name):
    writer = WRITERS[name]
    for n in spread(bench.undisturbed(writer).operations, max(2, writer.points // 4)):
        bench.reset(writer)
        ended = run(writer.words, bench.folder, disk_full_from(n))
        if ended.code:  # the last operations need no space, or are a cache's
            assert_one_line(ended)
        bench.assert_nothing_lost(writer)
    bench.assert_repeated(writer)


@pytest.mark.parametrize("name", WRITERS)
def test_a_limit_on_the_size_of_files_is_one_line_and_loses_nothing(bench, name):
    writer = WRITERS[name]
    bench.undisturbed(writer)
    bench.reset(writer)
    assert_one_line(run(writer.words, bench.folder, largest_file=100))
    bench.assert_nothing_lost(writer)
    bench.assert_repeated(writer)


@pytest.mark.parametrize("name", WRITERS)
def test_sigterm_ends_with_one_sentence_and_leaves_nothing_half_written(bench, name):
    writer = WRITERS[name]
    bench.reset(writer)
    ended = run(writer.words, bench.folder, stop_at(1 + bench.undisturbed(writer).operations // 2))
    bench.assert_nothing_lost(writer)
    assert ended.code == 143, ended
    assert ended.err.splitlines()[-1].startswith("stopped; the same command ")
    assert "Traceback" not in ended.err
    assert not [path for path in hidden(bench.folder) if path.endswith((".tmp", ".old"))]
    bench.assert_repeated(writer)
