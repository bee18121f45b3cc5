"""From votes to a trained and audited model: the soft labels are the training target, and the votes the audit's ceiling."""

from __future__ import annotations

import numpy as np
import pytest
from snippets import judged_pairs
from training_runs import gradients

import guerdon
from guerdon.config import ModelOptions
from guerdon.contracts import Comparison, Preference, Response
from guerdon.data.simulated import UTILITY, SimulatedAnnotator, simulate_judgments
from guerdon.formulas.majority import measure_majority
from guerdon.models.directory.loading import create_reward_model

CROWD = [*(SimulatedAnnotator(f"w{i}", 1.5) for i in range(5)), SimulatedAnnotator("odd", -1.5)]


@pytest.fixture
def labels(tmp_path):
    """Labels as another command reads them: written to a file, and read again."""
    pairs = [
        Comparison(
            row["prompt"],
            (Response(row["chosen"], ratings={UTILITY: 1.0}), Response(row["rejected"], ratings={UTILITY: 0.0})),
            Preference(groups=((0,), (1,))),
        )
        for row in judged_pairs(120)
    ]
    judgments = list(simulate_judgments(pairs, CROWD, 3, seed=4))
    aggregated, _ = guerdon.aggregate(judgments, weight="n_eff", draws=100)
    guerdon.write(tmp_path / "labels.jsonl", aggregated)
    return guerdon.read(tmp_path / "labels.jsonl")


def test_training_has_the_aggregated_labels_and_weights_as_its_target(tiny_dir, labels):
    few = labels[:12]
    loss, _ = gradients(tiny_dir, few, centering=0.0)
    model = create_reward_model(ModelOptions(base=str(tiny_dir)))
    first, second = (model.score([c.prompt for c in few], [c.responses[side] for c in few]).value for side in (0, 1))
    margin = first - second
    q, weight = np.array([c.q for c in few]), np.array([c.weight for c in few])
    assert len(np.unique(q.round(6))) > 2, "soft labels"
    expected = q * np.log1p(np.exp(-margin)) + (1 - q) * np.log1p(np.exp(margin))
    assert loss == pytest.approx(float(np.average(expected, weights=weight)), rel=1e-3)


def test_the_audit_has_its_ceiling_from_the_aggregated_votes(tiny_dir, labels):
    model = guerdon.train(labels[:40], base=str(tiny_dir), max_steps=2, batch_size=8)
    report = guerdon.audit(model, labels, only=["accuracy", "people"], draws=100, null_draws=100)
    estimates = {key: value for part in report.walk() for key, value in part.estimates.items()}
    votes = np.array([label.preference.votes for label in labels])
    groups = np.array([label.group for label in labels])
    ceiling = measure_majority(votes, groups, np.array([label.weight for label in labels]), draws=100)
    assert ceiling is not None
    assert estimates["best_accuracy"].value == pytest.approx(ceiling.best_accuracy.value)
    assert estimates["accuracy"].n == len(labels)
