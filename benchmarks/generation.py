"""Tokens per second of Guerdon's decoding, of transformers' generate and of vLLM: many prompts, and many samples of few prompts.

    python benchmarks/generation.py --data hh_pairs.jsonl.gz --vllm-python PEER/bin/python

All sides load the same weights, take the most likely token, and run until every reply has --tokens tokens (no end token
stops a reply, so that all do the same work); then the replies are compared token by token. `generate` gets left-padded rows
of all prompts at once, or `num_return_sequences`. Runs are fresh processes, interleaved; each warms up with one call.
In bfloat16 they round differently, so the share of equal replies is reported; in float32 all must be equal.

Results go to benchmarks/results/generation.json by case.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import numpy as np
import rows
import servers
from measure import Answer, Job, interleave, ratio, shown, spread

SHAPES = {"32 prompts": (32, 1), "2 prompts x 16": (2, 16)}


def main() -> None:
    """Run both sides on both shapes, save the numbers and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[], help="rows with a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens per reply")
    parser.add_argument("--max-prompt", type=int, default=400, help="longer prompts are left out")
    parser.add_argument("--dtypes", default="bfloat16,float32", help="one case each")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 takes the most likely token, so that replies compare"
    )
    parser.add_argument(
        "--vllm-python", type=Path, help="python of vLLM's environment (peers/README.md); without it, no vLLM"
    )
    measure.add_options(parser, "generation.json")
    a = parser.parse_args()
    if a.job:
        return measure.answer(a.job, handle)
    if a.smoke:
        a.tokens, a.dtypes, a.repeats = 6, "float32", 1
    runner = measure.Runner(handle, Path(__file__).resolve(), a.threads, a.malloc, a.memory, a.smoke)
    source = rows.source_rows(a, 40)
    for dtype in measure.names(a.dtypes):
        for shape, (prompts, samples) in SHAPES.items():
            job: Job = {"model": a.model, "dtype": dtype, "samples": samples, "tokens": a.tokens}
            job |= {"prompts": sample_prompts(a, source, prompts), "temperature": a.temperature}
            answers = interleave(contestants(a, runner, job), a.repeats)
            case = summarize(answers, prompts * samples * a.tokens, dtype)
            case |= {
                "machine": measure.machine(a.threads),
                "settings": {"dtype": dtype, "shape": shape, "tokens": a.tokens},
            }
            measure.keep(a.out, "drawing replies", {f"{dtype}/{shape}": case})
            show(f"{dtype}, {shape}", case)


def contestants(a: argparse.Namespace, runner: measure.Runner, job: Job) -> dict[str, Callable[[], Answer]]:
    """A run of each side."""
    sides = {side: (lambda side=side: runner.ours(job | {"side": side})) for side in ("ours", "generate")}
    if a.vllm_python:
        theirs = job | {"folder": str(model_folder(a.model)), "memory": None}  # it reserves more than it uses
        environment = servers.vllm_environment(a.vllm_python, a.threads)
        sides["vllm"] = lambda: runner.peer(a.vllm_python, "peers.vllm_generation", theirs, environment)
    return sides


def model_folder(name: str) -> Path:
    """Where the model's files are."""
    from guerdon.models.directory.starter import starter_model

    return starter_model() if name == "starter" else Path(name).resolve()


def sample_prompts(a: argparse.Namespace, source: list[dict[str, Any]], num: int) -> list[list[int]]:
    """Token ids of different prompts, sampled with a fixed seed."""
    from guerdon.config import PolicyOptions
    from guerdon.contracts import as_prompt
    from guerdon.models.directory.policies import load_policy

    policy = load_policy(PolicyOptions(base=a.model, device="cpu"))
    prompts: list[list[int]] = []
    for i in np.random.default_rng(0).permutation(len(source)):
        ids = policy.encode(as_prompt(source[int(i)]["prompt"])).tolist()
        if len(ids) <= a.max_prompt and ids not in prompts:
            prompts.append(ids)
        if len(prompts) == num:
            return prompts
    raise SystemExit(f"--data must hold {num} prompts of at most {a.max_prompt} tokens, got {len(prompts)}. Add data.")


def handle(job: Job) -> Answer:
    """One run: load, warm up, generate once on the clock."""
    import torch

    from guerdon.config import PolicyOptions
    from guerdon.models.directory.policies import load_policy

    torch.set_num_threads(job["threads"])
    policy = load_policy(PolicyOptions(base=job["model"], dtype=job["dtype"], device="cpu"))
    prompts = [np.array(ids, dtype=np.int32) for ids in job["prompts"]]
    policy.stop_ids = frozenset()
    generate = generate_ours if job["side"] == "ours" else generate_with_transformers
    measure.touch(policy.model)
    generate(policy, prompts[:2], job | {"tokens": 4})
    memory = measure.Memory()
    start_time = time.perf_counter()
    replies = generate(policy, prompts, job)
    return {"seconds": time.perf_counter() - start_time, "replies": replies, **memory.report()}


def generate_ours(policy: Any, prompts: list[np.ndarray], job: Job) -> list[list[int]]:
    """Guerdon's decoding."""
    sampled = policy.generate(prompts, job["samples"], job["tokens"], job["temperature"])
    return [reply.tolist() for reply in sampled.replies]


def generate_with_transformers(policy: Any, prompts: list[np.ndarray], job: Job) -> list[list[int]]:
    """transformers' generate on left-padded rows."""
    import torch

    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), policy.tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.from_numpy(prompt.astype(np.int64))
        mask[i, width - len(prompt) :] = 1
    if (
        job["temperature"] == 0
    ):  # generate returns one greedy reply per prompt: rows are repeated, as it does for samples
        sampling: dict[str, Any] = {"do_sample": False}
        ids, mask = (x.repeat_interleave(job["samples"], 0) for x in (ids, mask))
    else:
        sampling = {"do_sample": True, "temperature": job["temperature"], "num_return_sequences": job["samples"]}
        sampling |= {"top_k": 0, "top_p": 1.0}
    lengths = {"min_new_tokens": job["tokens"], "max_new_tokens": job["tokens"]}
    policy.model.generation_config.eos_token_id = None
    with torch.inference_mode():
        output = policy.model.generate(
            input_ids=ids, attention_mask=mask, pad_token_id=policy.tokenizer.pad_token_id, **lengths, **sampling
        )
    return output[:, width:].tolist()  # type: ignore[no-any-return]


def summarize(answers: dict[str, list[Answer]], tokens: int, dtype: str) -> dict[str, Any]:
    """Rates, their ratio, and how many replies agree."""
    if failed := [f"{name}: {runs[0]['error']}" for name, runs in answers.items() if "error" in runs[0]]:
        raise SystemExit("; ".join(failed))
    rates = {name: spread([tokens / run["seconds"] for run in runs]) for name, runs in answers.items()}
    pairs = list(zip(answers["ours"][0]["replies"], answers["generate"][0]["replies"], strict=True))
    equal = sum(one == other for one, other in pairs) / len(pairs)
    agree = [next((i for i, (x, y) in enumerate(zip(*p, strict=True)) if x != y), len(p[0])) for p in pairs]
    return {
        "tokens_a_second": rates,
        **{f"ours_over_{name}": ratio(rates["ours"], rate) for name, rate in rates.items() if name != "ours"},
        "equal_replies": equal,
        "mean_tokens_before_they_differ": sum(agree) / len(agree),
        "over_baseline_bytes": {n: spread([r["over_baseline_bytes"] for r in runs]) for n, runs in answers.items()},
    }


def show(title: str, case: dict[str, Any]) -> None:
    """Print the table of one case."""
    print(f"\n{title}: {case['equal_replies']:.0%} of replies equal")
    lines = [
        [name, shown(rate, 1), f"{case['over_baseline_bytes'][name]['median'] / 2**30:.2f}"]
        for name, rate in case["tokens_a_second"].items()
    ]
    measure.print_table(["", "new tokens/s", "GiB over model"], lines)
    for name in ("generate", "vllm"):
        if f"ours_over_{name}" in case:
            print(f"ours / {name} {shown(case[f'ours_over_{name}'])}", flush=True)


if __name__ == "__main__":
    main()
