"""Over-optimization on a laptop: a reward model is learned from few noisy comparisons, then optimized until it cheats.

    python examples/overoptimization/run.py --out runs/overoptimization
    python examples/overoptimization/run.py --out runs/overoptimization --gold runs/quickstart/model

A known judge (gold) compares replies of the starter model, and a quarter of its verdicts are turned round. Reward models
(proxies) learn from 100, 400 and 1,600 of them. Then the best of up to 256 replies is chosen by each, and PPO moves the policy
against one, while gold looks on. `summary.md` says where gold turned, for whom, and whether it did at all.

Every step leaves a file and is skipped where the file is: the same command goes on from a killed run.
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
from guerdon.api import (
    auditing,
    calibration,
    optimization,
    overoptimization,
)
from guerdon.config import build
from guerdon.contracts import (
    Comparison,
    Preference,
    Rollouts,
    as_prompt,
)
from guerdon.formulas.resampling import bootstrap_mean
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
ENDS = (".", "!", "?", '."', '!"', '?"', ".'", ".)", "Ċ", "ĊĊ")  # tokens that end a sentence, and so a reply
RULES = {"mean": "mean", "uncertainty": "cautious"}  # an ensemble's rule, and what its pool is called

# Guesses for two cores with bfloat16 products and the starter model. Only the estimates of time depend on them.
TOKENS_DRAWN, REPLIES_SCORED, PAIRS_LEARNED, TOKENS_OF_PPO = 120.0, 30.0, 5.0, 30.0  # a second


def main(words: list[str] | None = None) -> None:
    """Do what is missing in the folder, step by step."""
    asked = options(words)
    out: Path = asked.out
    claim(out, asked)

    # 1. The known judge, anchored to the untouched policy
    questions = gold.prompts(asked.seed)
    if len(questions) < asked.prompts + asked.pool_prompts + asked.check_prompts:
        raise guerdon.GuerdonError(
            f"prompts: there are {len(questions)}, fewer than asked for; remedy: smaller numbers"
        )
    taught = questions[: asked.prompts]
    pooled, checked = questions[asked.prompts :][: asked.pool_prompts], questions[-asked.check_prompts :]
    each = replies_each(asked)
    do(
        out / "replies.jsonl",
        f"the policy answers {len(taught)} prompts {each} times",
        len(taught) * each * asked.tokens / TOKENS_DRAWN,
        lambda: draw(out / "replies.jsonl", asked, taught, each),
    )
    do(
        out / "gold.json",
        "gold is measured on these replies",
        5,
        lambda: writers.write_json(
            out / "gold.json", gold.measured(asked.gold, readers.read_rollouts(out / "replies.jsonl"))
        ),
    )
    settings = readers.read_json(out / "gold.json")
    judge = combined({"gold": gold.judge(settings)})

    # 2. Proxies: noisy comparisons, then reward models
    do(
        out / "comparisons.jsonl",
        f"gold compares replies, {asked.noise:.0%} of its verdicts are turned round",
        5,
        lambda: compare(out, asked, judge),
    )
    for name, size, seed in proxies(asked):
        do(
            out / name / "proxy.json",
            f"proxy {name} learns from {size} comparisons",
            size * epochs(asked, size) / PAIRS_LEARNED + 60,
            lambda name=name, size=size, seed=seed: learn(out, asked, judge, name, size, seed),
        )

    # 3. Best of n: one pool, judged by everyone
    drawn = asked.pool_prompts * asked.n
    do(
        out / "pool.jsonl",
        f"the policy answers {asked.pool_prompts} other prompts {asked.n} times",
        drawn * asked.tokens / TOKENS_DRAWN,
        lambda: optimization.best_of_n(
            speaker(asked), judge, pooled, out / "pool.jsonl",
            n=asked.n, max_tokens=asked.tokens, prompts_at_once=4, seed=asked.seed, draws=asked.draws,
        ),
    )  # fmt: skip
    for name, _, _ in proxies(asked):
        do(
            out / f"pool-{name}.jsonl",
            f"proxy {name} scores the pool",
            drawn / REPLIES_SCORED,
            lambda name=name: score_pool(out, name),
        )
    for rule, name in RULES.items():
        do(
            out / f"pool-{name}.jsonl",
            f"an ensemble of the {asked.members} proxies of {asked.middle} scores it ({rule})",
            5,
            lambda rule=rule, name=name: unite(out, asked, rule, name),
        )
    pools = [*(str(size) for size in asked.sizes), *RULES.values()]
    for name in pools:
        do(
            out / f"best-of-n-{name}" / "report.html",
            f"is proxy {name} still true at n = {asked.n}?",
            10,
            lambda name=name: auditing.write_report(
                overoptimization.measure_overoptimization(
                    out / f"pool-{name}.jsonl", most_n=asked.n, draws=asked.draws, seed=asked.seed
                ),
                out / f"best-of-n-{name}",
            ),
        )

    # 4. PPO against the proxy of the middle size at each price of KL, and against others at the first
    runs = page.runs(asked)
    for name, (proxy, coef) in runs.items():
        do(
            out / name / "forecast" / "report.html",
            f"PPO against proxy {proxy}, a nat of KL costs {coef:g}",
            asked.updates * asked.batch * asked.tokens / TOKENS_OF_PPO,
            lambda name=name, proxy=proxy, coef=coef: ppo(out, asked, judge, taught, checked, name, proxy, coef),
        )

    # 5. What came of it
    page.write(out, pools, runs, asked, settings)
    print((out / "summary.md").read_text(encoding="utf-8"))


def do(made: Path, words: str, seconds: float, work: Callable[[], object]) -> None:
    """Run a step unless its file is there; say how long it may take, and how long it took."""
    if made.exists():
        return print(f"{made}: done before", flush=True)
    print(f"{words} (about {_minutes(seconds)} on two cores)", flush=True)
    began = time.monotonic()
    work()
    print(f"  {made}, {_minutes(time.monotonic() - began)}", flush=True)


# ---- The steps ---------------------------------------------------------------------------------------------------


def draw(place: Path, asked: argparse.Namespace, prompts: Sequence[str], each: int) -> None:
    writers.write_rollouts(place, speaker(asked).sample(prompts, each, asked.tokens, 1.0, asked.seed))


def compare(out: Path, asked: argparse.Namespace, judge: Reward) -> None:
    """Comparisons as people would give them, in the order in which proxies of all sizes take them; and two lots of other
    prompts: noisy ones to calibrate on, and the same without noise to see what was learned."""
    replies = readers.read_rollouts(out / "replies.jsonl")
    rng = random.Random(asked.seed)
    apart = max(1, asked.prompts // 8)  # prompts that no proxy learns from
    true = pairs(replies, judge, rng)
    kept = {as_prompt(prompt) for prompt in gold.prompts(asked.seed)[:apart]}
    held_out = [comparison for comparison in true if comparison.prompt in kept]
    learned = [comparison for comparison in true if comparison.prompt not in kept]
    if len(learned) < max(asked.sizes):
        raise guerdon.GuerdonError(
            f"{len(learned)} comparisons of unequal replies, {max(asked.sizes)} wanted; remedy: more --prompts"
        )
    guerdon.write(out / "held-out.jsonl", held_out)
    guerdon.write(out / "calibrate.jsonl", [noisy(each, asked.noise, rng) for each in held_out])
    guerdon.write(out / "comparisons.jsonl", [noisy(each, asked.noise, rng) for each in learned])


def pairs(replies: Rollouts, judge: Reward, rng: random.Random) -> list[Comparison]:
    """Each reply in at most one comparison, with another of its prompt that gold does not find equal; in any order."""
    value = judge.score(replies.prompts, replies.responses).value
    of_prompt: dict[Any, list[int]] = {}
    for i, prompt in enumerate(replies.prompts):
        of_prompt.setdefault(prompt, []).append(i)
    found = []
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
            found.append(Comparison(prompt, both, Preference(groups=groups), annotator="gold"))
    rng.shuffle(found)
    return found


def noisy(comparison: Comparison, noise: float, rng: random.Random) -> Comparison:
    """The same, turned round with chance `noise`."""
    groups = comparison.preference.groups
    assert groups is not None
    said = Preference(groups=groups[::-1]) if rng.random() < noise else comparison.preference
    return dataclasses.replace(comparison, preference=said, annotator="gold, noisy", id="")


def learn(out: Path, asked: argparse.Namespace, judge: Reward, name: str, size: int, seed: int) -> None:
    """A reward model of the first `size` comparisons, calibrated; proxy.json says how often it agrees with gold."""
    comparisons = guerdon.read(out / "comparisons.jsonl")[:size]
    held_out, reference = guerdon.read(out / "held-out.jsonl"), readers.read_rollouts(out / "replies.jsonl")
    config = build(
        quickstart(),
        {
            "model": {"base": asked.policy, "head_scale": 0.02},
            "train": {"lr": asked.proxy_lr, "epochs": epochs(asked, size), "micro_tokens": 2048, "seed": seed},
        },
    )
    guerdon.train(comparisons, out=out / name, config=config)
    few = slice(None, None, max(1, len(reference.responses) // 256))  # they give the reward its zero and its spread
    reference = Rollouts(reference.prompts[few], reference.responses[few])
    proxy, report = guerdon.calibrate(load(out / name), guerdon.read(out / "calibrate.jsonl"), reference=reference)
    calibration.store_calibration(proxy, out / name / "model")
    margin = proxy.log_odds(
        [c.prompt for c in held_out], [c.responses[0] for c in held_out], [c.responses[1] for c in held_out]
    )
    right = np.array([(m > 0) == (c.ranks[0] == 0) for m, c in zip(margin, held_out, strict=True)], dtype=float)
    accuracy = bootstrap_mean(right, [c.group for c in held_out], draws=asked.draws, seed=asked.seed)
    temperature = report.estimates["temperature"]
    print(f"  agrees with gold on {accuracy.value:.1%} [{accuracy.low:.1%}, {accuracy.high:.1%}] of unseen pairs")
    writers.write_json(
        out / name / "proxy.json", {"accuracy": list(accuracy), "temperature": temperature.value, "size": size}
    )


def score_pool(out: Path, name: str) -> None:
    """The pool with the proxy's reward in place of gold's, which stays beside it."""
    pool, proxy = read_pool(out / "pool.jsonl").rollouts, load(out / name)
    scores = [
        proxy.score([prompt] * len(replies), replies).value
        for prompt, replies in zip(pool.prompts_once, pool.responses_by_prompt, strict=True)
    ]
    rewrite(out / "pool.jsonl", out / f"pool-{name}.jsonl", np.stack(scores))


def unite(out: Path, asked: argparse.Namespace, rule: str, name: str) -> None:
    """The pool with an ensemble's reward: each member in its own standard deviations, then the rule."""
    each = [read_pool(out / f"pool-{member}.jsonl").rollouts.reward_by_prompt for member in members(asked)]
    scaled = np.stack([(one / page.spread(one)).ravel() for one in each])
    rewrite(out / "pool.jsonl", out / f"pool-{name}.jsonl", ensemble_rule(rule)(scaled).reshape(each[0].shape))


def united(out: Path, asked: argparse.Namespace, name: str) -> Reward:
    """The ensemble as a reward: each member in its own standard deviations over the untouched policy's replies."""
    rule = next(rule for rule, called in RULES.items() if called == name)
    models = {member: load(out / member) for member in members(asked)}
    units = {each: m.calibration.reference_spread / m.calibration.temperature for each, m in models.items()}
    return combined(models, {each: 1 / unit for each, unit in units.items()}, rule)


def rewrite(source: Path, place: Path, reward: np.ndarray) -> None:
    rows = [row for _, row in readers.read_rows(source) if "excluded" not in row]
    new = ({"reward": value.tolist(), "gold": row["reward"]} for row, value in zip(rows, reward, strict=True))
    kept = ("id", "prompt", "responses", "log_prob")
    writers.write_jsonl(
        place, ({key: row[key] for key in kept if key in row} | one for row, one in zip(rows, new, strict=True))
    )


def ppo(
    out: Path,
    asked: argparse.Namespace,
    judge: Reward,
    prompts: Sequence[str],
    checked: Sequence[str],
    name: str,
    proxy: str,
    coef: float,
) -> None:
    """One run, and its report with what the pool foretold beside it. Rewards are divided by their spread over the untouched
    policy's replies, so coef is in such units; a reply that is cut costs nothing, because gold does not mind either."""
    folder = out / name
    chosen = {
        "updates": asked.updates, "prompts": asked.batch, "max_tokens": asked.tokens, "lr": asked.lr, "kl_coef": coef,
        "reward_scale": "none" if proxy in RULES.values() else "reference", "unfinished": 0.0, "seed": asked.seed,
        "check_every": asked.check_every, "check_prompts": asked.check_prompts,
    }  # fmt: skip
    optimization.optimize(
        speaker(asked, adapters=True),
        united(out, asked, proxy) if proxy in RULES.values() else load(out / proxy),
        prompts,
        gold=judge,
        held_out=checked,
        out=folder,
        config=build({"optimize": chosen}),
    )
    report = overoptimization.measure_overoptimization(
        folder, pool=out / f"pool-{proxy}.jsonl", draws=asked.draws, seed=asked.seed
    )
    auditing.write_report(report, folder / "forecast")


# ---- What is asked -----------------------------------------------------------------------------------------------


def options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/overoptimization"))
    parser.add_argument("--policy", default="starter", help="hub name or directory; the proxies start from it too")
    parser.add_argument("--gold", default="rule", help="'rule' (gold.py), or the directory of a reward model")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 400, 1600], help="comparisons, one proxy each")
    parser.add_argument("--noise", type=float, default=0.25, help="share of verdicts that are turned round")
    parser.add_argument("--middle", type=int, default=400, help="the size that gets an ensemble, and PPO")
    parser.add_argument("--members", type=int, default=3, help="proxies in the ensemble: other seeds, the same data")
    parser.add_argument("--steps", type=int, default=30, help="fewest optimizer steps of a proxy; else one epoch")
    parser.add_argument("--proxy-lr", type=float, default=3e-4)
    parser.add_argument("--prompts", type=int, default=304, help="that comparisons and PPO are about")
    parser.add_argument("--pool-prompts", type=int, default=32, help="others, for best of n")
    parser.add_argument("--n", type=int, default=256, help="replies to each of them")
    parser.add_argument("--tokens", type=int, default=96, help="most tokens of a reply")
    parser.add_argument("--kl-coef", type=float, nargs="+", default=[0.0, 0.4], help="one PPO run each")
    parser.add_argument("--pushed", nargs="*", default=["100"], help="other proxies for PPO, at the first --kl-coef")
    parser.add_argument("--updates", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32, help="prompts an update")
    parser.add_argument("--lr", type=float, default=3e-4, help="of PPO")
    parser.add_argument("--check-every", type=int, default=2)
    parser.add_argument("--check-prompts", type=int, default=48, help="others again, that gold is asked about")
    parser.add_argument("--draws", type=int, default=2000, help="bootstrap draws of every interval")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="everything tiny: seconds with a tiny model, no findings")
    if parser.parse_args(words).small:
        parser.set_defaults(**SMALL)
    asked = parser.parse_args(words)
    if asked.middle not in asked.sizes:
        parser.error(f"--middle {asked.middle} is none of --sizes {asked.sizes}")
    known = [*(str(size) for size in asked.sizes if size != asked.middle), *RULES.values()]
    if unknown := [name for name in asked.pushed if name not in known]:
        parser.error(f"--pushed {unknown[0]} is none of {', '.join(known)}")
    return asked


def claim(out: Path, asked: argparse.Namespace) -> None:
    """Refuse a folder that belongs to a run with other options: half of it would be another experiment."""
    ours = {key: value for key, value in vars(asked).items() if key not in ("out", "small")}
    place = out / "options.json"
    if place.exists():
        refuse_other_run(out, ours, readers.read_json(place))
    writers.write_json(place, ours)


def proxies(asked: argparse.Namespace) -> list[tuple[str, int, int]]:
    """(name, comparisons, seed) of every proxy."""
    sizes = [(str(size), size, asked.seed) for size in asked.sizes]
    more = [(name, asked.middle, asked.seed + i) for i, name in enumerate(members(asked)) if i]
    return sizes + more


def members(asked: argparse.Namespace) -> list[str]:
    return [str(asked.middle), *(f"{asked.middle}-{i}" for i in range(2, asked.members + 1))]


def epochs(asked: argparse.Namespace, size: int) -> float:
    """One pass, or more where that would be fewer than asked.steps steps of 16 comparisons."""
    return max(1.0, asked.steps * 16 / size)


def replies_each(asked: argparse.Namespace) -> int:
    """Replies a prompt that give comparisons enough, a sixth to spare for replies that gold finds equal."""
    learned = asked.prompts - max(1, asked.prompts // 8)
    return 2 * math.ceil(7 / 6 * max(asked.sizes) / learned)


def speaker(asked: argparse.Namespace, adapters: bool = False) -> Any:
    """The policy, which says one sentence; like the proxies without a system message, which would cost each text twenty tokens."""
    policy: Any = optimization.load_policy(asked.policy, adapters=adapters, seed=asked.seed, system="", dtype="auto")
    vocabulary = policy.tokenizer.get_vocab()
    policy.stop_ids |= {vocabulary[end] for end in ENDS if end in vocabulary}
    return policy


def load(folder: Path) -> Any:
    return guerdon.load(folder / "model", truncation="left", dtype="auto")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


if __name__ == "__main__":
    main()
