"""A user's mistake with a store is one line that says what to do, and shows no password."""

from __future__ import annotations

import builtins
import gzip
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from comparison_files import one_line, some_comparisons, write_rows
from shell import guerdon

from guerdon.api.data import stream_comparisons
from guerdon.api.store import add_to_store, create_store, export_store, import_prefs, merge_stores, store_status
from guerdon.config import ImportOptions
from guerdon.contracts import Comparison
from guerdon.store import database
from guerdon.store.prefs_file import HEADER_KEY


@pytest.fixture
def store(tmp_path) -> Path:
    create_store(tmp_path / "a.db")
    add_to_store(tmp_path / "a.db", some_comparisons(3))
    return tmp_path / "a.db"


def test_what_is_no_store_is_named(tmp_path):
    missing = one_line(lambda: store_status(tmp_path / "none.db"))
    assert missing == f"{tmp_path}/none.db: no such store. Create it with `guerdon store init {tmp_path}/none.db`."
    (tmp_path / "text.db").write_bytes(b"these are words, and no database" * 99)
    assert "no SQLite database" in one_line(lambda: store_status(tmp_path / "text.db"))
    assert "no SQLite database" in one_line(lambda: create_store(tmp_path / "text.db"))
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE songs (name)")
    assert "is no store yet" in one_line(lambda: store_status(tmp_path / "other.db"))
    assert "other tables (songs)" in one_line(lambda: create_store(tmp_path / "other.db"))
    assert "got a folder" in one_line(lambda: create_store(tmp_path))
    assert "folder does not exist" in one_line(lambda: create_store(tmp_path / "x" / "y.db"))


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "store:", "sqlite://:memory:", "store::memory:"])
def test_a_url_of_something_else_is_one_line(url: str):
    assert "secret" not in one_line(lambda: create_store(url))


def test_no_error_shows_a_password():
    for url in (
        "postgresql://ann:secret@127.0.0.1:1/d",
        "postgresql://ann:secret@h:port/d",
        "store:postgresql://ann:secret@127.0.0.1:1/d?labels=x",
        "postgresql://127.0.0.1:1/d?user=ann&password=secret",
        "postgresql://ann:secret@127.0.0.1:1/",
        "postgresql://ann:sec@ret/secret@127.0.0.1:1/d",
    ):
        line = one_line(lambda url=url: store_status(url))
        assert "secret" not in line, line


def test_an_unreachable_server_is_one_line():
    line = one_line(lambda: store_status("postgresql://ann@127.0.0.1:1/d"))
    assert line.startswith("postgresql://ann@127.0.0.1:1/d: the server cannot be reached (")
    assert line.endswith("Check host, port, user and password, and that it runs.")


def test_a_missing_driver_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "pip install 'guerdon[postgres]'" in one_line(lambda: store_status("postgresql://h/d"))
    assert builtins is not None


def test_a_locked_store_is_one_line(store: Path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0)
    with sqlite3.connect(store, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        line = one_line(lambda: add_to_store(store, some_comparisons(9)))
        assert "is locked: another process has been writing" in line
        assert store_status(store)["items"] == 6, "reading goes on"
        other.execute("ROLLBACK")


def test_a_full_disk_is_one_line_and_leaves_a_whole_store(store: Path):
    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 80")

    import sqlalchemy as sa

    sa.event.listen(sa.Engine, "connect", limit)
    try:
        line = one_line(lambda: add_to_store(store, some_comparisons(3000)))
    finally:
        sa.event.remove(sa.Engine, "connect", limit)
    assert "the disk is full" in line
    assert store_status(store)["items"] == 6


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder in which this process cannot write; for root, until the end of the test it is nobody."""
    import guerdon.data.files  # noqa: F401 - while this is root, who can read every module

    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # whose parents everybody can enter
    create_store(folder / "a.db")
    add_to_store(folder / "a.db", some_comparisons(3))  # as root, who can read the modules that this loads
    (folder / "a.db").chmod(0o444)
    folder.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        yield folder
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.skipif(os.name != "posix", reason="needs users")
def test_a_read_only_folder_of_a_store_says_what_to_do_for_readers_too(read_only_folder: Path):
    store = read_only_folder / "a.db"
    claim = (
        f"{store}: cannot be read: SQLite needs files next to the store even to read it, and the folder is read-only."
    )
    advice = "Copy the store to a folder that you can write to."
    for call in (
        lambda: store_status(store),
        lambda: list(stream_comparisons([f"store:{store}"], ImportOptions())),
        lambda: add_to_store(store, some_comparisons(9)),
    ):
        assert one_line(call) == f"{claim} {advice}"


@pytest.mark.skipif(os.name != "posix", reason="needs users")
def test_a_read_only_file_is_read_and_not_written(read_only_folder: Path):
    user = os.geteuid()
    if user == 65534:
        os.seteuid(0)
    read_only_folder.chmod(0o777)
    os.seteuid(user)
    store = read_only_folder / "a.db"
    assert store_status(store)["items"] == 6
    assert "cannot be written: the file or its folder is read-only" in one_line(
        lambda: add_to_store(store, some_comparisons(9))
    )


def test_labels_of_a_method_that_the_store_has_not_are_refused_and_not_replaced_by_votes(store: Path):
    def read(method: str) -> list[Comparison]:
        return list(stream_comparisons([f"store:{store}?labels={method}"], ImportOptions()))

    line = one_line(lambda: read("majority"))
    claim = "?labels= must be a method with labels in the store, got 'majority'."
    assert line == f"{store}: {claim} Leave ?labels= out: the store has no labels."
    pairs = [row for row in some_comparisons(3) if len(row.responses) == 2]
    add_to_store(store, pairs, labels="majority")
    assert one_line(lambda: read("majorty")).endswith("got 'majorty'. Did you mean majority?")
    assert len(read("majority")) == 6


def test_a_damaged_file_of_a_store_is_one_line(store: Path, tmp_path):
    file = tmp_path / "prefs.v1.jsonl"
    export_store(store, file)
    lines = file.read_bytes().splitlines(keepends=True)
    again = tmp_path / "b.db"
    create_store(again)
    for content, claim in (
        (b"".join(lines[:-1]), "must hold the 6 items of its header, got 5"),
        (b"".join(lines).replace(b"Question 1?", b"Question 9?"), "of its header, got other content: "),
        (lines[0].replace(b'"version": 1', b'"version": 2') + lines[1], "of a newer Guerdon"),
        (b"".join(lines[1:]).replace(b'"shown": [', b'"shown": [7, ', 1), "shown must be the numbers 0 to"),
        (b"".join(lines[1:]).replace(b'"kind": "unknown"', b'"kind": "cat"', 1), "kind must be one of human"),
        (b"".join(lines[1:]).replace(b'"shown"', b'"show"', 1), "show is not a known field"),
    ):
        file.write_bytes(content)
        assert claim in one_line(lambda: import_prefs(again, [file]))
        assert store_status(again)["items"] == 0, "nothing of a file that is not whole is taken"


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
def test_every_command_refuses_a_file_that_is_not_what_its_header_says(store: Path, tmp_path, ending):
    file, bad = tmp_path / f"prefs{ending}", tmp_path / f"bad{ending}"
    export_store(store, file)
    whole = list(stream_comparisons([file], ImportOptions()))
    assert len(whole) == 6
    _without_last_item(file, bad)
    for words in (
        ("import", bad, "--out", tmp_path / "x.jsonl"),
        ("convert", bad, tmp_path / "x.jsonl"),
        ("check", bad),
        ("check", bad, "--fix", tmp_path / "x.jsonl"),
        ("inspect", bad, "--html", tmp_path / "x.jsonl"),
        ("aggregate", bad, "--out", tmp_path / "x.jsonl"),
        ("select", bad, "--num", "1", "--out", tmp_path / "x.jsonl"),
        ("split", bad, "--out", tmp_path / "parts"),
    ):
        ran = guerdon(*words)
        assert ran.code == 2, words
        assert ran.err.splitlines()[-1].startswith(
            f"error: {bad}: must hold the 6 items of its header, got 5: the file was cut, edited or damaged. Copy it again"
        )
        assert not list(tmp_path.glob("x.*")), words


def _without_last_item(file: Path, bad: Path) -> None:
    """A copy that lacks its last item and is otherwise a proper file of its kind."""
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        pq.write_table(table.slice(0, len(table) - 1), bad)
        return
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rb") as source, opened(bad, "wb") as target:
        target.writelines(source.readlines()[:-1])


def test_files_with_headers_may_be_joined_and_each_is_checked(store: Path, tmp_path):
    file = tmp_path / "prefs.v1.jsonl"
    export_store(store, file)
    lines = file.read_bytes().splitlines(keepends=True)
    joined = tmp_path / "joined.jsonl"
    joined.write_bytes(b"".join(lines * 2))
    assert len(list(stream_comparisons([joined], ImportOptions()))) == 12
    joined.write_bytes(b"".join([*lines[:-1], *lines]))
    assert "must hold the 6 items of its header, got 5" in one_line(
        lambda: list(stream_comparisons([joined], ImportOptions()))
    )
    joined.write_bytes(b"".join(lines[1:-1]))
    assert len(list(stream_comparisons([joined], ImportOptions()))) == 5, "without a header there is nothing to check"


def test_a_hostile_header_or_item_is_one_line(store: Path, tmp_path):
    file = tmp_path / "prefs.v1.jsonl"
    export_store(store, file)
    file.write_bytes(file.read_bytes().replace(b'"strength": 0.5', b'"strength": NaN', 1))
    assert "got other content" in one_line(lambda: list(stream_comparisons([file], ImportOptions())))
    parquet = tmp_path / "prefs.parquet"
    for header, claim in (
        (b"[1]", "header must be an object with a version, got [1]"),
        (b"{}", "version must be an integer >= 1, got nothing"),
        (b"{", "is not valid JSON"),
        (b'{"version": 1, "items": -1}', "items must be a count, got -1"),
    ):
        export_store(store, parquet)
        table = pq.read_table(parquet)
        pq.write_table(table.replace_schema_metadata({HEADER_KEY: header}), parquet)
        assert claim in one_line(lambda: list(stream_comparisons([parquet], ImportOptions())))


def test_other_mistakes_are_one_line(store: Path, tmp_path):
    assert "got the one to merge into" in one_line(lambda: merge_stores(store, [store]))
    assert "the ending must be" in one_line(lambda: export_store(store, tmp_path / "x.csv"))
    assert "kind must be one of" in one_line(lambda: add_to_store(store, [], kind="cat"))
    labels = one_line(lambda: add_to_store(store, some_comparisons(9), labels="majority"))
    assert labels.startswith("labels must be of items with judgments, got 12 of items without.")


def test_labels_of_two_methods_have_to_be_chosen(store: Path):
    import guerdon

    pairs = list(some_comparisons(3))[1::2]
    for method in ("majority", "pairds"):
        add_to_store(store, pairs, labels=method)
    assert "Name one: store:STORE?labels=majority" in one_line(lambda: guerdon.read(f"store:{store}"))
    assert len(guerdon.read(f"store:{store}?labels=pairds")) == 6


def test_the_commands_print_what_they_did(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pair = {"prompt": "Q?", "chosen": "good", "rejected": "bad"}
    write_rows(tmp_path / "pairs.jsonl", pair, {**pair, "prompt": "R?"}, {"prompt": "S?"})
    assert guerdon("store", "init", "p.db").code == 0
    ran = guerdon("store", "import", "p.db", "pairs.jsonl", "--kind", "human", "--rejected", "bad.jsonl", "--json")
    assert (ran.code, ran.out) == (0, ran.out), ran.err
    assert '"new_judgments": 2' in ran.out
    assert '"rejected": 1' in ran.out
    assert (tmp_path / "bad.jsonl").read_text().count("\n") == 1
    assert guerdon("store", "verify", "p.db").code == 0
    with sqlite3.connect("p.db") as connection:
        connection.execute("UPDATE items SET taken = 7")
    assert guerdon("store", "verify", "p.db").code == 1
    assert guerdon("store", "import", "none.db", "pairs.jsonl").code == 2


@pytest.mark.parametrize(
    ("text", "damaged"),
    [
        (b"CREATE TABLE prompts", b"CREATE T\xb3BLE prompts"),
        (b"Question 1?", b"Question\xb31?"),
        (b"Question 1?", b"Question\x011?"),
    ],
)
def test_damaged_text_in_a_store_is_one_line(store, tmp_path, text, damaged):
    assert store.read_bytes().count(text)
    store.write_bytes(store.read_bytes().replace(text, damaged))
    for command in (
        lambda: export_store(store, tmp_path / "out.jsonl"),
        lambda: list(stream_comparisons([f"store:{store}"], ImportOptions())),
    ):
        assert one_line(command) == f"{store}: is damaged. Restore a backup."


def test_a_store_is_not_merged_into_itself_through_a_link(store, tmp_path):
    (tmp_path / "link.db").symlink_to(store)
    assert "must be another store" in one_line(lambda: merge_stores(store, [tmp_path / "link.db"]))
