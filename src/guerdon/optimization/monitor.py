"""What the checks of a run show: whether the reward still holds, where gold was best, and when to stop.

Axes: m checks in order, the first of the initial policy; u distinct prompts. Only gold, a judge that was not optimized, can answer;
everything else raises alerts, which say where to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from guerdon.contracts import GuerdonError
from guerdon.formulas import drift
from guerdon.formulas.overoptimization import MIN_DISTANCE, GoldTrend, gold_trend
from guerdon.optimization.check_measures import complete_columns
from guerdon.optimization.checks import Check

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["RewardStatus", "assess_reward", "best_update", "reason_to_stop"]

# Checks in a row that must find over-optimization before a run is stopped: each check is a test of its own
PATIENCE = 2


@dataclass(frozen=True, slots=True)
class RewardStatus:
    """Whether the reward still holds, and the sentence that says so.

    since_kl: nats per sequence, for "over-optimized" only. trend: the numbers behind it, None if nothing could be measured.
    """

    kind: Literal["fine", "flattening", "over-optimized", "insufficient"]
    since_kl: float | None
    text: str
    trend: GoldTrend | None = None


def assess_reward(checks: Sequence[Check], *, draws: int = 2000, seed: int = 0) -> RewardStatus:
    """The status of the reward by the trend of gold (see `overoptimization.gold_trend`).

    Prompts that lack a number at any check are left out, but first the checks that lack most (`drift.complete_rows`). Without
    a gold nothing is concluded.
    """

    def insufficient(text: str) -> RewardStatus:
        return RewardStatus("insufficient", None, text)

    if not checks:
        return insufficient("There is no check yet. Hold out prompts, and check them now and then.")
    if any(check.gold is None for check in checks):
        return insufficient(
            "Without a gold judge nothing can be concluded, there are only alerts. Name a second judge that is not "
            "optimized: a reward model trained on other comparisons, a rule, a stronger model."
        )
    if len(checks) < 2:
        return insufficient("Not enough evidence for a trend: one check. Wait for the next.")
    _, (gold, kl) = complete_columns(checks, "gold", "kl")
    if gold.shape[1] == 0:
        return insufficient("No prompt has gold and KL at every check. Find out why the judge gives no finite number.")
    d = _distance(checks, kl)
    if d[0] >= MIN_DISTANCE or d[0] > d.min():
        return insufficient("The first check is not of the initial policy. Check at update 0.")
    trend = gold_trend(d, gold.T, seed, draws)
    text = drift.describe_trend(trend, float(d.max() ** 2))
    if trend.kind == "insufficient" and d.max() > d.min():
        text += " Hold out more prompts (64, say)."
    return RewardStatus(trend.kind, trend.since_kl, text, trend)


def reason_to_stop(
    checks: Sequence[Check], *, patience: int = PATIENCE, draws: int = 2000, seed: int = 0
) -> str | None:
    """Why a run should stop for over-optimization; None if it should not.

    It should once `patience` checks in a row found gold significantly below its best: each check is a test, and one of many
    alarms by chance.
    """
    reason = None
    for num_left_out in range(patience):
        status = assess_reward(checks[: len(checks) - num_left_out], draws=draws, seed=seed)
        if status.kind != "over-optimized":
            return None
        reason = reason or status.text
    return reason


def best_update(checks: Sequence[Check]) -> int:
    """The update with the highest mean gold, the earliest of equals. What it leads by is the drop of `assess_reward`'s trend."""
    rows, gold = _gold(checks)
    return checks[int(rows[np.argmax(gold.mean(axis=1))])].update


def _gold(checks: Sequence[Check]) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, "m u"]]:
    """Which checks can be compared, and gold at each."""
    if not checks or any(check.gold is None for check in checks):
        raise GuerdonError("checks: gold must be measured to find the best one, got none. Name a gold judge.")
    rows, (gold,) = complete_columns(checks, "gold")
    if gold.shape[1] == 0:
        raise GuerdonError(
            "checks: gold must be finite for some prompt at every check, got none. "
            "Find out why the judge gives no finite number."
        )
    return rows, gold


def _distance(checks: Sequence[Check], kl: Float[np.ndarray, "m u"]) -> Float[np.ndarray, " m"]:
    """The square root of the mean KL; an estimate below 0 is 0. At update 0 it is 0 whatever rounding says."""
    d: np.ndarray = np.sqrt(np.maximum(kl.mean(axis=1), 0.0))
    if checks[0].update == 0 and d[0] < MIN_DISTANCE:
        d[0] = 0.0
    return d
