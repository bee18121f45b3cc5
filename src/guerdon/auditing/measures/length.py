"""How much of the reward is length, and whether people would pay as much for it. Needs scored pairs only, of a judge too.

Axis: n pairs. Lengths are characters, and their logarithms where a correlation is taken. All but the pooled correlations are
within prompts: a prompt that makes every answer long, or well rewarded, moves none of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from guerdon.contracts import Curve, Estimate, Finding, Quantity, Report
from guerdon.formulas.agreement import pair_accuracy
from guerdon.formulas.cues import (
    length_logit,
    pair_correlation,
    within_spread,
)
from guerdon.formulas.resampling import bootstrap_sums
from guerdon.models.estimates import estimate_share

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from guerdon.config import AuditOptions
    from guerdon.models.scored_pairs import ScoredPairs

MATCHED = 0.1  # of the longer answer: a smaller difference of lengths is none
FLOOR = 0.2  # standard deviations within a prompt
MOSTLY = 0.7  # a correlation that explains half of the reward's variance
FEWEST = 20  # groups, or pairs of equal length, that say anything
REACHES = (0.05, 0.1, 0.2, 0.4)  # differences of length, as shares of the longer, for the curve of accuracies

SECTION = "Length"
QUANTITIES: Mapping[str, Quantity] = {
    "length_within": Quantity(
        "reward with length", "number", SECTION, "correlation of reward and log length, within prompts"
    ),
    "length_partial": Quantity("the same, given the label", "number", SECTION, "what no label accounts for"),
    "length_pooled": Quantity("over all answers", "number", SECTION, "prompts that get long answers move it too"),
    "length_pooled_rank": Quantity("over all answers, ranks", "number", SECTION, "the same by Spearman"),
    "prefers_longer": Quantity("prefers the longer", "share", SECTION, "pairs whose longer response is rewarded more"),
    "accuracy_length_matched": Quantity(
        "at equal length", "share", SECTION, "accuracy where lengths are within 10\N{NO-BREAK SPACE}%"
    ),
    "accuracy_length_gap": Quantity(
        "longer less shorter", "share", SECTION, "accuracy where the better answer is longer, less where it is shorter"
    ),
    "length_slope": Quantity(
        "worth of a margin, length apart", "number", SECTION, "1 where its odds need no correction"
    ),
    "length_per_margin": Quantity(
        "length that people pay beyond it", "nats", SECTION, "of a long answer; below 0 the model pays too much"
    ),
    "length_turns": Quantity("decisions that length turns", "share", SECTION, "once length is paid for as people do"),
}


def measure_length(pairs: ScoredPairs, options: AuditOptions) -> Report:
    """Keys: length_within, length_partial (correlation of reward and log length within prompts; the same given the verdict),
    length_pooled, length_pooled_rank (over all answers, Pearson and Spearman; reward models only), prefers_longer (share of
    pairs), accuracy_length_matched (lengths within 10 %), accuracy_length_gap (accuracy where the better answer is longer less
    that where it is shorter), length_slope and length_per_margin (see LengthLogit), length_turns (share of verdicts that
    change once length is paid for as people do).
    """
    longer = pairs.first_length - pairs.second_length
    log_longer = np.log1p(pairs.first_length) - np.log1p(pairs.second_length)
    right = pair_accuracy(pairs.margin, pairs.q)
    differ = longer != 0

    def mean(values: Float[np.ndarray, " n"], rows: Bool[np.ndarray, " n"]) -> Estimate:
        return estimate_share(values[rows], pairs.group[rows], pairs.weight[rows], options)

    def within(given: Float[np.ndarray, " n"] | None = None) -> Estimate:
        columns = pairs.margin, log_longer, pairs.weight, pairs.group
        return Estimate(*pair_correlation(*columns, given, options.draws, options.seed))

    estimates = {"length_within": within(), "length_partial": within(2.0 * pairs.q - 1.0)}
    if not np.isnan(pairs.first_reward).any():
        estimates |= _pooled(pairs, options)
    if differ.any():
        with_length = (1.0 + np.sign(pairs.margin) * np.sign(longer)) / 2.0
        estimates["prefers_longer"] = mean(with_length, differ)
    matched = _is_matched(pairs, MATCHED)
    if matched.any():
        estimates["accuracy_length_matched"] = mean(right, matched)
    toward_better = longer * np.sign(pairs.q - 0.5)
    if (toward_better > 0).any() and (toward_better < 0).any():
        estimates["accuracy_length_gap"] = _gap(right, toward_better, pairs, options)
    if pairs.num_groups >= FEWEST:
        estimates |= _paid(pairs, longer, options)
    curve = _by_match(right, pairs, options)
    accuracy = mean(right, np.ones(len(pairs), dtype=bool))
    return Report(
        "Length",
        {},
        estimates,
        _findings(estimates, accuracy, pairs),
        {"accuracy_by_match": curve} if curve else {},
        quantities=QUANTITIES,
    )


def _pooled(pairs: ScoredPairs, options: AuditOptions) -> dict[str, Estimate]:
    """Correlation of reward and log length over all answers, each once."""
    index = np.concatenate([pairs.index, pairs.index])
    which = np.concatenate([pairs.first, pairs.second])
    _, once = np.unique(np.column_stack([index, which]), axis=0, return_index=True)
    reward = np.concatenate([pairs.first_reward, pairs.second_reward])[once]
    size = np.log1p(np.concatenate([pairs.first_length, pairs.second_length])[once])
    groups = np.concatenate([pairs.group, pairs.group])[once]
    found = {}
    for name, x, y in (("length_pooled", reward, size), ("length_pooled_rank", rankdata(reward), rankdata(size))):
        a, b = (c - c.mean() for c in (x, y))
        columns = np.column_stack([np.ones(len(a)), a, b, a * a, b * b, a * b])
        found[name] = Estimate(*bootstrap_sums(columns, groups, _pearson, options.draws, options.seed))
    return found


def _pearson(sums: Float[np.ndarray, "d 6"]) -> Float[np.ndarray, " d"]:
    """Correlation from the sums of 1, a, b, aa, bb, ab."""
    n, a, b, aa, bb, ab = sums.T
    found: np.ndarray = (ab - a * b / n) / np.sqrt((aa - a * a / n) * (bb - b * b / n))
    return found


def _paid(pairs: ScoredPairs, longer: np.ndarray, options: AuditOptions) -> dict[str, Estimate]:
    """What people would pay for length beyond the model, and the share of its verdicts that change if it did."""
    columns = pairs.margin, longer, pairs.q, pairs.weight, pairs.group
    logit = length_logit(*columns, draws=options.draws, seed=options.seed)
    found = {"length_slope": Estimate(*logit.slope), "length_per_margin": Estimate(*logit.per_margin)}
    if math.isfinite(logit.per_margin.low):
        spread = math.sqrt(float(np.mean(np.square(longer)))) or 1.0
        paid = pairs.margin + logit.per_margin.value * np.tanh(longer / spread)
        turned = (np.sign(paid) != np.sign(pairs.margin)).astype(np.float64)
        found["length_turns"] = estimate_share(turned, pairs.group, pairs.weight, options)
    return found


def _is_matched(pairs: ScoredPairs, reach: float) -> Bool[np.ndarray, " n"]:
    larger = np.maximum(pairs.first_length, pairs.second_length)
    matched: np.ndarray = np.abs(pairs.first_length - pairs.second_length) < reach * larger
    return matched


def _gap(right: np.ndarray, toward_better: np.ndarray, pairs: ScoredPairs, options: AuditOptions) -> Estimate:
    """Accuracy where the better answer is longer less that where it is shorter."""
    sides = [pairs.weight * (toward_better > 0), pairs.weight * (toward_better < 0)]
    columns = np.column_stack([sides[0] * right, sides[0], sides[1] * right, sides[1]])

    def statistic(sums: Float[np.ndarray, "d 4"]) -> Float[np.ndarray, " d"]:
        gap: np.ndarray = sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]
        return gap

    return Estimate(*bootstrap_sums(columns, pairs.group, statistic, options.draws, options.seed))


def _by_match(right: np.ndarray, pairs: ScoredPairs, options: AuditOptions) -> Curve | None:
    """Accuracy on pairs whose lengths differ by less and less; None with too few."""
    rows = [(reach, _is_matched(pairs, reach)) for reach in (*REACHES, math.inf)]
    rows = [(reach, chosen) for reach, chosen in rows if chosen.sum() >= FEWEST]
    if len(rows) < 2:
        return None
    return Curve(
        tuple(min(reach, 1.0) for reach, _ in rows),
        tuple(estimate_share(right[c], pairs.group[c], pairs.weight[c], options) for _, c in rows),
        "largest difference of lengths, share of the longer",
        "accuracy",
        title="Accuracy on pairs of like length",
        caption="Further left, length tells less. What is lost from right to left was length.",
    )


def _findings(found: dict[str, Estimate], accuracy: Estimate, pairs: ScoredPairs) -> tuple[Finding, ...]:
    notes = []
    unknown = Estimate(math.nan, math.nan, math.nan, 0)
    extra, unit = found.get("length_per_margin", unknown), within_spread(pairs.margin)
    evidence = (
        f"reward and log length correlate by {found['length_within']} within prompts; the verdicts rate a much longer answer at "
        f"{extra} nats of margin beyond what the model gives it"
    )
    if extra.high < 0 and extra.value < -FLOOR * unit:
        remedy = "Train on pairs whose length does not give the verdict away; penalize length when optimizing."
        notes.append(
            Finding("warning", "It pays more for length than people do", evidence, remedy, found.get("length_turns"))
        )
    elif extra.low > 0 and extra.value > FLOOR * unit:
        notes.append(Finding("note", "It pays less for length than people do", evidence))
    if found["length_partial"].low > MOSTLY:
        evidence = f"given the verdict, reward and log length correlate by {found['length_partial']} within prompts"
        remedy = "Train on pairs whose length does not give the verdict away."
        notes.append(Finding("warning", "The reward is mostly length", evidence, remedy))
    matched = found.get("accuracy_length_matched")
    if matched is not None and matched.n >= FEWEST and accuracy.low > 0.5 and not matched.low > 0.5:
        evidence = f"accuracy {matched} on pairs whose lengths differ by less than {MATCHED:.0%}"
        remedy = "Train and audit on more pairs of equal length."
        notes.append(Finding("warning", "Not shown to be better than a coin where lengths are equal", evidence, remedy))
    return tuple(notes)
