"""Models that read the prompt, models that do not, and one that reads it a little."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from answers import ROWS, answered
from toys import Constant, Good, as_scores, comparisons

from guerdon.auditing.measures.relevance import measure_relevance
from guerdon.config import AuditOptions
from guerdon.contracts import GuerdonError, as_prompt, as_response

OPTIONS = AuditOptions(draws=200, cue_rows=60)
DATA = answered()
OWN = {text: prompt for prompt, *texts in ROWS for text in texts}
BETTER = {better for _, better, _ in ROWS}


def luck(*parts):
    return np.sqrt(12) * (zlib.crc32(" ".join(parts).encode()) / 2**32 - 0.5)


class Reader:
    """fit x (the answer belongs to the prompt) + worth x (it is the better one) + prompt and answer noise of its own."""

    def __init__(self, fit=1.0, worth=1.0, of_prompt=0.0, of_both=0.0):
        self.parts = fit, worth, of_prompt, of_both

    def score(self, prompts, responses):
        fit, worth, of_prompt, of_both = self.parts
        rows = [(as_prompt(p)[-1].content, as_response(r).text) for p, r in zip(prompts, responses, strict=True)]
        return as_scores(
            [
                fit * (OWN[text] == prompt)
                + worth * (text in BETTER) * (OWN[text] == prompt or of_both == 0)
                + of_prompt * luck(prompt)
                + of_both * luck(prompt, text)
                for prompt, text in rows
            ]
        )


def titles(report):
    return {finding.title for finding in report.findings}


def test_a_model_that_reads_the_prompt_passes():
    report = measure_relevance(Reader(fit=2.0, of_both=0.5), DATA, OPTIONS)
    assert titles(report) == {"The model reads the prompt"}
    assert report.estimates["relevance_swap"].value == 1
    assert report.estimates["relevance_auroc"].value > 0.95
    assert report.estimates["prompt_free_share"].high < 0.9
    assert report.estimates["relevance_swap"].n == 30


def test_a_model_that_does_not_is_found_out_with_texts_to_read():
    report = measure_relevance(Reader(fit=0.0), DATA, OPTIONS)
    assert titles(report) == {"The model hardly reads the prompt"}
    assert report.estimates["relevance_auroc"].value == pytest.approx(0.5)
    assert report.estimates["relevance_swap"].value == 0.5
    assert report.estimates["prompt_free_share"].value == pytest.approx(1)
    assert report.findings[0].cost.value == 0.5


def test_what_prompts_and_answers_are_worth_by_themselves_does_not_hide_the_fit():
    report = measure_relevance(Reader(fit=0.5, of_prompt=5.0), DATA, OPTIONS)
    assert report.estimates["relevance_swap"].value == 1
    assert report.estimates["relevance_auroc"].value < 0.7  # the spread between prompts drowns it here


def test_margins_that_half_depend_on_the_prompt_share_half():
    """m(p) = a + b(p), m(p') = a + b(p') with equal variances: their correlation is a half."""
    shares = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        alone, rest = {t: rng.normal() for t in OWN}, {}

        class Half:
            def score(self, prompts, responses, alone=alone, rest=rest, rng=rng):
                keys = [(as_prompt(p), as_response(r).text) for p, r in zip(prompts, responses, strict=True)]
                return as_scores([alone[t] + rest.setdefault((p, t), rng.normal()) for p, t in keys])

        shares.append(measure_relevance(Half(), DATA, OPTIONS).estimates["prompt_free_share"].value)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.1)


def test_a_constant_model_reads_nothing():
    report = measure_relevance(Constant(), DATA, OPTIONS)
    assert titles(report) == {"The model hardly reads the prompt"}
    assert np.isnan(report.estimates["prompt_free_share"].value)


def test_a_model_that_prefers_foreign_answers_shows_them():
    report = measure_relevance(Reader(fit=-1.0), DATA, OPTIONS)
    assert report.estimates["relevance_swap"].value == 0
    example = report.findings[0].examples[0]
    assert OWN[example.responses[0].text] == example.prompt[-1].content != OWN[example.responses[1].text]
    assert example.rewards[0] < example.rewards[1]


def test_scale_changes_nothing_and_the_measure_repeats_itself():
    class Louder(Reader):
        def score(self, prompts, responses):
            return as_scores(9 * super().score(prompts, responses).value)

    one, other = (measure_relevance(model(of_both=1.0), DATA, OPTIONS) for model in (Reader, Louder))
    for key, estimate in one.estimates.items():
        assert estimate.value == pytest.approx(other.estimates[key].value)
    assert measure_relevance(Reader(), DATA, OPTIONS) == measure_relevance(Reader(), DATA[::-1], OPTIONS)


def test_a_single_prompt_has_no_other():
    with pytest.raises(GuerdonError, match=r"two prompts must have two different answers each, got 1\. Give more"):
        measure_relevance(Good(), comparisons(1), OPTIONS)
