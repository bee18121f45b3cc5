"""Scores from elsewhere reach their responses, and a file that does not fit is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from published import JUDGEBENCH, OPTIONS, REWARDBENCH, REWARDBENCH2, RMBENCH, items_of, values

from guerdon.benchmarks.readers import unpack
from guerdon.benchmarks.run import benchmark
from guerdon.benchmarks.score_files import match_scores
from guerdon.contracts import GuerdonError


def scored(name, rows):
    return match_scores([(f"s:{i}", row) for i, row in enumerate(rows, 1)], items_of(name)).scores


def test_scores_of_every_known_form_reach_their_responses():
    ours = [{"id": row["id"], "scores": [1, 0]} for row in REWARDBENCH]
    columns = {"id": [0, 1, 2], "scores_chosen": [1.0, 2.0, 3.0], "scores_rejected": [0.0, 0.0, 4.0],
               "results": [1, 1, 0], "subset": ["a", "b", "c"], "model": "m", "chat_template": "t"}  # fmt: skip
    rows = [row for _, row in unpack(columns, "f.json")]
    assert [s.tolist() for s in scored("rewardbench", ours)] == [[[1, 0]]] * 3
    assert [s.tolist() for s in scored("rewardbench", rows)] == [[[1, 0]], [[2, 0]], [[3, 4]]]
    results = [{"id": i, "results": r} for i, r in enumerate((1, 0, 0.5))]
    assert [float(np.diff(s)[0, 0]) for s in scored("rewardbench", results)] == [-1, 1, 0]
    assert [s.tolist() for s in scored("rewardbench", [{"id": i, "rewards": [i, 0]} for i in range(3)])][2] == [[2, 0]]
    nested = [
        {"id": row["id"], "scores": [[float(i)] for i in range(row["total_completions"])]} for row in REWARDBENCH2
    ]
    assert scored("rewardbench2", nested)[0].tolist() == [[0, 1, 2, 3]]
    grid = [{**row, "score_chosen": [1, 2, 3], "score_rejected": [4, 5, 6]} for row in RMBENCH]
    assert scored("rmbench", grid)[0].tolist() == [[1, 2, 3, 4, 5, 6]]
    rmb = [
        {"pair_uid": "3", "chosen_reward": 1, "reject_reward": 0, "is_correct": 1},
        {"pair_uid": "4", "chosen_reward": 2, "reject_reward": 0},
        {"bon_uid": "3", "scores": [3, 1, 0]},
        {"bon_uid": "5", "scores_chosen": 4, "scores_rejected": [1, 0]},
    ]
    assert [s[0].tolist() for s in scored("rmb", rmb)] == [[1, 0], [2, 0], [3, 1, 0], [4, 1, 0]]


def test_chosen_and_rejected_scores_reach_their_responses_in_any_order():
    rows = [{"id": f"Adversarial/Neighbor/{i}", "scores_chosen": 1.0, "scores_rejected": 0.0} for i in range(3)]
    assert [s[0].tolist() for s in scored("llmbar", rows)] == [[1, 0], [0, 1], [0, 1]]


def test_judgebench_outputs_are_swapped_back_and_scored_as_their_authors_do():
    def judged(row, first, second):
        return {**row, "judge_name": "reward_model", "judgments": [first, second]}

    scores = {"judgment": {"judge_model": "m", "scores": [-1.5, -2.0]}, "decision": "A>B"}
    swapped = {"judgment": {"judge_model": "m", "scores": [-2.0, -1.5]}, "decision": "B>A"}
    said = [{"judgment": {"response": "..."}, "decision": each} for each in ("A>B", "A>B", None, "A=B")]
    rows = [
        judged(JUDGEBENCH[0], scores, swapped),
        judged(JUDGEBENCH[1], said[0], said[1]),
        judged(JUDGEBENCH[2], None, said[3]),
    ]
    items = items_of("judgebench")
    table = match_scores([(f"s:{i}", row) for i, row in enumerate(rows)], items)
    assert table.scores[0].tolist() == [[-1.5, -2.0], [-1.5, -2.0]]
    assert table.scores[1].tolist() == [[1, 0], [0, 1]]  # first for A, then for the one shown first, B
    assert table.scores[2].tolist() == [[0, 0], [0, 0]]
    found = values(benchmark(table, items, "judgebench", OPTIONS))
    assert found["score"] == pytest.approx(1 / 3)
    assert found["position_consistency"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "a", "scores": [1, 0]}], "scores: every item must have scores, got none for 2 of 3: b, c. Score"),
        (
            [{"id": x, "scores": [1, 0]} for x in "abcd"],
            "scores: every id must be an item's, got 1 that are not: d. Give the data",
        ),
        ([{"id": x, "scores": [1, 0]} for x in "aabc"], "s:2: id must be unique, got a twice. Keep one"),
        ([{"id": x, "scores": [1]} for x in "abc"], "s:1: item a: scores must be 2 numbers, one per response"),
        ([{"id": x, "scores": [1, "0"]} for x in "abc"], "s:1: item a: scores must be a finite number, got '0'"),
        ([{"id": x, "scores": [1, math.nan]} for x in "abc"], "s:1: item a: scores must be a finite number, got nan"),
        (
            [{"id": x, "reward": 1} for x in "abc"],
            "s:1: item a: row must hold scores, got fields id, reward. Add scores",
        ),
        (
            [{"id": x, "scores_chosen": [1, 2], "scores_rejected": 0} for x in "abc"],
            "scores must be of 1 right and 1 wrong responses, got 2 and 1. Write one score per response",
        ),
        ([{"scores": [1, 0]}] * 2, "scores: rows without ids must be as many as the items, got 2 for 3 items. Add ids"),
        (["x"], "s:1: row must be an object with named fields, got 'x'. Write JSONL"),
        ([{"id": x, "judgments": [{}, {}, {}]} for x in "abc"], "s:1: item a: judgments must be a list of one or two"),
    ],
)
def test_a_wrong_score_file_is_one_line_that_names_the_ids(rows, said):
    with pytest.raises(GuerdonError) as caught:
        scored("pairs", rows)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
