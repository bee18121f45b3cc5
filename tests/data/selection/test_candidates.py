"""Every shape of unlabeled rows gives the pairs that it holds, each once, whatever the order of the rows."""

from __future__ import annotations

import json
import random

import pytest

from guerdon.api.store import add_to_store, create_store, export_store
from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError, Preference, Response, as_prompt
from guerdon.data.files import Rejects
from guerdon.data.selection.candidates import CandidateRow, candidate_rows, labeled_row, read_pool
from guerdon.data.selection.sources import Sources


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def read(path, **options):
    rejects = Rejects()
    rows = [row for _, row in candidate_rows([path], ImportOptions(**options), rejects)]
    return rows, rejects


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ({"prompt": "p", "responses": ["a", "b"]}, {}),
        ({"prompt": [{"role": "user", "content": "p"}], "responses": [{"text": "a"}, {"text": "b"}]}, {}),
        ({"prompt": "p", "response_a": "a", "response_b": "b"}, {}),
        ({"prompt": "p", "first": "a", "second": "b"}, {}),
        ({"question": "p", "x": "a", "y": "b"}, {"columns": {"prompt": "question", "first": "x", "second": "y"}}),
        ({"prompt": "p", "answers": ["a", "b"]}, {"columns": {"responses": "answers"}}),
        ({"prompt": "p", "first": "a", "second": "b", "label": "a"}, {}),
        ({"prompt": "p", "responses": ["a", "b"], "preference": {"q": 1.0}}, {}),
        ({"chosen": "\n\nHuman: p\n\nAssistant: a", "rejected": "\n\nHuman: p\n\nAssistant: b"}, {}),
    ],
)
def test_each_shape_of_a_row_gives_its_pair(row, options, tmp_path):
    rows, rejects = read(write(tmp_path / "pool.jsonl", [row]), **options)
    assert rejects.count == 0
    assert [(r.prompt, {x.text for x in r.responses}) for r in rows] == [(as_prompt("p"), {"a", "b"})]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "p", "responses": ["a"]}, "at least 2 responses, got 1"),
        ({"prompt": "p", "responses": ["a", "a"]}, "the responses must differ"),
        ({"prompt": "p", "response": "a"}, "at least 2 responses, got 1"),
        ({"responses": ["a", "b"]}, "an object with prompt and response"),
        ({"prompt": 3, "responses": ["a", "b"]}, "prompt must be"),
        ({"prompt": "p", "responses": ["a", "b"], "group": True}, "group must be"),
        (7, "must be"),
    ],
)
def test_a_row_without_a_pair_is_set_aside_with_its_reason(row, reason, tmp_path):
    path = write(tmp_path / "pool.jsonl", [{"prompt": "p", "responses": ["a", "b"]}, row])
    rows, rejects = read(path)
    assert rows[1] is None
    assert reason in rejects.first_reason
    with pytest.raises(GuerdonError, match=r"pool\.jsonl:2"):
        read(path, strict=True)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.zst", ".parquet"])
def test_the_file_of_a_store_gives_the_pairs_of_its_items_and_its_header_is_no_row(ending, tmp_path):
    labeled = [Comparison(as_prompt(p), (Response("a"), Response("b")), Preference(q=1.0), group="g") for p in "pq"]
    create_store(tmp_path / "a.db")
    add_to_store(tmp_path / "a.db", labeled)
    export_store(tmp_path / "a.db", tmp_path / f"prefs{ending}")
    rows, rejects = read(tmp_path / f"prefs{ending}")
    assert rejects.count == 0
    assert sorted((r.prompt[0].content, r.group, {x.text for x in r.responses}) for r in rows) == [
        ("p", "g", {"a", "b"}),
        ("q", "g", {"a", "b"}),
    ]


def pool_of(rows, labeled=()):
    return read_pool((("", row) for row in rows), labeled)


def row_of(prompt, *texts, group=None):
    return CandidateRow(as_prompt(prompt), tuple(map(Response, texts)), group)


def test_k_responses_give_every_pair_of_different_ones():
    assert len(pool_of([row_of("p", "a", "b", "c", "a")])) == 3


def test_near_duplicates_are_one_pair_and_one_group():
    pool = pool_of([row_of("Why?", "a", "b"), row_of("why? ", "B", "a"), row_of("Why?", "a", "c")])
    assert (len(pool), pool.num_duplicates, len(pool.group_key)) == (2, 1, 1)
    assert len(pool_of([row_of("p", "a", "b", group="x"), row_of("q", "a", "b", group="x")]).group_key) == 1


def test_what_is_labeled_is_left_out_whatever_its_order():
    labeled = Comparison(as_prompt("p"), (Response("b"), Response("a")), Preference(q=1.0))
    keys = {key for _, _, key, _ in labeled_row(labeled).pairs()}
    pool = pool_of([row_of("p", "a", "b"), row_of("p", "a", "c")], keys)
    assert (len(pool), pool.num_labeled) == (1, 1)
    assert labeled_row(labeled).group_key == row_of("p", "a", "b").group_key


def test_the_order_of_rows_and_of_responses_changes_no_pool():
    rows = [row_of(f"p{i % 7}", f"a{i}", f"b{i}", f"c{i}") for i in range(30)]
    mixed = [CandidateRow(row.prompt, row.responses[::-1]) for row in random.Random(0).sample(rows, 30)]
    one, other = pool_of(rows), pool_of(mixed)
    assert one.exact_key.tolist() == other.exact_key.tolist()
    assert one.group.tolist() == other.group.tolist()


def test_any_text_has_a_key():
    assert len(pool_of([row_of("\ud800\0", "\u202ea", "\0b"), row_of("", " ", "x")])) == 2


def test_the_texts_of_a_pair_are_read_again_from_its_row_and_no_other(tmp_path):
    rows = [{"prompt": f"p{i}", "responses": ["a", "b", str(i)]} for i in range(20)]
    path = write(tmp_path / "pool.jsonl", rows)
    files = Sources([path], ImportOptions())
    pool = read_pool(files.rows())
    wanted = pool.row.argsort()[[3, 40]]
    candidates = list(files.candidates(pool, wanted))
    assert [c.location for c in candidates] == [f"{path}:2", f"{path}:14"]
    assert all(c.row.responses[c.indices[0]] == c.responses[0] for c in candidates)
    write(path, rows[::-1])
    with pytest.raises(GuerdonError, match="must stay as it is"):
        list(files.candidates(pool, wanted))
    write(path, rows[:1])
    with pytest.raises(GuerdonError, match="must stay as it is"):
        list(files.candidates(pool, wanted))
