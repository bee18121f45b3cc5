"""The report of a pool: gains over n and KL, what was left out, and texts to read."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from pools import discrete_rollouts, draw_rows, numbered_prompts, toy_rollouts

from guerdon.contracts import Response
from guerdon.optimization.best_of_n.curve import curve
from guerdon.optimization.best_of_n.files import Pool
from guerdon.optimization.best_of_n.report import to_report


def titles(report):
    return [finding.title for finding in report.findings]


def test_the_report_shows_gains_against_n_and_kl():
    rng = np.random.default_rng(7)
    proxy = rng.normal(size=(30, 64))
    gold = proxy - 0.5 * proxy**2
    report = to_report(Pool(toy_rollouts(proxy, gold)))
    assert report.title == "Best of 16"
    assert list(report.estimates) == ["proxy_gain", "gold_gain", "kl", "duplicates", "unfinished"]
    assert list(report.curves) == ["proxy_by_n", "proxy_by_kl", "gold_by_n", "gold_by_kl"]
    assert report.curves["gold_by_n"].x == (1, 2, 4, 8, 16)
    assert report.curves["gold_by_kl"].x[-1] == pytest.approx(math.sqrt(report.estimates["kl"].value))
    assert report.curves["proxy_by_n"].y[-1] == report.estimates["proxy_gain"]
    assert titles(report) == ["Larger n are not shown"]
    assert report.examples[0].title == "The proxy rose and gold fell most"
    assert 2 <= len(report.examples) <= 3
    for example in report.examples:
        assert example.rewards[1] > example.rewards[0]
        assert example.labels[1].startswith("best of 64, gold")
        assert len({example.prompt for example in report.examples}) == len(report.examples)


def test_a_report_without_gold_or_a_changed_choice_has_no_gold_curves_and_no_examples():
    report = to_report(Pool(toy_rollouts(np.ones((4, 8)))))
    assert "gold_gain" not in report.estimates
    assert list(report.curves) == ["proxy_by_n", "proxy_by_kl"]
    assert report.examples == ()


def test_duplicates_show_both_kl_estimates_and_exclusions_are_summarized():
    pool = Pool(
        discrete_rollouts(np.full(4, 0.25), np.arange(4.0), size=32),
        excluded=(("a:1", "the prompt is empty"), ("a:5", "the prompt is empty"), ("a:9", "too long")),
    )
    report = to_report(pool)
    assert titles(report) == ["3 of 43 prompts were left out", "Many replies are equal", "Larger n are not shown"]
    assert report.findings[0].evidence == "2 x the prompt is empty; 1 x too long"
    assert "the bound is 1.204 nats, the estimate" in report.findings[1].evidence
    assert report.about["prompts left out"] == "3"
    full = to_report(pool, curve(pool.rollouts, most=32))
    assert "Larger n are not shown" not in titles(full)


def test_cut_replies_are_counted_in_the_report():
    rows, _ = draw_rows(numbered_prompts(6), max_tokens=2)
    replies = tuple(Response(**reply) for row in rows for reply in row["responses"])
    report = to_report(Pool(dataclasses.replace(toy_rollouts([row["reward"] for row in rows]), responses=replies)))
    cut = np.mean([reply.finish == "length" for reply in replies])
    assert report.estimates["unfinished"].value == pytest.approx(cut)
    assert "Some replies did not end" in titles(report)
