"""Over-optimization on a laptop: train a reward model on few noisy comparisons, then optimize a policy against it.

    python examples/overoptimization/run.py --out runs/overoptimization
    python examples/overoptimization/run.py --out runs/overoptimization --gold runs/quickstart/model

A known judge (gold) compares replies of the starter model, and a quarter of its preferences are reversed. Reward models
(proxies) learn from 100, 400 and 1,600 of them. Then each proxy chooses the best of up to 256 replies, and PPO optimizes the
policy against some of them, while gold is measured. `summary.md` says for which proxies gold rose and then fell, and where.

Every step writes a file and is skipped if the file exists: the same command resumes a killed run.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gold
import numpy as np
import page

import guerdon
from guerdon.api import auditing, calibration, optimization, overoptimization
from guerdon.config import build
from guerdon.contracts import Comparison, Preference, Rollouts, as_prompt
from guerdon.formulas.clustered import clustered_share
from guerdon.io import readers, writers
from guerdon.io.run_folder import refuse_other_run
from guerdon.optimization import combined, ensemble_rule, read_pool
from guerdon.optimization.rewards import Reward
from guerdon.recipes import quickstart

SMALL: dict[str, Any] = {
    "sizes": [16, 32, 64], "middle": 32, "members": 2, "steps": 4, "prompts": 40, "pool_prompts": 8, "n": 16,
    "tokens": 8, "kl_coef": [0.0, 0.2], "pushed": ["64", "mean"], "updates": 2,
    "batch": 8, "check_every": 1, "check_prompts": 8, "draws": 100,
}  # fmt: skip
ENDS = (".", "!", "?", '."', '!"', '?"', ".'", ".)", "Ċ", "ĊĊ")  # tokens that end a sentence; a reply stops after one
RULES = {"mean": "mean", "uncertainty": "cautious"}  # the ensemble rule, and the name of its pool

# Guesses per second on two cores, with bfloat16 products and the starter model. Only the printed times depend on them.
TOKENS_SAMPLED, REPLIES_SCORED, PAIRS_LEARNED, TOKENS_OF_PPO = 120.0, 30.0, 5.0, 30.0


def main(argv: list[str] | None = None) -> None:
    """Run the steps whose files are missing in the folder."""
    args = options(argv)
    out: Path = args.out
    refuse_other_options(out, args)

    # 1. Gold, scaled by the untouched policy's replies
    prompts = gold.prompts(args.seed)
    needed = args.prompts + args.pool_prompts + args.check_prompts
    if len(prompts) < needed:
        raise guerdon.GuerdonError(
            f"--prompts, --pool-prompts and --check-prompts must be at most {len(prompts)} together, got {needed}. "
            "Set smaller numbers."
        )
    train_prompts = prompts[: args.prompts]
    pool_prompts, check_prompts = prompts[args.prompts :][: args.pool_prompts], prompts[-args.check_prompts :]
    per_prompt = replies_per_prompt(args)
    step(
        out / "replies.jsonl",
        f"the policy answers {len(train_prompts)} prompts {per_prompt} times",
        len(train_prompts) * per_prompt * args.tokens / TOKENS_SAMPLED,
        lambda: sample(out / "replies.jsonl", args, train_prompts, per_prompt),
    )
    step(
        out / "gold.json",
        "gold is measured on these replies",
        5,
        lambda: writers.write_json(
            out / "gold.json", gold.measure_gold(args.gold, readers.read_rollouts(out / "replies.jsonl"))
        ),
    )
    settings = readers.read_json(out / "gold.json")
    judge = combined({"gold": gold.judge(settings)})

    # 2. Proxies: noisy comparisons, then reward models
    step(
        out / "comparisons.jsonl",
        f"gold compares replies, {args.noise:.0%} of its preferences are reversed",
        5,
        lambda: compare(out, args, judge),
    )
    for name, size, seed in proxies(args):
        step(
            out / name / "proxy.json",
            f"proxy {name} learns from {size} comparisons",
            size * epochs(args, size) / PAIRS_LEARNED + 60,
            lambda name=name, size=size, seed=seed: learn(out, args, judge, name, size, seed),
        )

    # 3. Best of n: one pool, scored by every proxy
    pool_size = args.pool_prompts * args.n
    step(
        out / "pool.jsonl",
        f"the policy answers {args.pool_prompts} other prompts {args.n} times",
        pool_size * args.tokens / TOKENS_SAMPLED,
        lambda: optimization.best_of_n(
            one_sentence_policy(args), judge, pool_prompts, out / "pool.jsonl",
            n=args.n, max_tokens=args.tokens, prompts_at_once=4, seed=args.seed, draws=args.draws,
        ),
    )  # fmt: skip
    for name, _, _ in proxies(args):
        step(
            out / f"pool-{name}.jsonl",
            f"proxy {name} scores the pool",
            pool_size / REPLIES_SCORED,
            lambda name=name: score_pool(out, name),
        )
    for rule, name in RULES.items():
        step(
            out / f"pool-{name}.jsonl",
            f"an ensemble of the {args.members} proxies of {args.middle} scores it ({rule})",
            5,
            lambda rule=rule, name=name: score_pool_with_ensemble(out, args, rule, name),
        )
    pools = [*(str(size) for size in args.sizes), *RULES.values()]
    for name in pools:
        step(
            out / f"best-of-n-{name}" / "report.html",
            f"does gold still rise with proxy {name} at n = {args.n}?",
            10,
            lambda name=name: auditing.write_report(
                overoptimization.measure_overoptimization(
                    out / f"pool-{name}.jsonl", most_n=args.n, draws=args.draws, seed=args.seed
                ),
                out / f"best-of-n-{name}",
            ),
        )

    # 4. PPO against the proxy of the middle size with each KL coefficient, and against other proxies with the first
    runs = page.runs(args)
    for name, (proxy, coef) in runs.items():
        step(
            out / name / "forecast" / "report.html",
            f"PPO against proxy {proxy}, KL coefficient {coef:g}",
            args.updates * args.batch * args.tokens / TOKENS_OF_PPO,
            lambda name=name, proxy=proxy, coef=coef: ppo(
                out, args, judge, train_prompts, check_prompts, name, proxy, coef
            ),
        )

    # 5. Results
    page.write(out, pools, runs, args, settings)
    print((out / "summary.md").read_text(encoding="utf-8"))


def step(result: Path, description: str, seconds: float, work: Callable[[], object]) -> None:
    """Run a step unless its file exists; print the expected time and the time that it took."""
    if result.exists():
        return print(f"{result}: done before", flush=True)
    print(f"{description} (about {_minutes(seconds)} on two cores)", flush=True)
    began = time.monotonic()
    work()
    print(f"  {result}, {_minutes(time.monotonic() - began)}", flush=True)


# ---- The steps ---------------------------------------------------------------------------------------------------


def sample(path: Path, args: argparse.Namespace, prompts: Sequence[str], per_prompt: int) -> None:
    writers.write_rollouts(path, one_sentence_policy(args).sample(prompts, per_prompt, args.tokens, 1.0, args.seed))


def compare(out: Path, args: argparse.Namespace, judge: Reward) -> None:
    """Write the noisy comparisons that proxies learn from, in one order for all sizes; and comparisons of other prompts,
    with noise to calibrate on and without noise to measure accuracy."""
    replies = readers.read_rollouts(out / "replies.jsonl")
    rng = random.Random(args.seed)
    held_out_prompts = max(1, args.prompts // 8)  # prompts that no proxy learns from
    clean = pairs(replies, judge, rng)
    kept = {as_prompt(prompt) for prompt in gold.prompts(args.seed)[:held_out_prompts]}
    held_out = [comparison for comparison in clean if comparison.prompt in kept]
    learned = [comparison for comparison in clean if comparison.prompt not in kept]
    if len(learned) < max(args.sizes):
        raise guerdon.GuerdonError(
            f"The comparisons of replies with unequal gold must be at least the largest of --sizes, {max(args.sizes)}, "
            f"got {len(learned)}. Set more --prompts."
        )
    guerdon.write(out / "held-out.jsonl", held_out)
    guerdon.write(out / "calibrate.jsonl", [noisy(comparison, args.noise, rng) for comparison in held_out])
    guerdon.write(out / "comparisons.jsonl", [noisy(comparison, args.noise, rng) for comparison in learned])


def pairs(replies: Rollouts, judge: Reward, rng: random.Random) -> list[Comparison]:
    """Comparisons of two replies to one prompt with unequal gold, in random order; each reply is in at most one."""
    value = judge.score(replies.prompts, replies.responses).value
    of_prompt: dict[Any, list[int]] = {}
    for i, prompt in enumerate(replies.prompts):
        of_prompt.setdefault(prompt, []).append(i)
    comparisons = []
    for prompt, rows in of_prompt.items():
        rng.shuffle(rows)
        while rows:
            first = rows.pop()
            second = next((row for row in rows if value[row] != value[first]), None)
            if second is None:
                continue
            rows.remove(second)
            groups = ((0,), (1,)) if value[first] > value[second] else ((1,), (0,))
            both = (replies.responses[first], replies.responses[second])
            comparisons.append(Comparison(prompt, both, Preference(groups=groups), annotator="gold"))
    rng.shuffle(comparisons)
    return comparisons


def noisy(comparison: Comparison, noise: float, rng: random.Random) -> Comparison:
    """The comparison, with its preference reversed with probability `noise`."""
    groups = comparison.preference.groups
    assert groups is not None
    preference = Preference(groups=groups[::-1]) if rng.random() < noise else comparison.preference
    return dataclasses.replace(comparison, preference=preference, annotator="gold, noisy", id="")


def learn(out: Path, args: argparse.Namespace, judge: Reward, name: str, size: int, seed: int) -> None:
    """Train a proxy on the first `size` comparisons and calibrate it; proxy.json holds how often it agrees with gold."""
    comparisons = guerdon.read(out / "comparisons.jsonl")[:size]
    held_out, reference = guerdon.read(out / "held-out.jsonl"), readers.read_rollouts(out / "replies.jsonl")
    config = build(
        quickstart(),
        {
            "model": {"base": args.policy, "head_scale": 0.02},
            "train": {"lr": args.proxy_lr, "epochs": epochs(args, size), "micro_tokens": 2048, "seed": seed},
        },
    )
    guerdon.train(comparisons, out=out / name, config=config)
    every = slice(
        None, None, max(1, len(reference.responses) // 256)
    )  # about 256 set the zero and spread of the reward
    reference = Rollouts(reference.prompts[every], reference.responses[every])
    proxy, report = guerdon.calibrate(load(out / name), guerdon.read(out / "calibrate.jsonl"), reference=reference)
    calibration.store_calibration(proxy, out / name / "model")
    margin = proxy.log_odds(
        [c.prompt for c in held_out], [c.responses[0] for c in held_out], [c.responses[1] for c in held_out]
    )
    right = np.array([(m > 0) == (c.ranks[0] == 0) for m, c in zip(margin, held_out, strict=True)], dtype=float)
    accuracy = clustered_share(right, [c.group for c in held_out])
    temperature = report.estimates["temperature"]
    print(f"  agrees with gold on {accuracy.value:.1%} [{accuracy.low:.1%}, {accuracy.high:.1%}] of unseen pairs")
    writers.write_json(
        out / name / "proxy.json", {"accuracy": list(accuracy), "temperature": temperature.value, "size": size}
    )


def score_pool(out: Path, name: str) -> None:
    """Write the pool with the proxy's reward as `reward` and the gold as `gold`."""
    pool, proxy = read_pool(out / "pool.jsonl").rollouts, load(out / name)
    scores = [
        proxy.score([prompt] * len(replies), replies).value
        for prompt, replies in zip(pool.prompts_once, pool.responses_by_prompt, strict=True)
    ]
    write_scored_pool(out / "pool.jsonl", out / f"pool-{name}.jsonl", np.stack(scores))


def score_pool_with_ensemble(out: Path, args: argparse.Namespace, rule: str, name: str) -> None:
    """Write the pool with an ensemble's reward: each member in its own standard deviations, then the rule."""
    rewards = [read_pool(out / f"pool-{member}.jsonl").rollouts.reward_by_prompt for member in members(args)]
    scaled = np.stack([(reward / page.spread(reward)).ravel() for reward in rewards])
    write_scored_pool(
        out / "pool.jsonl", out / f"pool-{name}.jsonl", ensemble_rule(rule)(scaled).reshape(rewards[0].shape)
    )


def ensemble_reward(out: Path, args: argparse.Namespace, name: str) -> Reward:
    """The ensemble as a reward: each member in its own standard deviations over the untouched policy's replies."""
    rule = next(rule for rule, pool_name in RULES.items() if pool_name == name)
    models = {member: load(out / member) for member in members(args)}
    units = {name: m.calibration.reference_spread / m.calibration.temperature for name, m in models.items()}
    return combined(models, {name: 1 / unit for name, unit in units.items()}, rule)


def write_scored_pool(source: Path, path: Path, reward: np.ndarray) -> None:
    """Copy a pool that gold scored, with this reward [prompts, N] as `reward` and the old one as `gold`."""
    rows = [row for _, row in readers.read_rows(source) if "excluded" not in row]
    new = ({"reward": value.tolist(), "gold": row["reward"]} for row, value in zip(rows, reward, strict=True))
    kept = ("id", "prompt", "responses", "log_prob")
    writers.write_jsonl(
        path, ({key: row[key] for key in kept if key in row} | one for row, one in zip(rows, new, strict=True))
    )


def ppo(
    out: Path,
    args: argparse.Namespace,
    judge: Reward,
    prompts: Sequence[str],
    check_prompts: Sequence[str],
    name: str,
    proxy: str,
    coef: float,
) -> None:
    """One PPO run, and its report with the forecast from the pool. Rewards are divided by their spread over the untouched
    policy's replies, so `coef` is in such units. A reply that is cut costs nothing, because it costs nothing in gold."""
    folder = out / name
    chosen = {
        "updates": args.updates, "prompts": args.batch, "max_tokens": args.tokens, "lr": args.lr, "kl_coef": coef,
        "reward_scale": "none" if proxy in RULES.values() else "reference", "unfinished": 0.0, "seed": args.seed,
        "check_every": args.check_every, "check_prompts": args.check_prompts,
    }  # fmt: skip
    optimization.optimize(
        one_sentence_policy(args, adapters=True),
        ensemble_reward(out, args, proxy) if proxy in RULES.values() else load(out / proxy),
        prompts,
        gold=judge,
        held_out=check_prompts,
        out=folder,
        config=build({"optimize": chosen}),
    )
    report = overoptimization.measure_overoptimization(
        folder, pool=out / f"pool-{proxy}.jsonl", draws=args.draws, seed=args.seed
    )
    auditing.write_report(report, folder / "forecast")


# ---- Options ------------------------------------------------------------------------------------------------------


def options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/overoptimization"))
    parser.add_argument("--policy", default="starter", help="hub name or directory; the proxies start from it too")
    parser.add_argument("--gold", default="rule", help="'rule' (gold.py), or the directory of a reward model")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 400, 1600], help="comparisons, one proxy each")
    parser.add_argument("--noise", type=float, default=0.25, help="share of preferences that are reversed")
    parser.add_argument("--middle", type=int, default=400, help="the size that gets an ensemble, and PPO")
    parser.add_argument("--members", type=int, default=3, help="proxies in the ensemble: other seeds, the same data")
    parser.add_argument("--steps", type=int, default=30, help="fewest optimizer steps of a proxy; else one epoch")
    parser.add_argument("--proxy-lr", type=float, default=3e-4)
    parser.add_argument("--prompts", type=int, default=304, help="prompts for comparisons and for PPO")
    parser.add_argument("--pool-prompts", type=int, default=32, help="other prompts, for best of n")
    parser.add_argument("--n", type=int, default=256, help="replies to each of them")
    parser.add_argument("--tokens", type=int, default=96, help="most tokens of a reply")
    parser.add_argument("--kl-coef", type=float, nargs="+", default=[0.0, 0.4], help="one PPO run each")
    parser.add_argument("--pushed", nargs="*", default=["100"], help="other proxies for PPO, at the first --kl-coef")
    parser.add_argument("--updates", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32, help="prompts an update")
    parser.add_argument("--lr", type=float, default=3e-4, help="learning rate of PPO")
    parser.add_argument("--check-every", type=int, default=2)
    parser.add_argument("--check-prompts", type=int, default=48, help="other prompts again, on which gold is measured")
    parser.add_argument("--draws", type=int, default=2000, help="bootstrap draws of every interval")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="everything tiny: seconds with a tiny model, no findings")
    if parser.parse_args(argv).small:
        parser.set_defaults(**SMALL)
    args = parser.parse_args(argv)
    if args.middle not in args.sizes:
        parser.error(f"--middle {args.middle} is not one of --sizes {args.sizes}")
    known = [*(str(size) for size in args.sizes if size != args.middle), *RULES.values()]
    if unknown := [name for name in args.pushed if name not in known]:
        parser.error(f"--pushed {unknown[0]} is not one of {', '.join(known)}")
    return args


def refuse_other_options(out: Path, args: argparse.Namespace) -> None:
    """Refuse a folder with files of a run with other options."""
    chosen = {key: value for key, value in vars(args).items() if key not in ("out", "small")}
    path = out / "options.json"
    if path.exists():
        refuse_other_run(out, chosen, readers.read_json(path))
    writers.write_json(path, chosen)


def proxies(args: argparse.Namespace) -> list[tuple[str, int, int]]:
    """(name, comparisons, seed) of every proxy."""
    sizes = [(str(size), size, args.seed) for size in args.sizes]
    more = [(name, args.middle, args.seed + i) for i, name in enumerate(members(args)) if i]
    return sizes + more


def members(args: argparse.Namespace) -> list[str]:
    return [str(args.middle), *(f"{args.middle}-{i}" for i in range(2, args.members + 1))]


def epochs(args: argparse.Namespace, size: int) -> float:
    """One epoch, or more if one epoch is fewer than args.steps steps of 16 comparisons."""
    return max(1.0, args.steps * 16 / size)


def replies_per_prompt(args: argparse.Namespace) -> int:
    """Replies per prompt for enough comparisons, and a sixth more because some replies have equal gold."""
    learned = args.prompts - max(1, args.prompts // 8)
    return 2 * math.ceil(7 / 6 * max(args.sizes) / learned)


def one_sentence_policy(args: argparse.Namespace, adapters: bool = False) -> Any:
    """The policy, stopped after one sentence. No system message, as for the proxies: it would add twenty tokens to each text."""
    policy: Any = optimization.load_policy(args.policy, adapters=adapters, seed=args.seed, system="", dtype="auto")
    vocabulary = policy.tokenizer.get_vocab()
    policy.stop_ids |= {vocabulary[end] for end in ENDS if end in vocabulary}
    return policy


def load(folder: Path) -> Any:
    return guerdon.load(folder / "model", truncation="left", dtype="auto")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


if __name__ == "__main__":
    main()
