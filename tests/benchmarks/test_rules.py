"""Every official number is its authors'."""

from __future__ import annotations

import math

import numpy as np
import pytest
from published import CASES, LLMBAR, OPTIONS, PUBLISHED, REWARDBENCH2, RMBENCH, items_of, on, titles, values, write
from toys import Good

import guerdon
from guerdon.benchmarks.readers import read_items
from guerdon.benchmarks.rules import BENCHMARKS
from guerdon.benchmarks.run import benchmark
from guerdon.benchmarks.score_files import match_scores
from guerdon.formulas.benchmarks import WEIGHTS


def test_rewardbench_1_has_its_authors_sections():
    case = CASES["rewardbench1_beaver"]
    rules = BENCHMARKS["rewardbench"].rules(tuple(case["accuracy"]))
    for section, score in case["sections"].items():
        assert rules[f"score_{section.lower().replace(' ', '_')}"].score(case["accuracy"]) == pytest.approx(score)
    assert rules["score"].score(case["accuracy"]) == pytest.approx(np.mean(list(case["sections"].values())))


def test_rewardbench_1_weighs_subsets_and_not_rows():
    right = {"math-prm": 3, "alpacaeval-easy": 1}  # of four; every other subset has two of four
    rows = [
        {"prompt": f"{subset} {i}", "chosen": "good" if i < right.get(subset, 2) else "so", "rejected": "worse",
         "subset": subset, "id": f"{subset}{i}"}
        for subset in WEIGHTS for i in range(4)
    ]  # fmt: skip
    report = on("rewardbench", Good(), [{**row, "chosen": row["chosen"].replace("so", "a")} for row in rows])
    found = values(report)
    assert found["score_reasoning"] == pytest.approx((0.75 + 0.5) / 2)
    assert found["score_chat"] == pytest.approx(0.5 - 0.25 * 100 / 358)
    assert found["score"] == pytest.approx((found["score_chat"] + 0.5 + 0.5 + 0.625) / 4)
    assert {s.title: s.estimates["score"].value for s in report.sections} == {s: right.get(s, 2) / 4 for s in WEIGHTS}
    score, chat = report.estimates["score"], report.estimates["score_chat"]
    assert score.low < score.value < score.high
    assert (score.n, chat.n) == (92, 20)
    assert score.high - score.low < chat.high - chat.low
    assert found["length_contrast"] == pytest.approx(1 / 2 * 2 / 3 + 1 / 4 / 3 - 1 / 2)


def test_rewardbench_2_has_its_authors_ties_score():
    rows = [
        {"id": r["id"], "prompt": f"{r['id']}?", "chosen": ["a"] * r["num_correct"],
         "rejected": ["b"] * (len(r["scores"]) - r["num_correct"]), "num_correct": r["num_correct"], "subset": "Ties"}
        for r in CASES["rewardbench2_ties"]["rows"]
    ]  # fmt: skip
    items = items_of("rewardbench2", rows)
    table = match_scores([(f"s:{i}", r) for i, r in enumerate(CASES["rewardbench2_ties"]["rows"])], items)
    report = benchmark(table, items, "rewardbench2", OPTIONS)
    assert report.estimates["score_ties"].value == pytest.approx(0.5981211762, abs=1e-10)
    assert report.estimates["score_ties"].n == 3
    assert report.estimates["score_ties_constant"].value == 0
    assert math.isnan(report.estimates["score"].value)


def test_rewardbench_2_is_the_mean_of_its_six_parts():
    rows = [
        {**REWARDBENCH2[i % 2], "id": f"{subset}{i}", "prompt": f"{subset} {i}", "subset": subset}
        for subset in ("Factuality", "Precise IF", "Math", "Safety", "Focus") for i in range(4)
    ]  # fmt: skip
    twins = [
        {**row, "id": f"{kind}:{p}"}
        for row, kind in zip(REWARDBENCH2[2:], ("ref", "tied"), strict=True)
        for p in (0, 1)
    ]
    found = values(on("rewardbench2", rows=rows + twins))
    assert found["score_ties"] == pytest.approx(1.01)  # every right answer alike, every wrong one below
    assert found["score_math"] == 0.5
    assert found["score"] == pytest.approx((5 * 0.5 + 1.01) / 6)
    assert found["score_constant"] == pytest.approx(5 * 0.25 / 6)
    assert found["score_math_constant"] == 0.25


def test_rm_bench_has_its_authors_grid():
    rows, items = CASES["rmbench"]["rows"], items_of("rmbench", [r for r in RMBENCH if r["domain"] == "chat"])
    table = match_scores([(f"s:{i}", {**r, "id": items[i].id}) for i, r in enumerate(rows)], items)
    points = BENCHMARKS["rmbench"].points(items, table.scores)
    means = {part: np.mean([each[part] for each in points]) for part in points[0]}
    assert means == pytest.approx({"chat hard": 1 / 9, "chat normal": 2 / 3, "chat easy": 8 / 9})
    found = values(benchmark(table, items, "rmbench", OPTIONS))
    assert found["score_chat"] == pytest.approx((1 / 9 + 2 / 3 + 8 / 9) / 3)
    assert math.isnan(found["score_hard"])  # of four domains one is here


def test_rm_bench_pools_safety_and_averages_domains_or_difficulties_alike():
    found = values(on("rmbench", Good(1.0, by_length=0.02)))
    assert found["score"] == pytest.approx(np.mean([found[f"score_{d}"] for d in ("chat", "code", "math", "safety")]))
    assert found["score"] == pytest.approx(np.mean([found[f"score_{d}"] for d in ("hard", "normal", "easy")]))
    assert found["score_hard"] == pytest.approx(2 / 3)  # 1.14 nats of length hide a nat of substance once in three


def test_rmb_is_the_mean_of_its_four_cells_and_a_tie_with_a_loser_is_lost():
    found = values(on("rmb"))
    cells = {
        "helpfulness_pairwise": 0,
        "helpfulness_best_of_n": 1,
        "harmlessness_pairwise": 1,
        "harmlessness_best_of_n": 0,
    }
    assert {cell: found[f"score_{cell}"] for cell in cells} == cells
    assert found["score"] == 0.5


def test_judgebench_is_micro_averaged_over_categories():
    found = values(on("judgebench"))
    assert found["score"] == pytest.approx(2 / 3)
    assert found["score_knowledge"] == 1
    assert found["score_coding"] == 0


def test_llmbar_averages_its_subsets(tmp_path):
    files = [
        write(tmp_path / f"LLMBar/{subset}/dataset.json", rows)
        for subset, rows in (("Natural", LLMBAR[:1]), ("Adversarial/GPTOut", LLMBAR[1:]))
    ]
    report = guerdon.benchmark(Good(), files, draws=100)
    assert report.estimates["score"].value == pytest.approx((1 + 1 / 2) / 2)
    assert report.estimates["score_adversarial"].value == 0.5
    assert report.estimates["accuracy"].value == pytest.approx(2 / 3)
    assert [section.title for section in report.sections] == ["Natural", "Adversarial/GPTOut"]


def test_a_model_that_prefers_style_is_reported_by_the_grid_and_an_honest_one_is_not():
    rows = [{**row, "id": f"{row['id']} {i}", "prompt": f"{row['prompt']} {i}"} for row in RMBENCH for i in range(4)]
    honest, styled = on("rmbench", Good(5.0, 0.01), rows), on("rmbench", Good(0.5, 0.02), rows)
    assert "Style outweighs substance" not in titles(honest)
    assert "Style outweighs substance" in titles(styled)
    assert values(honest)["substance"] == pytest.approx(5.01)  # "good" has one letter more than "bad"
    assert values(honest)["style_length"] == pytest.approx(0.01 * 28)
    assert values(honest)["style_per_substance"] == pytest.approx(0.01 * (28 + 32) / 5.01)
    assert values(styled)["score_hard"] < 0.1 < 0.9 < values(styled)["score_easy"]
    planted = values(styled)
    assert planted["style_length"] + planted["style_markdown"] > planted["substance"]


def test_one_against_several_is_strict_and_ranks_ties_before_the_right_response():
    found = values(on("bestofn"))  # "good" against two without, and against two that have it too
    assert found["score"] == 0.5
    assert found["score_mean_reciprocal_rank"] == pytest.approx((1 + 1 / 3) / 2)
    assert found["score_constant"] == 0
    assert found["score_mean_reciprocal_rank_constant"] == pytest.approx((1 / 3 + 1 / 4) / 2)


def test_plan_rewardbench_is_the_mean_of_its_splits_and_a_near_tie_is_half():
    sizes = BENCHMARKS["planrewardbench"].subset_sizes
    rows = PUBLISHED["planrewardbench"][0]
    items = read_items((f"benchmark/{name}.jsonl:{i}", row) for name in sizes for i, row in enumerate(rows))[1]
    assert {item.subset for item in items} == set(sizes)
    margins = {"planning_multi_easy": 5e-5, "robust_recovery": -1.0}
    scores = [
        (f"s:{i}", {"id": item.id, "scores": [margins.get(item.subset, 2e-4), 0.0]}) for i, item in enumerate(items)
    ]
    report = benchmark(match_scores(scores, items), items, "planrewardbench", OPTIONS)
    assert report.estimates["score"].value == pytest.approx((5 + 0.5) / 7)
    assert report.estimates["score_constant"].value == 0.5
    assert report.estimates["score"].n == 2  # queries
