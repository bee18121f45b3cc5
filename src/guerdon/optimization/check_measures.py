"""What checks measure: a description of one check's replies, and columns of numbers over several checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Estimate, GuerdonError
from guerdon.formulas import drift
from guerdon.formulas.clustered import clustered_mean, clustered_share
from guerdon.formulas.drift import SHIFT_ALPHA
from guerdon.optimization.checks import Check, refuse_unlike

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["complete_columns", "mean_by_prompt", "measure_check"]


def measure_check(check: Check, first: Check | None = None) -> dict[str, Estimate]:
    """A description of a check's replies, with intervals by prompt; with the first check also the gains since.

    Keys: proxy, gold, kl, sqrt_kl, length, finished, shifted (share of replies outside the reward model's training
    distribution at SHIFT_ALPHA, which is also the share expected without a shift), partly_read (share that a judge did not
    see whole), spread, repetition, distinct_1, distinct_2, unique_replies, attribute/NAME; with the first check proxy_gain,
    gold_gain and length_gain, prompt by prompt. What was not measured is absent.
    """

    def mean(values: Float[np.ndarray, " p"]) -> Estimate:
        return mean_by_prompt(values, check.prompts)

    def share(values: Float[np.ndarray, " p"]) -> Estimate:
        return Estimate(*clustered_share(*_finite(values, check.prompts)))

    estimates = {"proxy": mean(check.proxy)}
    if check.gold is not None:
        estimates["gold"] = mean(check.gold)
    estimates["kl"] = kl = mean(check.kl)
    value, low, high = (math.sqrt(max(0.0, x)) for x in (kl.value, kl.low, kl.high))
    estimates["sqrt_kl"] = Estimate(value, low, high, kl.n)
    estimates["length"] = mean(check.length)
    estimates["finished"] = share(check.finished.astype(np.float64))
    if check.truncated is not None:
        estimates["partly_read"] = share(check.truncated.astype(np.float64))
    if check.shift_p is not None:
        estimates["shifted"] = share(np.where(np.isnan(check.shift_p), math.nan, check.shift_p <= SHIFT_ALPHA))
    if check.std is not None:
        estimates["spread"] = mean(check.std)
    estimates["repetition"] = share(np.array([drift.repetition(text) for text in check.texts]))
    estimates["distinct_1"] = Estimate(*drift.distinct(check.texts, 1))
    estimates["distinct_2"] = Estimate(*drift.distinct(check.texts, 2))
    estimates["unique_replies"] = Estimate(*drift.unique_share(check.texts))
    estimates |= {f"attribute/{name}": mean(values) for name, values in check.attributes.items()}
    if first is not None:
        refuse_unlike(first, check)
        estimates["proxy_gain"] = mean(check.proxy - first.proxy)
        if check.gold is not None and first.gold is not None:
            estimates["gold_gain"] = mean(check.gold - first.gold)
        estimates["length_gain"] = mean(check.length - first.length)
    return estimates


def complete_columns(
    checks: Sequence[Check], *names: str
) -> tuple[Int[np.ndarray, " m"], tuple[Float[np.ndarray, "m u"], ...]]:
    """Which checks can be compared, then each named column there, for the distinct prompts that have all of them."""
    if not checks:
        raise GuerdonError("checks: there must be at least one, got none. Check the policy at update 0.")
    for check in checks:
        refuse_unlike(checks[0], check)
    tables = [np.stack([np.asarray(getattr(check, name), dtype=np.float64) for check in checks]) for name in names]
    rows = drift.complete_rows(*tables)
    return rows, drift.complete_prompts(checks[0].prompts, *(table[rows] for table in tables))


def mean_by_prompt(values: Float[np.ndarray, " p"], prompts: Sequence[str]) -> Estimate:
    """The mean of the finite values, with its interval by prompt."""
    return Estimate(*clustered_mean(*_finite(values, prompts)))


def _finite(values: Float[np.ndarray, " p"], prompts: Sequence[str]) -> tuple[Float[np.ndarray, " q"], list[str]]:
    is_finite = np.isfinite(values)
    names = [name for name, finite in zip(prompts, is_finite, strict=True) if finite]
    return np.asarray(values, dtype=np.float64)[is_finite], names
