"""Several processes optimize as one would: unequal shares of prompts, minibatches cut anywhere, one scale of rewards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import KIND

from guerdon.config import OptimizeOptions, PolicyOptions
from guerdon.contracts import as_prompt
from guerdon.models.directory.policies import load_policy
from guerdon.optimization.loop import optimize
from guerdon.optimization.rewards import combined

HERE = Path(__file__).parent
PROMPTS = [as_prompt("write a review of film " + " ".join(str(i))) for i in (1, 20, 300, 41, 500)]
SMALL = {
    "updates": 3, "prompts": 3, "samples": 2, "max_tokens": 5, "epochs": 2, "minibatches": 2, "check_every": 2, "save_every": 2,
    "lr": 0.02, "eps": 1.0, "kl_target": 0.1, "kl_horizon": 8.0,
}  # fmt: skip
ADDRESSES = "ROLLOUT_SERVERS"  # a variable of the environment
CASES = {  # steps are linear in the gradient, so that a rounding error stays one
    "values": {},
    "values, a running scale": {"reward_scale": "running", "prompts": 5},
    "values, whitened rewards, more minibatches than a process has replies": {"whiten_rewards": True, "minibatches": 6},
    "siblings": {"baseline": "leave_one_out"},
    "groups, a reply without a reward": {"baseline": "group", "samples": 3, "prompts": 4},
    "a prompt that comes again": {"prompts": 7, "samples": 1},
    "more processes than prompts": {"prompts": 1, "samples": 2},
    "the best by gold": {"keep": "best_gold", "check_every": 1},
    "whole weights": {"lora_rank": 0},
    "replies of servers": {"rollouts": ADDRESSES},
}


def kindness(prompts, responses):
    """Kind words in a reply; one prompt's longest replies have no reward."""
    kind = [float(sum(word in KIND for word in response.text.split())) for response in responses]
    lost = [p == PROMPTS[1] and len(r.text.split()) > 3 for p, r in zip(prompts, responses, strict=True)]
    return [float("nan") if gone else x for x, gone in zip(kind, lost, strict=True)]


def brevity(prompts, responses):
    return [-float(len(response.text)) for response in responses]


def run_case(base, name, folder):
    given = {**SMALL, **CASES[name]}
    lora_rank = given.pop("lora_rank", 2)
    given |= {"rollouts": os.environ[ADDRESSES]} if "rollouts" in given else {}
    policy = load_policy(PolicyOptions(base=str(base), lora_rank=lora_rank), adapters=lora_rank > 0)
    asked = PROMPTS[2:] if "without" not in name else PROMPTS
    return optimize(
        policy, combined(kindness), asked, OptimizeOptions(**given), gold=combined(brevity), held_out=PROMPTS[3:], folder=folder
    )  # fmt: skip


def run_all(base, place):
    """What each launched process does."""

    for name in CASES:
        done = run_case(base, name, Path(place) / name / "run")
        folder = Path(place) / name / os.environ["RANK"]
        folder.mkdir(parents=True)
        save_file({k: v.detach().contiguous() for k, v in done.policy.model.named_parameters()}, folder / "weights")
        told = {
            "updates": done.updates,
            "kept": done.kept_update,
            "checks": [list(check.texts) for check in done.checks],
        }
        (folder / "result.json").write_text(json.dumps(told))


@pytest.fixture(scope="module")
def servers(tiny_dir):
    """Two that sample by the prompt and the seed alone."""
    from rollout_servers import PolicyServer, running

    with running(PolicyServer(tiny_dir), PolicyServer(tiny_dir)) as urls, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ADDRESSES, urls)
        yield


@pytest.fixture(scope="module")
def launched(tiny_dir, tmp_path_factory, servers):
    """A folder with what two processes made of every case."""
    place = tmp_path_factory.mktemp("two")
    script = f"""
        from guerdon.runtime.distributed import leave_processes
        from test_processes import run_all
        if __name__ == "__main__":
            run_all({str(tiny_dir)!r}, {str(place)!r})
            leave_processes()  # as any torch script must: its threads abort a process that exits with its group
    """
    (place / "script.py").write_text(textwrap.dedent(script))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(place / "script.py"),
    ]
    path = os.pathsep.join([str(HERE), str(HERE.parent), str(HERE.parents[1] / "src")])
    given = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.parametrize("name", CASES)
def test_two_processes_take_the_steps_of_one(tiny_dir, tmp_path, launched, name):
    one = run_case(tiny_dir, name, tmp_path)
    for rank in "01":
        told = json.loads((launched / name / rank / "result.json").read_text())
        assert (told["updates"], told["kept"]) == (one.updates, one.kept_update)
        assert told["checks"] == [list(check.texts) for check in one.checks]
        found = load_file(launched / name / rank / "weights")
        for key, value in one.policy.model.named_parameters():
            torch.testing.assert_close(found[key], value.detach(), rtol=0, atol=1e-6)
    rows, expected = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (launched / name / "run", tmp_path)
    )
    for row, other in zip(rows, expected, strict=True):
        del row["seconds"], other["seconds"]
        assert row == pytest.approx(other, abs=1e-4, nan_ok=True)
