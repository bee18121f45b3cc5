"""How benchmarks of step-by-step solutions turn verdicts on steps into points, and mean points into their official numbers.

Axes: n items, k steps of an item. Scores are relative to the threshold: a step counts as right where its score is above 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from guerdon.benchmarks.items import Item
from guerdon.benchmarks.readers import PRMBENCH, PROCESSBENCH
from guerdon.benchmarks.rules import Benchmark, Points, Rule, slug
from guerdon.formulas import steps
from guerdon.formulas.benchmarks import unweighted

__all__ = ["STEP_BENCHMARKS"]

# ---- ProcessBench ------------------------------------------------------------------------------------------------


def _processbench_points(items: Sequence[Item], scores: Sequence[np.ndarray]) -> list[Points]:
    """Whether the first step that counts as wrong is the first wrong one: of solutions with an error, and without."""
    points = []
    for item, games in zip(items, scores, strict=True):
        k = len(item.responses)
        label = len(item.correct) if len(item.correct) < k else -1
        match = steps.first_wrong(games[0] > 0) == label
        points.append({f"{item.subset} {'correct' if label == -1 else 'error'}": float(match)})
    return points


def _processbench_rules(parts: Sequence[str]) -> dict[str, Rule]:
    subsets = tuple(dict.fromkeys((*PROCESSBENCH, *(part.rpartition(" ")[0] for part in parts))))
    present = {name: tuple(p for p in (f"{name} error", f"{name} correct") if p in parts) for name in subsets}
    official = tuple(part for name in PROCESSBENCH for part in present[name])

    def f1_of(name: str) -> Callable[[Mapping[str, float]], float]:
        return lambda means: steps.harmonic_mean(
            means.get(f"{name} error", math.nan), means.get(f"{name} correct", math.nan)
        )

    rules = {"score": Rule(official, lambda means: unweighted({name: f1_of(name)(means) for name in PROCESSBENCH}))}
    for name, own in present.items():
        if own:
            rules[f"score_{slug(name)}"] = Rule(own, f1_of(name))
    for part in parts:
        name, _, kind = part.rpartition(" ")
        rules[f"{kind}_{slug(name)}"] = Rule((part,), _the_mean)
    return rules


def _the_mean(means: Mapping[str, float]) -> float:
    (value,) = means.values()
    return value


# ---- PRMBench ----------------------------------------------------------------------------------------------------

_CELLS = steps.StepCounts._fields
_ALL_RIGHT = "multi_solutions"  # a class without a wrong step: its score is the F1 of right ones
_SUBJECTS = {
    "simplicity": ("redundency", "circular"),
    "soundness": ("counterfactual", "step_contradiction", "domain_inconsistency", "confidence"),
    "sensitivity": ("missing_condition", "deception", "multi_solutions"),
}


def _prmbench_points(items: Sequence[Item], scores: Sequence[np.ndarray]) -> list[Points]:
    """Counts of steps by verdict and label, in the item's class and over all."""
    points = []
    for item, games in zip(items, scores, strict=True):
        label = np.isin(np.arange(len(item.responses)), item.correct)
        counts = zip(_CELLS, steps.count_steps(games[0] > 0, label), strict=True)
        points.append({f"{part} {cell}": count for cell, count in counts for part in ("all", item.subset)})
    return points


def _prmbench_rules(parts: Sequence[str]) -> dict[str, Rule]:
    classes = tuple(dict.fromkeys(part.rpartition(" ")[0] for part in parts))
    rules = {"score": Rule(_cells("all"), lambda means: steps.prm_score(_counts(means, "all")))}
    for subject, own in _SUBJECTS.items():
        if present := [name for name in own if name in classes]:
            rules[f"score_{subject}"] = Rule(
                tuple(cell for name in present for cell in _cells(name)),
                lambda means, own=own: unweighted({name: _class_score(means, name) for name in own}),  # type: ignore[misc]
            )
    for name in classes:
        if name != "all":
            rules[f"score_{slug(name)}"] = Rule(_cells(name), lambda means, name=name: _class_score(means, name))  # type: ignore[misc]
    rules["step_accuracy"] = Rule(_cells("all"), _step_accuracy)
    return rules


def _cells(part: str) -> tuple[str, ...]:
    return tuple(f"{part} {cell}" for cell in _CELLS)


def _counts(means: Mapping[str, float], part: str) -> steps.StepCounts:
    return steps.StepCounts(*(means.get(cell, math.nan) for cell in _cells(part)))


def _class_score(means: Mapping[str, float], name: str) -> float:
    counts = _counts(means, name)
    return steps.f1(counts.tp, counts.fp, counts.fn) if name == _ALL_RIGHT else steps.prm_score(counts)


def _step_accuracy(means: Mapping[str, float]) -> float:
    counts = _counts(means, "all")
    return (counts.tp + counts.tn) / sum(counts)


STEP_BENCHMARKS: Mapping[str, Benchmark] = {
    "processbench": Benchmark(
        "ProcessBench",
        _processbench_points,
        _processbench_rules,
        PROCESSBENCH,
        needs_all_parts=True,
    ),
    "prmbench": Benchmark(
        "PRMBench",
        _prmbench_points,
        _prmbench_rules,
        PRMBENCH,
        published="ReasonEval of 7 billion parameters 60.0 %, Math-Shepherd 47.0 % (the authors' repository)",
    ),
}
"""By name."""
