"""PPO compared with TRL's PPOTrainer: reward against KL on a tiny model, and episodes per second on a real one.

    python benchmarks/ppo.py --trl-python PEER/bin/python --trl112 DIR --data hh_pairs.jsonl.gz

DIR holds an unpacked trl 1.12.0, the last one with a PPOTrainer (see peers/README.md). Without it, Guerdon only.

`tiny`: does Guerdon reach as much reward at the same KL? A random Llama of two layers, a reward model trained to prefer
some words, and the same prompts and settings on both sides: every weight trains, the value model starts as a copy of the
reward model, full batches, linear decay, no gradient clipping. Policies are saved along the way and evaluated alike: one
fresh reply to each of --judged other prompts, sampled from the same uniform numbers. Reward is the score less the penalty
for a missing end, KL is nats per reply, both at the temperature of training; the objective is reward less kl_coef x KL. "At
like KL" compares each side's points with the line through the other's. Remaining differences: TRL pays the score one token
after the end token, where its value model learns too; it divides by n - 1 when it whitens; the two sample different replies
and visit prompts in different orders.

`speed`: seconds per update (sampling, scoring by a reward model of the policy's shape, learning in 4 passes) with LoRA on all
linear layers, without the first --warmup updates. Guerdon's value models: `head` on the policy's own backbone, or `reward`, a
second model of which every weight trains, as TRL's. TRL's settings: `full` is that, `adapters` gives its value model LoRA as
well; `/m` makes forward and backward passes of m replies. In bf16 TRL runs with bfloat16 autocast, and with bfloat16 weights.
The ratio is Guerdon's fastest to TRL's fastest.

Results go to benchmarks/results/ppo.json by case.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import measure
import numpy as np
import rows
from measure import Answer, Job, interleave, ratio, shown, spread

SEED = 0
LORA = {"rank": 16, "alpha": 32}
GROUPS = {"fp32": ["fp32"], "bf16": ["autocast", "bf16"]}
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
# both sides' settings by Guerdon's names; peers/trl_ppo.py has them by TRL's
SHARED = {"epochs": 4, "minibatches": 1, "temperature": 0.7, "unfinished": 1.0, "kl_coef": 0.05, "eps": 1e-5}
SHARED |= {"grad_clip": 0.0, "clip": 0.2, "value_clip": 0.2, "value_coef": 0.1, "gamma": 1.0, "lam": 0.95}
MARGIN = 0.05  # of TRL's gain in reward: "no worse" means less than this behind, by the 95 % interval
Curve = list[dict[str, float]]


def main() -> None:
    """Run the requested cases, save their numbers and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", type=Path, help="python of TRL's environment; without it, Guerdon only")
    parser.add_argument("--trl112", type=Path, metavar="DIR", help="folder of an unpacked trl 1.12.0")
    parser.add_argument("--only", default="tiny,speed", help="cases to run")
    tiny = parser.add_argument_group("tiny")
    tiny.add_argument("--seeds", type=int, default=6, help="runs per side")
    tiny.add_argument("--tiny-updates", type=int, default=60, help="updates per run, of 32 prompts and 24 tokens")
    tiny.add_argument("--lr", type=float, default=3e-4, help="peak learning rate")
    tiny.add_argument("--marks", type=int, default=4, help="points of a run that are evaluated, the last one included")
    tiny.add_argument("--judged", type=int, default=512, help="replies per evaluation")
    speed = parser.add_argument_group("speed")
    speed.add_argument("--data", type=Path, action="append", default=[], help="rows with a prompt")
    speed.add_argument("--max-prompt", type=int, default=128, help="longer prompts are left out")
    speed.add_argument("--prompts", type=int, default=32, help="prompts per update")
    speed.add_argument("--tokens", type=int, default=64, help="maximum tokens per reply")
    speed.add_argument("--updates", type=int, default=2, help="updates on the clock")
    speed.add_argument("--warmup", type=int, default=1, help="updates before them")
    speed.add_argument("--dtypes", default="fp32,bf16", help="one case each")
    speed.add_argument("--ours", default="head,reward", help="Guerdon's value models, see above")
    speed.add_argument("--trl", default="full/32,full/8,adapters/8", help="TRL's settings, see above")
    measure.add_options(parser, "ppo.json")
    a = parser.parse_args()
    if a.job:
        return measure.answer(a.job, handle)
    if a.smoke:
        a.seeds, a.tiny_updates, a.marks, a.judged, a.repeats = 1, 2, 2, 16, 1
        a.prompts, a.tokens, a.updates, a.dtypes = 4, 6, 1, "fp32"
    if a.trl_python and not a.trl112:
        raise SystemExit("--trl112 must be a folder with trl 1.12.0, got nothing. Unpack it as peers/README.md says.")
    runner = measure.Runner(handle, Path(__file__).resolve(), a.threads, a.malloc, a.memory, a.smoke)
    with tempfile.TemporaryDirectory() as folder:
        if "tiny" in measure.names(a.only):
            case = measure_tiny(a, runner, Path(folder))
            measure.keep(a.out, "PPO", {"tiny": case})
            show_tiny(case)
        if "speed" in measure.names(a.only):
            job = speed_job(a, Path(folder))
            for dtype in measure.names(a.dtypes):
                case = measure_speed(a, runner, job, dtype)
                measure.keep(a.out, "PPO", {f"speed/{dtype}": case})
                show_speed(f"speed, {dtype}", case)


# ---- Reward against KL -------------------------------------------------------------------------------------------


def measure_tiny(a: argparse.Namespace, runner: measure.Runner, folder: Path) -> dict[str, Any]:
    """Both sides' runs, one per seed, each evaluated at its marks."""
    from guerdon.config import PolicyOptions
    from guerdon.contracts import as_prompt
    from guerdon.models.directory.policies import load_policy

    policy, reward = make_tiny(folder / "policy"), folder / "reward"
    train_preference(policy, reward, pairs=64 if a.smoke else 1024)
    prompts = [row["prompt"] for row in preference_rows(256 + a.judged, SEED + 1)]
    encode = load_policy(PolicyOptions(base=str(policy), device="cpu")).encode
    marks = sorted({round(a.tiny_updates * (i + 1) / a.marks) for i in range(a.marks)} - {0})
    options = SHARED | {"updates": a.tiny_updates, "prompts": 32, "max_tokens": 24, "lr": a.lr}
    job: Job = {"threads": 1, "policy": str(policy), "reward": str(reward), "lora": None, "precision": "fp32"}
    job |= {"prompts": prompts[:256], "marks": marks, "warmup": 1, "value": "reward", "setting": "full/32"}
    job |= {"ids": [encode(as_prompt(prompt)).tolist() for prompt in prompts[:256]], "set": a.set}
    contestants: dict[str, Callable[[], Answer]] = {}
    for side in ["ours"] + ["trl"] * bool(a.trl_python):
        seeds = iter(range(a.seeds))

        def run(side: str = side, seeds: Any = seeds) -> Answer:
            seed = next(seeds)
            out = folder / f"{side}-{seed}"
            run = run_ppo(a, runner, side, job | {"options": options | {"seed": seed}, "out": str(out)})
            return run if "error" in run else run | {"policies": [str(out / str(mark)) for mark in marks]}

        contestants[side] = run
    answers = interleave(contestants, a.seeds)
    exit_if_failed(answers)
    evaluation: Job = {
        "kind": "judge",
        "threads": 1,
        "policy": str(policy),
        "reward": str(reward),
        "prompts": prompts[256:],
    }
    evaluation |= {"options": options | {"seed": SEED}}
    policies = [str(policy), *(path for runs in answers.values() for run in runs for path in run["policies"])]
    evaluated = runner.ours(evaluation | {"policies": policies})
    exit_if_failed({"judge": [evaluated]})
    points = iter(evaluated["points"])
    start = next(points)
    curves = {
        side: [[{"update": mark, **next(points)} for mark in marks] for _ in runs] for side, runs in answers.items()
    }
    return {
        "settings": options | {"seeds": a.seeds, "judged": a.judged, "marks": marks, "set": a.set},
        "machine": measure.machine(1),
        "start": start,
        "curves": curves,
        "at_the_end": {side: at_the_end(runs) for side, runs in curves.items()},
        "at_like_kl": at_like_kl(curves, start),
        "on_the_way": {s: [{k: run[k] for k in ("score", "kl", "length")} for run in r] for s, r in answers.items()},
        "seconds": {side: spread([run["seconds"] for run in runs]) for side, runs in answers.items()},
        "versions": answers["trl"][0]["versions"] if "trl" in answers else None,
    }


def make_tiny(folder: Path) -> Path:
    """Write a random Llama of two layers and its tokenizer, with one token per word, so that text and ids are equivalent.

    All hidden states share a component by which the unembedding excludes all special tokens but the end (decoding would drop
    them) and makes replies end after about ten tokens.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<begin>", "<user>", "<assistant>", "<end>"]
    words = {word: i for i, word in enumerate([*special, *all_words()])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<begin>",
        eos_token="<end>",
        pad_token="<pad>",
        additional_special_tokens=["<user>", "<assistant>"],
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} <end> {% endfor %}"
        "{% if add_generation_prompt %}<assistant> {% endif %}"
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.15,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED)
        model = LlamaForCausalLM(config)
        model.model.embed_tokens.weight[:, 0] = 1.0
        for layer in model.model.layers:  # no layer writes to that component
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[: len(special), 0] = -100.0
        model.lm_head.weight[tokenizer.eos_token_id, 0] = 7.0
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def all_words() -> list[str]:
    """The tiny model's words."""
    return [f"w{i}" for i in range(100)]


def preference_rows(size: int, seed: int) -> list[dict[str, Any]]:
    """Prompts with two replies of random words; the better reply has the larger share of the first twenty words."""
    rng = np.random.default_rng(seed)
    words, liked = all_words(), set(all_words()[:20])

    def share(reply: list[str]) -> float:
        return sum(word in liked for word in reply) / len(reply)

    def text(low: int, high: int) -> list[str]:
        return list(rng.choice(words, size=rng.integers(low, high)))

    pairs = []
    for _ in range(size):
        better, worse = sorted((text(1, 24), text(1, 24)), key=share, reverse=True)
        prompt = [{"role": "user", "content": " ".join(text(4, 24))}]
        pairs.append({"prompt": prompt, "replies": [" ".join(better), " ".join(worse)]})
    return pairs


def train_preference(policy: Path, folder: Path, pairs: int) -> None:
    """Write the reward model: the policy's backbone with a head, trained on `preference_rows`."""
    from guerdon.config import ModelOptions, TrainOptions
    from guerdon.models.directory.loading import create_reward_model
    from guerdon.models.directory.saving import save
    from guerdon.progress import set_quiet
    from guerdon.training import fit

    set_quiet()
    model = create_reward_model(ModelOptions(base=str(policy), device="cpu", max_length=256), seed=SEED)
    comparisons = [rows.comparison(row) for row in preference_rows(pairs, SEED)]
    fit(model, comparisons, TrainOptions(lr=1e-3, batch_size=32, epochs=4, seed=SEED, save_every=0))
    save(model, folder)


def at_the_end(curves: list[Curve]) -> dict[str, Any]:
    """The last points of the runs: median with range, and mean with interval."""
    last = [curve[-1] | {"objective": curve[-1]["reward"] - SHARED["kl_coef"] * curve[-1]["kl"]} for curve in curves]
    return {name: spread(values := [p[name] for p in last]) | {"mean": interval(values)} for name in last[0]}


def at_like_kl(curves: dict[str, list[Curve]], start: dict[str, float]) -> dict[str, Any] | None:
    """Guerdon's reward less TRL's at like KL, also as a share of TRL's final gain; a mean over marks, then over seeds.

    A line between two points of a concave curve runs below it, and so favors whoever is compared with it. Therefore each side is
    compared with the other's line, within the range of that line's points, and the mean of the two differences counts.
    """
    if "trl" not in curves:
        return None
    differences = []
    for ours, trl in zip(curves["ours"], curves["trl"], strict=True):
        by_line = [
            sign * x for one, other, sign in ((ours, trl, 1), (trl, ours, -1)) if (x := above(one, other)) is not None
        ]
        if len(by_line) == 2:
            differences.append(float(np.mean(by_line)))
    if not differences:
        return {"pairs_of_runs": 0, "no_worse": None}
    gain = float(np.mean([trl[-1]["reward"] for trl in curves["trl"]])) - start["reward"]
    reward = interval(differences)
    share = reward | {name: reward[name] / gain for name in ("value", "low", "high")}
    no_worse = share["low"] > -MARGIN if len(differences) > 1 and gain > 0 else None
    return {"pairs_of_runs": len(differences), "reward": reward, "share_of_gain": share, "no_worse": no_worse}


def above(points: Curve, line: Curve) -> float | None:
    """Mean of the points' reward less the line's, within the line's range of KL; None where no point is in it."""
    kl, reward = zip(*sorted((point["kl"], point["reward"]) for point in line), strict=True)
    inside = [point for point in points if kl[0] <= point["kl"] <= kl[-1]]
    return float(np.mean([p["reward"] - np.interp(p["kl"], kl, reward) for p in inside])) if inside else None


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean with its 95 % interval over runs (Student's t); the interval of a single run is the mean alone."""
    from scipy import stats

    mean = float(np.mean(values))
    if len(values) < 2:
        return {"value": mean, "low": mean, "high": mean, "n": len(values)}
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return {"value": mean, "low": mean - half, "high": mean + half, "n": len(values)}


# ---- Speed -------------------------------------------------------------------------------------------------------


def speed_job(a: argparse.Namespace, folder: Path) -> Job:
    """What all contestants share: a policy, a reward model of its shape with a random head, prompts."""
    from guerdon.config import PolicyOptions
    from guerdon.contracts import as_prompt
    from guerdon.models.directory.loading import resolve
    from guerdon.models.directory.policies import load_policy

    start = resolve(a.model)
    updates = a.warmup + a.updates
    source = rows.source_rows(a, 40)
    encode = load_policy(PolicyOptions(base=start, device="cpu")).encode
    prompts: list[Any] = []
    ids: list[list[int]] = []
    for i in np.random.default_rng(SEED).permutation(len(source)):
        row = encode(as_prompt(source[int(i)]["prompt"])).tolist()
        if len(row) <= a.max_prompt and row not in ids:
            prompts.append(source[int(i)]["prompt"])
            ids.append(row)
        if len(ids) == a.prompts * updates:
            break
    else:
        raise SystemExit(
            f"--data must hold {a.prompts * updates} prompts of at most {a.max_prompt} tokens, got {len(ids)}. Add data."
        )
    options = SHARED | {"updates": updates, "prompts": a.prompts, "max_tokens": a.tokens, "lr": 1e-5, "seed": SEED}
    reward = str(rows.start(start, folder / "reward model", SEED))
    job: Job = {"policy": start, "reward": reward, "lora": LORA, "prompts": prompts, "ids": ids, "options": options}
    return job | {"marks": [], "out": None, "warmup": a.warmup, "set": a.set}


def measure_speed(a: argparse.Namespace, runner: measure.Runner, job: Job, dtype: str) -> dict[str, Any]:
    """Run all contestants of one precision in turn and evaluate their numbers."""
    contestants: dict[str, Callable[[], Answer]] = {}
    for value in measure.names(a.ours):
        value_job = job | {"value": value, "precision": dtype}
        contestants[f"ours {value} {dtype}"] = lambda job=value_job: run_ppo(a, runner, "ours", job)
    for precision in GROUPS[dtype] if a.trl_python else []:
        for setting in measure.names(a.trl):
            trl_job = job | {"setting": setting, "precision": precision}
            contestants[f"trl {setting} {precision}"] = lambda job=trl_job: run_ppo(a, runner, "trl", job)
    answers = interleave(contestants, a.repeats)
    episodes = a.prompts * a.updates
    runs = {name: summarize_speed(repeats, episodes) for name, repeats in answers.items()}
    best = {
        side: max(finished, key=lambda name: runs[name]["episodes_a_second"]["median"])
        for side in ("ours", "trl")
        if (finished := [name for name, run in runs.items() if name.startswith(side) and "error" not in run])
    }
    against = {}
    if len(best) == 2:
        ours, trl = runs[best["ours"]], runs[best["trl"]]
        against = {
            "speed": ratio(ours["episodes_a_second"], trl["episodes_a_second"]),
            "peak_memory": ratio(ours["peak_bytes"], trl["peak_bytes"]),
        }
    lengths = [len(row) for row in job["ids"]]
    settings = job["options"] | {"dtype": dtype, "lora": LORA, "model": Path(a.model).name, "warmup": a.warmup}
    settings |= {"set": a.set, "malloc": a.malloc, "prompt_tokens": spread(lengths), "max_prompt": a.max_prompt}
    machine = measure.machine(a.threads)
    return {"settings": settings, "machine": machine, "runs": runs, "fastest": best, "ours_over_trl": against}


def summarize_speed(answers: list[Answer], episodes: int) -> dict[str, Any]:
    """The numbers of one contestant over its repeats."""
    if failed := [answer["error"] for answer in answers if "error" in answer]:
        return {"error": failed[0]}
    timed = len(answers[0]["update_seconds"])
    return {
        "episodes_a_second": spread([episodes / answer["seconds"] for answer in answers]),
        "update_seconds": spread([s for answer in answers for s in answer["update_seconds"]]),
        "part_seconds": {
            part: spread([s for answer in answers for s in answer["parts"][part][-timed:]])
            for part in answers[0]["parts"]
        },
        "reply_tokens": spread([float(np.mean(answer["length"][-timed:])) for answer in answers]),
        **{name: spread([answer[name] for answer in answers]) for name in answers[0] if name.endswith("bytes")},
        "peak_was_reset": all(answer["peak_was_reset"] for answer in answers),
        **{name: answers[0][name] for name in ("score", "kl", "versions", "mixed_precision") if name in answers[0]},
    }


# ---- A run ---------------------------------------------------------------------------------------------


def run_ppo(a: argparse.Namespace, runner: measure.Runner, side: str, job: Job) -> Answer:
    """One run of either side."""
    if side == "ours":
        return runner.ours(job | {"kind": "train"})
    return runner.peer(a.trl_python, "peers.trl_ppo", job | {"trl112": str(a.trl112.absolute())})


def handle(job: Job) -> Answer:
    """Run one job of Guerdon's."""
    import torch

    from guerdon.progress import set_quiet

    set_quiet()
    torch.set_num_threads(job["threads"])
    return {"train": train, "judge": judge}[job["kind"]](job)


def train(job: Job) -> Answer:
    """Load, optimize, save the policy at each mark; the clock starts after the warm-up updates."""
    from guerdon.config import build
    from guerdon.contracts import as_prompt
    from guerdon.models.directory.policies import load_policy, save_policy
    from guerdon.optimization import combined, loop
    from guerdon.optimization.value_models import ValueNetwork

    policy_options = {"base": job["policy"], "dtype": DTYPES[job["precision"]], "device": "cpu", **adapters(job)}
    options = job["options"] | {"value": job["value"], "check_every": 0, "save_every": 0}
    config = build({"policy": policy_options, "optimize": options}, overrides=job["set"])
    policy = load_policy(config.policy, adapters=True, seed=config.optimize.seed)
    reward_model = scorer(job["reward"], DTYPES[job["precision"]])
    value = None
    if config.optimize.value == "reward":
        value = ValueNetwork(copy.deepcopy(reward_model.network), 0.0, 1.0)
    prompts = [as_prompt(prompt) for prompt in job["prompts"]]
    assert [policy.encode(prompt).tolist() for prompt in prompts] == job["ids"], "token ids differ"
    for network in (policy.model, reward_model.network, value):
        if network is not None:
            measure.touch(network)
    memory = measure.Memory()
    clocks = {name: Clock(getattr(loop, name)) for name in ("sample_rollouts", "build_batch", "train_on_batch")}
    update_rows: list[dict[str, float]] = []

    def record(learner: Any, batch: Any) -> dict[str, float]:
        row = summarize_batch(learner, batch)
        update_rows.append(row)
        if len(update_rows) in job["marks"]:
            save_policy(policy, Path(job["out"]) / str(len(update_rows)))
        return row

    summarize_batch = loop.summarize_batch
    with patch.multiple(loop, summarize_batch=record, **clocks):
        loop.optimize(policy, combined(reward_model), prompts, config.optimize, value=value)
        end = time.perf_counter()
    starts = [*clocks["sample_rollouts"].starts, end]
    return {
        "seconds": end - starts[job["warmup"]],
        "update_seconds": [b - a for a, b in pairwise(starts)][job["warmup"] :],
        "parts": dict(zip(("draw", "judge", "learn"), (clock.seconds for clock in clocks.values()), strict=True)),
        **{name: [row[name] for row in update_rows] for name in ("score", "kl", "length")},
        **memory.report(),
    }


def adapters(job: Job) -> dict[str, int]:
    """Guerdon's options for the job's LoRA."""
    return {"lora_rank": job["lora"]["rank"], "lora_alpha": job["lora"]["alpha"]} if job["lora"] else {"lora_rank": 0}


def scorer(folder: str, dtype: str) -> Any:
    """The reward model, without calibration."""
    from guerdon.config import ModelOptions
    from guerdon.models.directory.loading import load_reward_model

    return load_reward_model(folder, ModelOptions(dtype=dtype, device="cpu"))


class Clock:
    """A function whose calls are timed."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self.work, self.starts, self.seconds = work, [], []  # type: ignore[var-annotated]

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the function on the clock."""
        self.starts.append(time.perf_counter())
        result = self.work(*args, **options)
        self.seconds.append(time.perf_counter() - self.starts[-1])
        return result


def judge(job: Job) -> Answer:
    """Reward, KL to the start, length and ends of each policy's replies to the same prompts from the same uniform numbers."""
    from guerdon.config import OptimizeOptions, PolicyOptions
    from guerdon.contracts import Response, as_prompt
    from guerdon.models.directory.policies import load_policy
    from guerdon.optimization import combined
    from guerdon.optimization.evaluation import evaluate
    from guerdon.optimization.learner import Learner
    from guerdon.optimization.prompts import select_prompts
    from guerdon.runtime.distributed import make_accelerator

    options = OptimizeOptions(**job["options"])
    reward_model = scorer(job["reward"], "float32")
    reward = combined(reward_model)
    all_prompts = [as_prompt(prompt) for prompt in job["prompts"]]
    reference = load_policy(PolicyOptions(base=job["policy"], device="cpu"))
    points = []
    for path in job["policies"]:
        policy = load_policy(PolicyOptions(base=path, device="cpu"))
        prompts = select_prompts(policy, all_prompts, options.max_tokens)
        learner = Learner(policy, reference, None, options, make_accelerator(policy.device))
        check = evaluate(learner, prompts, reward, None, update=0, kl_coef=options.kl_coef)
        responses = [
            Response(text, finish="stop" if finished else "length")
            for text, finished in zip(check.texts, check.finished, strict=True)
        ]
        read = [len(encoded.ids) for encoded in reward_model.text.encode(all_prompts, responses)]
        drawn = [len(row) + int(length) for row, length in zip(prompts.ids, check.length, strict=True)]
        assert read == drawn, "the reward model does not read the sampled tokens"
        points.append(
            {
                "reward": float((check.proxy - options.unfinished * ~check.finished).mean()),
                "score": float(check.proxy.mean()),
                "kl": float(check.kl.mean()),
                "length": float(check.length.mean()),
                "finished": float(check.finished.mean()),
            }
        )
    return {"points": points}


# ---- Tables ------------------------------------------------------------------------------------------------------


def exit_if_failed(answers: dict[str, list[Answer]]) -> None:
    """Exit with the errors of failed runs."""
    if failed := [f"{name}: {run['error']}" for name, runs in answers.items() for run in runs if "error" in run]:
        raise SystemExit("; ".join(failed))


def show_tiny(case: dict[str, Any]) -> None:
    """Print both sides at each mark, then the comparison."""
    print(f"\ntiny: start {case['start']['reward']:.3f} nats of reward, {case['start']['length']:.1f} tokens")
    lines = []
    for side, curves in case["curves"].items():
        for points in zip(*curves, strict=True):
            cells = [shown(spread([p[name] for p in points]), 3) for name in ("reward", "kl", "length", "finished")]
            lines.append([f"{side} after {points[0]['update']}", *cells])
    measure.print_table(["median [low, high]", "reward", "KL per reply", "tokens", "finished"], lines)
    for side, last in case["at_the_end"].items():
        reward, kl, both = (bounds(last[name]["mean"]) for name in ("reward", "kl", "objective"))
        print(f"{side} at the end: mean reward {reward} at KL {kl}, objective {both}")
    like = case["at_like_kl"]
    if like and like["pairs_of_runs"]:
        print(f"ours - trl at like KL: {bounds(like['reward'])} nats, {bounds(like['share_of_gain'])} of TRL's gain")
        print(f"no worse: {like['no_worse']}")


def bounds(value: dict[str, float]) -> str:
    """A mean with its interval."""
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def show_speed(title: str, case: dict[str, Any]) -> None:
    """Print the table of one precision."""
    settings = case["settings"]
    tokens = f"{shown(settings['prompt_tokens'], 0)} tokens and replies of at most {settings['max_tokens']}"
    print(f"\n{title}: {settings['prompts']} prompts of {tokens} per update")
    lines = []
    for name, run in case["runs"].items():
        if "error" in run:
            lines.append([name, run["error"][:60], *[""] * 6])
            continue
        parts = [f"{seconds['median']:.1f}" for seconds in run["part_seconds"].values()]
        memory = f"{run['peak_bytes']['median'] / 2**30:.2f}"
        rates = [shown(run["episodes_a_second"], 3), shown(run["update_seconds"], 1)]
        lines.append([name, *rates, *parts, f"{run['reply_tokens']['median']:.1f}", memory])
    head = ["", "episodes/s", "s per update", "draw", "judge", "learn", "reply tokens", "peak GiB"]
    measure.print_table(head, lines)
    if case["ours_over_trl"]:
        best, against = case["fastest"], case["ours_over_trl"]
        print(
            f"{best['ours']} / {best['trl']}: {shown(against['speed'])}, memory {shown(against['peak_memory'])}",
            flush=True,
        )


if __name__ == "__main__":
    main()
