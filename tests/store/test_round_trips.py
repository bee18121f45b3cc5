"""What goes into a store comes out of it, byte for byte, on both databases, in any order and however often."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from comparison_files import comparisons, some_comparisons
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import guerdon
from guerdon import Comparison, Preference, Response
from guerdon.api.store import add_to_store, export_store, import_prefs, merge_stores, store_status, verify_store
from guerdon.store.comparisons import read_store

NewStore = Callable[[], str]
HOSTILE = ["", "\0", "a\0b", "\ud800", "\udfff half", "\u202e bidi", "é", "e\u0301", " space ", "a\\u0000b", "\\", '"', "😀",
           "\r\n", "\ufeff", "\u2028", "'; DROP TABLE items; --", "%s %(x)s :name", "x" * 300_000]  # fmt: skip


def pair(first: str = "yes", second: str = "no", prompt: str = "Question?", q: float = 1.0, **fields) -> Comparison:
    return Comparison(prompt, (Response(first), Response(second)), Preference(q=q), **fields)


def exported(store: str, folder: Path) -> bytes:
    export_store(store, folder / "prefs.v1.jsonl")
    assert not verify_store(store).findings
    return (folder / "prefs.v1.jsonl").read_bytes()


def key(comparison: Comparison) -> str:
    return repr(comparison)


def test_each_comparison_comes_back_as_it_was(new_store: NewStore):
    given_ones = list(some_comparisons(20))
    store = new_store()
    add_to_store(store, given_ones)
    assert sorted(read_store(store, each=True), key=key) == sorted(given_ones, key=key)
    assert not verify_store(store).findings


def test_text_of_any_characters_is_the_same_bytes_in_both_databases(new_store: NewStore, tmp_path):
    given_ones = [
        pair(
            text,
            f"{text}.",
            prompt=f"{text}?",
            annotator=text,
            source=text,
            rationale=text,
            group=text or "g",
            id=text or "i",
        )
        for text in HOSTILE
    ]
    store = new_store()
    add_to_store(store, given_ones)
    assert sorted(read_store(store), key=key) == sorted(given_ones, key=key)
    written = exported(store, tmp_path)
    again = new_store()
    import_prefs(again, [tmp_path / "prefs.v1.jsonl"])
    assert exported(again, tmp_path) == written


def test_an_import_twice_is_one_import(new_store: NewStore, tmp_path):
    given_ones = [*some_comparisons(5), pair(), pair(), pair(annotator="ann")]  # two people without a name agree
    store = new_store()
    assert add_to_store(store, given_ones)["judgments"] == 13
    once = exported(store, tmp_path)
    assert set(add_to_store(store, given_ones).values()) == {0}
    assert exported(store, tmp_path) == once
    assert store_status(store)["judgments"] == 13


def test_any_order_of_imports_gives_the_same_bytes(new_store: NewStore, tmp_path):
    parts = [
        [*some_comparisons(2), pair()],
        [pair(), pair(), pair(q=0.25)],
        [pair("no", "yes", q=0.0), *some_comparisons(4)],
    ]
    in_order, shuffled = new_store(), new_store()
    for part in parts:
        add_to_store(in_order, part)
    rng = random.Random(0)
    for part in rng.sample([*parts, parts[1]], 4):
        add_to_store(shuffled, rng.sample(part, len(part)))
    assert exported(in_order, tmp_path) == exported(shuffled, tmp_path)


def test_a_store_becomes_a_file_becomes_the_same_store(new_store: NewStore, tmp_path):
    store, again = new_store(), new_store()
    add_to_store(store, [*some_comparisons(4), pair(), pair(), pair("\ud800", "\0")], kind="human")
    add_to_store(store, [pair(q=0.75)], labels="majority")
    written = exported(store, tmp_path)
    for ending in (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"):
        file = tmp_path / f"copy{ending}"
        export_store(store, file)
        import_prefs(again, [file])
        assert exported(again, tmp_path) == written
        content = file.read_bytes()
        export_store(again, file)
        assert file.read_bytes() == content
        assert list(read_store(store)) == guerdon.read(file)
        assert list(read_store(store, each=True)) == guerdon.read(file, judgments="each")


def test_commands_read_a_store_wherever_they_read_comparisons(new_store: NewStore):
    store = new_store()
    add_to_store(store, [pair(annotator="a"), pair(annotator="b"), pair("no", "yes", annotator="c")])
    (together,) = guerdon.read(f"store:{store}")
    votes = {"yes": (2, 0, 1), "no": (1, 0, 2)}[together.responses[0].text]
    assert together.preference == Preference(q=votes[0] / 3, votes=votes)
    assert len(guerdon.read(f"store:{store}", judgments="each")) == 3


def test_swapping_the_responses_of_a_file_changes_no_label(new_store: NewStore):
    rng = random.Random(1)
    given_ones = [pair(q=rng.randrange(1001) / 1000, prompt=f"{i % 9}", annotator=f"{i}") for i in range(60)]
    given_ones += [pair(q=0.5, prompt="vote", annotator=f"{i}") for i in range(3)]
    swapped = [
        Comparison(
            each.prompt, each.responses[::-1], Preference(q=round(1 - (each.q or 0.0), 3)), annotator=each.annotator
        )
        for each in given_ones
    ]
    first, second = new_store(), new_store()
    add_to_store(first, given_ones)
    add_to_store(second, swapped)
    assert list(read_store(first)) == list(read_store(second))


SOME_COMPARISONS = st.lists(
    comparisons(st.text(st.characters(codec=None), max_size=5)), min_size=1, max_size=4
)  # of any characters, half ones too
A_FEW = settings(
    max_examples=3, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None
)


@settings(A_FEW, max_examples=10)
@given(SOME_COMPARISONS, st.randoms())
def test_any_comparisons_survive_store_and_file(empty_file: Path, tmp_path_factory, given_ones, rng):
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as folder:
        paths = (str(shutil.copy(empty_file, Path(folder) / name)) for name in ("a.db", "b.db", "c.db"))
        they_survive(lambda: next(paths), Path(folder), given_ones, rng)


@A_FEW
@given(SOME_COMPARISONS, st.randoms())
def test_any_comparisons_survive_either_database_and_file(new_store: NewStore, tmp_path: Path, given_ones, rng):
    they_survive(new_store, tmp_path, given_ones, rng)


def they_survive(new_store: NewStore, folder: Path, given_ones, rng: random.Random) -> None:
    """In any order, imported twice in part, merged, and through the file: the same bytes, and the same comparisons."""
    a, b, c = new_store(), new_store(), new_store()
    add_to_store(a, given_ones)
    shuffled = rng.sample(given_ones, len(given_ones))
    add_to_store(b, shuffled[:2])
    assert exported(a, folder) == merged_or_added(b, shuffled, a, folder, rng)
    import_prefs(c, [folder / "prefs.v1.jsonl"])
    assert exported(c, folder) == exported(a, folder)
    back = list(read_store(c, each=True))
    assert sorted(map(_comparable, back)) == sorted(map(_comparable, given_ones))


def merged_or_added(store: str, given_ones, other: str, folder: Path, rng: random.Random) -> bytes:
    """The export of a store that gets the rest by a merge or by an import."""
    if rng.random() < 0.5:
        merge_stores(store, [other])
    else:
        add_to_store(store, given_ones)
    return exported(store, folder)


def _comparable(comparison: Comparison) -> str:
    from guerdon.io.schema import comparison_to_row
    from guerdon.store.canonical import canonical

    return canonical({name: value for name, value in comparison_to_row(comparison).items() if name != "id"})
