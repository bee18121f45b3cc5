"""Scores from elsewhere reach their responses, and a file that does not fit is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from published import JUDGEBENCH, OPTIONS, REWARDBENCH, REWARDBENCH2, RMBENCH, items_of, values

from guerdon.benchmarks.readers import read_items, unpack
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
    assert np.isnan(table.scores[2][0]).all()
    assert table.scores[2][1].tolist() == [0, 0]
    report = benchmark(table, items, "judgebench", OPTIONS)
    assert values(report)["score"] == pytest.approx(1 / 3)
    assert values(report)["score_constant"] == 0  # in two games a tie is nobody's
    assert values(report)["model_ties"] == pytest.approx(1 / 3)
    assert values(report)["position_consistency"] == pytest.approx(
        1 / 2
    )  # of the two pairs with a decision in both games
    notes = {finding.title: finding.evidence for finding in report.findings}
    assert notes["Some games have no decision"].startswith("1 of 3 pairs")


def test_a_single_tied_game_of_judgebench_goes_to_the_second_response_as_in_its_authors_code():
    tie = {"judgment": {"scores": [1.5, 1.5]}, "decision": "B>A"}
    items = items_of("judgebench")  # B is right in the second only

    def score(*judgments):
        rows = [(f"s:{i}", {**row, "judgments": list(judgments)}) for i, row in enumerate(JUDGEBENCH)]
        return values(benchmark(match_scores(rows, items), items, "judgebench", OPTIONS))["score"]

    assert score(tie) == pytest.approx(1 / 3)
    assert score(tie, tie) == 0
    assert score({"judgment": {}, "decision": "A=B"}) == score({"judgment": {}, "decision": None}) == 0


def test_numbers_may_be_text_and_ids_whole_floats():
    def as_lists(rows):
        return [s.tolist() for s in scored("rewardbench", rows)]

    plain = [{"id": i, "scores": [1.0, 0.0]} for i in range(3)]
    assert as_lists([{"id": float(i), "scores": ["1.0", " 0"]} for i in range(3)]) == as_lists(plain)
    assert as_lists([{"id": f" {i} ", "scores": "[1, 0]"} for i in range(3)]) == as_lists(plain)
    table = [{"id": str(i), "scores_chosen": "1", "scores_rejected": "0", "results": ""} for i in range(3)]
    assert as_lists(table) == as_lists(plain)
    assert as_lists([{"id": i, "chosen": "1", "rejected": "0"} for i in range(3)]) == as_lists(plain)
    assert as_lists([{"id": i, "results": True} for i in range(3)]) == [[[1, 0]]] * 3


def test_scores_of_rm_bench_are_matched_by_domain_and_id():
    rows = [{k: v for k, v in row.items() if k != "domain"} | {"id": i % 3} for i, row in enumerate(RMBENCH)]
    files = [f"d/{row['domain']}_filtered.json: item {i}" for i, row in enumerate(RMBENCH)]
    name, items = read_items(zip(files, rows, strict=True))
    assert name == "rmbench"
    assert [item.subset for item in items] == [row["domain"] for row in RMBENCH]
    scores = [row | {"score_chosen": [i] * 3, "score_rejected": [0] * 3} for i, row in enumerate(rows)]
    results = [file.replace(".json", "_chat-model_1.json") for file in files]
    table = match_scores(reversed(list(zip(results, scores, strict=True))), items)
    assert [int(games[0, 0]) for games in table.scores] == list(range(15))
    by_field = [
        (f"s:{i}", row | {"domain": item.subset}) for i, (row, item) in enumerate(zip(scores, items, strict=True))
    ]
    assert [int(games[0, 0]) for games in match_scores(by_field, items).scores] == list(range(15))


def test_scores_of_rewardmath_are_matched_by_problem_and_author():
    authors = ["gpt", "human_to_GPT-4", "gemma"]
    rows = [{"problem": f"What is 2 * {p}?", "solution_reference": authors, "score": [2, 3, 2 + p]} for p in (399, 0)]
    table = match_scores([(f"s:{i}", row) for i, row in enumerate(rows)], items_of("rewardmath"))
    assert [games.tolist() for games in table.scores] == [[[3, 2, 2]], [[3, 2, 401]]]
    found = values(benchmark(table, items_of("rewardmath"), "rewardmath", OPTIONS))
    assert found["score"] == 0.5
    assert found["score_mean_reciprocal_rank"] == (1 + 1 / 2) / 2
    assert found["score_mean_reciprocal_rank_constant"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "a", "scores": [1, 0]}], "scores: every item must have scores, got none for 2 of 3: b, c. Score"),
        (
            [{"id": x, "scores": [1, 0]} for x in "abcd"],
            "scores: every id must be an item's, got 1 that is not: d. Give the data",
        ),
        ([{"id": x, "scores": [1, 0]} for x in "aabc"], "s:2: id must be unique, got a twice. Keep one"),
        ([{"id": x, "scores": [1]} for x in "abc"], "s:1: item a: scores must be 2 numbers, one per response"),
        ([{"id": x, "scores": [1, "no"]} for x in "abc"], "s:1: item a: scores must be a finite number, got 'no'"),
        (
            [{"id": x, "scores": [[1, 2], 0]} for x in "abc"],
            "Write one score per response, such as the smallest of its",
        ),
        ([{"id": "a", "scores": [1, 0]}, {"scores": [1, 0]}], "s:2: id is missing, and other rows have one. Add it"),
        ([{"id": True, "scores": [1, 0]}], "s:1: id must be text or a number, got True"),
        (
            [{"id": x, "scores_chosen": 1, "scores_rejected": 0, "results": 0} for x in "abc"],
            "s:1: item a: results must be what the scores say, a difference of 1, got 0. Leave out the field that is wrong",
        ),
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
