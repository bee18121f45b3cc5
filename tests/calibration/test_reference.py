"""Samples of a policy give the mean and spread of its rewards, with their provenance."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from toys import Good, comparisons

from guerdon.calibration import fit_calibrated_model
from guerdon.config import CalibrateOptions
from guerdon.contracts import GuerdonError, Response, Rollouts, as_prompt

OPTIONS = CalibrateOptions(bins=10)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(sys.modules[fit_calibrated_model.__module__], "DRAWS", 60)


def test_a_reference_gives_mean_spread_and_their_provenance():
    prompts = tuple(as_prompt(f"p{i // 4}") for i in range(40))
    texts = tuple(Response("good " * (i % 4), author="policy-1") for i in range(40))
    model, report = fit_calibrated_model(Good(2.0), comparisons(200), OPTIONS, reference=Rollouts(prompts, texts))
    assert model.calibration.reference_mean == pytest.approx(3.0)
    assert model.calibration.reference_spread == pytest.approx(np.std([0, 2, 4, 6]))
    assert model.calibration.provenance["policy"] == "policy-1"
    assert model.calibration.provenance["n"] == 40
    assert model.calibration.provenance["samples_per_prompt"] == 4
    assert report.estimates["reference_mean"].n == 10
    assert report.estimates["reference_between_prompts"].value == pytest.approx(0)
    normalized = model.normalized(prompts, texts)
    assert normalized.mean() == pytest.approx(0)
    assert normalized.std() == pytest.approx(1)


def test_a_reference_without_spread_is_refused():
    same = Rollouts((as_prompt("p"),) * 3, (Response("no"),) * 3)
    with pytest.raises(GuerdonError, match=r"rewards of the reference must differ, got 0 for all 3 samples\. Sample"):
        fit_calibrated_model(Good(), comparisons(30), OPTIONS, reference=same)


def test_a_reference_of_one_sample_is_refused():
    one = Rollouts((as_prompt("p"),), (Response("no"),))
    with pytest.raises(GuerdonError, match=r"reference must have at least 2 samples, got 1\. Sample more"):
        fit_calibrated_model(Good(), comparisons(30), OPTIONS, reference=one)
