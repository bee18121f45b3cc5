"""Curves of the alignment tax: by task, by phenomenon of grammar, and against what the optimization gained and cost.

Axes: n items of a task, t tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Curve, Estimate, Report
from guerdon.formulas.alignment_tax import tax_of_share
from guerdon.models.estimates import points_by_name

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.alignment_tax.tasks import Task

__all__ = ["tax_by_gain", "tax_by_phenomenon", "tax_by_task"]


def tax_by_task(names: Sequence[str], z: Float[np.ndarray, " t"]) -> Curve:
    """The standardized tax of each task."""
    return points_by_name(
        names,
        (Estimate(float(x), float(x) - 1.96, float(x) + 1.96, len(names)) for x in z),
        "task",
        "tax, standard errors",
        caption="Above 0 something was lost. Of twenty tasks without a tax, one interval misses 0 by chance.",
    )


def tax_by_phenomenon(before: Mapping[str, Task], after: Mapping[str, Task]) -> dict[str, Curve]:
    """The tax of each phenomenon of the minimal pairs; nothing if they were not measured."""
    name = next((n for n in ("minimal_pairs", "minimal_pairs_chat") if n in before), None)
    if name is None:
        return {}
    old, new = before[name], after[name]
    kinds = list(dict.fromkeys(old.kinds))
    y = []
    for kind in kinds:
        is_kind = np.array([item_kind == kind for item_kind in old.kinds])
        y.append(Estimate(*tax_of_share(old.score[is_kind], new.score[is_kind]).difference))
    return {"tax_by_phenomenon": points_by_name(kinds, y, "phenomenon", "tax, share of pairs")}


def tax_by_gain(parts: Mapping[str, Report]) -> dict[str, Curve]:
    """The mean tax of each policy against its KL and its gains, with the reference at (0, 0)."""
    labels = {"kl": "KL, nats/sequence", "proxy_gain": "reward, gain in nats", "gold_gain": "gold, gain"}
    curves = {}
    for key, label in labels.items():
        points = [
            (part.estimates[key].value, name, part.estimates["tax_mean"])
            for name, part in parts.items()
            if key in part.estimates
        ]
        if not points:
            continue
        # The reference first, so that it stays before a policy at the same x
        points = sorted([(0.0, "reference", Estimate(0.0, 0.0, 0.0, 1)), *points], key=lambda point: point[0])
        curves[f"tax_by_{key}"] = Curve(
            tuple(x for x, _, _ in points),
            tuple(y for _, _, y in points),
            label,
            "mean tax, standard errors",
            kind="points",
            caption="From left to right: " + ", ".join(name for _, name, _ in points) + ".",
        )
    return curves
