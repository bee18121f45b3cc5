"""How often the intervals and the test of formulas/clustered.py, majority.py and calibration_error.py hold, by simulation.

    python benchmarks/coverage.py
    python benchmarks/coverage.py --only accuracy --trials 5000

accuracy: nominal 95 % intervals of accuracy, 15 to 400 prompts with 1 to 10 pairs each, of equal or of geometric sizes, whose
chances of being right vary between prompts by a beta distribution. Beside the interval in use: the group bootstrap's percentile and
BCa intervals, bootstrap-t, Student's on the cluster-robust variance, and that on the logit scale. difference: the interval and
the p-value of a paired difference where both models are equally good. majority: intervals of the best possible accuracy and of the
same majority again, from 2 to 20 votes, and how often the votes contradict the prior's shape. calibration: the interval of the
calibration error at temperatures 1, 1.3 and 2.

Methods see the same samples. Writes benchmarks/results/coverage.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import t as student

from guerdon.formulas.calibration_error import calibration_error
from guerdon.formulas.clustered import clustered_difference, clustered_share, sign_flip_p_value
from guerdon.formulas.estimation import wilson
from guerdon.formulas.majority import measure_majority

Limits = tuple[float, float]
PROMPTS = (15, 30, 60, 150, 400)
ACCURACIES = (0.5, 0.7, 0.9, 0.97)
SIZES = ((1, 0.0, False), (4, 0.3, False), (4, 0.3, True), (10, 0.2, True))  # mean pairs, correlation, uneven
DRAWS = 400


def main() -> None:
    """Run the simulations, save the shares and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES), help="cases to run, of " + ", ".join(CASES))
    parser.add_argument("--trials", type=int, default=1000, help="simulations of each row")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "coverage.json")
    parser.add_argument(
        "--smoke", action="store_true", help="a few simulations of a few rows, to see that the script runs"
    )
    parser.add_argument("--model", help=argparse.SUPPRESS)  # every benchmark has it; nothing is scored here
    given = parser.parse_args()
    saved = json.loads(given.out.read_text("utf-8"))["cases"] if given.out.exists() else {}
    for name in given.only.split(","):
        rows = CASES[name](3 if given.smoke else given.trials, given.smoke)
        saved[name] = {"trials": 3 if given.smoke else given.trials, "rows": rows}
        for row in rows:
            print(
                name,
                *(f"{key}={value:.3f}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()),
            )
        given.out.write_text(json.dumps({"cases": saved}, indent=1) + "\n", "utf-8")


def sizes_of(prompts: int, size: int, uneven: bool, rng: np.random.Generator) -> np.ndarray:
    """Pairs of each prompt: all equal, or geometric with that mean."""
    return rng.geometric(1 / size, prompts) if uneven else np.full(prompts, size)


# ---- Accuracy ----------------------------------------------------------------------------------------------------


def robust(total: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share and cluster-robust standard error of each row of sums [d, g]."""
    whole = size.sum(axis=-1, keepdims=True)
    share = total.sum(axis=-1, keepdims=True) / whole
    variance = ((total - share * size) ** 2 / (1 - size / whole)).sum(axis=-1) / whole[..., 0] ** 2
    return share[..., 0], np.sqrt(variance)


def peers(total: np.ndarray, size: np.ndarray, rng: np.random.Generator) -> dict[str, Limits]:
    """The intervals that were tried and not taken; Wilson's on prompts where nothing varies."""
    share, error = (float(x) for x in robust(total, size))
    g = len(total)
    if error == 0:
        _, low, high, _ = wilson(share * g, g)
        return dict.fromkeys(("student", "logit", "percentile", "bca", "bootstrap_t"), (low, high))
    half = float(student.ppf(0.975, g - 1)) * error
    reach = half / (share * (1 - share)) if 0 < share < 1 else math.inf
    chosen = rng.integers(g, size=(DRAWS, g))
    drawn, drawn_error = robust(total[chosen], size[chosen])
    with np.errstate(divide="ignore", invalid="ignore"):
        pivot = np.where(drawn_error > 0, (drawn - share) / drawn_error, np.sign(drawn - share) * math.inf)
    below, above = np.quantile(np.nan_to_num(pivot, posinf=1e9, neginf=-1e9), (0.025, 0.975))
    bias = ndtri(np.clip(np.mean(drawn < share) + np.mean(drawn == share) / 2, 0.5 / DRAWS, 1 - 0.5 / DRAWS))
    deviation = total - share * size
    skew = (deviation**3).sum() / (6 * (deviation**2).sum() ** 1.5)
    z = bias + ndtri(np.array([0.025, 0.975]))
    return {
        "student": (share - half, share + half),
        "logit": (float(expit(logit(share) - reach)), float(expit(logit(share) + reach)))
        if reach < math.inf
        else (0, 1),
        "percentile": tuple(np.quantile(drawn, (0.025, 0.975))),
        "bca": tuple(np.quantile(drawn, ndtr(bias + z / (1 - skew * z)))),
        "bootstrap_t": (share - above * error, share - below * error),
    }


def accuracy(trials: int, smoke: bool) -> list[dict[str, Any]]:
    """Coverage of each interval, and the mean width of the one in use."""
    rng, rows = np.random.default_rng(0), []
    for prompts in PROMPTS[: 1 if smoke else None]:
        for mean_size, correlation, uneven in SIZES:
            for truth in ACCURACIES:
                held: dict[str, int] = {}
                width = 0.0
                for _ in range(trials):
                    size = sizes_of(prompts, mean_size, uneven, rng)
                    odds = (1 - correlation) / correlation if correlation else math.inf
                    chance = rng.beta(truth * odds, (1 - truth) * odds, prompts) if correlation else truth
                    total = rng.binomial(size, chance).astype(float)
                    ours = clustered_share(total / size, np.arange(prompts), size.astype(float))
                    limits = {"ours": (ours.low, ours.high), **peers(total, size.astype(float), rng)}
                    width += ours.high - ours.low
                    for name, (low, high) in limits.items():
                        held[name] = held.get(name, 0) + (low <= truth + 1e-12 and truth <= high + 1e-12)
                case = {"prompts": prompts, "pairs": mean_size, "uneven": uneven, "accuracy": truth}
                rows.append({**case, **{name: n / trials for name, n in held.items()}, "width": width / trials})
    return rows


# ---- Differences, majorities, calibration --------------------------------------------------------------------------


def difference(trials: int, smoke: bool) -> list[dict[str, Any]]:
    """Coverage of the interval of no difference, and the share of p-values of at most .05."""
    rng, rows = np.random.default_rng(1), []
    for prompts in PROMPTS[: 1 if smoke else 4]:
        for mean_size, correlation in ((1, 0.0), (4, 0.3), (10, 0.3)):
            for unequal in (0.1, 0.4, 0.8):  # share of pairs that only one model gets right
                held = rejected = 0
                for _ in range(trials):
                    size = sizes_of(prompts, mean_size, mean_size > 1, rng)
                    chance = np.array([unequal / 2, unequal / 2, 1 - unequal])
                    if correlation:
                        chance = rng.dirichlet(chance * (1 - correlation) / correlation, prompts)
                    won = np.array(
                        [
                            rng.multinomial(n, p)
                            for n, p in zip(size, np.broadcast_to(chance, (prompts, 3)), strict=True)
                        ]
                    )
                    mean, weight, groups = (won[:, 0] - won[:, 1]) / size, size.astype(float), np.arange(prompts)
                    interval = clustered_difference(mean, np.zeros(prompts), groups, weight)
                    held += interval.low <= 0 <= interval.high
                    rejected += sign_flip_p_value(mean, groups, weight) <= 0.05
                case = {"prompts": prompts, "pairs": mean_size, "unequal": unequal}
                rows.append({**case, "coverage": held / trials, "size": rejected / trials})
    return rows


def votes(preference: np.ndarray, people: int, rng: np.random.Generator) -> np.ndarray:
    """(first, tie, second) of that many people on each pair, none of whom calls it a tie."""
    first = rng.binomial(people, preference)
    return np.stack([first, np.zeros_like(first), people - first], axis=1)


def majority(trials: int, smoke: bool) -> list[dict[str, Any]]:
    """Coverage of both quantities; the mixture of clear and coin-like pairs is no beta distribution."""
    rng, rows = np.random.default_rng(2), []

    def mixture(n: int) -> np.ndarray:
        side = np.where(rng.random(n) < 0.5, rng.beta(20, 1, n), rng.uniform(0.4, 0.6, n))
        return np.where(rng.random(n) < 0.5, side, 1 - side)

    shapes: dict[str, Callable[[int], np.ndarray]] = {
        **{f"beta({a}, {a})": lambda n, a=a: rng.beta(a, a, n) for a in (0.3, 1.0, 4.0)},
        "half clear, half coins": mixture,
    }
    for people in (2, 3, 5, 20)[: 1 if smoke else None]:
        for name, draw in shapes.items():
            for pairs in (60, 300):
                preference = draw(200_000)
                seen, fresh = votes(preference, people, rng), votes(preference, people, rng)
                lead, again = seen[:, 0] - seen[:, 2], fresh[:, 0] - fresh[:, 2]
                best = float(np.mean((lead > 0)[lead != 0] == (preference > 0.5)[lead != 0]))
                repeated = float(np.mean((1 + np.sign(lead) * np.sign(again))[lead != 0] / 2))
                known = [
                    measure_majority(votes(draw(pairs), people, rng), np.arange(pairs), np.ones(pairs), 300, trial)
                    for trial in range(trials)
                ]
                measured = [m for m in known if m is not None]
                row: dict[str, Any] = {
                    "votes": people,
                    "preferences": name,
                    "pairs": pairs,
                    "best": best,
                    "again": repeated,
                    "other_shape": float(np.mean([m.has_other_shape for m in measured])) if measured else None,
                }
                for key, truth, of in (("best", best, "best_accuracy"), ("again", repeated, "again")):
                    intervals = [getattr(m, of) for m in measured]
                    row[f"{key}_coverage"] = (
                        float(np.mean([i.low <= truth <= i.high for i in intervals])) if intervals else None
                    )
                    row[f"{key}_mean"] = float(np.mean([i.value for i in intervals])) if intervals else None
                rows.append(row)
    return rows


def calibration(trials: int, smoke: bool) -> list[dict[str, Any]]:
    """Coverage of the true root-mean-square error, unbinned, and the mean value."""
    rng, rows = np.random.default_rng(3), []
    size = np.abs(rng.normal(1, 2, 1_000_000))
    for temperature in (1.0, 1.3, 2.0):
        truth = math.sqrt(np.mean((expit(size) - expit(size / temperature)) ** 2))
        for n in (100, 350, 2000)[: 1 if smoke else None]:
            errors = []
            for _ in range(trials):
                margin = rng.normal(1, 2, n)
                errors.append(
                    calibration_error(margin, (rng.random(n) < expit(margin / temperature)) * 1.0, np.arange(n))
                )
            coverage = float(np.mean([e.low <= truth <= e.high for e in errors]))
            case = {"temperature": temperature, "pairs": n, "truth": truth, "coverage": coverage}
            rows.append({**case, "mean": float(np.mean([e.value for e in errors]))})
    return rows


CASES = {"accuracy": accuracy, "difference": difference, "majority": majority, "calibration": calibration}

if __name__ == "__main__":
    main()
