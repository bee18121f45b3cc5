"""Alerts from a run's metrics, update by update: signs that the optimization itself goes wrong, whatever the reward means.

docs/ppo.md lists the metrics and the same limits.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from guerdon.contracts import Finding

__all__ = ["MAX_SERVER_DIFFERENCE", "update_alerts"]

MAX_CLIPPED: Final = 0.3  # share of a step's tokens
MAX_KL_STEP: Final = 0.05  # nats per token
FEW, MOST = 0.25, 0.75  # shares of the updates
MAX_SERVER_DIFFERENCE: Final = 0.1  # nats per token
TENTH, HALF, TENFOLD = 0.1, 0.5, 10.0


@dataclass(frozen=True, slots=True)
class UpdateRule:
    """metric: of metrics.jsonl. is_worrying: of its values, the first update's first. evidence: what such values show."""

    metric: str
    is_worrying: Callable[[Sequence[float]], bool]
    title: str
    evidence: Callable[[Sequence[float]], str]
    remedy: str


def update_alerts(rows: Sequence[Mapping[str, Any]]) -> tuple[Finding, ...]:
    """Findings about the lines of metrics.jsonl; a metric counts in the updates that have a finite number of it."""
    return tuple(_alerts(rows))


def _alerts(rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    for rule in RULES:
        values = [float(row[rule.metric]) for row in rows if _is_number(row.get(rule.metric))]
        if values and rule.is_worrying(values):
            yield Finding("warning", rule.title, rule.evidence(values), rule.remedy)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _num_above(values: Sequence[float], limit: float) -> int:
    return sum(value > limit for value in values)


def _count_above(limit: float, what: str) -> Callable[[Sequence[float]], str]:
    def words(values: Sequence[float]) -> str:
        return f"{what} in {_num_above(values, limit)} of {len(values)} updates, {max(values):.3g} at most"

    return words


def _first_and_last(what: str) -> Callable[[Sequence[float]], str]:
    return lambda values: f"{what} was {values[0]:.3g} in the first update and {values[-1]:.3g} in the last"


RULES: Final[Sequence[UpdateRule]] = (
    UpdateRule(
        "clipped",
        lambda values: _num_above(values, MAX_CLIPPED) > FEW * len(values),
        "Steps are too large: many tokens are clipped",
        lambda values: (
            f"more than {100 * MAX_CLIPPED:.0f} % of tokens clipped in {_num_above(values, MAX_CLIPPED)} of {len(values)} "
            f"updates, {100 * max(values):.0f} % at most"
        ),
        "Halve optimize.lr, or set optimize.max_kl_step=0.05.",
    ),
    UpdateRule(
        "kl_step",
        lambda values: _num_above(values, MAX_KL_STEP) > FEW * len(values),
        "Steps are too large: the policy leaves the replies that it learns from",
        _count_above(MAX_KL_STEP, f"KL to the sampling policy above {MAX_KL_STEP} nats per token"),
        "Halve optimize.lr, or set optimize.max_kl_step=0.05.",
    ),
    UpdateRule(
        "kl",
        lambda values: sum(value < 0 for value in values) / len(values) > MOST,
        "KL stays below 0: the replies are not samples of the policy",
        lambda values: f"KL below 0 in {sum(value < 0 for value in values)} of {len(values)} updates",
        "Check that sampling and log-probabilities use the same temperature and the same weights.",
    ),
    UpdateRule(
        "server_difference",
        lambda values: max(values) > MAX_SERVER_DIFFERENCE,
        "The servers sample from other weights than those that learn",
        _count_above(
            MAX_SERVER_DIFFERENCE, f"log-probabilities more than {MAX_SERVER_DIFFERENCE} nats per token apart"
        ),
        "Serve the same base model as --policy, in the same dtype, and compare the adapters that the server has loaded.",
    ),
    UpdateRule(
        "kl_coef",
        lambda values: values[0] > 0 and values[-1] > TENFOLD * values[0],
        "The adaptive KL coefficient keeps growing",
        _first_and_last("the coefficient"),
        "Raise optimize.kl_target, or lower optimize.lr.",
    ),
    UpdateRule(
        "entropy",
        lambda values: values[0] > 0 and values[-1] < TENTH * values[0],
        "The policy has almost no entropy left: it always says the same",
        _first_and_last("entropy, in nats per token,"),
        "Raise optimize.kl_coef, or set optimize.min_entropy to stop in time.",
    ),
    UpdateRule(
        "unique",
        lambda values: values[-1] < HALF * values[0],
        "Replies of a batch repeat each other",
        _first_and_last("the share of distinct replies"),
        "Read the replies; raise optimize.kl_coef.",
    ),
    UpdateRule(
        "unusable",
        lambda values: max(values) > 0,
        "Some replies got no finite reward",
        _count_above(0.0, "such replies"),
        "Find out why the reward gives no finite number; these replies are not learned from.",
    ),
    UpdateRule(
        "partly_read",
        lambda values: max(values) > 0,
        "A reward model did not read some replies whole",
        lambda values: (
            f"such replies in {_num_above(values, 0.0)} of {len(values)} updates, {100 * max(values):.1f} % at most"
        ),
        "Lower optimize.max_tokens, or keep prompts short.",
    ),
    UpdateRule(
        "explained_variance",
        lambda values: len(values) > 1 and max(values[len(values) // 2 :]) < 0,
        "The value model explains nothing",
        lambda values: f"explained variance is below 0 in the whole second half, {values[-1]:.3g} at the end",
        "Set optimize.value_warmup or optimize.value=reward, or use optimize.baseline=leave_one_out.",
    ),
    UpdateRule(
        "grad_norm",
        lambda values: max(values) > TENFOLD * statistics.median(values) > 0,
        "The gradient jumps",
        lambda values: f"its norm is {max(values):.3g} at most, {statistics.median(values):.3g} in the median",
        "Lower optimize.lr, or optimize.grad_clip.",
    ),
)
