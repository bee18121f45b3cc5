"""Policies beside their reference: one table of gain, KL and tax."""

from __future__ import annotations

import json

import numpy as np
import pytest
from taught_policies import HELD, READ, load_local

from guerdon.alignment_tax.compare import Gain, compare, results
from guerdon.alignment_tax.harness import to_lm_eval
from guerdon.alignment_tax.measure import Measurement, measure
from guerdon.alignment_tax.tasks import Task
from guerdon.config import TaxOptions
from guerdon.contracts import Estimate, GuerdonError
from guerdon.io.reports import from_json, to_json
from guerdon.reporting import to_html, to_markdown


def warned(report):
    return {finding.title for finding in report.findings if finding.severity == "warning"}


def titles(report):
    return {finding.title for finding in report.findings}


def scored(right, seed=0, n=100):
    """A task of n items on which a share is right."""
    return Task((np.random.default_rng(seed).random(n) < right).astype(float), "planted", is_share=True)


def gained(proxy, gold, kl):
    return Gain(*(Estimate(x, x - 0.1, x + 0.1, 64) for x in (proxy, kl, gold)))


def test_several_policies_share_one_table_of_gain_kl_and_tax():
    before = Measurement("base", {"planted": scored(0.95)})
    afters = {name: Measurement(name, {"planted": scored(right)}) for name, right in (("soft", 0.93), ("hard", 0.4))}
    gains = {"soft": gained(1.0, 0.8, 4.0), "hard": gained(3.0, 0.2, 40.0)}
    report = compare(before, afters, TaxOptions(), gains=gains)
    for name in afters:
        part = next(section for section in report.sections if section.title == name)
        for key in ("proxy_gain", "gold_gain", "kl", "tax_mean", "tax_worst"):
            assert report.estimates[f"{key}_of_{name}"] == part.estimates[key]
    assert report.estimates["tax_mean_of_hard"].low > 0
    assert report.curves["tax_by_kl"].x == (0.0, 4.0, 40.0)
    assert report.curves["tax_by_gold_gain"].x == (0.0, 0.2, 0.8)
    assert report.curves["tax_by_gold_gain"].caption == "From left to right: reference, hard, soft."
    assert report.curves["tax_by_proxy_gain"].y[2] == report.estimates["tax_mean_of_hard"]
    assert warned(report) == {"hard: Taxed: planted"}
    assert "hard is beaten in gain and in tax" in titles(report)
    for form in (to_html, to_markdown):
        assert "hard" in form(report)
        assert "items are taken as independent, in intervals and tests" in form(report)
    assert from_json(to_json(report)) == report


def test_a_results_file_has_the_scores_before_and_after_and_the_tax(taught, noisy_dir):
    before, after = (measure(policy, READ, HELD) for policy in (taught, load_local(noisy_dir)))
    table = results(before, after)
    row = table["results"]["guerdon_text"]
    assert row["before,none"] - row["score,none"] == pytest.approx(row["tax,none"])
    assert row["score_stderr,none"] > 0
    assert table["higher_is_better"]["guerdon_minimal_pairs"] == {"acc": True, "before": True, "tax": False}
    assert table["n-samples"]["guerdon_minimal_pairs"]["effective"] == 220
    json.dumps(table)
    assert to_lm_eval({}, {}, {})["results"] == {}


def test_measurements_of_different_items_are_refused():
    one, other = Measurement("a", {"x": scored(1)}), Measurement("b", {"x": scored(1, n=5)})
    with pytest.raises(GuerdonError, match="must be measured on the same items before and after, got others"):
        compare(one, {"b": other}, READ)
