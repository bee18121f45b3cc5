"""Stores merged in any order hold the same; what an annotation interface and AI judges write survives merges and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from comparison_files import one_line, some_comparisons, write_rows

from guerdon.api.store import add_to_store, export_store, import_prefs, merge_stores, store_status, verify_store
from guerdon.store.database import open_database
from guerdon.store.location import locate
from guerdon.store.reader import read_items

NewStore = Callable[[], str]
HUMAN = {"kind": "human", "name": "ann"}
JUDGE = {"kind": "llm", "name": "judge", "fingerprint": "f00d"}
CALL = {
    "id": "c" * 32,
    "cache_key": "k",
    "run_id": "r",
    "request": {"messages": []},
    "response_raw": "A",
    "tokens_in": 7,
}
ITEM = {
    "prompt": "Q?",
    "responses": [{"text": "yes"}, {"text": "no"}],
    "need": 3,
    "judgments": [
        {
            "annotator": HUMAN, "shown": [1, 0], "q": 0.0, "presentation": "p" * 32, "flags": ["unsafe"], "active_ms": 1.5,
            "earlier": [{"annotator": HUMAN, "shown": [1, 0], "groups": [[0], [1]], "all_bad": True}],
        },
        {"annotator": JUDGE, "shown": [0, 1], "q": 0.75, "call": CALL},
        {"annotator": HUMAN, "shown": [0, 1], "groups": [[0, 1]], "late": True},
    ],
    "labels": [{"method": "m", "params": {"prior": 2}, "q": 0.5, "n_votes": 3, "n_eff": 2.5, "status": "adjudicate"}],
}  # fmt: skip

MORE_VOTES = {"method": "m", "params": {"prior": 2}, "q": 1.0, "n_votes": 9}


def exported(store: str, folder: Path) -> bytes:
    export_store(store, folder / "x.jsonl")
    assert not verify_store(store).findings
    return (folder / "x.jsonl").read_bytes()


def changed(**fields) -> dict:
    return {**json.loads(json.dumps(ITEM)), **fields}


def test_revisions_calls_and_labels_survive_a_file(new_store: NewStore, tmp_path):
    store, again = new_store(), new_store()
    import_prefs(store, [write_rows(tmp_path / "items.jsonl", ITEM)])
    status = store_status(store)
    assert (status["judgments"], status["revised_judgments"], status["judge_calls"], status["labels"]) == (3, 1, 1, 1)
    written = exported(store, tmp_path)
    item = json.loads(written.splitlines()[1])
    assert item["need"] == 3
    assert sorted(json.dumps(j, sort_keys=True).count("earlier") for j in item["judgments"]) == [0, 0, 1]
    import_prefs(again, [tmp_path / "x.jsonl"])
    assert exported(again, tmp_path) == written


def test_merging_in_any_order_and_twice_gives_the_same(new_store: NewStore, tmp_path):
    only_first = {**ITEM["judgments"][0], "q": 1.0, "presentation": "s" * 32}
    contents = (
        [changed(), changed(prompt="R?", judgments=ITEM["judgments"][2:])],
        [changed(need=5, status="complete", judgments=[only_first], labels=[MORE_VOTES])],
        [changed(selection={"score": 1.0}, labels=[])],
    )  # fmt: skip
    stores = []
    for rows in contents:
        stores.append(new_store())
        import_prefs(stores[-1], [write_rows(tmp_path / "items.jsonl", *rows)])
        add_to_store(stores[-1], some_comparisons(len(stores)))
    merged = []
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2, 1)):
        target = new_store()
        merge_stores(target, [stores[i] for i in order])
        merged.append(exported(target, tmp_path))
    assert len(set(merged)) == 1
    assert b'"need": 5, "status": "complete", "selection": {"score": 1.0}' in merged[0]
    assert b'"q": 1.0, "n_votes": 9' in merged[0]
    assert merged[0].count(b'"prompt"') == 2 + 6
    assert set(merge_stores(stores[0], stores[1:]).values()) != {0}
    assert set(merge_stores(stores[0], stores[1:]).values()) == {0}
    assert exported(stores[0], tmp_path) == merged[0]


def judged(new_store: NewStore, folder: Path, *judgments: dict, **fields) -> str:
    """A store with these judgments of the item."""
    store = new_store()
    import_prefs(store, [write_rows(folder / "items.jsonl", changed(judgments=[*judgments], labels=[], **fields))])
    return store


def corrected(q: float, *earlier: float) -> dict:
    """A judgment in an annotation interface, and its revisions before."""
    first, *later = [*earlier, q]
    revisions = [{"annotator": HUMAN, "shown": [1, 0], "q": value} for value in (first, *later)]
    return {**revisions[-1], "presentation": "p" * 32, "earlier": revisions[:-1]}


def revisions_in(store: str) -> list[list[float]]:
    """Of each judgment of the store, q of its revisions, oldest first."""
    with open_database(locate(store)) as database:
        assert not verify_store(store).findings
        return [
            [each.preference.q for each in (*judgment.earlier, judgment)]
            for _, item in read_items(database)
            for judgment in item.judgments
        ]


def answered(q: float, raw: str) -> dict:
    return {"annotator": JUDGE, "shown": [0, 1], "q": q, "call": {**CALL, "response_raw": raw}}


def test_two_corrections_of_one_judgment_are_refused_before_anything_is_written(new_store: NewStore, tmp_path):
    a, b = new_store(), new_store()
    other = changed(judgments=[{**ITEM["judgments"][0], "q": 1.0}], labels=[])
    import_prefs(a, [write_rows(tmp_path / "a.jsonl", ITEM)])
    import_prefs(b, [write_rows(tmp_path / "b.jsonl", other, changed(prompt="R?", judgments=[], labels=[]))])
    before = exported(a, tmp_path)
    line = one_line(lambda: merge_stores(a, [b]))
    assert "the judgment of presentation pppp" in line
    assert "--prefer ours or theirs" in line
    assert exported(a, tmp_path) == before
    assert "must agree with what is stored" in one_line(lambda: import_prefs(a, [tmp_path / "b.jsonl"]))
    assert exported(a, tmp_path) == before
    shared = write_rows(tmp_path / "shared.jsonl", changed(), changed(prompt="R?"))
    assert "must agree with what is stored" in one_line(lambda: import_prefs(new_store(), [shared]))
    far = write_rows(tmp_path / "far.jsonl", changed(judgments=[{**ITEM["judgments"][0], "presentation": "p" * 99}]))
    assert "presentation must be an id of at most 32" in one_line(lambda: import_prefs(a, [far]))


@pytest.mark.parametrize(
    ("prefer", "ours", "theirs", "merged"),
    [
        ("theirs", [0.0, 0.25], [0.0, 0.75], [0.0, 0.25, 0.75]),
        ("ours", [0.0, 0.25], [0.0, 0.75], [0.0, 0.25, 0.75, 0.25]),
        ("ours", [0.0], [0.5, 1.0], [0.0, 0.5, 1.0, 0.0]),
        ("theirs", [0.0, 0.25, 1.0], [0.0, 1.0, 0.25], [0.0, 0.25, 1.0, 0.25]),
        ("ours", [0.0, 0.25], [0.0], [0.0, 0.25]),
        ("ours", [0.0], [0.0, 0.25], [0.0, 0.25]),
        (None, [0.0], [0.0, 0.25], [0.0, 0.25]),
        (None, [0.0, 0.25], [0.0], [0.0, 0.25]),
        (None, [0.0, 0.25, 0.75], [0.0, 0.75], [0.0, 0.25, 0.75]),
        (None, [0.0, 0.75], [0.0, 0.25, 0.75, 0.25], [0.0, 0.75, 0.25]),
    ],
)
def test_the_preferred_correction_is_the_newest_revision_and_none_is_lost(
    new_store: NewStore, tmp_path, prefer, ours: list[float], theirs: list[float], merged: list[float]
):
    """A newer revision of the same history needs no choice, nor does a store that knows all that the other one says."""
    a, b = (judged(new_store, tmp_path, corrected(chain[-1], *chain[:-1])) for chain in (ours, theirs))
    for _ in range(2):  # the second time adds nothing
        merge_stores(a, [b], prefer)
        assert revisions_in(a) == [merged]
    merge_stores(b, [a])
    assert revisions_in(b)[0][-1] == merged[-1]
    before = exported(a, tmp_path)
    merge_stores(a, [b])
    assert exported(a, tmp_path) == before


def test_two_readings_of_one_call_are_refused_or_kept_both(new_store: NewStore, tmp_path):
    a = judged(new_store, tmp_path, answered(0.75, "A"))
    b = judged(new_store, tmp_path, answered(0.25, "B"))
    before = exported(a, tmp_path)
    assert f"by call {'c' * 32} must be the same in both stores" in one_line(lambda: merge_stores(a, [b]))
    assert exported(a, tmp_path) == before
    merge_stores(a, [b], "theirs")
    assert revisions_in(a) == [[0.75, 0.25]]
    assert json.loads(exported(a, tmp_path).splitlines()[1])["judgments"][0]["call"]["response_raw"] == "A"


def test_a_presentation_of_two_items_is_one_line(new_store: NewStore, tmp_path):
    a, b = (judged(new_store, tmp_path, corrected(0.25), prompt=prompt) for prompt in ("Q?", "R?"))
    before = exported(a, tmp_path)
    for prefer in (None, "ours", "theirs"):
        assert "must agree with what is stored" in one_line(lambda prefer=prefer: merge_stores(a, [b], prefer))
        assert exported(a, tmp_path) == before


@pytest.mark.parametrize(("prefer", "q"), [("ours", 0.25), ("theirs", 0.75), (None, 0.75)])
def test_of_two_labels_with_as_many_votes_the_preferred_one_stays(new_store: NewStore, tmp_path, prefer, q: float):
    stores = []
    for value in (0.25, 0.75):
        stores.append(judged(new_store, tmp_path, corrected(0.5)))
        labels = [{"method": "m", "q": value, "n_votes": 3}, {"method": "n", "q": value, "n_votes": int(9 * value)}]
        import_prefs(stores[-1], [write_rows(tmp_path / "l.jsonl", changed(judgments=[], labels=labels))])
    merge_stores(stores[0], stores[1:], prefer)
    labels = json.loads(exported(stores[0], tmp_path).splitlines()[1])["labels"]
    assert [label["q"] for label in labels] == [q, 0.75]


def test_leases_stay_and_failed_calls_come_along(new_store: NewStore, tmp_path):
    a, b = new_store(), new_store()
    import_prefs(a, [write_rows(tmp_path / "a.jsonl", ITEM)])
    with open_database(locate(a)) as database, database.writing() as connection:
        item, annotator = (
            connection.exec_driver_sql(f"SELECT min(id) FROM {t}").scalar() for t in ("items", "annotators")
        )
        connection.exec_driver_sql(
            "INSERT INTO presentations (id, item_id, annotator_id, shown, origin, state) "
            f"VALUES ('held', '{item}', '{annotator}', '[0,1]', 'claimed', 'held')"
        )
        connection.exec_driver_sql(
            "INSERT INTO judge_calls (id, cache_key, request, status, failure_code) "
            "VALUES ('failed', 'k', '1', 'failed', 'timeout')"
        )
    merge_stores(b, [a])
    status = store_status(b)
    assert (status["held_presentations"], status["failed_judge_calls"], status["judge_calls"]) == (0, 1, 2)
    assert not verify_store(b).findings
