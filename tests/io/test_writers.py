"""What is written is what is read, whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from comparison_files import comparisons, one_line, some_comparisons, utf8_text
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.config import Config, build
from guerdon.contracts import Comparison, Message, Preference, Response
from guerdon.errors import GuerdonError, short_path
from guerdon.io import parquet_rows, readers, schema, writers
from guerdon.io.schema import Rejected


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_a_file_returns_its_comparisons_exactly(name, tmp_path):
    @settings(max_examples=15, deadline=None)
    @given(st.lists(comparisons(utf8_text), min_size=1, max_size=4))
    def gives_back(expected):
        assert writers.write_comparisons(tmp_path / name, expected) == len(expected)
        assert list(readers.read_comparisons(tmp_path / name)) == expected

    gives_back()


@pytest.mark.parametrize("usable", [0, 3])
def test_rejected_rows_replace_older_ones_with_the_output_or_say_why_there_is_none(usable, tmp_path):
    """The output fails at its end: with rows for it nothing changes; with none, the reasons are all that there is."""
    rejected, out = tmp_path / "x.rejected.jsonl", tmp_path / "x.jsonl"
    for path in (rejected, out):
        path.write_text("old\n")
    rows = [*list(some_comparisons())[:usable], Rejected("a:9", "is wrong. Correct it.", {})]

    def full(rows):
        yield from rows
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(GuerdonError, match=r"x\.jsonl: No space left on device"), writers.renamed_together() as renames:
        writers.write_comparisons(out, full(writers.set_aside(rows, rejected, renames)), renames)
    assert out.read_text() == "old\n"
    assert ("is wrong" in rejected.read_text()) == (usable == 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.jsonl", "x.rejected.jsonl"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_the_same_comparisons_give_the_same_bytes(name, tmp_path):
    for folder in ("one", "two"):
        writers.write_comparisons(tmp_path / folder / name, some_comparisons())
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_line_ends_at_a_newline_only(tmp_path):
    odd = "a\u2028b\u2029c\u0085d\re\x0bf\x00g\nh"
    expected = [Comparison((Message("user", odd),), (Response(odd), Response("b")), Preference(q=1.0))]
    writers.write_comparisons(tmp_path / "a.jsonl", expected)
    assert (tmp_path / "a.jsonl").read_bytes().count(b"\n") == 1
    assert "\u2028" in (tmp_path / "a.jsonl").read_text("utf-8"), "readable, not escaped"
    assert list(readers.read_comparisons(tmp_path / "a.jsonl")) == expected


def test_a_lone_surrogate_survives_jsonl_and_is_refused_by_parquet(tmp_path):
    expected = [Comparison((Message("user", "\ud83d"),), (Response("a"), Response("b")), Preference(q=1.0))]
    writers.write_comparisons(tmp_path / "a.jsonl", expected)
    assert list(readers.read_comparisons(tmp_path / "a.jsonl")) == expected
    line = one_line(lambda: writers.write_comparisons(tmp_path / "a.parquet", expected))
    assert "'\\ud83d'" in line
    assert os.listdir(tmp_path) == ["a.jsonl"]


def test_parquet_columns_are_typed_and_come_in_row_groups(tmp_path):
    import pyarrow.parquet as pq

    writers.write_comparisons(tmp_path / "a.parquet", some_comparisons(parquet_rows.BATCH))
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert file.num_row_groups == 2
    call = "struct<id: string, type: string, function: struct<name: string, arguments: string>>"
    message = (
        f"struct<role: string, content: string, tool_calls: list<element: {call}>, tool_call_id: string, name: string>"
    )
    assert str(file.schema_arrow.field("prompt").type) == f"list<element: {message}>"
    assert str(file.schema_arrow.field("tools").type) == "list<element: string>"
    assert str(file.schema_arrow.field("weight").type) == "double"


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_memory_does_not_grow_with_the_file(name, tmp_path):
    """20 MB of text pass through a peak of a few MB."""
    text = "x" * 10_000

    def many():
        for i in range(1000):
            yield Comparison((Message("user", f"{i}"),), (Response(text), Response(text + "y")), Preference(q=1.0))

    tracemalloc.start()
    writers.write_comparisons(tmp_path / name, many())
    assert sum(1 for _ in readers.read_comparisons(tmp_path / name)) == 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (2e6 if name == "a.jsonl" else 30e6)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(name, tmp_path):
    writers.write_comparisons(tmp_path / name, some_comparisons())
    before = (tmp_path / name).read_bytes()

    def breaks():
        yield from some_comparisons(600)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writers.write_comparisons(tmp_path / name, breaks())
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == before


def test_a_process_killed_while_writing_leaves_no_file_of_that_name(tmp_path):
    code = (
        "import sys, time\nfrom guerdon.io import writers\n"
        "with writers.atomic_write(sys.argv[1]) as file:\n"
        "    file.write('half'); file.flush(); print('go', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.txt")]
    environment = {**os.environ, "PYTHONPATH": str(Path(writers.__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "a.txt").exists()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_a_full_disk_is_one_line_with_advice_and_leaves_nothing(name, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    line = one_line(lambda: writers.write_comparisons(tmp_path / name, some_comparisons()))
    assert line == f"cannot write {tmp_path / name}: No space left on device. Free space, or pass another path."
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_device_is_named():
    assert "No space left on device" in one_line(lambda: writers.write_text("/dev/full", "x"))


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file" / "a.txt", tmp_path / ("x" * 300)):
        line = one_line(lambda path=path: writers.write_text(path, "x"))
        assert line.startswith(f"cannot write {short_path(path)}: ")
        assert "Pass another path" in line
    assert "the ending must be .jsonl, .jsonl.gz or .parquet, got '.csv'" in one_line(
        lambda: writers.write_comparisons(tmp_path / "a.csv", [])
    )


def test_an_error_that_is_not_about_the_disk_is_raised_as_it_is(tmp_path):
    def breaks():
        raise ConnectionResetError(errno.ECONNRESET, "peer")
        yield

    with pytest.raises(ConnectionResetError):
        writers.write_comparisons(tmp_path / "a.jsonl", breaks())


def test_a_link_stays_a_link_and_missing_folders_are_created(tmp_path):
    writers.write_text(tmp_path / "deep" / "er" / "a.txt", "old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "deep" / "er" / "a.txt")
    writers.write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "deep" / "er" / "a.txt").read_text() == "new"


def test_a_number_that_is_not_finite_is_not_written(tmp_path):
    nan = Response("a", ratings={"x": float("nan")})
    comparison = Comparison((Message("user", "p"),), (nan, Response("b")), Preference(q=1.0), id="c7")
    line = one_line(lambda: writers.write_comparisons(tmp_path / "a.jsonl", [comparison]))
    assert line.startswith("comparison c7: holds a number that is not finite. Leave it out.")


def test_json_and_options_are_read_back(tmp_path):
    writers.write_json(tmp_path / "a.json", {"größe": [1, None]})
    assert readers.read_json(tmp_path / "a.json") == {"größe": [1, None]}
    config = build({"train": {"lr": 1e-5}, "split": {"salt": "ü"}})
    writers.write_config(tmp_path / "config.yaml", config)
    assert build(readers.read_config(tmp_path / "config.yaml")) == config
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "bad.yaml").write_text("a: [")
    assert build(readers.read_config(tmp_path / "empty.yaml")) == Config()
    assert "bad.yaml: is not valid YAML" in one_line(lambda: readers.read_config(tmp_path / "bad.yaml"))
    assert "bad.yaml: is not valid JSON" in one_line(lambda: readers.read_json(tmp_path / "bad.yaml"))


def test_a_line_is_appended_after_a_half_written_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writers.append_jsonl(path, {"step": 1})
    path.write_bytes(path.read_bytes() + b'{"st')
    writers.append_jsonl(path, {"step": 2})
    assert path.read_bytes() == b'{"step": 1}\n{"st\n{"step": 2}\n'
    assert "cannot write" in one_line(lambda: writers.append_jsonl(tmp_path / "no" / "metrics.jsonl", {}))


def test_rejected_rows_are_written_whole_with_their_reasons(tmp_path):
    good = next(some_comparisons())
    rows = [good, schema.Rejected("a:2", "why", {"x": object()}), good, schema.Rejected("a:4", "why", "\ud83d")]
    assert list(writers.set_aside(rows, tmp_path / "rejected.jsonl")) == [good, good]
    result = [row for _, row in readers.read_rows(tmp_path / "rejected.jsonl")]
    assert [(row["place"], row["reason"]) for row in result] == [("a:2", "why"), ("a:4", "why")]
    assert writers.write_rejected(tmp_path / "again.jsonl", [rows[1], rows[3]]) == 2


def test_parts_get_their_names_together_or_not_at_all(tmp_path, monkeypatch):
    parts = list(zip(("train", "audit"), some_comparisons(1), strict=True))
    writers.write_parts(tmp_path, parts, ("train", "audit"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fsync, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GuerdonError, match="No space left"):
        writers.write_parts(tmp_path, parts * 3, ("train", "audit"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_parts_are_written_in_one_pass(tmp_path):
    made = [("audit" if i % 3 else "train", c) for i, c in enumerate(some_comparisons(6))]
    assert writers.write_parts(tmp_path, made, ("train", "calibrate", "audit")) == {
        "train": 4,
        "calibrate": 0,
        "audit": 8,
    }
    assert list(readers.read_comparisons(tmp_path / "train.jsonl")) == [c for name, c in made if name == "train"]
