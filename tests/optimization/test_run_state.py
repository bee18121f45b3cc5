"""A killed run resumes to the same bits; another run's folder is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from forked import run_code
from optimization_runs import (
    HELD_OUT,
    brevity,
    killable_run,
    kindness,
    max_difference,
    of_the_prompt,
    raises,
    read_metrics,
    record_batches,
    small_run,
    weights_of,
)

from guerdon import GuerdonError
from guerdon.optimization import loop
from guerdon.optimization.checks import to_row
from guerdon.optimization.run_state import OptimizationRun

TESTS = Path(__file__).parents[1]


def same_run(one, other, first, second):
    """Weights, metrics, checks, and how the run ended are equal."""
    assert max_difference(weights_of(one.policy), weights_of(other.policy)) == 0
    assert read_metrics(first) == read_metrics(second)
    assert (first / "checks.jsonl").read_bytes() == (second / "checks.jsonl").read_bytes()
    assert (one.updates, one.stop_reason, one.kept_update) == (other.updates, other.stop_reason, other.kept_update)
    assert [to_row(c) for c in one.checks] == [to_row(c) for c in other.checks]


@pytest.mark.parametrize(
    ("where", "at", "options"),
    [
        ("end_update", 3, {}),  # at the end of an update
        ("end_update", 4, {"baseline": "leave_one_out"}),  # the metrics have a line that the checkpoint lacks
        ("save_checkpoint", 4, {"baseline": "group"}),
        ("add_check", 4, {}),  # between a checkpoint and its check
        ("add_check", 5, {}),  # the best may be younger than the checkpoint
        ("end_update", 4, {"max_kl": 1e-9}),  # stops at update 2
        ("end_update", 6, {"value_warmup": 3}),
    ],
)
def test_a_killed_run_resumes_to_the_same_bits(tiny_dir, tmp_path, monkeypatch, where, at, options):
    whole = killable_run(tiny_dir, tmp_path / "whole", **options)
    method = getattr(OptimizationRun, where)
    calls = {
        "end_update": lambda update, steps, batch: update,
        "save_checkpoint": lambda update, weights: update,
        "add_check": lambda check, weights: check.update,
    }

    def dying(self, *given):
        if calls[where](*given) == at:
            raise KeyboardInterrupt
        method(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(OptimizationRun, where, dying)
        if whole.updates >= at:
            with pytest.raises(KeyboardInterrupt):
                killable_run(tiny_dir, tmp_path / "killed", **options)
    again = killable_run(tiny_dir, tmp_path / "killed", **options)
    same_run(whole, again, tmp_path / "whole", tmp_path / "killed")
    same_run(whole, killable_run(tiny_dir, tmp_path / "killed", **options), tmp_path / "whole", tmp_path / "killed")


def test_a_run_killed_by_a_signal_resumes_to_the_same_bits(tiny_dir, tmp_path):
    """A real SIGKILL, in the reward of an update between two checkpoints."""
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {str(TESTS)!r})
        import torch
        torch.set_num_threads(1)
        from pathlib import Path
        from optimization_runs import killable_run, kindness
        from guerdon.optimization import rewards
        calls = []

        def deadly(prompts, responses):
            calls.append(1)
            if len(calls) == 9:  # checks call it too
                os.kill(os.getpid(), signal.SIGKILL)
            return kindness(prompts, responses)

        deadly.__name__, deadly.fingerprint = "kindness", rewards.source_fingerprint(kindness)  # the same reward to the run
        killable_run({str(tiny_dir)!r}, Path({str(tmp_path / "killed")!r}), deadly)
    """
    done = run_code(script)
    assert done.returncode == -9, done.stderr
    rows = read_metrics(tmp_path / "killed")
    assert 2 < len(rows) < 6
    whole, again = killable_run(tiny_dir, tmp_path / "whole"), killable_run(tiny_dir, tmp_path / "killed")
    same_run(whole, again, tmp_path / "whole", tmp_path / "killed")


def test_a_finished_run_is_not_repeated(tiny_dir, tmp_path, monkeypatch):
    done = killable_run(tiny_dir, tmp_path)
    batches = record_batches(monkeypatch)
    again = killable_run(tiny_dir, tmp_path)
    assert not batches
    assert max_difference(weights_of(done.policy), weights_of(again.policy)) == 0


def test_a_finished_run_is_extended_by_more_updates_and_says_so(tiny_dir, tmp_path, caplog, monkeypatch):
    killable_run(tiny_dir, tmp_path, updates=3)
    first = read_metrics(tmp_path)
    batches = record_batches(monkeypatch)
    assert killable_run(tiny_dir, tmp_path, updates=5).updates == 5
    rows = read_metrics(tmp_path)
    assert rows[:3] == first
    assert [row["update"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["lr"] for row in rows[3:]] == pytest.approx([0.01 * 2 / 5, 0.01 / 5])
    assert len(batches) == 2
    assert (
        "extending a finished run of 3 updates to 5: the learning rate had fallen to 0 and continues at 40 %"
        in caplog.text
    )
    assert killable_run(tiny_dir, tmp_path, updates=5).updates == 5
    assert len(batches) == 2
    for updates in (3, 4):
        with pytest.raises(GuerdonError, match=r"belongs to a run that differs in optimize\.updates\. Delete it"):
            killable_run(tiny_dir, tmp_path, updates=updates)


def test_an_extension_that_was_killed_resumes_to_the_same_bits(tiny_dir, tmp_path, monkeypatch):
    folders = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        killable_run(tiny_dir, folder, updates=2)
    whole = killable_run(tiny_dir, folders[0], updates=5)
    train_on_batch = loop.train_on_batch

    def dying(learner, batch, weights, update):
        if update == 3:
            raise KeyboardInterrupt
        return train_on_batch(learner, batch, weights, update)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_on_batch", dying)
        with pytest.raises(KeyboardInterrupt):
            killable_run(tiny_dir, folders[1], updates=5)
    same_run(whole, killable_run(tiny_dir, folders[1], updates=5), *folders)


def test_only_a_run_that_reached_its_last_update_is_extended(tiny_dir, tmp_path):
    killable_run(tiny_dir, tmp_path, updates=4, max_kl=1e-9)
    with pytest.raises(
        GuerdonError, match=r"reached its last update, got one that stopped early \(.*\)\. Pass another path"
    ):
        killable_run(tiny_dir, tmp_path, updates=6, max_kl=1e-9)


def test_a_checkpoint_is_due_by_the_clock_too(tiny_dir, tmp_path, monkeypatch):
    saved = []
    save = OptimizationRun.save_checkpoint

    def recorded(self, update, weights):
        saved.append(update)
        save(self, update, weights)

    monkeypatch.setattr(OptimizationRun, "save_checkpoint", recorded)
    killable_run(tiny_dir, tmp_path / "often", updates=3, save_every=10, save_minutes=1e-9)
    killable_run(tiny_dir, tmp_path / "never", updates=3, save_every=10, save_minutes=0)
    killable_run(tiny_dir, tmp_path / "last", updates=3, save_every=0, save_minutes=1e-9)
    assert saved == [1, 2, 3, 3, 3]


@pytest.mark.parametrize("other", [{"seed": 1}, {"lr": 0.02}, {"updates": 1}])
def test_a_run_with_other_options_does_not_resume(tiny_dir, tmp_path, other):
    killable_run(tiny_dir, tmp_path, updates=2)
    what = r"optimize\.updates" if "updates" in other else "optimize options"
    with pytest.raises(GuerdonError, match=rf"belongs to a run that differs in {what}\. Delete it"):
        killable_run(tiny_dir, tmp_path, **{"updates": 2, **other})
    more = {"micro_tokens": 64, "gradient_checkpointing": True, "save_minutes": 3}
    killable_run(tiny_dir, tmp_path, updates=2, **more)


def test_a_run_with_another_reward_does_not_resume_and_a_folder_of_another_kind_is_left_alone(tiny_dir, tmp_path):
    killable_run(tiny_dir, tmp_path / "run", updates=2)
    before = read_metrics(tmp_path / "run")
    with pytest.raises(
        GuerdonError,
        match=r"run: belongs to a run that differs in reward\. Delete it to start over, or pass another path",
    ):
        killable_run(tiny_dir, tmp_path / "run", reward=of_the_prompt, updates=2)
    assert read_metrics(tmp_path / "run") == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(GuerdonError, match=r"other: holds a model or another kind of run\. Pass another path"):
        killable_run(tiny_dir, tmp_path / "other", updates=2)
    assert (tmp_path / "other" / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_a_run_that_failed_before_its_first_update_does_not_claim_the_folder(tiny_dir, tmp_path):
    """A reward with a mistake in it can be fixed, and the run started again in the same folder."""
    with pytest.raises(GuerdonError, match="the judge is out"):
        small_run(tiny_dir, raises, folder=tmp_path, held_out=HELD_OUT, check_every=1)
    done = small_run(tiny_dir, kindness, folder=tmp_path, held_out=HELD_OUT, check_every=1, lr=0.01)
    assert (done.updates, len(read_metrics(tmp_path)), len(done.checks)) == (3, 3, 4)
    with pytest.raises(GuerdonError, match=r"belongs to a run that differs in optimize options and reward\."):
        small_run(tiny_dir, brevity, folder=tmp_path, held_out=HELD_OUT, check_every=1)


def test_an_update_without_a_usable_reward_is_counted_and_learns_nothing(tiny_dir, tmp_path, caplog):
    batch = iter(range(10**6))

    def sometimes_bad(prompts, responses):
        return [math.nan] * len(responses) if next(batch) == 1 else kindness(prompts, responses)

    done = small_run(tiny_dir, sometimes_bad, folder=tmp_path, kl_target=0.05, min_entropy=1e-3)
    assert (done.updates, done.stop_reason) == (3, None)
    rows = read_metrics(tmp_path)
    assert set(rows[1]) == {"update", "unusable"}
    assert rows[1]["unusable"] == 8
    assert [row["unusable"] for row in rows[::2]] == [0, 0]
    assert "at update 2, no prompt has a finite reward for each of its 2 replies: nothing is learned" in caplog.text
