"""One timed run of vLLM's offline generation for ../generation.py, which writes the job. Run with the peer's Python (README.md here).

    cd benchmarks && PEER/bin/python -m peers.vllm_generation --job job.json

The job holds the model's folder, token ids of the prompts, the samples and new tokens of each, the precision and the temperature.
vLLM runs in this process with what ../servers.py sets in its environment, warms up with one call as the others do, and ignores end tokens.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import measure


def main() -> None:
    """Run the job of --job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, required=True, help="written by generation.py")
    measure.answer(parser.parse_args().job, run)


def run(job: measure.Job) -> measure.Answer:
    """Load, warm up, generate once on the clock; `start_seconds` are those of loading, compilation included."""
    began = time.perf_counter()
    from vllm import LLM, SamplingParams, TokensPrompt

    engine = LLM(job["folder"], dtype=job["dtype"], max_model_len=2048, disable_log_stats=True)
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in job["prompts"] for _ in range(job["samples"])]

    def sample(rows: list[TokensPrompt], tokens: int) -> list[list[int]]:
        chosen = SamplingParams(temperature=job["temperature"], max_tokens=tokens, ignore_eos=True, detokenize=False)
        return [list(output.outputs[0].token_ids) for output in engine.generate(rows, chosen, use_tqdm=False)]

    sample(prompts[:2], 4)
    memory, start = measure.Memory(), time.perf_counter() - began
    began = time.perf_counter()
    replies = sample(prompts, job["tokens"])
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "start_seconds": start, "replies": replies, **memory.report()}


if __name__ == "__main__":
    main()
