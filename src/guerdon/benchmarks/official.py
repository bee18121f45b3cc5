"""Official numbers with intervals: a benchmark's rules applied to mean points, and what each group of items adds to their error.

Axes: n items, g groups of items, r parts of a benchmark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from guerdon.contracts import Estimate
from guerdon.formulas.clustered import difference_interval, share_interval
from guerdon.formulas.estimation import clopper_pearson

if TYPE_CHECKING:
    from jaxtyping import Float, Int, Shaped

    from guerdon.benchmarks.rules import Benchmark, Points, Rule

__all__ = ["PartMeans", "PointTables", "group_codes", "official_scores"]


class PointTables(NamedTuple):
    """Each item's points by the model's scores, by length, and by equal scores [n]."""

    model: Sequence[Points]
    longer: Sequence[Points]
    constant: Sequence[Points]


def official_scores(benchmark: Benchmark, points: PointTables, groups: Shaped[np.ndarray, " n"]) -> dict[str, Estimate]:
    """The benchmark's own numbers, the two anchors by the same rules, and score_above_longer."""
    parts = tuple(dict.fromkeys(part for own in points.model for part in own))
    code = group_codes(groups.tolist())
    model, longer, constant = (PartMeans(table, parts, code) for table in points)
    scores: dict[str, Estimate] = {}
    for key, rule in benchmark.rules(parts).items():
        scores[key] = model.estimate(rule)
        if key != "score" and not key.startswith("score_"):
            continue
        scores[f"{key}_longer"] = longer.estimate(rule)
        value = constant.value(rule)
        scores[f"{key}_constant"] = Estimate(value, value, value, scores[key].n)
        if key == "score":
            scores["score_above_longer"] = model.estimate(rule, minus=longer)
    first = ("score", "score_longer", "score_constant", "score_above_longer")
    return {key: scores[key] for key in (*first, *(key for key in scores if key not in first))}


def group_codes(groups: Sequence[str]) -> Int[np.ndarray, " n"]:
    """A number for each item's group, in order of first appearance, as for every other interval."""
    index: dict[str, int] = {}
    return np.array([index.setdefault(group, len(index)) for group in groups], dtype=np.int64)


class PartMeans:
    """Sums and counts [g, r] of points by group and part, from which the mean over any weighting of groups follows."""

    def __init__(self, points: Sequence[Points], parts: Sequence[str], code: Int[np.ndarray, " n"]) -> None:
        self.column = {part: i for i, part in enumerate(parts)}
        self.sums: Float[np.ndarray, "g r"] = np.zeros((int(code.max()) + 1, len(parts)))
        self.counts = np.zeros_like(self.sums)
        for group, own in zip(code.tolist(), points, strict=True):
            for part, value in own.items():
                self.sums[group, self.column[part]] += value
                self.counts[group, self.column[part]] += 1

    def value(self, rule: Rule) -> float:
        """The rule's number over all groups."""
        rows = self._rows(rule)
        return self._number(rule, rows)(np.ones(len(rows)))

    def estimate(self, rule: Rule, minus: PartMeans | None = None) -> Estimate:
        """The rule's number, or its difference from that of `minus`. No interval where a part has a single group.

        The jackknife by group (Efron & Stein 1981) gives what each group adds to the error.
        """
        rows = self._rows(rule)
        g = len(rows)
        if g == 0:
            return Estimate(math.nan, math.nan, math.nan, 0)
        number = self._number(rule, rows)
        number_of_other = minus._number(rule, rows) if minus else None

        def statistic(weight: Float[np.ndarray, " g"]) -> float:
            return number(weight) - (number_of_other(weight) if number_of_other else 0)

        value = statistic(np.ones(g))
        num_groups = (self.counts[rows][:, self._columns(rule)] > 0).sum(axis=0)
        if math.isnan(value) or num_groups.min() < 2:
            return Estimate(value, math.nan, math.nan, g)
        without = np.array([statistic(np.arange(g) != i) for i in range(g)])
        influence = (value - without) * math.sqrt((g - 1) / g)
        if minus is not None:
            return Estimate(*difference_interval(value, influence, 1 / (g - 1)))
        if value in (0.0, 1.0) and not influence.any():  # no group differs
            return Estimate(*clopper_pearson(int(value) * g, g))
        return Estimate(*share_interval(value, influence, 1 / (g - 1)))

    def _columns(self, rule: Rule) -> Int[np.ndarray, " c"]:
        return np.array([self.column[part] for part in rule.parts], dtype=np.int64)

    def _rows(self, rule: Rule) -> Int[np.ndarray, " m"]:
        """The groups that count for the rule."""
        return np.flatnonzero(self.counts[:, self._columns(rule)].any(axis=1))

    def _number(self, rule: Rule, rows: Int[np.ndarray, " m"]) -> Callable[[np.ndarray], float]:
        """The rule's number as a function of how often each of these groups counts."""
        columns = self._columns(rule)
        sums, counts = self.sums[np.ix_(rows, columns)], self.counts[np.ix_(rows, columns)]

        def number(weight: Float[np.ndarray, " m"]) -> float:
            with np.errstate(invalid="ignore"):
                means = (weight @ sums) / (weight @ counts)
            return rule.score(dict(zip(rule.parts, means.tolist(), strict=True)))

        return number
