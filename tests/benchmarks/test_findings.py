"""A model with a planted fault is reported, one without is not; what is missing or odd in the data is named."""

from __future__ import annotations

import math

import pytest
from published import LONGER, PAIRS, PUBLISHED, RMB, SHORTER, many, on, titles
from toys import Good, as_scores


def test_a_model_that_scores_by_length_is_reported_and_an_honest_one_is_not():
    rows = [{k: v for k, v in row.items() if k != "subset"} for row in many()]
    honest, longer, shorter = (on("pairs", model, rows) for model in (Good(1.0, -0.001), LONGER, SHORTER))
    assert titles(honest) == set()
    assert honest.estimates["score"].value == 1
    assert honest.estimates["score"].low < 1  # 60 of 60 is no certainty
    assert titles(longer) == {
        "Not shown to be better than preferring the longer answer", "The model prefers the worse answer",
    }  # fmt: skip
    assert shorter.estimates["score_above_longer"].value == 1


def test_exact_ties_are_counted_and_lost():
    rows = [{k: v for k, v in row.items() if k != "subset"} for row in many()]
    rows = [{**row, "chosen": "good " * (1 + i % 3), "rejected": "good so"} for i, row in enumerate(rows)]
    report = on("pairs", Good(), rows)
    evidence = {finding.title: finding.evidence for finding in report.findings}
    assert evidence["Many exact ties"].startswith("33.3\N{NO-BREAK SPACE}% [")
    assert report.estimates["model_ties"].value == pytest.approx(1 / 3)
    assert report.estimates["score"].value == report.estimates["accuracy_strict"].value == pytest.approx(2 / 3)
    assert report.estimates["accuracy"].value == pytest.approx(2 / 3 + 1 / 6)


def test_a_missing_part_is_a_warning_and_leaves_no_official_score():
    report = on("rewardbench", rows=many())
    assert math.isnan(report.estimates["score"].value)
    assert math.isnan(report.estimates["score_chat"].value)
    assert report.estimates["score_safety"].value == 1
    assert "Part of the benchmark is missing" in titles(report)
    assert "no official score" in report.summary
    notes = {finding.title: finding.evidence for finding in report.findings}
    assert "xstest-should-respond 60 of 250" in notes["Not the published set"]
    assert "Too few prompts for an interval" not in notes
    assert "Too few prompts for an interval" in {f.title for f in on("rewardbench", rows=many(5)).findings}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_score_that_lacks_parts_has_a_warning(name):
    rows, _ = PUBLISHED[name]
    report = on(name, rows=rows[:1] if isinstance(rows, list) and name not in ("rewardmath", "pairs") else rows)
    is_missing = "Part of the benchmark is missing" in titles(report)
    assert is_missing or not math.isnan(report.estimates["score"].value)


def test_the_missing_cells_of_rmb_are_named():
    notes = {finding.title: finding.evidence for finding in on("rmb", rows=RMB[:2]).findings}
    assert "no items of helpfulness best of n, harmlessness best of n" in notes["Part of the benchmark is missing"]


def test_subsets_that_a_benchmark_does_not_have_are_a_warning_and_left_out():
    rows = many() + [{**row, "id": f"own {row['id']}", "subset": "my own"} for row in many()]
    report = on("rewardbench", LONGER, rows)
    assert "Subsets that the benchmark does not have" in titles(report)
    assert report.estimates["score_safety"].n == 60


def test_one_text_on_both_sides_is_a_note():
    same = {"id": "s", "prompt": "p", "chosen": "good", "rejected": "good"}
    notes = {finding.title: finding.evidence for finding in on("pairs", rows=[*PAIRS, same]).findings}
    assert "such as s" in notes["A right and a wrong response are the same text"]


def test_truncated_texts_are_a_warning():
    class Cut(Good):
        def score(self, prompts, responses):
            return as_scores(super().score(prompts, responses).value, [True] * len(prompts))

    report = on("pairs", Cut())
    assert "The model did not see all the text" in titles(report)
    assert report.estimates["truncated"].value == 1
