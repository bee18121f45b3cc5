"""A raw reward becomes a score: scaled, clipped, charged for a reply that did not end."""

from __future__ import annotations

import numpy as np
import pytest
from optimization_runs import brevity, kindness, read_metrics, record_batches, small_run

from guerdon.config import OptimizeOptions
from guerdon.formulas.advantage import RunningScale
from guerdon.optimization.reward_scale import RewardScale


def test_a_score_is_scaled_then_clipped_then_charged_for_a_missing_end():
    raw, cut = np.array([-6.0, 1.0, 3.0, 9.0]), np.array([False, False, True, False])
    options = OptimizeOptions(reward_clip=2.5, unfinished=1.0)
    assert RewardScale(mean=1.0, spread=2.0).apply(raw, cut, options).tolist() == [-2.5, 0.0, 0.0, 2.5]
    running = RewardScale(running=RunningScale()).update(np.repeat(raw, 2))
    expected = np.clip(raw / raw.std(), -2.5, 2.5) - cut  # divided, not shifted
    np.testing.assert_allclose(running.apply(raw, cut, options), expected, rtol=1e-6)


def test_a_reply_that_was_cut_pays(tiny_dir, tmp_path):
    """One token and no end: every reply is cut, whatever its text."""
    small_run(tiny_dir, brevity, folder=tmp_path, max_tokens=1, unfinished=2.0, updates=2)
    for row in read_metrics(tmp_path):
        assert row["length"] == 1
        assert row["truncated"] == 1 - row["finished"]
        assert row["score"] == pytest.approx(row["proxy"] - 2 * row["truncated"])
    assert max(row["truncated"] for row in read_metrics(tmp_path)) == 1


def test_the_stored_reference_scale_is_applied(tiny_dir, monkeypatch):
    batches = record_batches(monkeypatch)
    small_run(tiny_dir, updates=1, reward_scale="reference", reference_scale=(1.0, 4.0), unfinished=0.0)
    expected = [(x - 1) / 4 for x in kindness(None, batches[0].rollouts.responses)]
    assert batches[0].score.tolist() == pytest.approx(expected)
