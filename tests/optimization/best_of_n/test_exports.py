"""A pool as data for the next round: rows to fine-tune on, and comparisons."""

from __future__ import annotations

import dataclasses

import pytest
from pools import toy_rollouts

from guerdon.contracts import GuerdonError
from guerdon.io import readers, writers
from guerdon.optimization.best_of_n.exports import to_comparisons, to_sft_rows


def test_the_best_distinct_replies_become_rows_to_fine_tune_on():
    pool = toy_rollouts([[1, 3, 2, 3], [0, 0, 0, 0]], texts=[["a", "b", "c", "b"], ["d", "e", "f", "g"]])
    assert list(to_sft_rows(pool)) == [
        {"prompt": [{"role": "user", "content": "prompt 0"}], "response": "b", "reward": 3.0},
        {"prompt": [{"role": "user", "content": "prompt 1"}], "response": "d", "reward": 0.0},
    ]
    assert [row["response"] for row in to_sft_rows(pool, top=2)] == ["b", "c", "d", "e"]
    with pytest.raises(GuerdonError, match="top must be at least 1, got 0"):
        list(to_sft_rows(pool, top=0))


def test_cut_replies_are_never_fine_tuned_on():
    pool = toy_rollouts([[1, 3], [1, 2]])
    first, *rest = pool.responses
    cut = tuple(dataclasses.replace(response, finish="length") for response in rest)
    assert [row["response"] for row in to_sft_rows(dataclasses.replace(pool, responses=(first, *cut)))] == ["reply 0 0"]


def test_best_and_worst_become_comparisons_and_ties_are_skipped(tmp_path):
    pool = toy_rollouts([[1, 3, 0], [2, 2, 2], [5, 1, 4], [0, 0.5, 0]])
    comparisons = list(to_comparisons(pool))
    assert [[r.text for r in c.responses] for c in comparisons] == [
        ["reply 0 1", "reply 0 2"],
        ["reply 2 0", "reply 2 1"],
        ["reply 3 0", "reply 3 1"],
    ]
    assert [c.preference.groups for c in comparisons] == [((0,), (1,)), ((0,), (1,)), ((1,), (0,))]
    assert [c.preference.strength for c in comparisons] == [3.0, 4.0, 0.5]
    assert {c.source for c in comparisons} == {"best-of-n"}
    assert [c.prompt for c in to_comparisons(pool, least_gap=3.0)] == [pool.prompts_once[2]]
    writers.write_comparisons(tmp_path / "next.jsonl", comparisons)
    assert list(readers.read_comparisons(tmp_path / "next.jsonl")) == comparisons
    with pytest.raises(GuerdonError, match="least_gap must be a finite number >= 0, got -1"):
        list(to_comparisons(pool, least_gap=-1))
