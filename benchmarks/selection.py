"""Does active selection help? Accuracy after 128, 320 and 640 labels, by strategy: a simulation, and real pairs.

    python benchmarks/selection.py --seeds 24
    python benchmarks/selection.py --seeds 12 --pairs ukp_convarg_pairs.jsonl.gz --name ukp --model starter

The simulation is a linear Bradley-Terry model: a pool of 9,000 pairs with 32 normal features, labels drawn by the odds of the
true head and then flipped with probability 0 or 0.2, accuracy against the true head on 4,000 other pairs. With --pairs (rows
with `split`, their responses read once by --model, which is not trained), the pool is the part `train` with the labels that
people gave, and accuracy is on the part `test`. In both the reward model is a head on fixed features, fitted anew after each
64 labels. Strategies: random; entropy (largest p(1-p)); d_optimal (all picks active); d_optimal_half.

Differences from random are paired by seed; intervals are Student's, 95 %, over the seeds. Writes
benchmarks/results/selection.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import numpy as np
import rows
from scipy import stats
from scipy.optimize import minimize
from scipy.special import expit

from guerdon.api import data
from guerdon.config import ModelOptions
from guerdon.contracts import Comparison
from guerdon.formulas.selection import d_optimal
from guerdon.formulas.uncertainty import laplace_information
from guerdon.io import readers
from guerdon.models.directory.loading import create_reward_model

HERE = Path(__file__).resolve().parent
STRATEGIES = ("random", "entropy", "d_optimal", "d_optimal_half")
ACTIVE_SHARE = {"random": 0.0, "entropy": 1.0, "d_optimal": 1.0, "d_optimal_half": 0.5}
BUDGETS, BATCH = (128, 320, 640), 64


@dataclass(frozen=True)
class World:
    """Pairs that can be labeled, and pairs to test on: feature differences, and whether the first is better."""

    pool: np.ndarray
    label: np.ndarray
    test: np.ndarray
    test_label: np.ndarray


def main() -> None:
    """Run the cases, save the numbers and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="real comparisons with a column `split`, instead of the simulation")
    parser.add_argument("--name", default="pairs", help="name of the case of --pairs")
    parser.add_argument("--model", default="starter", help="model whose features are used for --pairs")
    parser.add_argument("--features", type=Path, help="NPY file that keeps the features of --pairs for the next run")
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--ridge", type=float, default=1.0, help="prior precision of the head, in fits and in picks")
    parser.add_argument("--subsample", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "selection.json")
    parser.add_argument("--smoke", action="store_true", help="few rows, to see that the script runs")
    a = parser.parse_args()
    import torch

    torch.set_num_threads(a.threads)
    cases: dict[str, Any] = {}
    if a.smoke:
        a.seeds, a.subsample, a.name = 2, 100, "smoke"
        with tempfile.TemporaryDirectory() as folder:
            a.pairs = Path(folder) / "pairs.jsonl"
            data.write(a.pairs, [rows.comparison(row) for row in rows.random_rows(900)])
            cases |= {"smoke": run_case(a, lambda seed: shuffled(read_world(a), seed))}
    elif a.pairs:
        world = read_world(a)
        cases |= {a.name: run_case(a, lambda seed: world)}
    else:
        for flips in (0.0, 0.2):
            cases |= {f"simulation/{flips:.0%} flips": run_case(a, lambda seed, flips=flips: simulate(seed, flips))}
    measure.keep(a.out, "accuracy after so many labels, by the strategy that picked them", cases)
    for name, case in cases.items():
        show(name, case)


# ---- Worlds ------------------------------------------------------------------------------------------------------


def simulate(seed: int, flips: float, dimension: int = 32, scale: float = 0.4) -> World:
    """A linear Bradley-Terry model with normal features."""
    rng = np.random.default_rng([seed, 1])
    head = scale * rng.normal(size=dimension)
    pool, test = (rng.normal(size=(n, dimension)) - rng.normal(size=(n, dimension)) for n in (9000, 4000))
    label = (rng.random(9000) < expit(pool @ head)).astype(float)
    label = np.where(rng.random(9000) < flips, 1.0 - label, label)
    return World(pool, label, test, (test @ head > 0).astype(float))


def read_world(a: argparse.Namespace) -> World:
    """The comparisons of the file as feature differences, scaled to a mean square of 1 over the pool."""
    comparisons = data.read(a.pairs)
    splits = [row.get("split", "train") for _, row in readers.read_rows(a.pairs)]
    if a.smoke:
        splits = ["test" if i % 9 == 0 else "train" for i in range(len(comparisons))]
    texts = {(c.prompt, r.text): None for c in comparisons for r in c.responses}
    features = read_features(a, list(texts)).astype(np.float64)
    index = {text: i for i, text in enumerate(texts)}
    difference = np.array([features[index[c.prompt, c.responses[0].text]] - features[index[c.prompt, c.responses[1].text]]
                           for c in comparisons])  # fmt: skip
    label, is_test = np.array([first_is_better(c) for c in comparisons]), np.array(splits) == "test"
    difference /= np.sqrt(np.mean(difference[~is_test] ** 2))
    return World(difference[~is_test], label[~is_test], difference[is_test], label[is_test])


def first_is_better(comparison: Comparison) -> float:
    """The label of a pair."""
    assert comparison.q is not None
    return comparison.q


def shuffled(world: World, seed: int) -> World:
    """The same pairs in another order."""
    order = np.random.default_rng(seed).permutation(len(world.pool))
    return World(world.pool[order], world.label[order], world.test, world.test_label)


def read_features(a: argparse.Namespace, texts: Sequence[tuple[Any, str]]) -> np.ndarray:
    """What a head on the model would read of each text, or what the file of an earlier run holds."""
    if a.features and a.features.exists():
        kept: np.ndarray = np.load(a.features)
        return kept
    model = create_reward_model(ModelOptions(base=a.model, device="cpu", truncation="left"))
    features = model.score_with_features([prompt for prompt, _ in texts], [text for _, text in texts])[1]
    if a.features:
        np.save(a.features, features)
    return features


# ---- Rounds ------------------------------------------------------------------------------------------------------


def run_case(a: argparse.Namespace, world_of: Any) -> dict[str, Any]:
    """Accuracy [seed][budget] of each strategy, and its difference from random."""
    started = time.monotonic()
    accuracy: dict[str, list[list[float]]] = {name: [] for name in STRATEGIES}
    for seed in range(a.seeds):
        world = world_of(seed)
        for name in STRATEGIES:
            accuracy[name].append(run_rounds(world, name, seed, a))
    table = {name: np.array(values) for name, values in accuracy.items()}
    return {
        "settings": {"seeds": a.seeds, "ridge": a.ridge, "subsample": a.subsample, "batch": BATCH,
                     "budgets": BUDGETS, "pool": len(world.pool), "test": len(world.test),
                     "features": world.pool.shape[1], "model": a.model if a.pairs else None},
        "machine": measure.machine(a.threads),
        "accuracy": {name: [interval(column) for column in values.T] for name, values in table.items()},
        "minus_random": {name: [interval(column) for column in (values - table["random"]).T]
                         for name, values in table.items() if name != "random"},
        "seconds": time.monotonic() - started,
    }  # fmt: skip


def run_rounds(world: World, strategy: str, seed: int, a: argparse.Namespace) -> list[float]:
    """The accuracy at each budget."""
    rng = np.random.default_rng([seed, 2])
    labeled, head = np.empty(0, dtype=np.int64), np.zeros(world.pool.shape[1])
    accuracy = []
    while len(labeled) < BUDGETS[-1]:
        labeled = np.concatenate([labeled, pick(world, strategy, labeled, head, a, rng)])
        head = fit(world.pool[labeled], world.label[labeled], a.ridge, head)
        if len(labeled) in BUDGETS:
            margin = world.test @ head
            accuracy.append(float(np.mean(np.where(margin > 0, world.test_label, 1.0 - world.test_label))))
    return accuracy


def pick(
    world: World, strategy: str, labeled: np.ndarray, head: np.ndarray, a: argparse.Namespace, rng: np.random.Generator
) -> np.ndarray:
    """The next batch."""
    rest = np.setdiff1d(np.arange(len(world.pool)), labeled)
    num_active = round(BATCH * ACTIVE_SHARE[strategy])
    active = rest[:0]
    if num_active:
        sample = rng.permutation(rest)[: a.subsample]
        margin = world.pool[sample] @ head
        p = expit(margin)
        if strategy == "entropy":
            active = sample[np.argsort(-p * (1 - p), kind="stable")[:num_active]]
        else:
            information = a.ridge * np.eye(len(head)) + laplace_information(
                world.pool[labeled], world.pool[labeled] @ head
            )
            alone = np.arange(len(sample))
            active = sample[d_optimal(world.pool[sample], p * (1 - p), information, num_active, alone, 1).picked]
    return np.concatenate([active, rng.permutation(np.setdiff1d(rest, active))[: BATCH - len(active)]])


def fit(difference: np.ndarray, label: np.ndarray, ridge: float, start: np.ndarray) -> np.ndarray:
    """The head with the smallest Bradley-Terry loss and ridge."""

    def loss(head: np.ndarray) -> tuple[float, np.ndarray]:
        margin = difference @ head
        value = np.logaddexp(0.0, margin).sum() - label @ margin + ridge / 2 * head @ head
        return value, difference.T @ (expit(margin) - label) + ridge * head

    result: np.ndarray = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return result


# ---- Tables ------------------------------------------------------------------------------------------------------


def interval(values: np.ndarray) -> dict[str, float]:
    """Mean over the seeds with its 95 % interval (Student)."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return {"mean": values.mean(), "low": values.mean() - half, "high": values.mean() + half, "n": len(values)}


def show(name: str, case: dict[str, Any]) -> None:
    """Print accuracy and difference from random of one case."""
    print(f"\n{name}: pool {case['settings']['pool']}, {case['settings']['seeds']} seeds")
    for key, form in (("accuracy", ".3f"), ("minus_random", "+.3f")):
        lines = [
            [strategy, *(f"{c['mean']:{form}} [{c['low']:{form}}, {c['high']:{form}}]" for c in cells)]
            for strategy, cells in case[key].items()
        ]
        measure.print_table([key, *map(str, BUDGETS)], lines)


if __name__ == "__main__":
    main()
