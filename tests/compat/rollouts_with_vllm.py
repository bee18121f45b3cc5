"""PPO with replies from two vLLM servers on a CPU and rewards from a Guerdon server; one vLLM is stopped in between.

    python tests/compat/rollouts_with_vllm.py --python /tmp/vllm/bin/python --out rollouts.json

vllm_cpu.py says how the environment is made. Prints the mean difference between vLLM's log-probabilities and the learner's in each
update, and exits with 1 where it is more than the alert allows, or where a reply is missing. Not part of the test suite: four
processes take some 12 GB and several minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from vllm_cpu import running_vllm

from guerdon.api.ai_quickstart import ai_prompts
from guerdon.config import ModelOptions
from guerdon.conversation import message_dict
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.directory.saving import save
from guerdon.optimization.remote_rollouts import MAX_REPLIES
from guerdon.optimization.update_alerts import MAX_SERVER_DIFFERENCE

LORA = ("--enable-lora", "--max-lora-rank", "16")


def served_reward(folder: Path, model: str, stack: ExitStack) -> str:
    """The address of a Guerdon server with a new reward model; it ends with the stack."""
    save(CalibratedModel(create_reward_model(ModelOptions(base=model, device="cpu")), Calibration()), folder / "reward")
    command = [sys.executable, "-m", "guerdon", "serve", str(folder / "reward"), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    stack.callback(server.wait, 60)
    stack.callback(server.terminate)
    assert server.stdout is not None
    return server.stdout.readline().split()[-1]


def metrics(run: Path) -> list[dict[str, Any]]:
    """The updates that a run has logged."""
    with suppress(FileNotFoundError):
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return []


def completions(folder: Path) -> list[int]:
    """How many requests each of the servers has answered."""
    logs = [(folder / f"{i}.log").read_text("utf-8", "replace") for i in range(2)]
    return [log.count('POST /v1/completions HTTP/1.1" 200') for log in logs]


def optimize(
    folder: Path, name: str, model: str, reward: str, urls: list[str], words: list[str]
) -> subprocess.Popen[bytes]:
    """A run of PPO by the command line."""
    command = [sys.executable, "-m", "guerdon", "--quiet", "optimize", "ppo", "--policy", model, "--reward", reward]
    command += ["--prompts", str(folder / "prompts.jsonl"), "--out", str(folder / name)]
    command += [f"optimize.rollouts={','.join(urls)}", "optimize.check_every=0", "optimize.epochs=2", *words]
    return subprocess.Popen(command)


def main() -> None:
    """Serve, optimize, stop a server, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="Python of the environment with vllm-cpu.")
    parser.add_argument("--updates", type=int, default=3, help="Updates of each of the two runs.")
    parser.add_argument("--prompts", type=int, default=8, help="Prompts per update.")
    parser.add_argument("--samples", type=int, default=2, help="Replies per prompt.")
    parser.add_argument("--max-tokens", type=int, default=16, help="Tokens per reply.")
    parser.add_argument("--wait", type=float, default=900.0, help="Seconds to wait for a server to start.")
    parser.add_argument("--out", type=Path, help="JSON file for the result; printed in any case.")
    options = parser.parse_args()
    from guerdon.models.directory.starter import starter_model

    os.environ["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    model = str(starter_model())
    words = [f"optimize.updates={options.updates}", f"optimize.prompts={options.prompts}", "optimize.lr=1e-3"]
    words += [f"optimize.samples={options.samples}", f"optimize.max_tokens={options.max_tokens}"]
    result: dict[str, Any] = {"prompts": options.prompts, "samples": options.samples, "max_tokens": options.max_tokens}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack, ExitStack() as second:
        folder = Path(name)
        rows = [{"prompt": [message_dict(turn) for turn in prompt]} for prompt in ai_prompts(4 * options.prompts)]
        (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        start = time.monotonic()
        urls = [
            owner.enter_context(running_vllm(options.python, Path(model), folder / f"{i}.log", options.wait, LORA))
            for i, owner in enumerate((stack, second))
        ]
        reward = served_reward(folder, model, stack)
        result["seconds to start"] = time.monotonic() - start
        run = optimize(folder, "both", model, reward, urls, words)
        result["exit"], first = [run.wait()], completions(folder)
        run = optimize(folder, "stopped", model, reward, urls, words)
        while run.poll() is None and not metrics(folder / "stopped"):
            time.sleep(0.2)
        second.close()
        result["exit"].append(run.wait())
        for part, before, after in (("both", [0, 0], first), ("stopped", first, completions(folder))):
            updates = metrics(folder / part)
            result[part] = {
                key: [row.get(key) for row in updates] for key in ("server_difference", "ratio_far", "kl", "seconds")
            }
            result[part]["requests"] = [end - start for start, end in zip(before, after, strict=True)]
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    differences = [value for part in ("both", "stopped") for value in result[part]["server_difference"]]
    requests = options.updates * options.prompts * -(-options.samples // MAX_REPLIES)
    is_complete = result["exit"] == [0, 0] and len(differences) == 2 * options.updates
    is_complete &= sum(result["both"]["requests"]) == requests <= sum(result["stopped"]["requests"])
    sys.exit(not is_complete or max(differences) > MAX_SERVER_DIFFERENCE)


if __name__ == "__main__":
    main()
