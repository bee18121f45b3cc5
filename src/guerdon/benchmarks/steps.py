"""Scores of steps on a benchmark of step-by-step solutions: its official numbers with intervals, and two anchors.

Axes: n items, k steps of an item.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from guerdon.benchmarks.findings import part_findings
from guerdon.benchmarks.items import Item, ScoreTable
from guerdon.benchmarks.official import PartMeans, group_codes
from guerdon.benchmarks.rules import OFFICIAL, Benchmark, slug
from guerdon.contracts import Estimate, Finding, GuerdonError, Quantity, Report
from guerdon.errors import field_error
from guerdon.io.fields import to_number
from guerdon.models.estimates import SHARED_QUANTITIES, estimate_share, percent, points_by_name

__all__ = ["measure_steps", "step_score_rows"]

QUANTITIES: Mapping[str, Quantity] = {
    "score": Quantity("official score", "share", OFFICIAL, "computed as the benchmark's authors do"),
    "score_all_right": Quantity("anchor: every step is right", "share", OFFICIAL, "what that verdict gets"),
    "score_all_wrong": Quantity("anchor: every step is wrong", "share", OFFICIAL, "what that verdict gets"),
    "step_accuracy": Quantity("steps with the right verdict", "share", OFFICIAL, "of all classes"),
    "truncated": SHARED_QUANTITIES["truncated"],
}
ANCHORS = {"all_right": 1.0, "all_wrong": -1.0}  # a score of every step, relative to the threshold


def measure_steps(known: Benchmark, items: Sequence[Item], table: ScoreTable, threshold: float) -> Report:
    """Everything that follows from items and the scores of their steps. A step counts as right where its score is above threshold.

    Estimates: `score` and `score_...` follow the benchmark's rule; `..._all_right` and `..._all_wrong` are what these two
    verdicts on every step get by it.
    """
    points = known.points(items, [scores - threshold for scores in table.scores])
    parts = tuple(dict.fromkeys(part for own in points for part in own))
    code = group_codes([item.group for item in items])
    model = PartMeans(points, parts, code)
    anchors = {
        name: PartMeans(known.points(items, [np.full_like(scores, value) for scores in table.scores]), parts, code)
        for name, value in ANCHORS.items()
    }
    estimates: dict[str, Estimate] = {}
    for key, rule in known.rules(parts).items():
        estimates[key] = model.estimate(rule)
        for name, anchor in anchors.items() if key.startswith("score") else ():
            value = anchor.value(rule)
            estimates[f"{key}_{name}"] = Estimate(value, value, value, estimates[key].n)
    groups = np.array([item.group for item in items], dtype=np.str_)
    estimates["truncated"] = estimate_share(table.truncated.astype(np.float64), groups, None)
    sections = [_section(subset, items, estimates) for subset in dict.fromkeys(item.subset for item in items)]
    return Report(
        known.title,
        {"threshold": f"{threshold:g}"},
        estimates,
        (*_score_findings(estimates), *part_findings(known, set(parts), items)),
        {"score_by_subset": _by_subset(sections)} if len(sections) > 1 else {},
        sections=tuple(sections) if len(sections) > 1 else (),
        quantities={**{key: _quantity(key) for key in estimates}, **QUANTITIES},
    )


def _section(subset: str, items: Sequence[Item], estimates: Mapping[str, Estimate]) -> Report:
    """The official numbers of a subset, without its name in their keys."""
    name = slug(subset)
    own = {f"score{end}": estimates[f"score_{name}{end}"] for end in ("", *(f"_{anchor}" for anchor in ANCHORS))}
    own |= {kind: estimates[f"{kind}_{name}"] for kind in ("error", "correct") if f"{kind}_{name}" in estimates}
    num = sum(item.subset == subset for item in items)
    quantities = {**QUANTITIES, **{kind: _quantity(f"{kind}_solutions") for kind in ("error", "correct")}}
    return Report(subset, {"items": f"{num:,}"}, own, quantities=quantities)


def _quantity(key: str) -> Quantity:
    for start, label in (("error_", "solutions with an error, {}"), ("correct_", "solutions without an error, {}")):
        if key.startswith(start):
            name = key.removeprefix(start).replace("_", " ")
            return Quantity(label.format(name), "share", OFFICIAL, "whose first wrong step, or none, is named")
    return Quantity(key.removeprefix("score_").replace("_", " "), "share", OFFICIAL)


def _by_subset(sections: Sequence[Report]) -> Any:
    titles, scores = (section.title for section in sections), (section.estimates["score"] for section in sections)
    return points_by_name(titles, scores, "subset", "share of points", caption="By the benchmark's rule.")


def _score_findings(estimates: Mapping[str, Estimate]) -> Iterator[Finding]:
    score = estimates["score"]
    best = max(("score_all_right", "score_all_wrong"), key=lambda key: estimates[key].value)
    if not math.isnan(score.value) and not score.low > estimates[best].value:
        evidence = (
            f"score {percent(score)}, {QUANTITIES[best].label.removeprefix('anchor: ')} {percent(estimates[best])}"
        )
        remedy = "Move benchmark.step_threshold to where the model's right and wrong steps part, on other data."
        yield Finding("warning", "Not shown to be better than one verdict on every step", evidence, remedy)
    if estimates["truncated"].value > 0:
        evidence = f"truncated in {percent(estimates['truncated'])} of solutions"
        yield Finding("warning", "The model did not see all the text", evidence, "Raise the model's max_length.")


# ---- Score files -------------------------------------------------------------------------------------------------


def step_score_rows(rows: Iterable[tuple[str, Any]], items: Sequence[Item]) -> Iterator[tuple[str, Any]]:
    """(place, row) pairs of a score file in; the same with `id` and `scores`, one per step, out.

    Also in the forms that the authors' programs write: {id, prediction} of ProcessBench, the index of the first step that counts
    as wrong or -1, and {idx, scores: {step_level_validity_labels}} of PRMBench, whose rows of unchanged solutions are left out.
    """
    sizes = {item.id: len(item.responses) for item in items}
    for place, row in rows:
        if not isinstance(row, Mapping):
            yield place, row
            continue
        name = str(row.get("idx", row.get("id", "")))
        if name.startswith("correct_") and name not in sizes:
            continue
        try:
            yield place, _with_scores(row, sizes.get(name))
        except GuerdonError as error:
            raise GuerdonError(f"{place}: {error}") from None


def _with_scores(row: Mapping[str, Any], num_steps: int | None) -> Mapping[str, Any]:
    named = {"id": row["idx"], **row} if "idx" in row else row
    scores = row.get("scores")
    if isinstance(scores, Mapping):
        labels = scores.get("step_level_validity_labels")
        if not isinstance(labels, list | tuple):
            raise field_error("scores.step_level_validity_labels", "a list, one per step", labels)
        return {**named, "scores": [float(label) if isinstance(label, bool) else label for label in labels]}
    if scores is None and num_steps and "prediction" in row:
        first = to_number(row["prediction"], "prediction", "the index of a step, or -1")
        if first not in range(-1, num_steps):
            raise field_error("prediction", f"the index of one of {num_steps} steps, or -1", row["prediction"])
        return {**named, "scores": [float(i != first) for i in range(num_steps)]}
    return named
