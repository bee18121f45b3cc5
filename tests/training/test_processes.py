"""Several processes give the result of one, with copies of the model or shards, and a run can continue with another number.

One launch runs every case below; each case is then run here by one process and compared.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from families import save_family
from safetensors.torch import load_file, save_file
from toys import liked

import guerdon
from guerdon import Comparison, GuerdonError, Preference
from guerdon.config import ModelOptions, TrainOptions
from guerdon.models.directory.loading import create_reward_model, load_reward_model
from guerdon.training import fit, loop
from guerdon.training.batches import micro_batches, rows_of_process, step_rows
from guerdon.training.dataset import tokenize_comparisons
from guerdon.training.run import TrainingRun

HERE = Path(__file__).parent
STEADY = {"lr": 0.02, "eps": 1.0, "clip": 0.5, "schedule": "constant", "warmup": 0.0}  # steps linear in the gradient
SMALL = {**STEADY, "epochs": 1.0, "batch_size": 8, "micro_tokens": 60, "save_every": 0}
CASES = {
    "copies": {"loss": "rao_kupper"},
    "copies, adapters": {"lora_rank": 2, "gradient_checkpointing": True},
    "copies, more processes than comparisons": {"batch_size": 1, "max_steps": 3},
    "shards": {"shard": True},
    "shards, a learned threshold": {"shard": True, "loss": "rao_kupper", "gradient_checkpointing": True},
    "shards, adapters": {"shard": True, "lora_rank": 2, "gradient_checkpointing": True},
    "shards, more processes than comparisons": {"shard": True, "batch_size": 1, "max_steps": 3},
    "shards, bfloat16": {"shard": True, "dtype": "bfloat16"},
    "shards, stopping early": {"shard": True, "patience": 1, "eval_every": 1, "epochs": 9.0},
    "shards, stopping early, on disk": {"shard": True, "patience": 1, "eval_every": 1, "epochs": 9.0, "out": True},
}
CHANGING = {**SMALL, "epochs": 2.0, "save_every": 2}


def uneven(num: int = 27) -> list[Comparison]:
    """Comparisons of unequal length and weight; the longest has ten times the tokens of the shortest."""
    rows = liked(num)
    for i in range(0, num, 7):
        first, second = rows[i].responses
        rows[i] = dataclasses.replace(
            rows[i], responses=(dataclasses.replace(first, text=f"{first.text} and so it was" * 12), second), id=""
        )
    return [dataclasses.replace(c, weight=1 + i % 3) for i, c in enumerate(rows)]


def run_case(base: Path, name: str, place: Path, **over) -> loop.TrainResult:
    """Train as the case says, in this number of processes."""
    given = {**SMALL, **CASES[name], **over}
    folder = place / "run" if given.pop("out", False) else None
    model = {key: given.pop(key) for key in ("lora_rank", "dtype") if key in given}
    held_out = [
        dataclasses.replace(c, preference=Preference(groups=c.preference.groups[::-1]), id="") for c in liked(9, 1)
    ]
    created = create_reward_model(ModelOptions(base=str(base), **model))
    return fit(created, uneven(), TrainOptions(**given), held_out=held_out, folder=folder)


def run_all(base: str, place: str) -> None:
    """What each launched process runs: every case, and the first steps of a run that others resume."""

    for name in CASES:
        run_result = run_case(Path(base), name, Path(place) / name)
        write_result(run_result, Path(place) / name / os.environ["RANK"])
    first_steps(base, place, 2, shard=True)


def first_steps(base: str, place: str, steps: int, **options) -> None:
    """The run that others resume, up to a step that is a multiple of its save_every."""
    save = TrainingRun.save_checkpoint

    def dying(run, step, weights):
        save(run, step, weights)
        if step == steps:
            raise KeyboardInterrupt

    comparisons = guerdon.read(Path(place) / "data.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRun, "save_checkpoint", dying)
        with pytest.raises(KeyboardInterrupt):
            guerdon.train(comparisons, out=Path(place) / "hands", base=base, **{**CHANGING, **options})


def write_result(result: loop.TrainResult, folder: Path) -> None:
    folder.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in result.model.network.state_dict().items()}, folder / "weights")
    values = {"steps": result.steps, "stopped": result.stopped_early, "held_out": result.held_out.loss.value}
    (folder / "result.json").write_text(json.dumps(values))


def launch(*command: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Run with torchrun, one thread per process."""
    return started("torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *command)


def started(launcher: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a module that starts processes."""
    run = [sys.executable, "-m", launcher, *words]
    path = os.pathsep.join([str(HERE.parent), str(HERE), str(HERE.parents[1] / "src")])
    given = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(run, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def launched(tiny_dir, tmp_path_factory) -> Path:
    """A folder with the results of two processes for every case."""
    place = tmp_path_factory.mktemp("two")
    guerdon.write(place / "data.jsonl", uneven())
    script = f"""
        from guerdon.runtime.distributed import leave_processes
        from test_processes import run_all
        if __name__ == "__main__":
            run_all({str(tiny_dir)!r}, {str(place)!r})
            leave_processes()  # as any torch script must: its threads abort a process that exits with its group
    """
    (place / "script.py").write_text(textwrap.dedent(script))
    launch(str(place / "script.py"))
    return place


@pytest.mark.parametrize("name", CASES)
def test_two_processes_take_the_steps_of_one(tiny_dir, tmp_path, launched, name):
    one = run_case(tiny_dir, name, tmp_path, shard=False)
    for rank in "01":
        found = json.loads((launched / name / rank / "result.json").read_text())
        assert (found["steps"], found["stopped"]) == (one.steps, one.stopped_early)
        near = 2e-2 if "bfloat16" in name else 1e-6  # sums of bfloat16 gradients are rounded after each addition
        assert found["held_out"] == pytest.approx(one.held_out.loss.value, rel=near, abs=near)
        weights = load_file(launched / name / rank / "weights")
        expected = one.model.network.state_dict()
        assert weights.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(weights[key], value, rtol=0, atol=near)


def test_stopping_early_is_one_of_the_cases(tiny_dir, tmp_path):
    result = run_case(tiny_dir, "shards, stopping early", tmp_path, shard=False)
    assert result.stopped_early
    assert 1 < result.steps < 36


def test_processes_compute_unequal_numbers_of_passes(tiny_dir):
    model = create_reward_model(ModelOptions(base=str(tiny_dir)))
    options = TrainOptions(**SMALL)
    table = tokenize_comparisons(model.text, uneven(), options)
    passes = [
        [
            len(micro_batches(table, rows_of_process(table, rows, p, 2), options.micro_tokens, model.network.backbone))
            for p in (0, 1)
        ]
        for rows in (step_rows(len(table), options.batch_size, options.seed, step) for step in range(4))
    ]
    assert any(first != second for first, second in passes), passes
    assert any(min(pair) > 1 for pair in passes), passes


def test_a_run_resumes_with_another_number_of_processes(tiny_dir, launched):
    """Two with shards, then one, then two with copies, started from the command line: the same as one unbroken run."""
    first_steps(str(tiny_dir), str(launched), 4)
    options = [f"train.{key}={value}" for key, value in CHANGING.items()]
    data, hands = launched / "data.jsonl", launched / "hands"
    done = launch("-m", "guerdon", "train", f"--data={data}", f"--out={hands}", f"--base={tiny_dir}", *options)
    assert done.stdout.count(str(hands / "model")) == 1
    assert "tokens per epoch" in done.stderr
    assert done.stderr.count("tokens per epoch") == 1
    rows = [json.loads(line) for line in (hands / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 9))

    whole = guerdon.train(guerdon.read(data), base=str(tiny_dir), **CHANGING)
    texts = ["write a review"] * 3, ["a good and great film", "a sad film", "the film was so so"]
    np.testing.assert_allclose(
        load_reward_model(hands / "model").score(*texts).value, whole.score(*texts).value, atol=5e-6
    )
    found = load_reward_model(hands / "model").network.state_dict()
    for key, value in whole.network.state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6)
    assert not list(launched.glob("hands/.*"))


def test_accelerate_launch_works_too(tiny_dir, tmp_path):
    data, out = tmp_path / "data.jsonl", tmp_path / "run"
    guerdon.write(data, uneven())
    how = ("--cpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no")
    options = [f"train.{key}={value}" for key, value in CHANGING.items()]
    words = ("-m", "guerdon", "train", f"--data={data}", f"--out={out}", f"--base={tiny_dir}", *options)
    done = started("accelerate.commands.launch", *how, *words)
    assert done.stderr.count("tokens per epoch") == 1
    whole = guerdon.train(guerdon.read(data), base=str(tiny_dir), **CHANGING)
    found = load_reward_model(out / "model").network.state_dict()
    for key, value in whole.network.state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6)


def test_sharding_with_one_process_is_refused(tiny_dir):
    with pytest.raises(
        GuerdonError, match=r"train\.shard must be false in a single process, got true\. Start several with torchrun"
    ):
        fit(create_reward_model(ModelOptions(base=str(tiny_dir))), liked(4), TrainOptions(shard=True))


def test_sharding_a_longrope_model_is_refused_with_texts_on_both_sides_of_its_threshold(tmp_path):
    base = str(save_family(tmp_path, "longrope"))
    model, options = create_reward_model(ModelOptions(base=base, truncation="left")), TrainOptions(shard=True)
    both = tokenize_comparisons(model.text, uneven(8), options)
    with pytest.raises(
        GuerdonError, match=r"of \d+ to \d+ tokens.* longer than 24 tokens\. Set model\.max_length=24, or"
    ):
        loop.check_sharded_lengths(model.network, options, both, None)
    sizes = np.diff(both.starts)
    assert sizes.min() <= 24 < sizes.max()
    loop.check_sharded_lengths(model.network, TrainOptions(), both, None)  # whole weights: each side has its own passes
    short = dataclasses.replace(both, starts=np.array([0, 20, 44]))
    loop.check_sharded_lengths(model.network, options, short, None)
    loop.check_sharded_lengths(model.network, options, dataclasses.replace(both, starts=np.array([0, 25, 60])), None)
    with pytest.raises(GuerdonError, match="of 20 to 25 tokens"):  # held-out texts are computed by the same rule
        loop.check_sharded_lengths(model.network, options, short, dataclasses.replace(both, starts=np.array([0, 25])))
