"""A whole run: the seed decides it, bounds and gold stop it, the best policy is kept."""

from __future__ import annotations

import math
import re

import pytest
import torch
from optimization_runs import HELD_OUT, PROMPTS, SMALL, brevity, kindness, raises, read_metrics, small_policy, small_run

from guerdon import GuerdonError
from guerdon.config import OptimizeOptions
from guerdon.optimization import run_state
from guerdon.optimization.batch import derive_seed
from guerdon.optimization.monitor import best_update


def test_the_seed_alone_decides_the_result(tiny_dir, tmp_path):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        torch.manual_seed(len(name))
        small_run(tiny_dir, folder=tmp_path / name, seed=seed)
    assert read_metrics(tmp_path / "one") == read_metrics(tmp_path / "same") != read_metrics(tmp_path / "other")


def test_families_that_cannot_share_prefixes_are_optimized(tiny_dir, tmp_path):
    policy = small_policy(tiny_dir)
    policy.backbone.mode = "padded"
    done = small_run(
        tiny_dir, policy=policy, train_prompts=PROMPTS[:1], folder=tmp_path, held_out=HELD_OUT, check_every=1
    )
    assert policy.backbone.mode == "padded"
    assert all(row["ratio_far"] < 1e-4 for row in read_metrics(tmp_path))
    assert read_metrics(tmp_path)[0]["unique"] > 0.5  # a prompt that comes four times gets other replies
    assert len(done.checks) == 4


def test_keep_best_gold_keeps_the_policy_of_the_best_check(tiny_dir, tmp_path):
    """Gold counts unkind words, so the longer a run for kindness lasts, the worse it is."""

    def unkindness(prompts, responses):
        return [-x for x in kindness(prompts, responses)]

    long = {
        "held_out": PROMPTS,
        "gold": unkindness,
        "check_every": 2,
        "updates": 12,
        "lr": 0.02,
        "kl_coef": 0.0,
        "prompts": 5,
    }
    for folder in (None, tmp_path):
        done = small_run(tiny_dir, folder=folder, keep="best_gold", **long)
        assert done.kept_update == best_update(done.checks) < 12
        kept = next(check for check in done.checks if check.update == done.kept_update)
        options = OptimizeOptions(**SMALL)
        ids = [done.policy.encode(p) for p in PROMPTS]
        seeds = [derive_seed(options.seed, i) for i in range(len(ids))]
        drawn = done.policy.generate(ids, 1, options.max_tokens, seeds=seeds)
        assert [done.policy.response(r, f).text for r, f in zip(drawn.replies, drawn.finish, strict=True)] == list(
            kept.texts
        )
    assert small_run(tiny_dir, **long).kept_update == 12


@pytest.mark.parametrize(
    ("bound", "reason"),
    [
        ({"max_kl": 1e-6}, r"kl .* passed 1e-06"),
        ({"min_entropy": 100.0}, "entropy .* passed 100"),
        ({"max_length": 0.5}, "length .* passed 0.5"),
        ({"min_length": 100.0}, "length .* passed 100"),
    ],
)
def test_a_run_that_passes_a_bound_stops_is_checked_and_tells_why(tiny_dir, bound, reason):
    done = small_run(tiny_dir, held_out=HELD_OUT, check_every=100, updates=8, lr=0.01, **bound)
    assert done.updates < 8
    assert done.stop_reason
    assert re.match(reason, done.stop_reason)
    assert [check.update for check in done.checks] == [0, done.updates]


def test_a_run_whose_gold_falls_significantly_is_stopped(tiny_dir, monkeypatch):
    monkeypatch.setattr(run_state, "reason_to_stop", lambda checks: "gold fell" if len(checks) == 3 else None)
    done = small_run(tiny_dir, held_out=HELD_OUT, gold=brevity, check_every=1, updates=6, stop_when="over_optimized")
    assert (done.stop_reason, done.updates) == ("gold fell", 2)


@pytest.mark.parametrize(
    ("reward", "options", "error"),
    [
        (raises, {}, r"reward raises: raised RuntimeError \(the judge is out\)"),
        (lambda p, r: [1.0], {}, "must return one number for each of 8 responses, got 1"),
        (
            lambda p, r: [math.nan] * len(r),
            {},
            r"some prompt must have a finite reward .* got none in 3 updates in a row, up to update 3\.",
        ),
        (
            lambda p, r: [math.nan, 1.0] * (len(r) // 2),
            {"baseline": "leave_one_out"},
            r"a finite reward for each of its 2 replies, got none in 3 updates in a row, up to update 3\. Give",
        ),
    ],
)
def test_a_broken_reward_stops_the_run_and_is_named(tiny_dir, reward, options, error):
    with pytest.raises(GuerdonError, match=error):
        small_run(tiny_dir, reward, **options)
