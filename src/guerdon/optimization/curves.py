"""A run's metrics by update, and its checks, as a report section of curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from guerdon.contracts import Curve, Estimate, Report
from guerdon.optimization.check_measures import measure_check
from guerdon.optimization.checks import Check

__all__ = ["run_curves"]

UPDATE_LABELS: Mapping[str, str] = {
    "score": "score that is optimized, per reply",
    "kl": "KL to the reference, nats/sequence",
    "kl_coef": "KL penalty, nats of reward per nat of KL",
    "entropy": "entropy, nats per token",
    "length": "tokens per reply",
    "finished": "share of replies that ended",
    "unique": "share of replies that differ",
    "truncated": "share of replies that were cut",
    "unusable": "replies without a reward",
    "partly_read": "share that the reward did not see whole",
    "ratio": "mean ratio to the policy that drew",
    "ratio_var": "variance of that ratio",
    "clipped": "share of tokens that are clipped",
    "value_clipped": "share of values that are clipped",
    "explained_variance": "share of the returns' variance that values explain",
    "grad_norm": "norm of the gradient",
}
CHECK_LABELS: Mapping[str, str] = {
    "spread": "disagreement of the reward's members",
    "shifted": "share outside the reward model's training distribution",
    "repetition": "share of repeated 4-grams in a reply",
    "distinct_1": "share of different words, over all replies",
    "distinct_2": "share of different pairs of words, over all replies",
    "partly_read": "share that a judge did not see whole",
    "unique_replies": "share of replies that differ",
}
ATTRIBUTE = "attribute/"  # what the keys of attributes start with


def run_curves(rows: Sequence[Mapping[str, Any]], checks: Sequence[Check]) -> Report:
    """Curves of the lines of metrics.jsonl and of the checks. A batch's means have no interval."""
    curves = {}
    for name, label in UPDATE_LABELS.items():
        points = [(row["update"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
        if len(points) > 1:
            x = tuple(float(update) for update, _ in points)
            y = tuple(Estimate(float(value), math.nan, math.nan, 1) for _, value in points)
            curves[f"update_{name}"] = Curve(x, y, "update", label, title=_title(name))
    measured = [(check.update, measure_check(check)) for check in checks]
    for name, label in CHECK_LABELS.items():
        known = [(update, estimates[name]) for update, estimates in measured if name in estimates]
        if len(known) > 1:
            x, y = tuple(float(update) for update, _ in known), tuple(estimate for _, estimate in known)
            curves[f"check_{name}"] = Curve(x, y, "update", label, title=_title(name))
    curves |= _attribute_curves(rows, measured)
    return Report("Update by update", curves=curves)


def _attribute_curves(
    rows: Sequence[Mapping[str, Any]], measured: Sequence[tuple[int, Mapping[str, Estimate]]]
) -> dict[str, Curve]:
    """A curve for each attribute of the reward: of the checks, or of the batches where there are no checks."""
    batches = [
        (row["update"], {key: Estimate(row[key], math.nan, math.nan, 1) for key in row if key.startswith(ATTRIBUTE)})
        for row in rows
    ]
    curves = {}
    for source in (measured, batches):
        for key in dict.fromkeys(key for _, estimates in source for key in estimates if key.startswith(ATTRIBUTE)):
            points = [(float(update), estimates[key]) for update, estimates in source if key in estimates]
            name = key.removeprefix(ATTRIBUTE)
            if len(points) > 1 and f"check_{key}" not in curves:
                x, y = tuple(x for x, _ in points), tuple(y for _, y in points)
                curves[f"check_{key}"] = Curve(x, y, "update", f"mean of {name}", title=f"Attribute {name}")
    return curves


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
