"""How well votes become labels where the truth is known: majority, Dawid-Skene, and ability with left bias, on simulated crowds.

    python benchmarks/annotators.py

12 annotators, 3 votes per pair, 1,500 pairs that are all equally hard, 8 seeds. Crowds: `good`, of equal annotators; `mixed`, with
guesses and two who take what is on the left; `adversarial`, where two also mean the opposite. Dawid-Skene with and without
the side on which each vote was cast. Of each method: accuracy of the labels
with the log loss in nats (shares of a majority are clipped to [0.02, 0.98]: a unanimous error would cost infinitely much), and the
calibration error, the mean distance of q from the accuracy in ten bins. Of the ability model: correlation of its estimates with the
truth. `single`: one pair in ten has 3 votes, the rest 1. Writes benchmarks/results/annotators.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from guerdon.config import AggregateOptions
from guerdon.contracts import Comparison
from guerdon.data.aggregate import aggregate
from guerdon.data.simulated import UTILITY, SimulatedAnnotator, simulate_judgments, simulate_pairs

CLIP = 0.02
METHODS = {
    "majority": AggregateOptions(method="majority", draws=100),
    "dawid_skene_without_sides": AggregateOptions(method="dawid_skene", left_bias=False, draws=100),
    "dawid_skene": AggregateOptions(method="dawid_skene", draws=100),
    "ability": AggregateOptions(method="ability", draws=100),
}


def crowd(*kinds: tuple[int, float, float]) -> list[SimulatedAnnotator]:
    """Annotators from (how many, ability, left bias)."""
    traits = [(ability, left_bias) for number, ability, left_bias in kinds for _ in range(number)]
    return [SimulatedAnnotator(f"w{i:02d}", ability, left_bias) for i, (ability, left_bias) in enumerate(traits)]


CROWDS = {
    "good": crowd((12, 1.6, 0.0)),
    "mixed": crowd((4, 1.8, 0.0), (3, 0.8, 0.0), (3, 0.0, 0.0), (2, 0.2, 2.5)),
    "adversarial": crowd((3, 1.8, 0.0), (2, 0.8, 0.0), (3, 0.0, 0.0), (2, -1.8, 0.0), (2, 0.2, 2.5)),
}


def main() -> None:
    """Run the simulations, save the numbers and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "annotators.json")
    parser.add_argument("--smoke", action="store_true", help="a few pairs, to see that the script runs")
    parser.add_argument("--model", help=argparse.SUPPRESS)  # every benchmark has it; nothing is scored here
    given = parser.parse_args()
    num, seeds = (60, 1) if given.smoke else (given.pairs, given.seeds)
    cases: dict[str, Any] = {}
    for name in CROWDS:
        for overlap, share in (("every pair 3 votes", 1.0), ("one pair in ten 3 votes, the rest 1", 0.1)):
            runs = [measure(CROWDS[name], num, share, seed) for seed in range(seeds)]
            case = cases[f"{name}, {overlap}"] = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
            print(f"{name}, {overlap}", *(f"{key}={value:.3f}" for key, value in case.items()))
    body = {"pairs": num, "seeds": seeds, "cases": cases}
    given.out.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


def measure(annotators: list[SimulatedAnnotator], num: int, share: float, seed: int) -> dict[str, float]:
    """Accuracy, log loss and calibration of every method on one simulated set."""
    pairs = simulate_pairs(num, seed)
    several = pairs[: round(share * num)]
    judgments = [
        *simulate_judgments(several, annotators, 3, seed),
        *simulate_judgments(pairs[len(several) :], annotators, 1, seed),
    ]
    row: dict[str, float] = {}
    for method, options in METHODS.items():
        result = aggregate(lambda: judgments, options)
        accuracy, loss, error = quality(result.labels())
        row |= {f"{method}_accuracy": accuracy, f"{method}_log_loss": loss, f"{method}_calibration_error": error}
    fitted = {annotator.name: annotator for annotator in result.annotators}
    for trait in ("ability", "left_bias"):
        truth = [getattr(annotator, trait) for annotator in annotators]
        if np.ptp(truth) > 0:
            estimates = [getattr(fitted[annotator.name], trait).value for annotator in annotators]
            row[f"{trait}_r"] = float(np.corrcoef(truth, estimates)[0, 1])
    return row


def quality(labels: Iterable[Comparison]) -> tuple[float, float, float]:
    """Accuracy (a tie counts half), log loss in nats, and calibration error of labels whose responses have their utility."""
    q, is_first = np.array(
        [(label.q, label.responses[0].ratings[UTILITY] > label.responses[1].ratings[UTILITY]) for label in labels]
    ).T
    right = np.where(is_first > 0, q, 1 - q)
    accuracy = float(((1 + np.sign(right - 0.5)) / 2).mean())
    loss = float(-np.log(np.clip(right, CLIP, 1 - CLIP)).mean())
    confidence = np.maximum(q, 1 - q)
    bins = np.minimum(9, ((confidence - 0.5) * 20).astype(int))
    hit = (1 + np.sign(right - 0.5)) / 2
    error = sum(abs((confidence - hit)[bins == b].sum()) for b in range(10)) / len(q)
    return accuracy, loss, float(error)


if __name__ == "__main__":
    main()
