"""Ensembles whose members err apart, and ones whose members share every error; weights that may be averaged, and ones that may not."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import zlib

import numpy as np
import pytest
import torch
from toys import WORDS, Constant, Good, as_scores, comparisons, liked

from guerdon.auditing.measures.ensemble import measure_ensemble, member_margins
from guerdon.auditing.measures.weight_averaging import measure_weight_averaging
from guerdon.config import AuditOptions, ModelOptions, TrainOptions
from guerdon.contracts import Comparison, Preference, Response, as_prompt, as_response
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.ensemble import Ensemble
from guerdon.models.ensemble_rules import ensemble_rule
from guerdon.models.scored_pairs import score_comparisons
from guerdon.training import fit

OPTIONS = AuditOptions(draws=200)


class Member:
    """Counts "good", with an error of its own for each text, of which `rho` of the variance is everyone's."""

    def __init__(self, name, rho=0.0, noise=1.0):
        self.name, self.rho, self.noise = name, rho, noise

    def score(self, prompts, responses):
        texts = [as_response(response).text for response in responses]
        error = [
            math.sqrt(1 - self.rho) * drawn(f"{self.name} {t}") + math.sqrt(self.rho) * drawn(f"all {t}") for t in texts
        ]
        return as_scores([t.split().count("good") + self.noise * e for t, e in zip(texts, error, strict=True)])


@functools.cache
def drawn(text):
    return float(np.random.default_rng(zlib.crc32(text.encode())).normal())


def decided(num=400, seed=0):
    """Pairs of which one reply has one "good" more, and is better: the gold margin is 1 in all."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(num):
        texts = [" ".join(rng.choice(WORDS, size=8)) for _ in range(2)]
        better = int(rng.integers(2))
        texts[better] += " good"
        made.append(
            Comparison(
                as_prompt(f"Question {i}"), tuple(map(Response, texts)), Preference(groups=((better,), (1 - better,)))
            )
        )
    return made


def measured(model, rows):
    return measure_ensemble(model, rows, score_comparisons(model, rows), OPTIONS)


@pytest.mark.parametrize("rule", ["mean", "soft_min"])
def test_members_with_independent_errors_gain_and_raise_no_finding(rule):
    report = measured(Ensemble([Member(k) for k in range(5)], ensemble_rule(rule)), decided())
    found = report.estimates
    assert found["ensemble_gain"].low > 0.05
    assert found["error_correlation"].low < 0 < found["error_correlation"].high
    assert found["error_correlation"].high < 0.1
    assert found["disagreement"].value > 0.25
    assert not report.findings
    assert (
        found["member_accuracy_min"].value <= found["member_accuracy_mean"].value <= found["member_accuracy_max"].value
    )
    assert len(report.curves["member_accuracy"].y) == 5
    assert found["ensemble_gain"].n == 400


@pytest.mark.parametrize(("rho", "blamed"), [(0.5, False), (0.95, True)])
def test_the_shared_part_of_the_error_is_measured(rho, blamed):
    report = measured(Ensemble([Member(k, rho) for k in range(5)]), decided())
    found = report.estimates["error_correlation"]
    assert found.low < rho < found.high
    assert found.high - found.low < 0.2
    assert bool(report.findings) == blamed


def test_identical_members_are_reported():
    report = measured(Ensemble([Member(0)] * 4), decided())
    found = report.estimates
    assert found["error_correlation"].value == pytest.approx(1)
    assert found["ensemble_gain"].value == 0
    assert 0 < found["ensemble_gain"].high < 0.01  # 400 groups without a difference do not show that none has one
    assert found["disagreement"].value == 0
    (finding,) = report.findings
    assert (finding.severity, finding.title) == ("warning", "The members share their errors")
    assert "that of any number of them 100 %" in finding.evidence


def test_noise_in_preferences_is_separated_where_people_voted():
    rows = comparisons(1500, people=5)
    model = Ensemble([Member(k) for k in range(5)])
    voted = measured(model, rows)
    unvoted = measured(model, [dataclasses.replace(row, preference=Preference(q=float(row.q > 0.5))) for row in rows])
    found, raw = (report.estimates["error_correlation"] for report in (voted, unvoted))
    assert found.value == pytest.approx(0, abs=0.15)
    assert raw.low > 0.3
    assert "disagreement among people" in voted.about["error correlation"]
    assert "upper bound" in unvoted.about["error correlation"]


def test_members_in_units_of_their_own_are_measured_alike():
    class Loud(Member):
        def score(self, prompts, responses):
            return as_scores(10 * super().score(prompts, responses).value)

    rows = decided(150)
    one, other = (
        measured(Ensemble([Member(0), second]), rows).estimates["error_correlation"] for second in (Member(1), Loud(1))
    )
    assert one.value == pytest.approx(other.value)


@pytest.mark.parametrize("model", [Good(), Constant(), Ensemble([Good()])])
def test_a_model_without_several_members_has_nothing_to_report(model):
    report = measured(model, decided(20))
    assert not report.estimates
    assert not report.findings


def test_the_members_margins_are_theirs_whether_kept_or_asked_for():
    rows = [*decided(10), Comparison(as_prompt("p"), tuple(map(Response, "abc")), Preference(groups=((2,), (0, 1))))]
    model = Ensemble([Member(0), Member(1)])
    pairs = score_comparisons(model, rows)
    asked = member_margins(model, rows, dataclasses.replace(pairs, members=None))
    np.testing.assert_allclose(asked, pairs.members)
    np.testing.assert_allclose(asked.mean(axis=0), pairs.margin)
    np.testing.assert_allclose(asked[1], score_comparisons(Member(1), rows).margin)


# ---- Weights averaged ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tuned(tiny_dir):
    """Three short trainings from one start."""
    options = {"lr": 1e-3, "batch_size": 16, "save_every": 0, "micro_tokens": 2048, "epochs": 2.0}
    return [
        fit(
            create_reward_model(ModelOptions(base=str(tiny_dir)), seed=0), liked(48), TrainOptions(**options, seed=seed)
        ).model
        for seed in range(3)
    ]


def test_models_that_stayed_close_may_be_averaged(tuned):
    average, report = measure_weight_averaging(tuned, liked(80, 2))
    assert {finding.title for finding in report.findings} == {"No loss from averaging is seen"}
    assert report.estimates["average_gain"].high >= 0
    assert report.estimates["average_accuracy"].value > 0.75
    curve = report.curves["linear_mode"]
    assert curve.x == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert curve.y[0].value == curve.y[-1].value == 0
    assert average.score(["write"], ["a good film"]).value.shape == (1,)


def test_models_that_agree_with_different_weights_may_not(tuned):
    """The second is the first with the sign of all that its layers pass on turned, and read turned: no score changes, and
    half way between the two nothing is left."""
    first = tuned[0]
    other = copy.copy(first)
    other.network = copy.deepcopy(first.network)
    turned = ("embed_tokens", "o_proj", "down_proj", "score", "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
    with torch.no_grad():
        for name, value in other.network.named_parameters():
            if any(part in name for part in turned):
                value.neg_()
    rows = liked(80, 2)
    margins = [score_comparisons(model, rows).margin for model in (first, other)]
    np.testing.assert_allclose(margins[1], margins[0], atol=1e-4)
    _, report = measure_weight_averaging([first, other], rows)
    (finding,) = report.findings
    assert finding.title == "The members cannot be averaged"
    assert report.estimates["average_gain"].high < 0
    assert report.estimates["average_less_ensemble"].high < 0
    assert report.estimates["path_gain"] == report.estimates["average_gain"]
