"""ProcessBench and PRMBench by their own rules: against scikit-learn and sums by hand, on random tables, from scores and models."""

from __future__ import annotations

import json
import math
from statistics import fmean

import numpy as np
import pytest
from shell import guerdon as command
from sklearn.metrics import f1_score
from toys import Good

import guerdon
from guerdon import GuerdonError
from guerdon.benchmarks.readers import STEP_READERS, detect, read_items
from guerdon.benchmarks.step_rules import STEP_BENCHMARKS
from guerdon.contracts import Scores
from guerdon.formulas import steps

SUBSETS = ("gsm8k", "math", "olympiadbench", "omnimath")
CLASSES = {
    "simplicity": ("redundency", "circular"),
    "soundness": ("counterfactual", "step_contradiction", "domain_inconsistency", "confidence"),
    "sensitivity": ("missing_condition", "deception", "multi_solutions"),
}


def processbench(seed, num=12):
    """Rows as published, and random scores of their steps, some exactly 1/2."""
    random = np.random.default_rng(seed)
    rows, scores = [], []
    for subset in SUBSETS:
        for i in range(num):
            k = int(random.integers(1, 6))
            label = int(random.integers(0, k)) if i % 2 else -1
            steps = [f"Step {j} is good." for j in range(k)]
            rows.append({
                "id": f"{subset}-{i}", "generator": "m", "problem": f"{subset} {i // 2}?", "steps": steps,
                "final_answer_correct": label == -1, "label": label,
            })  # fmt: skip
            scores.append(random.choice([0.2, 0.5, 0.7, 0.9, 0.95], k).tolist())
    return rows, scores


def prmbench(seed, num=4):
    random = np.random.default_rng(seed)
    rows, scores = [], []
    for kind in (kind for own in CLASSES.values() for kind in own):
        for i in range(num):
            k = int(random.integers(2, 7))
            errors = [] if kind == "multi_solutions" else [int(random.integers(1, k + 1)), k + 1]  # k + 1: no such step
            steps = [f"Step {j} is good." for j in range(k)]
            rows.append({
                "idx": f"prm_test_p1_{i}", "original_question": "q", "modified_question": f"{kind} {i}?",
                "original_process": steps, "modified_process": steps, "modified_steps": errors, "error_steps": errors,
                "reason": "", "question": "q", "classification": kind,
            })  # fmt: skip
            scores.append(random.choice([0.1, 0.5, 0.6, 0.9], k).tolist())
    return rows, scores


MADE = {"processbench": processbench, "prmbench": prmbench}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class CountsGood:
    """One nat for each occurrence of the word."""

    def score(self, prompts, responses):
        value = np.array([float(response.text.count("good")) for response in responses])
        return Scores(value, np.zeros(len(value), dtype=bool))


def name_of(row):
    return row["id"] if "id" in row else f"{row['classification']}_{row['idx']}"


def report_of(folder, rows, scores, **options):
    lines = [{"id": name_of(row), "scores": own} for row, own in zip(rows, scores, strict=True)]
    return guerdon.benchmark(
        None, write(folder / "rows.jsonl", rows), scores=write(folder / "s.jsonl", lines), **options
    )


def test_every_benchmark_of_steps_has_a_reader():
    assert set(STEP_READERS) == set(STEP_BENCHMARKS) == set(MADE)
    assert [detect(make(0)[0][0]) for make in MADE.values()] == list(MADE)


@pytest.mark.parametrize("seed", range(3))
def test_processbench_is_the_mean_f1_of_its_subsets(tmp_path, seed):
    """A solution is won where the first score that is not above the threshold is at its label (Zheng et al. 2024)."""
    rows, scores = processbench(seed)
    report = report_of(tmp_path, rows, scores, step_threshold=0.5 if seed else None)
    every = []
    for subset in SUBSETS:
        hits = {True: [], False: []}
        for row, own in zip(rows, scores, strict=True):
            if row["id"].startswith(subset):
                first = next((i for i, score in enumerate(own) if score <= 0.5), -1)
                hits[row["label"] == -1].append(100.0 * (first == row["label"]))
        right, wrong = fmean(hits[True]), fmean(hits[False])
        every.append(2 * wrong * right / (wrong + right) if wrong + right else 0.0)
        assert 100 * report.estimates[f"correct_{subset}"].value == pytest.approx(right)
        assert 100 * report.estimates[f"error_{subset}"].value == pytest.approx(wrong)
        assert 100 * report.estimates[f"score_{subset}"].value == pytest.approx(every[-1])
    score = report.estimates["score"]
    assert 100 * score.value == pytest.approx(fmean(every))
    assert score.low < score.value < score.high
    assert score.n == len(rows) // 2  # two solutions of each problem
    assert (report.estimates["score_all_right"].value, report.estimates["score_all_wrong"].value) == (0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_prmbench_is_the_mean_f1_of_right_and_of_wrong_steps(tmp_path, seed):
    """By scikit-learn's f1_score over the steps of all classes, and of each; multi_solutions, without a wrong step, by one F1."""
    rows, scores = prmbench(seed)
    report = report_of(tmp_path, rows, scores)
    verdicts, labels = {}, {}
    for row, own in zip(rows, scores, strict=True):
        for part in ("all", row["classification"]):
            verdicts.setdefault(part, []).extend(score > 0.5 for score in own)
            labels.setdefault(part, []).extend(i + 1 not in row["error_steps"] for i in range(len(own)))

    def by_sklearn(part):
        right, wrong = (
            f1_score(labels[part], verdicts[part], pos_label=side, zero_division=0.0) for side in (True, False)
        )
        return right if part == "multi_solutions" else (right + wrong) / 2

    assert report.estimates["score"].value == pytest.approx(by_sklearn("all"))
    for subject, own in CLASSES.items():
        assert report.estimates[f"score_{subject}"].value == pytest.approx(fmean(map(by_sklearn, own)))
        for kind in own:
            assert report.estimates[f"score_{kind}"].value == pytest.approx(by_sklearn(kind))
    assert report.estimates["step_accuracy"].value == pytest.approx(np.mean(np.equal(verdicts["all"], labels["all"])))
    verdicts["all"] = [True] * len(labels["all"])
    assert report.estimates["score_all_right"].value == pytest.approx(by_sklearn("all"))


def test_rules_of_steps_at_their_ends():
    """Nothing to count is NaN, nothing right is 0, everything right is 1."""
    yes, no = np.array([True, True, False]), np.array([False, False, True])
    assert steps.prm_score(steps.count_steps(yes, yes)) == 1
    assert steps.prm_score(steps.count_steps(no, yes)) == 0
    assert steps.count_steps(yes, np.array([True, False, False])) == (1, 1, 1, 0)
    assert math.isnan(steps.f1(0.0, 0.0, 0.0))
    assert [steps.first_wrong(v) for v in (yes, no, np.array([True]))] == [2, 0, -1]
    assert [steps.harmonic_mean(0.0, 0.0), steps.harmonic_mean(1.0, 0.0), steps.harmonic_mean(0.6, 0.3)] == [
        0,
        0,
        pytest.approx(0.4),
    ]


def test_the_authors_own_result_files_are_read(tmp_path):
    rows, scores = processbench(0)
    whole = report_of(tmp_path, rows, scores).estimates
    first = [next((i for i, score in enumerate(own) if score <= 0.5), -1) for own in scores]
    theirs = [row | {"prediction": p, "match": p == row["label"]} for row, p in zip(rows, first, strict=True)]
    again = guerdon.benchmark(None, tmp_path / "rows.jsonl", scores=write(tmp_path / "theirs.jsonl", theirs))
    assert again.estimates == whole
    rows, scores = prmbench(0)
    whole = report_of(tmp_path, rows, scores).estimates
    theirs = [
        {
            "idx": name_of(row),
            "scores": {"step_level_validity_scores": own, "step_level_validity_labels": [s > 0.5 for s in own]},
        }
        for row, own in zip(rows, scores, strict=True)
    ]
    theirs.append({"idx": "correct_prm_test_p1_0", "scores": {"step_level_validity_labels": [True]}})
    again = guerdon.benchmark(None, tmp_path / "rows.jsonl", scores=write(tmp_path / "theirs.jsonl", theirs))
    assert again.estimates == whole


@pytest.mark.parametrize("name", MADE)
def test_a_reward_model_scores_a_solution_up_to_each_step(tmp_path, name):
    """A count of a word rises by 1 with each step: every step is right at the default, and from the third on at 2 1/2."""
    rows, _ = MADE[name](1)
    path = write(tmp_path / "rows.jsonl", rows)
    report = guerdon.benchmark(CountsGood(), path, draws=100)
    assert report.estimates["score"].value == report.estimates["score_all_right"].value
    assert "Not shown to be better than one verdict on every step" in [finding.title for finding in report.findings]
    _, items = read_items((f"f:{i}", row) for i, row in enumerate(rows))
    texts = [[response.text for response in item.responses] for item in items]
    assert texts[3] == ["\n\n".join(f"Step {j} is good." for j in range(i + 1)) for i in range(len(texts[3]))]
    scores = [np.array([text.count("good") for text in own], dtype=float).tolist() for own in texts]
    direct = report_of(tmp_path, rows, scores, step_threshold=2.5)
    assert guerdon.benchmark(CountsGood(), path, draws=100, step_threshold=2.5).estimates == direct.estimates


def test_a_repeated_item_of_prmbench_counts_once(tmp_path):
    rows, scores = prmbench(0)
    whole = report_of(tmp_path, rows, scores).estimates
    assert report_of(tmp_path, rows, scores).estimates == whole
    twice = [*rows, {**rows[0], "error_steps": []}]
    assert guerdon.benchmark(None, write(tmp_path / "r.jsonl", twice), scores=tmp_path / "s.jsonl").estimates == whole


def test_malformed_rows_and_what_has_no_steps_are_refused(tmp_path):
    rows, _ = processbench(0)
    prm, _ = prmbench(0)
    refused = [
        ([{**rows[0], "label": 9}], r"label must be the index of one of \d steps, or -1 where all are right, got 9"),
        ([{**rows[0], "label": 0.5}], "label must be"),
        ([{**rows[0], "steps": []}], "steps must be a list of texts"),
        ([{**rows[0], "steps": ["a", 3]}], r"steps\[1\] must be text"),
        ([rows[0], rows[0]], "id must be unique"),
        ([{**prm[0], "error_steps": 3}], "error_steps must be a list of steps, counted from 1"),
        ([{**prm[0], "error_steps": ["x"]}], r"error_steps\[0\] must be a number of a step"),
        ([{**prm[0], "classification": None}], "classification must be present"),
    ]
    for bad, message in refused:
        with pytest.raises(GuerdonError, match=message):
            guerdon.benchmark(Good(), write(tmp_path / "bad.jsonl", bad))
    path = write(tmp_path / "rows.jsonl", rows)
    for row, message in [
        ({"id": "gsm8k-0", "prediction": 17}, "prediction must be the index of one of"),
        ({"id": "gsm8k-0", "scores": [0.1] * 17}, "scores must be . numbers, one per response"),
        (
            {"id": "gsm8k-0", "scores": {"step_level_validity_labels": None}},
            "step_level_validity_labels must be a list",
        ),
        ({"id": "gsm8k-0"}, "row must hold scores"),
    ]:
        with pytest.raises(GuerdonError, match=message):
            guerdon.benchmark(None, path, scores=write(tmp_path / "s.jsonl", [row]))
    pairs = write(tmp_path / "p.jsonl", [{"id": "x", "prompt": "p", "chosen": "good", "rejected": "b"}])
    with pytest.raises(GuerdonError, match=r"benchmark\.step_threshold must be left out with Preference pairs, which"):
        guerdon.benchmark(Good(), pairs, step_threshold=0.5)


def test_a_missing_subset_leaves_no_official_score(tmp_path):
    rows, scores = processbench(0)
    report = report_of(tmp_path, rows[:12], scores[:12])
    assert math.isnan(report.estimates["score"].value)
    assert report.estimates["score_gsm8k"].value >= 0
    assert "Part of the benchmark is missing" in [finding.title for finding in report.findings]


def test_the_command_prints_both_anchors_per_subset(tmp_path):
    rows, scores = prmbench(2)
    report_of(tmp_path, rows, scores)
    ran = command(
        "benchmark", "--data", tmp_path / "rows.jsonl", "--scores", tmp_path / "s.jsonl", "--out", tmp_path / "page"
    )
    assert ran.code == 0
    assert "all right" in ran.out
    assert "all wrong" in ran.out
    assert "redundency" in ran.out
    assert "<svg" in (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
