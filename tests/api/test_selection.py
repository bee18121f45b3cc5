"""From unlabeled rows to a trained model: pick, answer, import, train, pick again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from shell import guerdon
from toys import KIND, UNKIND, Good, liked

import guerdon as g
from guerdon.config import ModelOptions
from guerdon.models.directory.loading import create_reward_model


@pytest.fixture(scope="module")
def model(tiny_dir):
    return create_reward_model(ModelOptions(base=str(tiny_dir)), seed=1)


@pytest.fixture
def pool(tmp_path):
    return write(tmp_path / "pool.jsonl", unlabeled(150))


def unlabeled(num, k=3):
    return [
        {"prompt": c.prompt[0].content, "responses": [r.text for r in c.responses], "source": "lab"}
        for c in liked(num, k=k)
    ]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def one_line(text):
    """The error, which must be one line."""
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, text
    return errors[0]


def answer(row):
    """What a person who likes kind words says."""
    first, second = (
        sum(text["text"].split().count(w) for w in KIND) - sum(text["text"].split().count(w) for w in UNKIND)
        for text in row["responses"]
    )
    return {**row, "preference": {"q": 0.5 if first == second else float(first > second)}}


def read_rows(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_walk_from_a_pool_to_a_model_and_to_the_next_round(tmp_path, pool, tiny_dir):
    first = tmp_path / "one.jsonl"
    assert guerdon("select", pool, "--num", 40, "--out", first).code == 0
    labeled = write(tmp_path / "labeled.jsonl", map(answer, read_rows(first)))
    imported = tmp_path / "all.jsonl"
    assert guerdon("import", labeled, "--out", imported).code == 0
    assert [c.id for c in g.read(imported)] == [row["id"] for row in read_rows(first)]  # joins answers and propensities
    trained = guerdon("train", "--data", imported, "--base", tiny_dir, "--out", tmp_path / "run", "train.max_steps=3")
    assert trained.code == 0, trained.err
    second = tmp_path / "two.jsonl"
    again = guerdon(
        "select", pool, "--num", 40, "--out", second, "--model", tmp_path / "run" / "model", "--labeled", imported,
        "--strategy", "d_optimal_half", "--json", "select.round=2",
    )  # fmt: skip
    assert again.code == 0, again.err
    counts = json.loads(again.out)
    assert (counts["active"], counts["random"], counts["test"], counts["labeled_before"]) == (18, 18, 4, 36)
    picks = read_rows(second)
    assert not {row["id"] for row in picks} & {row["id"] for row in read_rows(first)}
    active = [row["selection"] for row in picks if row["selection"]["strategy"] == "d_optimal"]
    assert len(active) == 18
    assert all(s["score"] > 0 and s["propensity"] == 1 and s["model"] and s["round"] == 2 for s in active)
    assert all(0 < row["selection"]["propensity"] <= 1 for row in picks)


def test_picks_are_scored_as_they_are_and_imported_only_with_answers(tmp_path, pool, model):
    picks = tmp_path / "picks.jsonl"
    guerdon("select", pool, "--num", 20, "--out", picks)
    g.save(model, tmp_path / "model")
    scored = tmp_path / "scored.jsonl"
    assert guerdon("score", tmp_path / "model", "--data", picks, "--out", scored).code == 0
    assert [row["selection"] for row in read_rows(scored)] == [row["selection"] for row in read_rows(picks)]
    refused = guerdon("import", picks, "--out", tmp_path / "x.jsonl")
    assert refused.code == 2
    assert "Picks must be labeled first" in one_line(refused.err)


def test_the_test_stream_is_never_picked_actively_and_shares_no_prompt(pool, model):
    options = {"num": 60, "test_share": 0.3, "strategy": "d_optimal_half", "per_prompt": 3}
    selections = [g.select(pool, model=model, **options, seed=seed) for seed in range(3)]
    tests = [{row["prompt"][0]["content"] for row in s.test} for s in selections]
    trains = [{row["prompt"][0]["content"] for row in s.train} for s in selections]
    assert all(row["selection"]["strategy"] == "random" for s in selections for row in s.test)
    assert not set.union(*tests) & set.union(*trains)  # whatever the seed


def test_a_prompt_that_was_trained_on_is_not_in_the_test_stream(pool):
    everything = g.select(pool, num=150, test_share=0.5)
    labeled = [
        c for c in liked(150, k=3) if c.prompt[0].content in {r["prompt"][0]["content"] for r in everything.test}
    ]
    rest = g.select(pool, num=150, test_share=0.5, labeled=labeled)
    assert everything.test
    assert rest.test == []


def test_the_same_seed_gives_the_same_picks_in_any_order_of_rows(tmp_path, pool, model):
    rows = read_rows(pool)
    mixed = write(tmp_path / "mixed.jsonl", [rows[i] for i in np.random.default_rng(0).permutation(len(rows))])
    for options in ({}, {"model": model, "strategy": "d_optimal_half"}):
        ids = [[row["id"] for row in g.select(path, num=50, seed=4, **options).train] for path in (pool, pool, mixed)]
        assert ids[0] == ids[1] == ids[2]
        assert ids[0] != [row["id"] for row in g.select(pool, num=50, seed=5, **options).train]


def test_active_picks_carry_more_information_than_random_ones(pool, model):
    from guerdon.config import SelectOptions
    from guerdon.contracts import as_prompt, as_response
    from guerdon.data.selection.candidates import CandidateRow
    from guerdon.data.selection.features import PairReader

    selection = g.select(pool, num=60, test_share=0, model=model, strategy="d_optimal_half")
    reader = PairReader(model, SelectOptions())
    logs = []
    for name in ("d_optimal", "random"):
        chosen = [row for row in selection.train if row["selection"]["strategy"] == name]
        pairs = (
            (CandidateRow(as_prompt(row["prompt"]), tuple(as_response(r["text"]) for r in row["responses"])), 0, 1)
            for row in chosen
        )
        difference = np.concatenate([part.difference for part in reader.read(pairs)])
        logs.append(np.linalg.slogdet(np.eye(64) + difference.T @ difference)[1])
    assert logs[0] > logs[1]


def test_few_pairs_are_all_picked_and_a_line_says_so(tmp_path):
    pool = write(tmp_path / "pool.jsonl", unlabeled(3))
    ran = guerdon("select", pool, "--num", 50, "--out", tmp_path / "picks.jsonl", "--test-share", 0)
    assert ran.code == 0
    assert "3 picks instead of 50" in ran.err
    assert (tmp_path / "picks.test.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--strategy", "d_optimal_half"], "select.strategy must be random without a model"),
        (["--model", "anything"], "select.strategy must be d_optimal_half with a model"),
        (["--num", "0"], "select.num must be"),
        (["--strategy", "entropy"], "select.strategy must be"),
        (["--test-share", "1"], "select.test_share must be"),
        (["select.random_share=0.1"], "select.random_share must be"),
    ],
)
def test_a_mistake_is_one_line(words, reason, tmp_path, pool):
    ran = guerdon("select", pool, "--out", tmp_path / "picks.jsonl", *words)
    assert ran.code == 2
    assert reason in one_line(ran.err)


def test_items_of_a_store_that_nobody_judged_are_picked(tmp_path):
    store, rows = f"store:{tmp_path / 'preferences.db'}", [*liked(9, k=2)]
    g.create_store(store)
    g.add_to_store(store, rows)
    assert g.select(store, num=20).counts["pairs"] == 9
    assert g.select(store, labeled=rows[:4], num=20).counts["pairs"] == 5


def test_a_pool_of_nothing_is_an_error(tmp_path):
    empty = write(tmp_path / "empty.jsonl", [])
    alone = write(tmp_path / "alone.jsonl", [{"prompt": "p", "responses": ["a"]}])
    for path, reason in ((empty, "holds no rows"), (alone, "alone.jsonl:1: a row must have at least 2")):
        ran = guerdon("select", path, "--out", tmp_path / "picks.jsonl")
        assert ran.code == 2
        assert reason in one_line(ran.err)
    labeled = write(
        tmp_path / "labeled.jsonl", [answer({"prompt": "p", "responses": [{"text": "good"}, {"text": "x"}]})]
    )
    ran = guerdon("select", labeled, "--labeled", labeled, "--out", tmp_path / "picks.jsonl")
    assert ran.code == 2
    assert "at least one pair must not be labeled" in one_line(ran.err)


def test_a_model_without_features_is_refused(pool):
    with pytest.raises(g.GuerdonError, match="one member of an ensemble"):
        g.select(pool, model=Good(), strategy="d_optimal_half")
