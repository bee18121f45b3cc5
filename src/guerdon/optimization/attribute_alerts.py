"""Which attribute of a reward, such as a criterion of a rubric, a policy learns to game: it rises while gold falls."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from guerdon.contracts import Estimate, Finding
from guerdon.formulas.clustered import clustered_mean
from guerdon.optimization.checks import Check

__all__ = ["attribute_alerts"]


def attribute_alerts(checks: Sequence[Check]) -> Iterator[Finding]:
    """A warning for each attribute whose mean has risen while gold has fallen, from the first check, or gold's best, to the last.

    Both changes are prompt by prompt, on the prompts that have both. Intervals are at 95 % for all attributes and both starts
    together (Bonferroni).
    """
    first, last = checks[0], checks[-1]
    if last.gold is None or not last.attributes:
        return
    best = max(checks, key=_mean_gold)
    starts = [first] if best.update in (first.update, last.update) else [best, first]
    level = 1 - 0.05 / (len(starts) * len(last.attributes))
    for name in last.attributes:
        for start in starts:
            if (changes := _changes(name, start, last, level)) is not None:
                rise, fall = changes
                if rise.low > 0 and fall.high < 0:
                    yield _gamed(name, rise, fall, start, last)
                    break


def _mean_gold(check: Check) -> float:
    known = check.gold is not None and bool(np.isfinite(check.gold).any())
    return float(np.nanmean(np.asarray(check.gold, dtype=np.float64))) if known else -math.inf


def _changes(name: str, start: Check, last: Check, level: float) -> tuple[Estimate, Estimate] | None:
    """The change of the attribute and of gold, over the prompts that have both at both checks."""
    assert start.gold is not None, "checks of one run all have gold"
    assert last.gold is not None, "checks of one run all have gold"
    attribute, gold = last.attributes[name] - start.attributes[name], last.gold - start.gold
    known = np.isfinite(attribute) & np.isfinite(gold)
    if not known.any():
        return None
    groups = [prompt for prompt, kept in zip(last.prompts, known, strict=True) if kept]
    rise, fall = (clustered_mean(change[known], groups, level=level) for change in (attribute, gold))
    return Estimate(*rise), Estimate(*fall)


def _gamed(name: str, rise: Estimate, fall: Estimate, start: Check, last: Check) -> Finding:
    return Finding(
        "warning",
        f"{name} rises while gold falls",
        f"from update {start.update} to update {last.update}, {name} has changed by {rise} and gold by {fall}",
        f"Read the last replies for ways to meet {name} without being better. Tighten its text, lower its weight, or take it "
        "out of the rubric, and stop at the update where gold was best.",
    )
