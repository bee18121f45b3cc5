"""One timed run of vLLM's offline scoring for ../scoring.py, which writes the job. Run with the peer's Python (README.md here).

    cd benchmarks && PEER/bin/python -m peers.vllm_scoring --job job.json

The job holds the folder of a reward model that transformers can read, sets of token ids, the precision and the longest text. All ids of a
set go into one call of LLM.classify, without an activation, so that scores are the model's own.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import measure


def main() -> None:
    """Run the job of --job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, required=True, help="written by scoring.py")
    measure.answer(parser.parse_args().job, run)


def run(job: measure.Job) -> measure.Answer:
    """Load, warm up with the first set, time the others; `start_seconds` are those of loading, compilation included."""
    began = time.perf_counter()
    from vllm import LLM, PoolingParams, TokensPrompt

    dtype = {"fp32": "float32", "bf16": "bfloat16"}[job["precision"]]
    engine = LLM(job["start"], runner="pooling", dtype=dtype, max_model_len=job["max_length"], disable_log_stats=True)
    raw = PoolingParams(use_activation=False)

    def score_set(one: measure.Job) -> list[float]:
        prompts = [TokensPrompt(prompt_token_ids=ids) for ids in one["ids"]]
        return [output.outputs.probs[0] for output in engine.classify(prompts, pooling_params=raw, use_tqdm=False)]

    score_set(job["sets"][0])
    memory, start = measure.Memory(), time.perf_counter() - began
    seconds, scores = [], []
    for one in job["sets"][1:]:
        began = time.perf_counter()
        scores.append(score_set(one))
        seconds.append(time.perf_counter() - began)
    return {"set_seconds": seconds, "scores": scores, "start_seconds": start, **memory.report()}


if __name__ == "__main__":
    main()
