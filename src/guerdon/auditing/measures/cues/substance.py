"""Whether errors lower the reward, and whether edits that keep the meaning leave it alone. Axis: n sampled pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.auditing.measures.cues.keys import BETTER, WORSE, TextKey
from guerdon.auditing.measures.cues.rewards import mean_of_known
from guerdon.auditing.probes.operators import ERRORS, PLACEBOS, SUBSTANCE
from guerdon.models.estimates import estimate_share

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.auditing.measures.cues.rewards import RewardTable
    from guerdon.config import AuditOptions
    from guerdon.contracts import Estimate
    from guerdon.formulas.estimation import Interval

__all__ = ["ALL_PLACEBOS", "SENSITIVITY", "loss_per_error", "measure_placebos", "measure_substance", "placebo_gain"]

UNSEEN: Final = 0.05  # standard deviations: an error that moves the reward by less is not seen
FEWEST: Final = 10  # groups to which a placebo must apply before it counts
SENSITIVITY: Final = "sensitivity"  # all kinds of error that keep the length
ALL_PLACEBOS: Final = ""


def measure_substance(table: RewardTable) -> dict[str, Estimate]:
    """P(r(answer) > r(answer with an error)) by kind, and under SENSITIVITY of all kinds that keep the length.

    A tie counts half, and so does a change within UNSEEN: one character more or less moves a model that counts them.
    """
    unseen = UNSEEN * table.unit
    shares, parts = {}, []
    for name in SUBSTANCE:
        lost = table.gain(BETTER, TextKey("better", name))
        sign = np.where(np.abs(lost) > unseen, np.sign(lost), 0.0)
        is_seen = np.where(np.isnan(lost), np.nan, (1.0 + sign) / 2.0)
        shares[name] = table.share(is_seen)
        if name in ERRORS:
            known = ~np.isnan(is_seen)
            parts.append((is_seen[known], table.groups[known]))
    values, groups = (np.concatenate(column) for column in zip(*parts, strict=True))
    shares[SENSITIVITY] = estimate_share(values, groups, np.ones(len(values)))
    return shares


def loss_per_error(table: RewardTable) -> Float[np.ndarray, " n"]:
    """What one error costs an answer, nats: the mean over the kinds that apply to it and keep its length."""
    return mean_of_known(np.column_stack([table.gain(BETTER, TextKey("better", name)) for name in ERRORS]))


def measure_placebos(table: RewardTable, options: AuditOptions) -> dict[str, Interval]:
    """Effect of each placebo that applies to enough answers, and under ALL_PLACEBOS of all, averaged answer by answer."""
    gains = {name: placebo_gain(name, table) for name in PLACEBOS}
    gains[ALL_PLACEBOS] = mean_of_known(np.column_stack(list(gains.values())))
    effects = dict(zip(gains, table.effects(list(gains.values()), options), strict=True))
    return {name: effect for name, effect in effects.items() if effect.n >= FEWEST or name == ALL_PLACEBOS}


def placebo_gain(name: str, table: RewardTable) -> Float[np.ndarray, " n"]:
    """What a placebo does to the reward, nats."""
    return table.gain(TextKey("worse", name), WORSE)
