"""A run update by update, and its checks one by one, as curves to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from guerdon.contracts import Curve, Estimate, Report
from guerdon.optimization.monitor import Check, measures

OF_UPDATES: Mapping[str, str] = {
    "score": "score that is optimized, a reply",
    "kl": "KL to the reference, nats/sequence",
    "kl_coef": "price of a nat of KL",
    "entropy": "entropy, nats a token",
    "length": "tokens a reply",
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
OF_CHECKS: Mapping[str, str] = {
    "spread": "disagreement of the reward's members",
    "shifted": "share outside the reward model's training distribution",
    "repetition": "share of repeated 4-grams in a reply",
    "distinct_1": "share of different words, over all replies",
    "distinct_2": "share of different pairs of words, over all replies",
    "partly_read": "share that a judge did not see whole",
    "unique_replies": "share of replies that differ",
}


def course(rows: Sequence[Mapping[str, Any]], checks: Sequence[Check], draws: int = 500, seed: int = 0) -> Report:
    """Lines of metrics.jsonl and the checks in, a section of curves out. A batch's means have no interval."""
    curves = {}
    for name, label in OF_UPDATES.items():
        seen = [(row["update"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
        if len(seen) > 1:
            y = tuple(Estimate(float(value), math.nan, math.nan, 1) for _, value in seen)
            curves[f"update_{name}"] = Curve(tuple(float(x) for x, _ in seen), y, "update", label, title=_title(name))
    measured = [(check.update, measures(check, draws=draws, seed=seed)) for check in checks]
    for name, label in OF_CHECKS.items():
        known = [(update, found[name]) for update, found in measured if name in found]
        if len(known) > 1:
            curves[f"check_{name}"] = Curve(
                tuple(float(u) for u, _ in known), tuple(e for _, e in known), "update", label, title=_title(name)
            )
    return Report("Update by update", curves=curves)


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
