"""Over-optimization on a laptop: train a reward model on few noisy comparisons, then optimize a policy against it.

    python examples/overoptimization/run.py --out runs/overoptimization

A known judge (gold) compares replies of the starter model, and a quarter of its preferences are reversed. A reward model
(proxy) learns from 200 of them, and PPO optimizes the policy against it, while gold is measured: it rises, then falls. Then
the same with a second round of comparisons, which show the replies that the optimized policy gives; with a price of KL; with
an ensemble; and with fewer and more comparisons. `summary.md` has the figures.

Every step writes a file and is skipped if the file exists: the same command resumes a killed run.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import gold
import numpy as np
import page

import guerdon
from guerdon.api import calibration, optimization
from guerdon.config import build
from guerdon.contracts import Comparison, Preference, Rollouts
from guerdon.formulas.clustered import clustered_share
from guerdon.io import readers, writers
from guerdon.io.run_folder import refuse_other_run
from guerdon.optimization import combined
from guerdon.recipes import quickstart

SMALL: dict[str, Any] = {
    "seeds": [0, 1], "sizes": [8], "size": 12, "second": 12, "calibrate": 12, "steps": 4, "prompts": 32, "replies": 4,
    "label_tokens": 6, "tokens": 8, "updates": 2, "batch": 4, "epochs": 1, "minibatches": 1, "check_every": 1, "check_prompts": 8,
}  # fmt: skip
ENDS = (".", "!", "?", '."', '!"', '?"', ".'", ".)", "Ċ", "ĊĊ")  # tokens that end a sentence; a reply stops after one


def main(argv: list[str] | None = None) -> None:
    """Run the steps whose files are missing in the folder."""
    args = options(argv)
    out: Path = args.out
    refuse_other_options(out, args)
    step(out / "replies.jsonl", "the untouched policy answers", lambda path: sample_replies(path, args))
    step(out / "gold.json", "gold is scaled by these replies", lambda path: scale_gold(path, args))
    step(out / "comparisons.jsonl", "gold compares them", lambda path: first_round(path, args))
    chosen = [run for run in page.runs(args) if not args.only or run.name in args.only]
    for run in chosen:
        if run.after:
            step(
                out / f"{run.name}.jsonl",
                f"gold compares replies of the policy of {run.after}",
                lambda path, run=run: second_round(path, args, run),
            )
        for proxy in run.proxies:
            step(
                out / proxy.name / "proxy.json",
                f"proxy {proxy.name} learns",
                lambda path, proxy=proxy, run=run: learn(path, args, proxy, run),
            )
        step(out / run.name / "report.html", f"PPO, {run.name}", lambda path, run=run: optimize(path.parent, args, run))
    page.write(out, args)
    print((out / "summary.md").read_text(encoding="utf-8"))


def step(result: Path, description: str, work: Callable[[Path], object]) -> None:
    """Run a step unless its file exists, and print the time that it took."""
    if result.exists():
        return print(f"{result}: done before", flush=True)
    print(description, flush=True)
    began = time.monotonic()
    work(result)
    print(f"  {result}, {(time.monotonic() - began) / 60:.1f} min", flush=True)


# ---- Comparisons -------------------------------------------------------------------------------------------------


def sample_replies(path: Path, args: argparse.Namespace) -> None:
    policy = one_sentence_policy(args.policy)
    writers.write_rollouts(path, policy.sample(train_prompts(args), args.replies, args.label_tokens, 1.0, 0))


def scale_gold(path: Path, args: argparse.Namespace) -> None:
    """Write the scales of gold, from the replies to the first third of the prompts."""
    replies = readers.read_rollouts(args.out / "replies.jsonl")
    third = Rollouts(*(column[: len(replies) // 3] for column in (replies.prompts, replies.responses)))
    writers.write_json(path, gold.measure_gold(one_sentence_policy(args.policy), third))


def first_round(path: Path, args: argparse.Namespace) -> None:
    """Write all comparisons of the untouched policy's replies, without noise."""
    replies = readers.read_rollouts(args.out / "replies.jsonl")
    comparisons = list(pairs(replies, judge_of(args)(replies.prompts, replies.responses)))
    needed = max(args.size, *args.sizes) + args.calibrate
    if len(comparisons) < needed:
        raise guerdon.GuerdonError(
            f"The comparisons of unequal replies must be at least {needed}, the most of --size and --sizes and --calibrate, "
            f"got {len(comparisons)}. Set more --prompts."
        )
    guerdon.write(path, comparisons)


def second_round(path: Path, args: argparse.Namespace, run: page.Run) -> None:
    """Write noisy comparisons of the optimized policy's replies: per prompt one of two, and one of a third with an untouched one."""
    prompts = train_prompts(args)[: -(-args.second // 2)]
    optimized = one_sentence_policy(str(args.out / run.after / "policy")).sample(prompts, 3, args.tokens, 1.0, run.seed)
    untouched = one_sentence_policy(args.policy).sample(prompts, 1, args.tokens, 1.0, run.seed)
    four = [(*optimized.responses[3 * i : 3 * i + 3], last) for i, last in enumerate(untouched.responses)]
    asked = tuple(prompt for prompt in untouched.prompts for _ in range(4))
    replies = Rollouts(asked, tuple(reply for group in four for reply in group))
    comparisons = pairs(replies, judge_of(args)(replies.prompts, replies.responses))
    guerdon.write(path, with_noise(comparisons, args.noise, random.Random(run.seed)))


def pairs(replies: Rollouts, value: Sequence[float] | np.ndarray) -> Iterable[Comparison]:
    """Comparisons of the first with the second reply to a prompt, the third with the fourth, ..., where gold differs."""
    for i in range(0, len(replies), 2):
        if value[i] != value[i + 1]:
            groups = ((0,), (1,)) if value[i] > value[i + 1] else ((1,), (0,))
            both = (replies.responses[i], replies.responses[i + 1])
            yield Comparison(replies.prompts[i], both, Preference(groups=groups), annotator="gold")


def with_noise(comparisons: Iterable[Comparison], noise: float, rng: random.Random) -> list[Comparison]:
    """The comparisons, each preference reversed with probability `noise`."""
    noisy = []
    for comparison in comparisons:
        groups = comparison.preference.groups
        assert groups is not None
        preference = Preference(groups=groups[::-1]) if rng.random() < noise else comparison.preference
        noisy.append(dataclasses.replace(comparison, preference=preference))
    return noisy


# ---- Proxies -----------------------------------------------------------------------------------------------------


def learn(path: Path, args: argparse.Namespace, proxy: page.Proxy, run: page.Run) -> None:
    """Train a proxy and calibrate it; proxy.json holds how often it is right on unseen pairs without noise."""
    clean, rng = guerdon.read(args.out / "comparisons.jsonl"), random.Random(proxy.seed)
    noisy = with_noise(clean, args.noise, rng)
    learned, held_out = noisy[: -args.calibrate], noisy[-args.calibrate :]  # of the last prompts
    rng.shuffle(learned)
    learned = learned[: proxy.size] + (guerdon.read(args.out / f"{run.name}.jsonl") if run.after else [])
    settings = {
        "model": {"base": args.policy, "head_scale": 0.02},
        "train": {
            "lr": args.proxy_lr,
            "epochs": max(1.0, args.steps * 16 / len(learned)),  # at least args.steps steps of 16
            "micro_tokens": 2048,
            "seed": proxy.seed,
        },
    }
    guerdon.train(learned, out=path.parent, config=build(quickstart(), settings))
    replies = readers.read_rollouts(args.out / "replies.jsonl")
    reference = Rollouts(replies.prompts[::16], replies.responses[::16])
    model, _ = guerdon.calibrate(load(path.parent), held_out, reference=reference)
    calibration.store_calibration(model, path.parent / "model")
    accuracy = agreement(model, clean[-args.calibrate :])
    print(f"  agrees on {accuracy[0]:.1%} [{accuracy[1]:.1%}, {accuracy[2]:.1%}] of unseen pairs")
    writers.write_json(path, {"accuracy": accuracy, "comparisons": len(learned)})


def agreement(model: Any, comparisons: Sequence[Comparison]) -> list[float]:
    """How often the model prefers the reply that the comparison prefers, with its interval."""
    first, second = ([comparison.responses[i] for comparison in comparisons] for i in (0, 1))
    margin = model.log_odds([comparison.prompt for comparison in comparisons], first, second)
    right = [(m > 0) == (c.ranks[0] == 0) for m, c in zip(margin, comparisons, strict=True)]
    return list(clustered_share(np.array(right, dtype=float), [comparison.group for comparison in comparisons]))


# ---- PPO ---------------------------------------------------------------------------------------------------------


def optimize(folder: Path, args: argparse.Namespace, run: page.Run) -> None:
    """One PPO run. Rewards are divided by their spread over the untouched policy's replies, so `kl_coef` is in such units.

    A reply that is cut costs nothing, because it costs nothing in gold.
    """
    chosen = {
        "updates": args.updates, "prompts": args.batch, "epochs": args.epochs, "minibatches": args.minibatches,
        "max_tokens": args.tokens, "lr": args.lr, "kl_coef": run.kl_coef, "unfinished": 0.0, "seed": run.seed,
        "reward_scale": "reference" if len(run.proxies) == 1 else "none", "check_every": args.check_every,
        "check_prompts": args.check_prompts, "save_every": args.check_every,
    }  # fmt: skip
    optimization.optimize(
        one_sentence_policy(args.policy, adapters=True, seed=run.seed),
        reward_of(args, run),
        train_prompts(args),
        gold=judge_of(args),
        held_out=gold.prompts()[-args.check_prompts :],
        out=folder,
        config=build({"optimize": chosen}),
    )


def reward_of(args: argparse.Namespace, run: page.Run) -> Any:
    """The run's proxy, or the mean of several, each in its own standard deviations."""
    models = {proxy.name: load(args.out / proxy.name) for proxy in run.proxies}
    if len(models) == 1:
        return next(iter(models.values()))
    units = {name: m.calibration.reference_spread / m.calibration.temperature for name, m in models.items()}
    return combined(models, {name: 1 / unit for name, unit in units.items()}, "mean")


# ---- Parts -------------------------------------------------------------------------------------------------------


def judge_of(args: argparse.Namespace) -> gold.Judge:
    return gold.judge(one_sentence_policy(args.policy), readers.read_json(args.out / "gold.json"))


def one_sentence_policy(base: str, adapters: bool = False, seed: int = 0) -> Any:
    """The policy, stopped after one sentence. No system message, as for the proxies: it would add twenty tokens to each text."""
    policy: Any = optimization.load_policy(base, adapters=adapters, seed=seed, system="", dtype="auto")
    vocabulary = policy.tokenizer.get_vocab()
    policy.stop_ids |= {vocabulary[end] for end in ENDS if end in vocabulary}
    return policy


def load(folder: Path) -> Any:
    return guerdon.load(folder / "model", truncation="left", dtype="auto")


def train_prompts(args: argparse.Namespace) -> list[str]:
    return gold.prompts()[: args.prompts]


# ---- Options -----------------------------------------------------------------------------------------------------


def options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/overoptimization"))
    parser.add_argument("--only", nargs="+", default=[], help="names of runs, such as round-1-seed-0; all unless given")
    parser.add_argument("--policy", default="starter", help="hub name or directory; the proxies start from it too")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="of both rounds; the first, of the rest"
    )
    parser.add_argument("--noise", type=float, default=0.25, help="share of preferences that are reversed")
    parser.add_argument("--size", type=int, default=200, help="comparisons of the first round")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 800], help="other numbers of comparisons")
    parser.add_argument("--second", type=int, default=150, help="comparisons of the second round")
    parser.add_argument("--calibrate", type=int, default=200, help="comparisons that no proxy learns from")
    parser.add_argument("--steps", type=int, default=30, help="fewest optimizer steps of a proxy; else one epoch")
    parser.add_argument("--proxy-lr", type=float, default=3e-4)
    parser.add_argument("--price", type=float, default=0.05, help="the KL coefficient of the run that has one")
    parser.add_argument("--prompts", type=int, default=300, help="prompts for comparisons and for PPO")
    parser.add_argument("--replies", type=int, default=8, help="the untouched policy's, to each of them")
    parser.add_argument(
        "--label-tokens", type=int, default=40, help="most tokens of a reply that the first round compares"
    )
    parser.add_argument("--tokens", type=int, default=80, help="most tokens of a reply under optimization")
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--batch", type=int, default=32, help="prompts an update")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--minibatches", type=int, default=1)
    parser.add_argument("--lr", type=float, default=5e-4, help="learning rate of PPO")
    parser.add_argument("--check-every", type=int, default=2)
    parser.add_argument("--check-prompts", type=int, default=48, help="other prompts, on which gold is measured")
    parser.add_argument("--small", action="store_true", help="everything tiny: seconds with a tiny model, no findings")
    if parser.parse_args(argv).small:
        parser.set_defaults(**SMALL)
    return parser.parse_args(argv)


def refuse_other_options(out: Path, args: argparse.Namespace) -> None:
    """Refuse a folder with files of a run with other options."""
    chosen = {key: value for key, value in vars(args).items() if key not in ("out", "small", "only")}
    path = out / "options.json"
    if path.exists():
        refuse_other_run(out, chosen, readers.read_json(path))
    writers.write_json(path, chosen)


if __name__ == "__main__":
    main()
