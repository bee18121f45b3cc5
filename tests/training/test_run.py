"""A killed run resumes to the same result; a checkpoint of another run is refused."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from forked import run_code
from safetensors.torch import load_file, save_file
from toys import liked
from training_runs import farthest, metrics, train, turned, weights

from guerdon import GuerdonError
from guerdon.api import training
from guerdon.training.run import TrainingRun
from tiny import save_tiny

TESTS = Path(__file__).parents[1]
STOPPING = {"epochs": 3.0, "batch_size": 8, "save_every": 3, "eval_every": 2, "patience": 3, "micro_tokens": 512}
MOMENTS = {
    "in step 5, whose metrics are half written": """
        append = run_folder.append_jsonl
        def dying(path, row):
            append(path, row)
            if row["step"] == 5:
                open(path, "a").write('{"step": 5, "held_')
                die()
        run_folder.append_jsonl = dying
    """,
    "between the two renames of a checkpoint": """
        rename = pathlib.Path.rename
        def dying(old, new):
            if str(new).endswith("checkpoint") and list(pathlib.Path(new).parent.glob(".checkpoint.*.old")):
                die()
            return rename(old, new)
        pathlib.Path.rename = dying
    """,
    "while the best weights are written": """
        write = checkpoint.save_file
        def dying(tensors, path):
            write(tensors, path)
            if ".best." in str(path):
                die()
        checkpoint.save_file = dying
    """,
}


@pytest.fixture(scope="module")
def uninterrupted(tiny_dir, tmp_path_factory):
    """A run that stops early, and its folder."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    result = train(tiny_dir, liked(32), held_out=turned(liked(16, 1)), folder=folder, **STOPPING)
    assert result.stopped_early
    assert result.steps == 8  # the best at 2, then worse at 4, 6 and 8
    return result, folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_resumes_to_the_same_weights_bit_for_bit(tiny_dir, tmp_path, uninterrupted, moment):
    child = (
        textwrap.dedent(f"""
        import os, pathlib, signal, sys
        sys.path[:0] = {[str(TESTS), str(TESTS / "training")]!r}
        from test_run import STOPPING, liked, train, turned
        from guerdon.io import run_folder
        from guerdon.runtime import checkpoint
        die = lambda: os.kill(os.getpid(), signal.SIGKILL)
    """)
        + textwrap.dedent(MOMENTS[moment])
        + textwrap.dedent(f"""
        train({str(tiny_dir)!r}, liked(32), held_out=turned(liked(16, 1)), folder=pathlib.Path({str(tmp_path)!r}), **STOPPING)
    """)
    )
    ran = run_code(child)
    assert ran.returncode == -9, ran.stderr
    result, folder = uninterrupted
    again = train(tiny_dir, liked(32), held_out=turned(liked(16, 1)), folder=tmp_path, **STOPPING)
    assert farthest(weights(result), weights(again)) == 0.0
    assert (again.steps, again.stopped_early, again.held_out) == (result.steps, True, result.held_out)
    assert metrics(tmp_path) == metrics(folder)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") or path.name.endswith(".old")]


def test_a_finished_run_is_not_run_again(tiny_dir, uninterrupted):
    result, folder = uninterrupted
    before = (folder / "metrics.jsonl").read_bytes()
    again = train(tiny_dir, liked(32), held_out=turned(liked(16, 1)), folder=folder, **STOPPING)
    assert farthest(weights(result), weights(again)) == 0.0
    assert again.held_out == result.held_out
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_a_folder_changes_nothing(tiny_dir, uninterrupted):
    result, _ = uninterrupted
    again = train(tiny_dir, liked(32), held_out=turned(liked(16, 1)), **STOPPING)
    assert farthest(weights(result), weights(again)) == 0.0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lr": 1e-3}, "train options"),
        ({"seed": 1}, "train options"),
        ({"comparisons": liked(32, 2)}, "data"),
        ({"comparisons": [dataclasses.replace(c, weight=2.0) for c in liked(32)]}, "data"),
        (
            {
                "comparisons": [
                    dataclasses.replace(c, preference=dataclasses.replace(c.preference, strength=2.0))
                    for c in liked(32)
                ]
            },
            "data",
        ),
        ({"model": {"system": "be kind", "lora_rank": 2}}, "model"),
        ({"model": {"lora_rank": 2, "lora_alpha": 8}}, "model"),
        ({"model": {"lora_rank": 2, "dtype": "bfloat16"}}, "model"),
        ({"model": {"lora_rank": 3}}, "model"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_what_differs(tiny_dir, tmp_path, change, named):
    given = {"comparisons": liked(32), "model": {"lora_rank": 2}, "max_steps": 2, "save_every": 1}
    train(tiny_dir, folder=tmp_path, **given)
    with pytest.raises(
        GuerdonError,
        match=rf"checkpoint: belongs to a run that differs in {named}\. Delete it to start over, or pass another path",
    ):
        train(tiny_dir, folder=tmp_path, **given | change)


def test_a_base_that_was_replaced_under_its_name_is_another_run(tmp_path):
    base, given = save_tiny(tmp_path / "base"), {"model": {"lora_rank": 2}, "max_steps": 2, "save_every": 1}
    train(base, liked(32), folder=tmp_path / "run", **given)
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][5, 40] += 1.0
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(GuerdonError, match=r"checkpoint: belongs to a run that differs in model\. Delete it"):
        train(base, liked(32), folder=tmp_path / "run", **given)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"save_every": 10, "save_minutes": 1e-9}, [1, 2, 3]),
        ({"save_every": 10, "save_minutes": 60}, [3]),
        ({"save_every": 2, "save_minutes": 0}, [2, 3]),
        ({"save_every": 0, "save_minutes": 1e-9}, []),
    ],
)
def test_a_checkpoint_is_due_by_steps_and_by_the_clock(tiny_dir, tmp_path, monkeypatch, options, steps):
    saved = []
    monkeypatch.setattr(TrainingRun, "save_checkpoint", lambda self, step, weights: saved.append(step))
    train(tiny_dir, liked(32), folder=tmp_path, max_steps=3, batch_size=4, **options)
    assert saved == steps


def test_options_that_change_no_result_do_not_prevent_resuming(tiny_dir, tmp_path):
    given = {"folder": tmp_path, "max_steps": 2}
    train(tiny_dir, liked(32), save_every=1, **given)
    assert train(tiny_dir, liked(32), save_every=2, save_minutes=3, micro_tokens=64, **given).steps == 2


@pytest.mark.parametrize(("name", "text"), [("state.json", "{"), ("tensors.safetensors", "half")])
def test_a_damaged_checkpoint_is_named(tiny_dir, tmp_path, name, text):
    train(tiny_dir, liked(16), folder=tmp_path, max_steps=1, save_every=1)
    (tmp_path / "checkpoint" / name).write_text(text)
    with pytest.raises(
        GuerdonError,
        match=rf"checkpoint(: |/){re.escape(name)}:? must be .*, got .* Delete .*checkpoint to start over\.",
    ):
        train(tiny_dir, liked(16), folder=tmp_path, max_steps=1, save_every=1)


@pytest.mark.parametrize("on_disk", [True, False])
def test_early_stopping_restores_the_best_weights(tiny_dir, tmp_path, on_disk):
    given = {"held_out": turned(liked(16, 1)), "schedule": "constant", "warmup": 0.0, "eval_every": 1}
    folder = tmp_path if on_disk else None
    stopped = train(tiny_dir, liked(128), patience=2, epochs=4.0, folder=folder, **given)
    assert stopped.stopped_early
    losses = [
        train(tiny_dir, liked(128), max_steps=n, **given).held_out.loss.value for n in range(1, stopped.steps + 1)
    ]
    best = int(np.argmin(losses)) + 1
    assert stopped.steps == best + 2
    assert stopped.held_out.loss.value == losses[best - 1]
    assert farthest(weights(stopped), weights(train(tiny_dir, liked(128), max_steps=best, **given))) == 0.0


def test_one_held_out_pair_has_the_widest_interval_and_metrics_stay_json(tiny_dir, tmp_path):
    train(tiny_dir, liked(16), held_out=liked(1, 5), folder=tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    accuracy, low, high = (rows[-1][f"held_out_accuracy{end}"] for end in ("", "_low", "_high"))
    assert (accuracy, low, high) in (pytest.approx((0.0, 0.0, 0.975)), pytest.approx((1.0, 0.025, 1.0)))


@pytest.mark.parametrize("place", ["/proc/nobody/run", "file/run"])
def test_a_folder_that_cannot_be_written_is_named(tiny_dir, tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GuerdonError, match=r"cannot write .*run.*\. Pass another path"):
        train(tiny_dir, liked(4), folder=tmp_path / place)
    with pytest.raises(GuerdonError, match=r"cannot write .*\. Pass another path"):
        training.train(liked(4), out=tmp_path / place, base=str(tiny_dir))
