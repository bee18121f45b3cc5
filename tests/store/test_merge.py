"""Stores merged in any order hold the same; what an annotation interface and AI judges write survives merges and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from comparison_files import one_line, some_comparisons, write_rows

from guerdon.api.store import add_to_store, export_store, import_prefs, merge_stores, store_status, verify_store
from guerdon.store.database import open_database
from guerdon.store.location import locate

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


def test_two_corrections_of_one_judgment_are_refused_before_anything_is_written(new_store: NewStore, tmp_path):
    a, b = new_store(), new_store()
    other = changed(judgments=[{**ITEM["judgments"][0], "q": 1.0}], labels=[])
    import_prefs(a, [write_rows(tmp_path / "a.jsonl", ITEM)])
    import_prefs(b, [write_rows(tmp_path / "b.jsonl", other, changed(prompt="R?", judgments=[], labels=[]))])
    before = exported(a, tmp_path)
    assert "revision 2 of the judgment of presentation pppp" in one_line(lambda: merge_stores(a, [b]))
    assert exported(a, tmp_path) == before
    assert "must agree with what is stored" in one_line(lambda: import_prefs(a, [tmp_path / "b.jsonl"]))
    assert exported(a, tmp_path) == before
    shared = write_rows(tmp_path / "shared.jsonl", changed(), changed(prompt="R?"))
    assert "must agree with what is stored" in one_line(lambda: import_prefs(new_store(), [shared]))
    far = write_rows(tmp_path / "far.jsonl", changed(judgments=[{**ITEM["judgments"][0], "presentation": "p" * 99}]))
    assert "presentation must be an id of at most 32" in one_line(lambda: import_prefs(a, [far]))


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
