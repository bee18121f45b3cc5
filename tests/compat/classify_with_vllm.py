"""Score the same conversations with vLLM's /classify on a CPU, through `guerdon serve --backend` and with Guerdon, and compare.

    python tests/compat/classify_with_vllm.py --python /tmp/vllm/bin/python --model DIR --out vllm.json

vllm_cpu.py says how the environment is made. DIR is a reward model that Guerdon saved, of a size that vLLM's kernels take (heads of 64 or
more, such as the starter's). Exits with 1 where a score differs by more than float32 rounds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from vllm_cpu import REPLIES, running_vllm

from guerdon.api.ai_quickstart import ai_prompts
from guerdon.config import ModelOptions
from guerdon.contracts import Prompt, as_response
from guerdon.conversation import message_dict
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import load_reward_model
from guerdon.models.directory.reader_scores import ROUNDING

Turns = list[dict[str, Any]]


def ask(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The JSON of an answer."""
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def classify(url: str, **body: Any) -> list[float]:
    """The raw scores that vLLM gives."""
    answer = ask(url, "/classify", {"model": "starter", "use_activation": False, **body})
    return [row["probs"][0] for row in answer["data"]]


def behind_guerdon(url: str, model: Path, messages: Sequence[Turns], calibration: Calibration) -> list[float]:
    """The raw scores behind the rewards that a guerdon server gives in front of vLLM."""
    command = [sys.executable, "-m", "guerdon", "serve", str(model), "--backend", url, "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        answer = ask(address, "/v1/reward", {"items": [{"messages": turns} for turns in messages]})
    finally:
        server.terminate()
        server.wait(60)
    return [row["score"] * calibration.temperature + calibration.reference_mean for row in answer["results"]]


def conversations(num: int) -> list[tuple[Prompt, str]]:
    """Prompts with a reply each."""
    return [(prompt, REPLIES[i % len(REPLIES)][i % 2]) for i, prompt in enumerate(ai_prompts(num))]


def main() -> None:
    """Serve, score and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="Python of the environment with vllm-cpu.")
    parser.add_argument("--model", type=Path, required=True, help="Directory of a saved reward model.")
    parser.add_argument("--rows", type=int, default=64, help="Conversations to score.")
    parser.add_argument("--wait", type=float, default=600.0, help="Seconds to wait for the server to start.")
    parser.add_argument("--pooler", action="store_true", help="Let vLLM apply the calibration, and compare nats.")
    parser.add_argument("--out", type=Path, help="JSON file for the result; printed in any case.")
    options = parser.parse_args()
    model = load_reward_model(options.model, ModelOptions(device="cpu", dtype="float32"), with_uncertainty=False)
    rows = conversations(options.rows)
    prompts, replies = [prompt for prompt, _ in rows], [reply for _, reply in rows]
    start = time.monotonic()
    ours = model.score(prompts, replies).value
    result: dict[str, Any] = {
        "rows": len(rows),
        "spread": float(ours.std()),
        "seconds": {"guerdon": time.monotonic() - start},
    }
    texts = [model.text.render(prompt, as_response(reply)) for prompt, reply in rows]
    messages = [[*map(message_dict, prompt), {"role": "assistant", "content": reply}] for prompt, reply in rows]
    calibration, pooler = model.card.calibration, []
    if options.pooler:
        affine = {"logit_mean": calibration.reference_mean, "logit_sigma": calibration.temperature}
        pooler = ["--pooler-config", json.dumps(affine)]
        ours = (ours - calibration.reference_mean) / calibration.temperature
    with (
        tempfile.TemporaryDirectory() as name,
        running_vllm(options.python, options.model, Path(name) / "vllm.log", options.wait, pooler) as url,
    ):
        ids = model.text.token_ids(texts)
        ways = {
            "token ids": lambda: classify(url, input=ids),
            "text": lambda: classify(url, input=texts, add_special_tokens=False),
            "guerdon serve --backend": lambda: behind_guerdon(url, options.model, messages, calibration),
            "messages": lambda: [classify(url, messages=turns)[0] for turns in messages],
        }
        if options.pooler:  # the server in front would calibrate a second time
            del ways["guerdon serve --backend"]
        for way, scores in ways.items():
            start = time.monotonic()
            distance = np.abs(np.array(scores()) - ours)
            result["seconds"][way] = time.monotonic() - start
            result[way] = {"largest": float(distance.max()), "mean": float(distance.mean())}
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(any(result[way]["largest"] > ROUNDING for way in ways))


if __name__ == "__main__":
    main()
