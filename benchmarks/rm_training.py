"""Speed and memory of reward-model training, compared with TRL's RewardTrainer and with the machine's matrix-product limit.

    python benchmarks/rm_training.py --data hh_pairs.jsonl.gz --trl-python PEER/bin/python

Both sides start from the same weights and head, see the same token ids and take the same optimizer steps (fused AdamW,
constant rate, clip 1, centering 0.01). A run is a fresh process: load, train on a batch or two to warm up, load again, and
time all steps. Contestants run in turn, round after round; the table gives medians with the lowest and highest value.

TRL's settings, by name: `random` batches in a fixed random order (Guerdon gets the same order, so the step losses must agree),
`grouped` by length (its fastest), both without gradient checkpointing; `defaults` is bfloat16 autocast with gradient
checkpointing, random. `grouped/2` makes forward passes of 2 pairs and accumulates their gradients.

Share of the limit = FLOP per second on unique tokens / FLOP per second of the model's own matrix products, timed alone at the
token count of a step, in the same precision: each product with torch's default, or with oneDNN and a prepacked weight where
that is faster. Unique tokens are a pair's shared prefix, counted once, and its replies. With P weights in the backbone's linear
layers and A in the adapters, a token costs 6 P FLOP in full training (forward, gradient of the input, gradient of the weight:
2 P each) and 4 P + 6 A with LoRA (no gradient of P). In the last layer, after its keys and values, only the two tokens of a
pair that are read are computed and counted. Attention, norms and the optimizer count as time but not as FLOP.

Results go to benchmarks/results/rm_training.json by case (fp32 or bf16 / batch / full or lora). Each case takes
(number of contestants) x (repeats) x (a few minutes) on two cores: start with --batches 8 --tuning full --repeats 1.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import measure
import rows
from measure import Answer, Job, interleave, ratio, shown, spread

SEED, LR, CLIP, CENTERING = 0, 1e-5, 1.0, 0.01
LORA = {"rank": 8, "alpha": 16}
TOLERANCE = 1e-4  # nats, between our float32 step losses and TRL's on the same batches
GROUPS = {"fp32": ["fp32"], "bf16": ["autocast", "bf16"]}
OURS: dict[str, dict[str, str]] = {
    "fp32": {"dtype": "float32"},
    "autocast": {"autocast": "bfloat16"},
    "bf16": {"dtype": "bfloat16"},  # updated through a float32 master copy
}


def main() -> None:
    """Run every requested case, save its numbers and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[], help="rows with prompt, chosen and rejected")
    parser.add_argument("--subset", default="", help="only rows whose meta.subset is this, such as helpful-base")
    parser.add_argument(
        "--trl-python", type=Path, help="python of TRL's environment (peers/README.md); without it, Guerdon only"
    )
    parser.add_argument("--n", type=int, default=64, help="pairs per run, one pass")
    parser.add_argument("--max-length", type=int, default=512, help="longer pairs are left out for both sides")
    parser.add_argument("--batches", default="8,16", help="pairs per optimizer step")
    parser.add_argument("--dtypes", default="fp32,bf16", help="bf16 runs both autocast and bfloat16 weights")
    parser.add_argument("--tuning", default="full,lora", help="full: every weight; lora: rank 8 on all linear layers")
    parser.add_argument("--trl", default="grouped,grouped/2,random,defaults", help="TRL's settings, see above")
    parser.add_argument("--warmup", type=int, default=1, help="batches of medium length before the clock starts")
    measure.add_options(parser, "rm_training.json")
    a = parser.parse_args()
    if a.job:
        return measure.answer(a.job, handle)
    if a.smoke:
        a.n, a.batches, a.dtypes, a.repeats, a.max_length = 6, "2", "fp32", 1, 128
    runner = measure.Runner(handle, Path(__file__).resolve(), a.threads, a.malloc, a.memory, a.smoke)
    agree = True
    with tempfile.TemporaryDirectory() as folder:
        start = rows.start(a.model, Path(folder) / "start", SEED)
        source = rows.source_rows(a, 40, a.subset)
        pairs = rows.pairs(source, rows.text_of(start), a.n, a.max_length, SEED)
        for dtype in measure.names(a.dtypes):
            for batch in map(int, measure.names(a.batches)):
                for tuning in measure.names(a.tuning):
                    case = measure_case(a, runner, start, pairs, dtype, batch, tuning)
                    measure.keep(a.out, "training of a reward model, one pass", {f"{dtype}/{batch}/{tuning}": case})
                    show(f"{dtype}, batch {batch}, {tuning}", case)
                    agree &= case["losses_agree"] is not False
    if not agree:
        raise SystemExit(
            f"step losses must agree with TRL's to {TOLERANCE} nats, got more: the two sides did not do the same work"
        )


def measure_case(
    a: argparse.Namespace,
    runner: measure.Runner,
    start: Path,
    pairs: list[rows.Pair],
    dtype: str,
    batch: int,
    tuning: str,
) -> dict[str, Any]:
    """Run all contestants of one case in turn and evaluate their numbers."""
    common: Job = {
        "start": str(start),
        "pairs": in_guerdon_order(pairs),
        "batch": batch,
        "warm": medium_pairs(pairs, batch * a.warmup),
        "lora": LORA if tuning == "lora" else None,
        "max_length": a.max_length,
        "set": a.set,
    }
    theirs = common | {"pairs": pairs, "seed": SEED, "lr": LR, "clip": CLIP, "centering": CENTERING}
    contestants = {}
    for precision in GROUPS[dtype]:
        job = common | {"kind": "train", "model": OURS[precision], "train": train_options(batch)}
        contestants[f"ours {precision}"] = lambda job=job: runner.ours(job)
        for setting in measure.names(a.trl) if a.trl_python else []:
            if setting.startswith("defaults") and precision != "autocast":
                continue
            job = theirs | {"setting": setting, "precision": precision}
            contestants[f"trl {setting} {precision}"] = lambda job=job: runner.peer(a.trl_python, "peers.trl_rm", job)
    tokens = rows.count_tokens([pair["ids"] for pair in pairs])
    step = round(tokens["unique"] / -(-len(pairs) // batch))
    limit: Job = {"kind": "limit", "start": str(start), "tokens": step, "precision": dtype, "lora": common["lora"]}
    limit["read"] = 2 * len(pairs) / tokens["unique"]
    contestants["limit"] = lambda: runner.ours(limit)
    answers = interleave(contestants, a.repeats)
    settings = {
        "n": a.n,
        "batch": batch,
        "dtype": dtype,
        "tuning": tuning,
        "max_length": a.max_length,
        "lora": common["lora"],
    }
    settings |= {"subset": a.subset, "malloc": a.malloc, "lr": LR, "clip": CLIP, "centering": CENTERING, "seed": SEED}
    settings |= {"warmup": a.warmup, "set": a.set, "model": Path(a.model).name, "tokens": tokens}
    return {"settings": settings, "machine": measure.machine(a.threads), **conclude(answers, tokens, len(pairs))}


def train_options(batch: int) -> dict[str, Any]:
    """Guerdon's settings; peers/trl_rm.py has the same by TRL's names."""
    options = {
        "lr": LR,
        "batch_size": batch,
        "schedule": "constant",
        "warmup": 0.0,
        "clip": CLIP,
        "centering": CENTERING,
    }
    return options | {"seed": SEED, "save_every": 0}


def in_guerdon_order(pairs: list[rows.Pair]) -> list[rows.Pair]:
    """The pairs in an order that Guerdon's training, which shuffles, visits in the order of `pairs`."""
    from guerdon.training.batches import epoch_order

    ordered: list[Any] = [None] * len(pairs)
    for pair, i in zip(pairs, epoch_order(len(pairs), SEED, 0), strict=True):
        ordered[int(i)] = pair
    return ordered


def medium_pairs(pairs: list[rows.Pair], size: int) -> list[rows.Pair]:
    """Pairs of medium length: a warm-up on the longest ones would set the memory peak."""
    by_length = sorted(pairs, key=lambda pair: max(map(len, pair["ids"])))
    first = max(0, (len(pairs) - size) // 2)
    return by_length[first : first + size]


# ---- A run ---------------------------------------------------------------------------------------------


def handle(job: Job) -> Answer:
    """Run one job of Guerdon's."""
    import torch

    torch.set_num_threads(job["threads"])
    return {"train": train, "limit": limit}[job["kind"]](job)


def train(job: Job) -> Answer:
    """Load, warm up, load again, train on all pairs; seconds are those of the optimizer steps."""
    from guerdon.config import build
    from guerdon.models.directory.loading import create_reward_model
    from guerdon.progress import set_quiet
    from guerdon.training import fit

    set_quiet()
    lora = {"lora_rank": job["lora"]["rank"], "lora_alpha": job["lora"]["alpha"]} if job["lora"] else {}
    model = {"base": job["start"], "device": "cpu", "max_length": job["max_length"], **lora, **job["model"]}
    config = build({"model": model, "train": job["train"]}, overrides=job["set"])
    comparisons = [rows.comparison(pair, config.model.attributes) for pair in job["pairs"]]
    warm = [rows.comparison(pair, config.model.attributes) for pair in job["warm"]]

    reward_model = create_reward_model(config.model, seed=SEED)
    encoded = reward_model.text.encode([c.prompt for c in comparisons], [c.responses[0] for c in comparisons])
    assert [e.ids.tolist() for e in encoded] == [pair["ids"][0] for pair in job["pairs"]], "token ids differ"
    measure.touch(reward_model.network)
    memory = measure.Memory()
    if warm:
        fit(reward_model, warm, config.train)
        del reward_model
        gc.collect()
        reward_model = create_reward_model(config.model, seed=SEED)
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        fit(reward_model, comparisons, config.train, folder=Path(folder) / "run")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        steps = [json.loads(line) for line in (Path(folder) / "run/metrics.jsonl").read_text().splitlines()]
    return {
        "seconds": steps[-1]["seconds"],  # from the optimizer's creation to the end of the last step
        "call_seconds": wall,  # with tokenizing before and merging adapters after
        "cpu_seconds": cpu,
        "step_seconds": [b["seconds"] - a["seconds"] for a, b in zip([{"seconds": 0.0}, *steps], steps, strict=False)],
        "losses": [step["loss"] for step in steps],
        **memory.report(),
    }


def limit(job: Job) -> Answer:
    """FLOP per second of the backbone's matrix products at the token count of a step, each timed alone, best of five."""
    import torch

    shapes = linear_shapes(job["start"])
    dtype = torch.float32 if job["precision"] == "fp32" else torch.bfloat16
    tokens, flop, seconds = job["tokens"], 0.0, 0.0
    for (wide_out, wide_in), (count, _) in shapes.items():
        x, w = torch.randn(tokens, wide_in).to(dtype), torch.randn(wide_out, wide_in).to(dtype)
        dy = torch.randn(tokens, wide_out).to(dtype)
        products = [fastest(x, w), fastest(dy, w.t())]
        if not job["lora"]:  # a frozen weight has no gradient
            products.append(best_of(lambda dy=dy, x=x: dy.t() @ x, 5))
        seconds += count * sum(products)
        flop += count * len(products) * 2.0 * tokens * wide_in * wide_out
    rank = job["lora"]["rank"] if job["lora"] else 0
    # of `late` layers only the tokens that are read are computed
    counts = {shape: count - late * (1 - job["read"]) for shape, (count, late) in shapes.items()}
    weights = sum(o * i * count for (o, i), count in counts.items())
    adapters = sum(rank * (o + i) * count for (o, i), count in counts.items())
    return {
        "flop_per_second": flop / seconds,
        "flop_per_token": 4.0 * weights + 6.0 * adapters if job["lora"] else 6.0 * weights,
        "weights": weights,
        "adapters": adapters,
        "tokens": tokens,
    }


def fastest(x: Any, w: Any) -> float:
    """Fewest seconds of x [t, i] times w [o, i] transposed: torch's default product, or the prepacked one where that is faster."""
    import torch

    from guerdon.models.engine.prepacked import prepacked_weights

    layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
    layer.weight = torch.nn.Parameter(w.contiguous())
    with torch.no_grad(), prepacked_weights(layer):
        return min(best_of(lambda: x @ w.t(), 5), best_of(lambda: layer(x), 5))


def linear_shapes(folder: str) -> dict[tuple[int, int], tuple[int, int]]:
    """(outputs, inputs) -> number of the backbone's linear layers of that shape, and how many of them follow the last attention."""
    import torch
    from transformers import AutoConfig, AutoModel

    from guerdon.models.engine.backbone import PER_TOKEN
    from guerdon.models.engine.modules import decoder_layers

    with torch.device("meta"):
        backbone = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    last = decoder_layers(backbone)[-1]
    after_attention = {module for name, module in last.named_modules() if name.startswith(PER_TOKEN)}
    shapes: dict[tuple[int, int], tuple[int, int]] = {}
    for module in backbone.modules():
        if isinstance(module, torch.nn.Linear):
            shape = (module.out_features, module.in_features)
            count, late = shapes.get(shape, (0, 0))
            shapes[shape] = count + 1, late + (module in after_attention)
    return shapes


def best_of(work: Any, times: int) -> float:
    """Fewest seconds of several runs, after one to warm up."""
    work()
    seconds = []
    for _ in range(times):
        start_time = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start_time)
    return min(seconds)


# ---- Evaluation ----------------------------------------------------------------------------------------


def conclude(answers: dict[str, list[Answer]], tokens: dict[str, int], num_pairs: int) -> dict[str, Any]:
    """Medians, ratios of Guerdon's fastest to each of TRL's, shares of the limit, and whether the losses agree."""
    limits = [answer for answer in answers.pop("limit") if "error" not in answer]
    runs = {name: summarize(repeats, tokens, num_pairs) for name, repeats in answers.items()}
    good = {name: run for name, run in runs.items() if "error" not in run}
    ours = {name: run for name, run in good.items() if name.startswith("ours")}
    trl = {name: run for name, run in good.items() if name.startswith("trl")}
    top = spread([answer["flop_per_second"] for answer in limits]) if limits else None
    if top:
        for run in ours.values():
            rate = limits[0]["flop_per_token"] * tokens["unique"] / num_pairs
            flops = {key: run["pairs_per_second"][key] * rate for key in ("median", "low", "high")}
            run["share_of_limit"] = ratio(flops, top)
    best = max(ours, key=lambda name: ours[name]["pairs_per_second"]["median"]) if ours else None
    against = {
        name: {
            "speed": ratio(ours[best]["pairs_per_second"], run["pairs_per_second"]),
            "peak_memory": ratio(ours[best]["peak_bytes"], run["peak_bytes"]),
            "memory_over_baseline": ratio(ours[best]["over_baseline_bytes"], run["over_baseline_bytes"]),
        }
        for name, run in trl.items()
        if best
    }
    differences = {
        name: max(abs(x - y) for x, y in zip(mine["losses"], run["losses"], strict=True))
        for name, run in trl.items()
        if name.startswith("trl random") and (mine := ours.get(f"ours {name.rsplit(' ', 1)[-1]}"))
    }
    exact = [difference for name, difference in differences.items() if name.endswith("fp32")]
    return {
        "runs": runs,
        "fastest_of_ours": best,
        "fastest_of_ours_against": against,
        "limit": None if top is None else {**limits[0], "flop_per_second": top},
        "largest_loss_difference": differences,
        "losses_agree": max(exact) <= TOLERANCE if exact else None,
    }


def summarize(answers: list[Answer], tokens: dict[str, int], num_pairs: int) -> dict[str, Any]:
    """The numbers of one contestant over its repeats."""
    if failed := [answer["error"] for answer in answers if "error" in answer]:
        return {"error": failed[0]}
    seconds = [answer["seconds"] for answer in answers]
    spreads = {name: spread([answer[name] for answer in answers]) for name in answers[0] if name.endswith("bytes")}
    return {
        "pairs_per_second": spread([num_pairs / s for s in seconds]),
        "unshared_tokens_per_second": spread([tokens["unshared"] / s for s in seconds]),
        "seconds": seconds,
        "call_seconds": [answer["call_seconds"] for answer in answers],
        "cpu_seconds": [answer["cpu_seconds"] for answer in answers],
        "step_seconds": [answer["step_seconds"] for answer in answers],
        **spreads,
        "peak_was_reset": all(answer["peak_was_reset"] for answer in answers),
        **{name: answers[0][name] for name in ("losses", "padded_tokens", "versions") if name in answers[0]},
    }


def show(title: str, case: dict[str, Any]) -> None:
    """Print the table of one case."""
    tokens = case["settings"]["tokens"]
    print(f"\n{title}: {case['settings']['n']} pairs, {tokens['unshared']} tokens, {tokens['unique']} of them unique")
    lines = []
    for name, run in case["runs"].items():
        if "error" in run:
            lines.append([name, run["error"][:40], *[""] * 5])
            continue
        against = case["fastest_of_ours_against"].get(name, {})
        lines.append(
            [
                name,
                shown(run["pairs_per_second"], 3),
                f"{run['unshared_tokens_per_second']['median']:.0f}",
                f"{run['peak_bytes']['median'] / 2**30:.2f}",
                f"{run['over_baseline_bytes']['median'] / 2**30:.2f}",
                shown(run.get("share_of_limit")),
                f"{shown(against['speed'])}, memory {against['peak_memory']['median']:.2f}" if against else "-",
            ]
        )
    head = ["", "pairs/s", "tokens/s", "peak GiB", "over model", "of the limit", "fastest of ours / this"]
    measure.print_table(head, lines)
    if case["limit"]:
        rate = {key: value / 1e9 for key, value in case["limit"]["flop_per_second"].items()}
        print(f"limit: {shown(rate, 0)} GFLOP/s in products at {case['limit']['tokens']} tokens")
    for name, difference in case["largest_loss_difference"].items():
        print(f"step losses differ from {name} on the same batches by at most {difference:.1e}")


if __name__ == "__main__":
    main()
