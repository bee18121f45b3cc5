"""Anchors and laws hold on every benchmark, and intervals resample prompts."""

from __future__ import annotations

import pytest
from published import LONGER, OPTIONS, PUBLISHED, items_of, many, on, values, write
from toys import BatchNorm, Constant, Good

import guerdon
from guerdon.benchmarks.rules import BENCHMARKS
from guerdon.benchmarks.run import benchmark
from guerdon.benchmarks.score_files import match_scores
from guerdon.benchmarks.scoring import score_items
from guerdon.io.reports import from_json, to_json
from guerdon.reporting import to_html, to_markdown


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_file_is_recognized_and_scored(name, tmp_path):
    rows, file = PUBLISHED[name]
    report = guerdon.benchmark(Good(), write(tmp_path / file, rows), draws=100)
    assert report.about["benchmark"] == BENCHMARKS[name].title
    assert 0 <= report.estimates["accuracy"].value <= 1
    assert report.estimates["longer_wins"].n == int(report.about["prompts"])
    assert to_json(from_json(to_json(report))) == to_json(report)
    assert BENCHMARKS[name].title in to_markdown(report)
    assert "<svg" in to_html(report)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_constant_and_a_length_model_stand_at_their_anchors(name):
    constant, longer = on(name, Constant()), on(name, LONGER)
    keys = [key for key in constant.estimates if f"{key}_constant" in constant.estimates]
    for key in ["score", *keys]:
        assert values(constant)[key] == pytest.approx(values(constant)[f"{key}_constant"], nan_ok=True)
        assert values(longer)[key] == pytest.approx(values(longer)[f"{key}_longer"], nan_ok=True)
    assert values(constant)["accuracy"] == 0.5
    assert values(constant)["accuracy_strict"] == 0
    assert values(constant)["model_ties"] == 1
    assert values(longer)["accuracy"] == values(longer)["longer_wins"]
    assert values(longer)["accuracy_above_longer"] == 0
    for section in longer.sections:
        assert section.estimates["score"].value == pytest.approx(section.estimates["score_longer"].value, nan_ok=True)


@pytest.mark.parametrize("name", PUBLISHED)
def test_scale_and_a_constant_for_each_prompt_change_nothing(name):
    items = items_of(name)
    plain = score_items(Good(1.0, 0.3), items).scores

    def found(scores):
        rows = [(f"s:{i}", {"id": items[i].id, "scores": each[0].tolist()}) for i, each in enumerate(scores)]
        every = values(benchmark(match_scores(rows, items), items, name, OPTIONS))
        return {key: value for key, value in every.items() if not key.startswith(("substance", "style"))}

    assert found([4 * s + i for i, s in enumerate(plain)]) == pytest.approx(found(plain), nan_ok=True)
    mirrored, here = found([-s for s in plain]), found(plain)
    assert mirrored["accuracy"] == pytest.approx(1 - here["accuracy"])
    assert mirrored["accuracy_strict"] == pytest.approx(1 - here["accuracy_strict"] - here["model_ties"])


def test_pairs_of_one_prompt_do_not_narrow_an_interval():
    rows = [{"id": f"{i}", "prompt": f"q {i}", "chosen": "good" * (i % 2), "rejected": "so"} for i in range(40)]
    often = [{**row, "id": f"{row['id']}-{j}"} for row in rows for j in range(6)]
    once, six = (on("pairs", Good(), each).estimates["score"] for each in (rows, often))
    assert six.n == once.n == 40
    assert six.high - six.low == pytest.approx(once.high - once.low, rel=0.2)


def test_a_score_that_depends_on_its_batch_leaves_no_numbers():
    report = on("pairs", BatchNorm(), [{k: v for k, v in row.items() if k != "subset"} for row in many()])
    assert {f.severity for f in report.findings} >= {"error"}
    assert not report.estimates


def test_the_same_scores_make_the_same_report():
    assert repr(on("rewardbench2")) == repr(on("rewardbench2"))
    assert repr(on("pairs", seed=1).estimates["score"]) == repr(on("pairs", seed=1).estimates["score"])
