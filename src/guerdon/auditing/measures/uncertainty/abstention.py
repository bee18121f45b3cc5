"""From which margin on may the model answer? A bound on its error that holds for new pairs of the same kind.

Axis: n pairs with a winner.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.auditing.measures.uncertainty.signals import SECTION, SignalTable
from guerdon.contracts import Estimate, Finding, Quantity
from guerdon.errors import counted, verb
from guerdon.formulas.resampling import bootstrap
from guerdon.formulas.uncertainty import selective_threshold
from guerdon.models.estimates import estimate_share, number, percent

if TYPE_CHECKING:
    from jaxtyping import Int, Shaped

    from guerdon.config import AuditOptions

__all__ = ["QUANTITIES", "abstention_findings", "measure_abstention"]

DELTA: Final = 0.05  # probability that the bound does not hold

QUANTITIES: Mapping[str, Quantity] = {
    "abstain_threshold": Quantity("abstain below", "nats", SECTION, "the margin from which the error is bounded"),
    "abstain_coverage": Quantity("pairs then answered", "share", SECTION, "pairs whose margin is that large"),
    "abstain_error": Quantity("error when answering", "share", SECTION, "of the answers given, on these comparisons"),
}


def measure_abstention(table: SignalTable, options: AuditOptions) -> dict[str, Estimate]:
    """abstain_threshold, abstain_coverage, abstain_error; empty where no margin is large enough.

    The threshold is fitted to one pair per group, drawn at random, because the bound is for independent rows.
    """
    rows = _one_per_group(table.group, options.seed)
    certainty, wrong = table.certainty[rows], table.wrong[rows] > 0

    def threshold(draw: Int[np.ndarray, " m"]) -> float:
        selection = selective_threshold(certainty[draw], wrong[draw], options.abstain_error, DELTA)
        return math.nan if selection is None else selection.threshold

    value = threshold(np.arange(len(rows)))
    if math.isnan(value):
        return {}
    is_answered = table.certainty >= value
    return {
        "abstain_threshold": Estimate(*bootstrap(threshold, table.group[rows], options.draws, options.seed)),
        "abstain_coverage": estimate_share(is_answered.astype(np.float64), table.group, table.weight),
        "abstain_error": table.error_rate(is_answered),
    }


def abstention_findings(estimates: Mapping[str, Estimate], table: SignalTable, options: AuditOptions) -> list[Finding]:
    """When the model may answer, or why no bound can be given."""
    rate, num_groups = options.abstain_error, len(np.unique(table.group))
    bound = f"at most {100 * rate:.0f} % errors"
    if estimates:
        least, coverage, error = (estimates[f"abstain_{name}"] for name in ("threshold", "coverage", "error"))
        if coverage.value == 1.0:
            title = f"The model may answer every pair with {bound}"
            return [Finding("note", title, f"it is wrong on {percent(error)}")]
        title = f"The model may answer with {bound} where its margin is large"
        evidence = (
            f"from {number(least)} nats on, it answers {percent(coverage)} of pairs and is wrong on {percent(error)}"
        )
        remedy = f"Below {least.value:.3g} nats ask a person, or leave the pair out."
        return [Finding("note", title, evidence, remedy)]
    needed = math.ceil(math.log(DELTA) / math.log(1 - rate))
    if num_groups < needed:
        evidence = f"there {verb(num_groups, 'are')} {counted(num_groups, 'group')}; {needed} without a single error are needed"
        return [Finding("note", f"Too few pairs to guarantee {bound}", evidence, "Audit on more prompts.")]
    evidence = f"on {num_groups} groups, no margin brings the upper bound of the error down to {100 * rate:g} %"
    remedy = "Do not let the model decide alone, or allow more errors with audit.abstain_error."
    return [Finding("warning", f"No margin is large enough for {bound}", evidence, remedy)]


def _one_per_group(group: Shaped[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " g"]:
    order = np.random.default_rng(seed).permutation(len(group))
    first: np.ndarray = order[np.unique(group[order], return_index=True)[1]]
    return np.sort(first)
