"""Speed and memory of scoring, compared with padded transformers and with vLLM: candidates of one prompt, of four, and short replies.

    python benchmarks/scoring.py --data hh_pairs.jsonl.gz --data qa_feedback_kway.jsonl.gz --vllm-python PEER/bin/python

A set is what one call scores, and is timed:
  candidates  16 replies of about 65 tokens to one prompt of about 500, or 130
  together    the candidates of 4 prompts of about 500 tokens
  replies     both replies to 64 prompts of the data, of any length

Guerdon runs its public score() on text, with tokenization. A plain loop runs AutoModelForSequenceClassification on the same token
ids, right-padded, sdpa, inference_mode, in batches of 16 or of 8, whichever is faster; sorted by length where it helps. vLLM gets all
token ids of a set in one call of LLM.classify, with its defaults, so compiled and with a prefix cache; every prompt is new to it. Each
run is a fresh process and warms up with a set; vLLM's start, a minute or two, is reported apart.

Precisions: fp32; autocast is bfloat16 products over float32 weights; bf16 is bfloat16 weights. Results go to
benchmarks/results/scoring.json by case. scoring_file.py scores a long file.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import measure
import numpy as np
import rows
import servers
from measure import Answer, Job, interleave, ratio, shown, spread

WHAT = "scoring of replies; ours beside plain padded transformers and vLLM"
LENGTHS = ((500, 65), (130, 65))  # tokens of the prompt, of a reply
PRECISIONS: dict[str, dict[str, str]] = {
    "fp32": {"dtype": "float32"},
    "autocast": {"dtype": "float32", "autocast": "bfloat16"},
    "bf16": {"dtype": "bfloat16"},
}
GROUPS = {"fp32": ["fp32"], "bf16": ["autocast", "bf16"]}


def main() -> None:
    """Run the requested cases, save their numbers and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, action="append", default=[], help="rows with prompt and replies; repeatable"
    )
    parser.add_argument("--only", default="", help="cases whose names begin so, such as together; all by default")
    parser.add_argument("--dtypes", default="fp32,bf16", help="bf16 runs both autocast and bfloat16 weights")
    parser.add_argument("--candidates", type=int, default=16, help="replies per prompt")
    parser.add_argument("--prompts", type=int, default=5, help="prompts per run, after one to warm up")
    parser.add_argument("--batches", default="16,8", help="rows per forward pass of the peer")
    parser.add_argument("--together", type=int, default=4, help="prompts whose candidates are scored in one call")
    parser.add_argument("--pairs", type=int, default=64, help="pairs of the data scored in one call")
    parser.add_argument(
        "--vllm-python", type=Path, help="python of vLLM's environment (peers/README.md); without it, no vLLM"
    )
    parser.add_argument(
        "--max-length", type=int, default=1024, help="tokens; longer texts are cut on the left, on all sides"
    )
    measure.add_options(parser, "scoring.json")
    a = parser.parse_args()
    if a.job:
        return measure.answer(a.job, handle)
    if a.smoke:
        a.dtypes, a.candidates, a.prompts, a.batches, a.repeats = "fp32", 3, 1, "2", 1
        a.together, a.pairs, a.max_length = 2, 2, 256
    runner = measure.Runner(handle, Path(__file__).resolve(), a.threads, a.malloc, a.memory, a.smoke)
    with tempfile.TemporaryDirectory() as folder:
        start = rows.start(a.model, Path(folder) / "start", max_length=a.max_length, truncation="left")
        for name, sets in workloads(a, start, rows.source_rows(a, 12)).items():
            for dtype in measure.names(a.dtypes):
                if name.startswith(a.only):
                    case = scoring_case(a, runner, start, sets, dtype)
                    measure.keep(a.out, WHAT, {f"{name}/{dtype}": case})
                    show(f"{name}, {dtype}", case)


# ---- Sets --------------------------------------------------------------------------------------------------------


def workloads(a: argparse.Namespace, start: Path, source: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The sets of each workload; the first one warms up."""
    lengths = ((40, 12),) if a.smoke else LENGTHS
    candidates = {size: candidate_sets(a, start, source, *size) for size in lengths}
    sets = {f"candidates/{prompt}/{reply}": candidates[prompt, reply] for prompt, reply in lengths}
    long = candidate_sets(
        argparse.Namespace(**vars(a) | {"prompts": a.together * a.prompts}), start, source, *lengths[0]
    )
    groups = [joined(long[i : i + a.together]) for i in range(1, len(long), a.together)]
    sets[f"together/{a.together}"] = [long[0], *groups]
    text = rows.text_of(start, a.max_length, "left")
    pairs = rows.pairs(source, text, a.pairs * a.prompts + 4, a.max_length, 0)
    groups = [joined(pairs[i : i + a.pairs]) for i in range(4, len(pairs), a.pairs)]
    sets[f"replies/{2 * a.pairs}"] = [joined(pairs[:4]), *groups]
    return sets


def joined(sets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One set of the replies of several, with a prompt for each."""
    columns: dict[str, Any] = {"prompts": [p for one in sets for p in prompts_of(one)]}
    return columns | {name: [x for one in sets for x in one[name]] for name in ("replies", "ids")}


def prompts_of(one: dict[str, Any]) -> list[Any]:
    """The prompt of each reply of a set."""
    return one.get("prompts") or [one["prompt"]] * len(one["replies"])


def candidate_sets(
    a: argparse.Namespace, start: Path, source: Sequence[dict[str, Any]], prompt: int, reply: int
) -> list[dict[str, Any]]:
    """Prompts with replies cut from real text to about these numbers of tokens, and their token ids."""
    text = rows.text_of(start)
    overhead = len(text.encode([""], [""])[0].ids)  # tokens of the template

    def pieces(texts: Iterator[str], length: int) -> Iterator[str]:
        """Texts joined and cut into pieces of that many tokens."""
        ids: list[int] = []
        for more in texts:
            ids += text.tokenizer(more + "\n", add_special_tokens=False)["input_ids"]
            while len(ids) >= length:
                piece, ids = ids[:length], ids[length:]
                yield text.tokenizer.decode(piece).strip()

    prompts = pieces(itertools.cycle(m["content"] for row in source for m in row["prompt"]), max(1, prompt - overhead))
    replies = pieces(itertools.cycle(r for row in source for r in row["replies"]), reply)
    sets = []
    for _ in range(a.prompts + 1):
        question, answers = next(prompts), [next(replies) for _ in range(a.candidates)]
        ids = [e.ids.tolist() for e in text.encode([question] * len(answers), answers)]
        if max(map(len, ids)) > a.max_length:  # Guerdon would truncate what the peer reads in full
            raise SystemExit(
                f"--max-length must be at least {max(map(len, ids))} for these candidates, got {a.max_length}. Raise it."
            )
        sets.append({"prompt": question, "replies": answers, "ids": ids})
    return sets


# ---- Cases -------------------------------------------------------------------------------------------------------


def scoring_case(
    a: argparse.Namespace, runner: measure.Runner, start: Path, sets: list[dict[str, Any]], dtype: str
) -> dict[str, Any]:
    """Guerdon and the peers in turn on the same sets."""
    contestants = {}
    for precision in GROUPS[dtype]:
        job: Job = {"kind": "ours", "start": str(start), "sets": sets, "precision": precision, "set": a.set}
        contestants[f"ours {precision}"] = lambda job=job: runner.ours(job)
        for batch in map(int, measure.names(a.batches)):
            peer = job | {"kind": "plain", "batch": batch}
            contestants[f"plain, {batch} rows, {precision}"] = lambda peer=peer: runner.ours(peer)
        if a.vllm_python and precision != "autocast":
            theirs = job | {"memory": None, "max_length": a.max_length}  # it reserves more than it uses
            contestants[f"vllm {precision}"] = lambda theirs=theirs: runner.peer(
                a.vllm_python, "peers.vllm_scoring", theirs, servers.vllm_environment(a.vllm_python, a.threads)
            )
    answers = interleave(contestants, a.repeats)
    tokens = rows.count_tokens([group for one in sets[1:] for group in trees(one)])
    settings = {"replies_a_set": len(sets[1]["replies"]), "sets": len(sets) - 1, "tokens": tokens, "dtype": dtype}
    settings |= {"model": Path(a.model).name, "malloc": a.malloc, "set": a.set}
    return {"settings": settings, "machine": measure.machine(a.threads), **conclude(answers, sets)}


def trees(one: dict[str, Any]) -> list[list[list[int]]]:
    """Token ids of the replies to each prompt of a set."""
    prompts = prompts_of(one)
    return [
        [ids for _, ids in group]
        for _, group in itertools.groupby(zip(prompts, one["ids"], strict=True), key=lambda pair: pair[0])
    ]


def conclude(answers: dict[str, list[Answer]], sets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Replies per second, Guerdon's fastest against the fastest of each peer, and the largest difference of scores."""
    sizes, runs = [len(one["replies"]) for one in sets[1:]], {}
    for name, repeats in answers.items():
        if failed := [answer["error"] for answer in repeats if "error" in answer]:
            runs[name] = {"error": failed[0]}
            continue
        rates = [num / s for answer in repeats for num, s in zip(sizes, answer["set_seconds"], strict=True)]
        runs[name] = {
            "replies_per_second": spread(rates),
            "peak_bytes": spread([answer["peak_bytes"] for answer in repeats]),
            "over_baseline_bytes": spread([answer["over_baseline_bytes"] for answer in repeats]),
        }
        if "start_seconds" in repeats[0]:
            runs[name]["start_seconds"] = spread([answer["start_seconds"] for answer in repeats])
    best = {
        side: max(
            (name for name, run in runs.items() if name.startswith(side) and "error" not in run),
            key=lambda name: runs[name]["replies_per_second"]["median"],
            default=None,
        )
        for side in ("ours", "plain", "vllm")
    }
    rate = {side: runs[name]["replies_per_second"] for side, name in best.items() if name}
    scores = {name: np.concatenate(repeats[0]["scores"]) for name, repeats in answers.items() if "scores" in repeats[0]}
    differences = {
        name: float(np.abs(value - scores[ours]).max())
        for name, value in scores.items()
        if not name.startswith("ours") and (ours := f"ours {name.rsplit(' ', 1)[-1]}") in scores
    }
    return {
        "runs": runs,
        "fastest": best,
        "speed": {side: ratio(rate["ours"], rate[side]) for side in ("plain", "vllm") if {"ours", side} <= rate.keys()},
        "largest_score_difference_from_ours": differences,
    }


def show(title: str, case: dict[str, Any]) -> None:
    """Print the table of one case."""
    print(f"\n{title}: {case['settings']['replies_a_set']} replies a call")
    lines = [
        [name, run["error"][:40], "", ""]
        if "error" in run
        else [
            name,
            shown(run["replies_per_second"]),
            f"{run['over_baseline_bytes']['median'] / 2**20:.0f}",
            f"{case['largest_score_difference_from_ours'].get(name, 0):.1e}",
        ]
        for name, run in case["runs"].items()
    ]
    measure.print_table(["", "replies/s", "MiB over model", "scores differ by"], lines)
    for side, speed in case["speed"].items():
        print(f"fastest of ours / fastest {side}: {shown(speed)}", flush=True)


# ---- A run ---------------------------------------------------------------------------------------------


def handle(job: Job) -> Answer:
    """Run one job, Guerdon's or a peer's."""
    import torch

    from guerdon.progress import set_quiet

    set_quiet()
    torch.set_num_threads(job["threads"])
    return {"ours": score_sets, "plain": plain_sets}[job["kind"]](job)


def load_ours(job: Job) -> Any:
    """The start as `guerdon score` loads it, with every weight read once."""
    from guerdon.config import build
    from guerdon.models.directory.loading import load_reward_model

    config = build({"model": {**PRECISIONS[job["precision"]], "device": "cpu"}}, overrides=job["set"])
    model = load_reward_model(job["start"], config.model)
    model.batch_tokens = config.score.batch_tokens
    measure.touch(model.network)
    return model


def score_sets(job: Job) -> Answer:
    """Seconds and scores of each set with the public score(); the first set warms up."""
    model = load_ours(job)
    return time_sets(job, lambda one: model.score(prompts_of(one), one["replies"]).value.tolist())


def plain_sets(job: Job) -> Answer:
    """The same with a plain padded loop over the same ids, the longest first."""
    scorer = PaddedScorer(job)

    def score_set(one: dict[str, Any]) -> list[float]:
        ids, width = one["ids"], job["batch"]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        scores = [0.0] * len(ids)
        for batch in (order[at : at + width] for at in range(0, len(order), width)):
            for i, score in zip(batch, scorer([ids[i] for i in batch]), strict=True):
                scores[i] = score
        return scores

    return time_sets(job, score_set)


def time_sets(job: Job, score_set: Callable[[dict[str, Any]], list[float]]) -> Answer:
    """Time each set but the first."""
    memory = measure.Memory()
    score_set(job["sets"][0])
    seconds, scores = [], []
    for one in job["sets"][1:]:
        start_time = time.perf_counter()
        scores.append(score_set(one))
        seconds.append(time.perf_counter() - start_time)
    return {"set_seconds": seconds, "scores": scores, **memory.report()}


class PaddedScorer:
    """AutoModelForSequenceClassification on right-padded rows of ids."""

    def __init__(self, job: Job) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        dtype = torch.bfloat16 if job["precision"] == "bf16" else torch.float32
        self.model = AutoModelForSequenceClassification.from_pretrained(
            job["start"], dtype=dtype, attn_implementation="sdpa"
        ).eval()
        self.autocast = job["precision"] == "autocast"
        measure.touch(self.model)

    def __call__(self, ids: Sequence[Sequence[int]]) -> list[float]:
        """One forward pass over these rows."""
        import torch

        width, pad = max(map(len, ids)), self.model.config.pad_token_id
        inputs = torch.tensor([[*row, *[pad] * (width - len(row))] for row in ids])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            logits = self.model(input_ids=inputs, attention_mask=mask, use_cache=False).logits
        return logits[:, 0].float().tolist()


if __name__ == "__main__":
    main()
