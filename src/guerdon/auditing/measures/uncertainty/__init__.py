"""Does the model know where it errs, and does it notice texts unlike its training data?

The main question is whether uncertainty predicts the model's own errors (signals.py), and so when it may abstain
(abstention.py). Whether it notices other texts (shift.py) matters only together with that. Axis: n pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from guerdon.auditing.measures.uncertainty import abstention, shift, signals
from guerdon.auditing.probes.shifted_replies import Replies, shift_replies
from guerdon.contracts import Finding, GuerdonError, Report, RewardModel
from guerdon.models.scored_pairs import UNCERTAINTY_FIELDS, score_comparisons

if TYPE_CHECKING:
    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, Judge
    from guerdon.models.scored_pairs import ScoredPairs

__all__ = ["TITLE", "measure_uncertainty"]
TITLE = "Uncertainty"


def measure_uncertainty(
    model: RewardModel | Judge,
    comparisons: Sequence[Comparison],
    pairs: ScoredPairs,
    options: AuditOptions,
    *,
    shifted: Mapping[str, Replies] | None = None,
) -> Report:
    """Whether uncertainty predicts errors, how far abstaining can be trusted, and whether other texts are noticed.

    `pairs` are the scored comparisons; they are scored again only if the model knows an uncertainty that they lack.
    `shifted` are sets of replies known to be out of distribution, by name; `shift_replies` derives four more from the data.

    Keys, for each known signal (margin, laplace, ratio, shift, members): error_auroc_SIGNAL, the probability that a wrong pair
    is more uncertain than a right one; aurc_SIGNAL, the mean error over all coverages, most certain pairs first, and with it
    aurc_random, that of a random order. abstain_threshold, abstain_coverage and abstain_error: the smallest |margin|, nats, from
    which at most options.abstain_error are wrong (with probability 95 %), the share of such pairs, and their error here; absent
    where no margin will do. With p-values: outside, the share of replies with p <= 0.05; for each set NAME, shift_auroc_NAME,
    the probability that one of its replies has a smaller p than one of the comparisons', and detected_NAME, its share with
    p <= 0.05; and false_alarms, that share of the comparisons' own replies.
    """
    pairs = _with_uncertainty(model, comparisons, pairs)
    decided = np.flatnonzero(~pairs.is_tie)
    if len(decided) == 0:
        raise GuerdonError("uncertainty: at least one pair must have a winner, got ties only. Add pairs with a winner.")
    table = signals.SignalTable.of(pairs, decided)
    by_signal = signals.measure_signals(table, options)
    abstaining = abstention.measure_abstention(table, options)
    shifts = shift.ShiftResult()
    if isinstance(model, RewardModel) and pairs.first_shift_p is not None:
        derived = shift_replies(comparisons, options.shift_rows, options.seed)
        shifts = shift.measure_shift(model, comparisons, pairs, derived | dict(shifted or {}), options)
    findings = (
        *signals.signal_findings(by_signal, table),
        *abstention.abstention_findings(abstaining, table, options),
        *(shift.shift_findings(shifts, table, tuple(shifted or ())) if shifts.estimates else _no_shift(table)),
    )
    return Report(
        TITLE,
        {"signals": ", ".join(table.signals), "pairs with a winner": str(len(decided))},
        by_signal | abstaining | shifts.estimates,
        findings,
        {"risk_coverage": signals.risk_curve(table)} | shift.detection_curves(shifts),
        shift.outside_examples(shifts, comparisons, options.worst),
        quantities={**signals.QUANTITIES, **abstention.QUANTITIES, **shifts.quantities},
    )


def _with_uncertainty(model: RewardModel | Judge, comparisons: Sequence[Comparison], pairs: ScoredPairs) -> ScoredPairs:
    """The pairs with every uncertainty that the model knows; one comparison is scored first, to see whether to score all."""
    if not isinstance(model, RewardModel):
        return pairs
    trial = score_comparisons(model, comparisons[:1])
    if not any(getattr(trial, name) is not None and getattr(pairs, name) is None for name in UNCERTAINTY_FIELDS):
        return pairs
    scored = score_comparisons(model, comparisons)
    return replace(pairs, **{name: getattr(scored, name) for name in UNCERTAINTY_FIELDS})


def _no_shift(table: signals.SignalTable) -> list[Finding]:
    known = "its margins and its members' disagreement" if "members" in table.signals else "its margins"
    return [
        Finding(
            "note",
            f"The model's uncertainty is known from {known} only",
            "no spread and no distance from the training data are stored with this model",
            "For a model with one head: `guerdon uncertainty MODEL --data train.jsonl --held-out calibrate.jsonl`.",
        )
    ]
