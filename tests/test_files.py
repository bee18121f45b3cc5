from __future__ import annotations

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from errors import gives_advice
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.config import Config, ImportOptions, build
from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Message,
    Preference,
    Response,
)
from guerdon.io import readers, schema, writers

ROW = {
    "prompt": [{"role": "user", "content": "Name a color."}],
    "responses": [{"text": "Red."}, {"text": "Tuesday."}],
    "preference": {"q": 0.9},
}


def a_row(**changes):
    return {**ROW, **changes}


def some_comparisons(num=3):
    for i in range(num):
        prompt = (Message("system", "Be brief."), Message("user", f"Question {i}?"))
        responses = (Response("yes", "stop", "ada", {"truth": 4.0}), Response(f"no {i}", "length"), Response("?"))
        preference = Preference(groups=((1,), (0, 2)), strength=0.5)
        yield Comparison(prompt, responses, preference, annotator="w1", source="made up", weight=0.25)
        yield Comparison(prompt, responses[:2], Preference(q=0.75, votes=(2, 1, 0)), group=f"g{i}", id=f"{i}")


def said(call) -> str:
    with pytest.raises(GuerdonError) as error:
        call()
    assert "\n" not in str(error.value), "one line"
    return str(error.value)


def written(path: Path, *lines: object) -> Path:
    path.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    return path


texts = st.text(st.characters(codec=None), max_size=12).filter(lambda t: t == t.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass"))  # fmt: skip # noqa: E501
plain = st.text(st.characters(codec="utf-8"), max_size=12)


def comparisons(text):
    ratings = st.dictionaries(text, st.floats(-9, 9), max_size=2)
    response = st.builds(Response, text, st.sampled_from([None, "stop", "length"]), st.none() | text, ratings)
    message = st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), text)
    verdicts = st.one_of(
        st.builds(lambda q, votes: Preference(q=q, votes=votes), st.floats(0, 1), st.none() | st.just((2, 0, 1))),
        st.builds(
            Preference, st.sampled_from([((0,), (1,)), ((1,),), ((0, 1),)]), strength=st.none() | st.floats(0, 9)
        ),
    )
    prompt = st.lists(message, min_size=1, max_size=3).map(tuple)
    names = st.none() | text
    weight = st.floats(0.001, 10)
    return st.builds(Comparison, prompt, st.tuples(response, response), verdicts, names, names, weight, text, text)


# ---- What is written is what is read -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(comparisons(texts))
def test_a_row_gives_back_its_comparison_exactly_through_json(comparison):
    line = json.dumps(schema.comparison_to_row(comparison), ensure_ascii=False).encode("utf-8", "backslashreplace")
    assert schema.comparison_from_row(json.loads(line)) == comparison


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_a_file_gives_back_its_comparisons_exactly(name, tmp_path):
    @settings(max_examples=15, deadline=None)
    @given(st.lists(comparisons(plain), min_size=1, max_size=4))
    def gives_back(wanted):
        assert writers.write_comparisons(tmp_path / name, wanted) == len(wanted)
        assert list(readers.read_comparisons(tmp_path / name)) == wanted

    gives_back()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_the_same_comparisons_make_the_same_bytes(name, tmp_path):
    for folder in ("one", "two"):
        writers.write_comparisons(tmp_path / folder / name, some_comparisons())
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_line_ends_at_a_newline_and_nowhere_else(tmp_path):
    odd = "a\u2028b\u2029c\u0085d\re\x0bf\x00g\nh"
    wanted = [Comparison((Message("user", odd),), (Response(odd), Response("b")), Preference(q=1.0))]
    writers.write_comparisons(tmp_path / "a.jsonl", wanted)
    assert (tmp_path / "a.jsonl").read_bytes().count(b"\n") == 1
    assert "\u2028" in (tmp_path / "a.jsonl").read_text("utf-8"), "readable, not escaped"
    assert list(readers.read_comparisons(tmp_path / "a.jsonl")) == wanted


def test_half_a_character_survives_jsonl_and_is_refused_by_parquet(tmp_path):
    wanted = [Comparison((Message("user", "\ud83d"),), (Response("a"), Response("b")), Preference(q=1.0))]
    writers.write_comparisons(tmp_path / "a.jsonl", wanted)
    assert list(readers.read_comparisons(tmp_path / "a.jsonl")) == wanted
    line = said(lambda: writers.write_comparisons(tmp_path / "a.parquet", wanted))
    assert "'\\ud83d'" in line
    assert os.listdir(tmp_path) == ["a.jsonl"]


def test_parquet_columns_are_typed_and_come_in_row_groups(tmp_path):
    import pyarrow.parquet as pq

    writers.write_comparisons(tmp_path / "a.parquet", some_comparisons(readers.BATCH))
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


def test_text_may_stand_for_a_prompt_and_for_a_response(tmp_path):
    (found,) = readers.read_comparisons(written(tmp_path / "a.jsonl", a_row(prompt="Hi", responses=["a", "b"])))
    assert found.prompt == (Message("user", "Hi"),)
    assert [r.text for r in found.responses] == ["a", "b"]


def test_nulls_are_absent_and_a_bom_and_blank_lines_are_left_out(tmp_path):
    row = a_row(weight=None, annotator=None, preference={"q": 0.5, "groups": None})
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf\n" + json.dumps(row).encode() + b"\n\n")
    (found,) = readers.read_comparisons(tmp_path / "a.jsonl")
    assert (found.weight, found.annotator, found.q) == (1.0, None, 0.5)


# ---- Bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preference": {"q": 3}}, "q must be a probability in [0, 1], got 3. Correct or drop the row."),
        ({"preference": {"q": True}}, "q must be a probability in [0, 1], got True"),
        ({"preference": {"q": "0.5"}}, "got '0.5'"),
        ({"preference": {"q": float("nan")}}, "q must be a probability in [0, 1], got nan"),
        ({"preference": {}}, "exactly one of groups"),
        ({"preference": {"groups": [[0], [2]]}}, "groups must name responses 0..1"),
        (
            {"preference": {"groups": [0, 1]}},
            "groups must be a list of lists of response numbers, best first, got [0, 1]",
        ),
        ({"preference": {"q": 1, "strength": -1}}, "strength must be a number >= 0, got -1"),
        ({"preference": {"q": 1, "votes": [1, 2]}}, "votes must be three counts"),
        ({"preference": {"q": 1, "vote": [1, 2, 3]}}, "preference.vote is not a known field. Did you mean votes?"),
        ({"preference": "a"}, "preference must be an object with groups, q"),
        ({"preference": None}, "preference is missing. Import the file first."),
        ({"weight": float("nan")}, "weight must be a number > 0, got nan"),
        ({"weight": 0}, "weight must be a number > 0, got 0"),
        ({"weight": 10**400}, "weight must be a number > 0, got 1000"),
        ({"wieght": 1}, "wieght is not a known field. Did you mean weight?"),
        ({"responses": [{"text": "a"}]}, "must have at least 2 responses, got 1"),
        ({"responses": "ab"}, "responses must be a list of two or more responses, got 'ab'"),
        ({"responses": ["a", 3]}, "responses[1] must be an object with text, finish, author, ratings, messages, got 3"),
        ({"responses": ["a", {"text": None}]}, "responses[1].text is missing. Add it."),
        (
            {"responses": ["a", {"text": "b", "finish": "eos"}]},
            "responses[1].finish must be stop or length, got 'eos'",
        ),
        ({"responses": ["a", {"text": "b", "ratings": {"x": "y"}}]}, "responses[1].ratings.x must be a finite number"),
        ({"prompt": []}, "prompt must be text or a list of at least one message, got []"),
        ({"prompt": 3}, "prompt must be text or a list of messages, got 3"),
        (
            {"prompt": [{"role": "robot", "content": "x"}]},
            "prompt[0].role must be one of system, user, assistant, tool",
        ),
        (
            {"prompt": [{"role": "user", "content": ["x" * 999]}]},
            'prompt[0].content[0] must be a part such as {"type": "text"}, got \'xxx',
        ),
        ({"id": 3}, "id must be text, got 3"),
    ],
)
def test_a_bad_field_is_named_with_its_line_its_value_and_a_remedy(changes, words, tmp_path):
    path = written(tmp_path / "fit.jsonl", ROW, a_row(**changes))
    line = said(lambda: list(readers.read_comparisons(path)))
    assert line.startswith(f"{path}:2: ")
    assert words in line
    assert len(line) < len(str(path)) + 250


def test_a_half_written_last_line_is_named(tmp_path):
    path = written(tmp_path / "a.jsonl", ROW)
    path.write_bytes(path.read_bytes() + json.dumps(ROW).encode()[:40])
    found = readers.read_comparisons(path)
    assert next(found).q == 0.9
    assert said(lambda: next(found)).startswith(f"{path}:2: is not valid JSON (")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"", "holds no rows"),
        ("a.csv", b"", "holds no rows"),
        ("a.csv", b"a,b\n", "holds no rows"),
        ("a.csv", b"a,a\n1,2\n", ":1: the first line must be a header that names each column once, got ['a', 'a']"),
        ("a.csv", b"a,b\n1,\xff\n", ":2: is not UTF-8 at byte 3"),
        ("a.json", b"[]", "holds no rows"),
        ("a.json", b"[{}, ", "is not valid JSON"),
        ("a.json", b'{\n"data": []}', "is neither a list nor one object a line"),
        ("a.jsonl", b"\x80\x04\x95" * 9, ":1: is not UTF-8 text (byte 1)"),
        ("a.jsonl", b"PK\x03\x04\0\0\0", "is not UTF-8 text (it holds NUL bytes)"),
        ("a.jsonl", "{}\n".encode("utf-16"), "is not UTF-8 text (it holds NUL bytes)"),
        ("a.jsonl.gz", gzip.compress(b"{}\n" * 999)[:-9], "gzip data are damaged or cut short"),
        ("a.jsonl.gz", b"\x1f\x8b" + b"junk" * 9, "gzip data are damaged or cut short"),
        ("a.parquet", b"PAR1 not really", "is not readable Parquet"),
        ("a.parquet", b"", "is not readable Parquet"),
        ("a.txt", b"hello", "ending '.txt' is not known; remedy: rename it to one of .jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_a_remedy(name, content, words, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    line = said(lambda: list(readers.read_rows(path)))
    assert line.startswith(str(path))
    assert words in line
    assert gives_advice(line)


def test_missing_files_folders_and_forbidden_files_are_named(tmp_path, monkeypatch):
    assert "no such file" in said(lambda: readers.read_rows(tmp_path / "no.jsonl"))
    assert "no such file" in said(lambda: readers.read_rows("data/fit.jsonl"))
    assert "is a directory" in said(lambda: readers.read_rows(tmp_path))
    path = written(tmp_path / "a.jsonl", ROW)

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be read (Permission denied)" in said(lambda: list(readers.read_rows(path)))


def test_a_huge_line_is_read_and_an_endless_one_refused(tmp_path, monkeypatch):
    huge = a_row(prompt="x" * 2_000_000)
    assert len(list(readers.read_comparisons(written(tmp_path / "a.jsonl", huge)))) == 1
    monkeypatch.setattr(readers, "LONGEST_LINE", 2**20)
    assert ":1: line is longer than 1 MiB" in said(lambda: list(readers.read_rows(tmp_path / "a.jsonl")))


def test_a_row_that_cannot_be_read_keeps_its_text_and_the_others_go_on(tmp_path):
    lines = [b'{"a": 1}', b'{"a": ', b'{"a": "\xff"}', b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b'{"a": 2}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    rows = [row for _, row in readers.read_rows(tmp_path / "a.jsonl")]
    assert (rows[0], rows[5]) == ({"a": 1}, {"a": 2})
    assert [row.row for row in rows[1:5]] == [line.decode("utf-8", "backslashreplace") for line in lines[1:5]]
    assert all("remedy" in row.reason for row in rows[1:5])


def test_csv_rows_are_placed_by_their_first_line_and_broken_ones_are_set_aside(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfp,q\r\n"two\nlines",1\n\nx,y,z\n3,4\nlast,"open\n')
    rows = list(readers.read_rows(tmp_path / "a.csv"))
    path = tmp_path / "a.csv"
    assert [place for place, _ in rows] == [f"{path}:{n}" for n in (2, 5, 6, 7)]
    assert (rows[0][1], rows[2][1]) == ({"p": "two\nlines", "q": "1"}, {"p": "3", "q": "4"})
    assert "3 cells for 2 columns" in rows[1][1].reason
    assert rows[3][1].row == 'last,"open\n'


def test_a_list_a_table_of_tabs_and_a_file_with_a_wrong_name_are_read(tmp_path):
    (tmp_path / "a.json").write_text('[{"a": 1},\n {"a": 2}]')
    (tmp_path / "a.tsv").write_text("a\tb\n1\t2\n")
    (tmp_path / "packed.jsonl").write_bytes(gzip.compress(b'{"a": 3}\n'))
    found = [list(readers.read_rows(tmp_path / name)) for name in ("a.json", "a.tsv", "packed.jsonl")]
    assert [row for rows in found for _, row in rows] == [{"a": 1}, {"a": 2}, {"a": "1", "b": "2"}, {"a": 3}]
    assert found[0][1][0].endswith("a.json: item 2")


def test_a_hub_name_without_a_hub_or_without_datasets_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'guerdon[hub]'" in said(lambda: list(readers.read_rows("org/name")))

    class Datasets:
        @staticmethod
        def load_dataset(name, split, streaming):
            raise ConnectionError(f"Couldn't reach {name}\non the Hub")

    monkeypatch.setitem(sys.modules, "datasets", Datasets)
    assert "org/name[test]: cannot be read from the hub (Couldn't reach org/name)" in said(
        lambda: list(readers.read_rows("org/name", ImportOptions(hub_split="test")))
    )
    monkeypatch.setattr(Datasets, "load_dataset", staticmethod(lambda name, split, streaming: [{"a": 1}]))
    assert list(readers.read_rows("org/name")) == [("org/name[train]: row 1", {"a": 1})]


# ---- Whole or not at all -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_else(name, tmp_path):
    writers.write_comparisons(tmp_path / name, some_comparisons())
    before = (tmp_path / name).read_bytes()

    def breaks():
        yield from some_comparisons(600)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writers.write_comparisons(tmp_path / name, breaks())
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == before


def test_a_process_killed_in_the_middle_leaves_no_file_of_that_name(tmp_path):
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
def test_a_full_disk_is_one_line_with_a_remedy_and_leaves_nothing(name, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    line = said(lambda: writers.write_comparisons(tmp_path / name, some_comparisons()))
    assert line == f"cannot write {tmp_path / name}: No space left on device. Free space, or pass another --out."
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_really_full_device_says_so():
    assert "No space left on device" in said(lambda: writers.write_text("/dev/full", "x"))


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file" / "a.txt", tmp_path / ("x" * 300)):
        line = said(lambda path=path: writers.write_text(path, "x"))
        assert line.startswith(f"cannot write {path}: ")
        assert "Pass another --out" in line
    assert ".jsonl, .jsonl.gz or .parquet" in said(lambda: writers.write_comparisons(tmp_path / "a.csv", []))


def test_an_error_that_is_not_the_disk_s_keeps_its_name(tmp_path):
    def breaks():
        raise ConnectionResetError(errno.ECONNRESET, "peer")
        yield

    with pytest.raises(ConnectionResetError):
        writers.write_comparisons(tmp_path / "a.jsonl", breaks())


def test_a_link_keeps_pointing_and_missing_folders_are_made(tmp_path):
    writers.write_text(tmp_path / "deep" / "er" / "a.txt", "old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "deep" / "er" / "a.txt")
    writers.write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "deep" / "er" / "a.txt").read_text() == "new"


def test_a_number_that_is_not_finite_is_not_written(tmp_path):
    nan = Response("a", ratings={"x": float("nan")})
    comparison = Comparison((Message("user", "p"),), (nan, Response("b")), Preference(q=1.0), id="c7")
    line = said(lambda: writers.write_comparisons(tmp_path / "a.jsonl", [comparison]))
    assert line.startswith("comparison c7: holds a number that is not finite")


# ---- The other files of a run ------------------------------------------------------------------------------------


def test_json_and_options_are_read_back(tmp_path):
    writers.write_json(tmp_path / "a.json", {"größe": [1, None]})
    assert readers.read_json(tmp_path / "a.json") == {"größe": [1, None]}
    config = build({"train": {"lr": 1e-5}, "split": {"salt": "ü"}})
    writers.write_config(tmp_path / "config.yaml", config)
    assert build(readers.read_config(tmp_path / "config.yaml")) == config
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "bad.yaml").write_text("a: [")
    assert build(readers.read_config(tmp_path / "empty.yaml")) == Config()
    assert "bad.yaml: is not valid YAML" in said(lambda: readers.read_config(tmp_path / "bad.yaml"))
    assert "bad.yaml: is not valid JSON" in said(lambda: readers.read_json(tmp_path / "bad.yaml"))


def test_a_line_is_appended_after_a_half_written_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writers.append_jsonl(path, {"step": 1})
    path.write_bytes(path.read_bytes() + b'{"st')
    writers.append_jsonl(path, {"step": 2})
    assert path.read_bytes() == b'{"step": 1}\n{"st\n{"step": 2}\n'
    assert "cannot write" in said(lambda: writers.append_jsonl(tmp_path / "no" / "metrics.jsonl", {}))


def test_rejected_rows_are_set_aside_whole_with_their_reasons(tmp_path):
    good = next(some_comparisons())
    rows = [good, schema.Rejected("a:2", "why", {"x": object()}), good, schema.Rejected("a:4", "why", "\ud83d")]
    assert list(writers.set_aside(rows, tmp_path / "rejected.jsonl")) == [good, good]
    found = [row for _, row in readers.read_rows(tmp_path / "rejected.jsonl")]
    assert [(row["place"], row["reason"]) for row in found] == [("a:2", "why"), ("a:4", "why")]
    assert writers.write_rejected(tmp_path / "again.jsonl", [rows[1], rows[3]]) == 2


def test_parts_are_written_together(tmp_path):
    made = [("audit" if i % 3 else "train", c) for i, c in enumerate(some_comparisons(6))]
    assert writers.write_parts(tmp_path, made, ("train", "calibrate", "audit")) == {
        "train": 4,
        "calibrate": 0,
        "audit": 8,
    }
    assert list(readers.read_comparisons(tmp_path / "train.jsonl")) == [c for name, c in made if name == "train"]


def test_a_thousand_comparisons_are_read_in_well_under_a_second(tmp_path):
    writers.write_comparisons(tmp_path / "a.jsonl", some_comparisons(500))
    began = time.perf_counter()
    assert sum(1 for _ in readers.read_comparisons(tmp_path / "a.jsonl")) == 1000
    assert time.perf_counter() - began < 1
