"""Score the same conversations with llama.cpp, from what `guerdon export gguf` writes, and with Guerdon, and compare.

    python tests/compat/gguf_llama_cpp.py --model DIR --out llama.json

DIR is a reward model that Guerdon saved. llama.cpp's server comes from the package xllamacpp, which the extra dev installs. Token ids of
the texts are compared too. Exits with 1 where a token differs, or a float32 reward by more than float32 rounds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
import unicodedata
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from vllm_cpu import REPLIES

sys.path.insert(0, str(Path(__file__).parents[1]))

from gguf_models import HARD
from llama_server import running_llama_server

from guerdon.api.ai_quickstart import ai_prompts
from guerdon.api.handover import export_gguf
from guerdon.api.saved_models import load
from guerdon.contracts import as_response
from guerdon.conversation import message_dict
from guerdon.models.calibrated import strip_calibration
from guerdon.models.directory.reader_scores import ROUNDING


def reward_module(folder: Path) -> Any:
    """The exported reward.py."""
    spec = importlib.util.spec_from_file_location("exported_reward", folder / "reward.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tokens_of(url: str, text: str) -> list[int]:
    """The token ids that llama.cpp gives a rendered text."""
    body = json.dumps({"content": text, "add_special": True, "parse_special": True}).encode()
    request = urllib.request.Request(f"{url}/tokenize", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        ids: list[int] = json.load(answer)["tokens"]
    return ids


def compare(model: Any, prompts: list[Any], replies: list[str], dtype: str, source: Path) -> dict[str, Any]:
    """The largest difference in nats, how many texts have other tokens, and seconds of both."""
    text = strip_calibration(model).text
    start = time.monotonic()
    ours = model.score(prompts, replies).value
    seconds = time.monotonic() - start
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        options = export_gguf(source, folder / "out", dtype=dtype)
        with running_llama_server(folder, folder / "out/backbone.gguf") as url:
            rewards = reward_module(folder / "out").LlamaCppReward(url)
            rendered = [text.render(p, as_response(r)) for p, r in zip(prompts, replies, strict=True)]
            form = rewards.head["normalize"]
            sent = [unicodedata.normalize(form, each) if form else each for each in rendered]
            others = sum(tokens_of(url, s) != text.token_ids([r])[0] for s, r in zip(sent, rendered, strict=True))
            start = time.monotonic()
            theirs = rewards.score([[message_dict(turn) for turn in prompt] for prompt in prompts], replies)
            theirs_seconds = time.monotonic() - start
    return {
        "dtype": dtype,
        "texts": len(ours),
        "largest difference": float(np.abs(ours - theirs).max()),
        "rewards from": float(ours.min()),
        "to": float(ours.max()),
        "texts with other tokens": others,
        "seconds": {"guerdon": seconds, "llama.cpp": theirs_seconds},
        "options": options,
    }


def main() -> None:
    """Export, serve, score and compare, in both number types."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="Directory of a saved reward model.")
    parser.add_argument("--rows", type=int, default=16, help="Conversations to score.")
    parser.add_argument("--out", type=Path, help="JSON file for the result; printed in any case.")
    options = parser.parse_args()
    model = load(options.model, device="cpu", with_uncertainty=False)
    prompts = list(ai_prompts(options.rows))
    plain = [reply for pair in REPLIES for reply in pair]
    replies = [(HARD[i // 2 % len(HARD)] if i % 2 else plain[i // 2 % len(plain)]) for i in range(options.rows)]
    results = [compare(model, prompts, replies, dtype, options.model) for dtype in ("float32", "float16")]
    report = {"xllamacpp": version("xllamacpp"), "gguf": version("gguf"), "results": results}
    print(json.dumps(report, indent=2))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    exact = results[0]
    sys.exit(int(exact["largest difference"] > ROUNDING or any(each["texts with other tokens"] for each in results)))


if __name__ == "__main__":
    main()
