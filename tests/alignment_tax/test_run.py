"""Small policies that learned some of the battery, intact and damaged on purpose: what was lost is found, and nothing else."""

from __future__ import annotations

import pytest
import torch
from taught_policies import GENERATED, HELD, READ, load_local

from guerdon.alignment_tax.measure import measure
from guerdon.alignment_tax.run import measure_tax
from guerdon.api.alignment_tax import measure_alignment_tax
from guerdon.config import Config, PolicyOptions, TaxOptions, build
from guerdon.contracts import GuerdonError
from guerdon.formulas.drift import repetition
from guerdon.models.directory.policies import load_policy


def warned(report):
    return {finding.title for finding in report.findings if finding.severity == "warning"}


def titles(report):
    return {finding.title for finding in report.findings}


def test_a_policy_compared_with_itself_has_no_tax(taught, taught_dir):
    report = measure_tax(taught, load_local(taught_dir), TaxOptions(max_tokens=8))
    taxes = {name: e for name, e in report.estimates.items() if name.startswith("tax_")}
    assert report.title == f"Alignment tax of {taught_dir}"
    assert len(taxes) == 2 + 5 * 2 + 5
    for name, estimate in taxes.items():
        assert estimate.value == 0.0, name
        assert estimate.low <= 0.0 <= estimate.high, name
    assert taxes["tax_minimal_pairs"].high > 0.0
    assert report.estimates["kl"].value == pytest.approx(0.0, abs=1e-4)
    assert not warned(report)
    assert "No alignment tax is seen" in titles(report)


def test_noise_on_the_weights_costs_text_and_grammar(taught, noisy_dir):
    report = measure_tax(taught, load_local(noisy_dir), READ, HELD)
    estimates = report.estimates
    assert warned(report) == {"Taxed: grammar (minimal pairs)", "Taxed: log-likelihood of held-out text"}
    for task in ("text", "minimal_pairs"):
        tax, before, after = (estimates[key] for key in (f"tax_{task}", f"score_{task}_before", f"score_{task}_after"))
        assert tax.low > 0
        assert tax.value == pytest.approx(before.value - after.value)
        assert tax.n == before.n == {"text": len(HELD), "minimal_pairs": 220}[task]
    assert estimates["tax_mean"].low > 0
    assert estimates["tax_worst"].low > 0
    assert estimates["tax_worst"].value >= estimates["tax_mean"].value
    finding = next(f for f in report.findings if "grammar" in f.title)
    assert "kl_coef" in finding.remedy
    assert "pretraining" in finding.remedy
    assert finding.examples
    assert all(example.rewards == (1.0, 0.0) for example in finding.examples)


def test_an_improvement_is_no_tax(taught, noisy_dir):
    report = measure_tax(load_local(noisy_dir), taught, READ, HELD)
    assert not warned(report)
    assert {t for t in titles(report) if t.startswith("Better")} == {
        "Better than before: grammar (minimal pairs)",
        "Better than before: log-likelihood of held-out text",
    }
    assert report.estimates["tax_mean"].high < 0


def test_a_policy_that_learned_to_repeat_itself_is_taxed_on_diversity(taught, repeating):
    report = measure_tax(taught, repeating, GENERATED)
    estimates = report.estimates
    assert {"Taxed: different pairs of words", "Taxed: replies without repeats"} <= warned(report)
    assert estimates["tax_distinct"].low > 0
    assert estimates["tax_unrepeated"].low > 0
    assert estimates["kl"].low > 1.0
    assert report.about["KL from"] == "replies to the battery's open requests"
    shown = next(f for f in report.findings if f.title == "Taxed: replies without repeats").examples[0]
    assert shown.labels == ("before", "after")
    before, after = (repetition(response.text) for response in shown.responses)
    assert after > max(before, 0.2)


def test_with_adapters_the_reference_is_the_policy_without_them(taught, taught_dir):
    policy = load_policy(PolicyOptions(base=str(taught_dir), lora_rank=4), adapters=True)
    still = measure_tax(None, policy, READ, HELD)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    moved, beside = measure_tax(None, policy, READ, HELD), measure_tax(taught, policy, READ, HELD)
    assert not warned(still)
    assert len(warned(moved)) == 2
    assert moved.estimates["tax_text"].value == pytest.approx(beside.estimates["tax_text"].value, abs=1e-4)
    assert moved.estimates["score_text_before"].value == pytest.approx(still.estimates["score_text_after"].value)


def test_tasks_that_the_reference_cannot_do_are_named(tiny_dir):
    report = measure_tax(
        load_local(tiny_dir), load_local(tiny_dir), TaxOptions(tasks=["arithmetic", "json"], max_tokens=4)
    )
    note = next(f for f in report.findings if "cannot do it" in f.title)
    assert "sums to two digits" in note.evidence
    assert "valid JSON" in note.evidence


def test_policies_that_cannot_be_compared_are_refused(taught, taught_dir, tiny_dir, tmp_path):
    other = load_local(tiny_dir)
    with pytest.raises(GuerdonError, match=r"must have one tokenizer, got two\. Pass --reference"):
        measure_tax(other, taught, READ)
    with pytest.raises(
        GuerdonError, match=r"must render a chat alike, got two renderings\. Set policy\.template=plain"
    ):
        measure_tax(taught, load_local(taught_dir, system="be kind"), READ)
    with pytest.raises(GuerdonError, match=r"must have adapters to take off .*, got none\. Pass --reference"):
        measure_tax(None, taught, READ)
    with pytest.raises(
        GuerdonError,
        match=r"must be a run folder of `guerdon optimize` if no reference is given, got one without config\.yaml and policy/\. "
        r"Pass --reference",
    ):
        measure_alignment_tax(taught_dir)
    with pytest.raises(GuerdonError, match=r"tax\.tasks must name tasks, got grammar\. Choose from text, "):
        measure(taught, TaxOptions(tasks=["grammar"]))
    with pytest.raises(GuerdonError, match="held-out texts must hold at least one word, got none"):
        measure(taught, READ, ["  "])
    with pytest.raises(GuerdonError, match=r"Lower tax\.max_tokens"):
        measure(taught, TaxOptions(tasks=["json"], max_tokens=250))
    with pytest.raises(GuerdonError, match="there must be at least one policy, got none"):
        measure_tax(taught, {}, READ)


def test_the_options_of_the_tax_are_part_of_the_config():
    assert build(overrides=["tax.form=plain", "tax.lm_eval=[piqa]"]).tax.lm_eval == ["piqa"]
    assert Config().tax == TaxOptions()
