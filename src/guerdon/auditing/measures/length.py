"""How much of the reward is length, and whether people value length as much. Needs scored pairs only, of a judge too.

Axis: n pairs. Lengths are characters, and their logarithms in correlations. All but the pooled correlations are within
prompts: a prompt that makes every answer long, or well rewarded, moves none of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.stats import rankdata

from guerdon.auditing.measures.accuracy import share_of_rows
from guerdon.contracts import Curve, Estimate, Finding, Quantity, Report
from guerdon.formulas.agreement import pair_accuracy
from guerdon.formulas.cues import length_logit, pair_correlation, within_spread
from guerdon.formulas.resampling import bootstrap_sums
from guerdon.models.estimates import estimate_share, number, percent

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from guerdon.config import AuditOptions
    from guerdon.models.scored_pairs import ScoredPairs

MATCHED: Final = 0.1  # share of the longer answer: lengths that differ by less count as equal
FLOOR: Final = 0.2  # standard deviations within a prompt
MOSTLY: Final = 0.7  # a correlation that explains half of the reward's variance
FEWEST: Final = 20  # groups, or pairs of equal length, for a result
TOLERANCES: Final = (0.05, 0.1, 0.2, 0.4)  # differences of length, as shares of the longer, for the curve of accuracies

TITLE = SECTION = "Length"  # of the report, and of its numbers on the page
QUANTITIES: Mapping[str, Quantity] = {
    "length_within": Quantity(
        "reward with length", "number", SECTION, "correlation of reward and log length, within prompts"
    ),
    "length_partial": Quantity("the same, given the label", "number", SECTION, "what the labels do not explain"),
    "length_pooled": Quantity("over all answers", "number", SECTION, "prompts that get long answers move it too"),
    "length_pooled_rank": Quantity("over all answers, ranks", "number", SECTION, "the same by Spearman"),
    "prefers_longer": Quantity("prefers the longer", "share", SECTION, "pairs whose longer response is rewarded more"),
    "accuracy_length_matched": Quantity(
        "accuracy at equal length", "share", SECTION, "pairs whose lengths differ by less than 10\N{NO-BREAK SPACE}%"
    ),
    "accuracy_length_gap": Quantity(
        "longer minus shorter", "share", SECTION, "accuracy where the better answer is longer minus where it is shorter"
    ),
    "length_slope": Quantity(
        "slope at equal length", "number", SECTION, "of the log-odds on the margin; 1 if the model is calibrated"
    ),
    "length_per_margin": Quantity(
        "length beyond the model's", "nats", SECTION, "what people give a long answer; below 0 the model gives too much"
    ),
    "length_turns": Quantity(
        "preferences that length flips", "share", SECTION, "of the model's, once length counts as much as for people"
    ),
}


def measure_length(pairs: ScoredPairs, options: AuditOptions) -> Report:
    """What length does to the reward.

    Keys: length_within, length_partial (correlation of reward and log length within prompts; the same given people's
    preference), length_pooled, length_pooled_rank (over all answers, Pearson and Spearman; reward models only), prefers_longer
    (share of pairs), accuracy_length_matched (lengths within 10 %), accuracy_length_gap (accuracy where the better answer is
    longer minus that where it is shorter), length_slope and length_per_margin (see LengthLogit), length_turns (share of the
    model's preferences that flip once length counts as much as it does for people). Curve: accuracy_by_match.
    """
    longer = pairs.first_length - pairs.second_length
    is_right = pair_accuracy(pairs.margin, pairs.q)
    estimates = {
        "length_within": _correlation(pairs, None, options),
        "length_partial": _correlation(pairs, 2.0 * pairs.q - 1.0, options),
    }
    if not np.isnan(pairs.first_reward).any():
        estimates |= _pooled_correlations(pairs, options)
    if (longer != 0).any():
        longer_wins = (1.0 + np.sign(pairs.margin) * np.sign(longer)) / 2.0
        estimates["prefers_longer"] = share_of_rows(longer_wins, longer != 0, pairs)
    is_matched = _is_matched(pairs, MATCHED)
    if is_matched.any():
        estimates["accuracy_length_matched"] = share_of_rows(is_right, is_matched, pairs)
    toward_better = longer * np.sign(pairs.q - 0.5)
    if (toward_better > 0).any() and (toward_better < 0).any():
        estimates["accuracy_length_gap"] = _gap(is_right, toward_better, pairs, options)
    if pairs.num_groups >= FEWEST:
        estimates |= _value_of_length(pairs, longer, options)
    accuracy = share_of_rows(is_right, np.ones(len(pairs), dtype=bool), pairs)
    findings = (
        *_value_findings(estimates, within_spread(pairs.margin)),
        *_correlation_findings(estimates["length_partial"]),
        *_matched_findings(estimates.get("accuracy_length_matched"), accuracy),
    )
    curve = _curve_by_match(is_right, pairs)
    curves = {"accuracy_by_match": curve} if curve else {}
    return Report(TITLE, {}, estimates, findings, curves, quantities=QUANTITIES)


def _correlation(pairs: ScoredPairs, given: Float[np.ndarray, " n"] | None, options: AuditOptions) -> Estimate:
    """Of reward and log length within prompts, given a third quantity or not."""
    log_longer = np.log1p(pairs.first_length) - np.log1p(pairs.second_length)
    columns = pairs.margin, log_longer, pairs.weight, pairs.group
    return Estimate(*pair_correlation(*columns, given, options.draws, options.seed))


def _pooled_correlations(pairs: ScoredPairs, options: AuditOptions) -> dict[str, Estimate]:
    """Of reward and log length over all answers, each answer once."""
    _, rows = pairs.each_response()
    reward = np.concatenate([pairs.first_reward, pairs.second_reward])[rows]
    size = np.log1p(np.concatenate([pairs.first_length, pairs.second_length])[rows])
    groups = np.tile(pairs.group, 2)[rows]
    estimates = {}
    for name, x, y in (("length_pooled", reward, size), ("length_pooled_rank", rankdata(reward), rankdata(size))):
        a, b = (values - values.mean() for values in (x, y))
        columns = np.column_stack([np.ones(len(a)), a, b, a * a, b * b, a * b])
        estimates[name] = Estimate(*bootstrap_sums(columns, groups, _pearson, options.draws, options.seed))
    return estimates


def _pearson(sums: Float[np.ndarray, "d 6"]) -> Float[np.ndarray, " d"]:
    """Correlation from the sums of 1, a, b, aa, bb, ab."""
    n, a, b, aa, bb, ab = sums.T
    correlation: np.ndarray = (ab - a * b / n) / np.sqrt((aa - a * a / n) * (bb - b * b / n))
    return correlation


def _value_of_length(pairs: ScoredPairs, longer: Int[np.ndarray, " n"], options: AuditOptions) -> dict[str, Estimate]:
    """What people give for length beyond the model, and the share of its preferences that flip if it did the same."""
    columns = pairs.margin, longer, pairs.q, pairs.weight, pairs.group
    logit = length_logit(*columns, draws=options.draws, seed=options.seed)
    estimates = {"length_slope": Estimate(*logit.slope), "length_per_margin": Estimate(*logit.per_margin)}
    if math.isfinite(logit.per_margin.low):
        spread = math.sqrt(float(np.mean(np.square(longer)))) or 1.0
        corrected = pairs.margin + logit.per_margin.value * np.tanh(longer / spread)
        flips = (np.sign(corrected) != np.sign(pairs.margin)).astype(np.float64)
        estimates["length_turns"] = estimate_share(flips, pairs.group, pairs.weight)
    return estimates


def _is_matched(pairs: ScoredPairs, tolerance: float) -> Bool[np.ndarray, " n"]:
    larger = np.maximum(pairs.first_length, pairs.second_length)
    matched: np.ndarray = np.abs(pairs.first_length - pairs.second_length) < tolerance * larger
    return matched


def _gap(
    is_right: Float[np.ndarray, " n"],
    toward_better: Float[np.ndarray, " n"],
    pairs: ScoredPairs,
    options: AuditOptions,
) -> Estimate:
    """Accuracy where the better answer is longer minus that where it is shorter."""
    sides = [pairs.weight * (toward_better > 0), pairs.weight * (toward_better < 0)]
    columns = np.column_stack([sides[0] * is_right, sides[0], sides[1] * is_right, sides[1]])

    def difference(sums: Float[np.ndarray, "d 4"]) -> Float[np.ndarray, " d"]:
        gap: np.ndarray = sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]
        return gap

    return Estimate(*bootstrap_sums(columns, pairs.group, difference, options.draws, options.seed))


def _curve_by_match(is_right: Float[np.ndarray, " n"], pairs: ScoredPairs) -> Curve | None:
    """Accuracy on pairs of more and more similar length; None with too few."""
    rows = [(tolerance, _is_matched(pairs, tolerance)) for tolerance in (*TOLERANCES, math.inf)]
    rows = [(tolerance, chosen) for tolerance, chosen in rows if chosen.sum() >= FEWEST]
    if len(rows) < 2:
        return None
    return Curve(
        tuple(min(tolerance, 1.0) for tolerance, _ in rows),
        tuple(share_of_rows(is_right, chosen, pairs) for _, chosen in rows),
        "largest difference in length, share of the longer",
        "accuracy",
        title="Accuracy as lengths become equal",
        caption="Further left, length reveals less. What is lost from right to left was length.",
    )


def _value_findings(estimates: Mapping[str, Estimate], unit: float) -> list[Finding]:
    """Whether the model values length more, or less, than people do. unit: nats of a standard deviation within a prompt."""
    extra = estimates.get("length_per_margin")
    if extra is None:
        return []
    evidence = (
        f"reward and log length correlate by {number(estimates['length_within'])} within prompts; beyond what the model gives "
        f"a much longer answer, people give it {number(extra)} nats of margin"
    )
    if extra.high < 0 and extra.value < -FLOOR * unit:
        title = "The model values length more than people do"
        remedy = "Train on pairs whose length does not reveal the better answer; penalize length when optimizing."
        return [Finding("warning", title, evidence, remedy, estimates.get("length_turns"))]
    if extra.low > 0 and extra.value > FLOOR * unit:
        return [Finding("note", "The model values length less than people do", evidence)]
    return []


def _correlation_findings(partial: Estimate) -> list[Finding]:
    if not partial.low > MOSTLY:
        return []
    evidence = f"given people's preference, reward and log length correlate by {number(partial)} within prompts"
    remedy = "Train on pairs whose length does not reveal the better answer."
    return [Finding("warning", "The reward is mostly length", evidence, remedy)]


def _matched_findings(matched: Estimate | None, accuracy: Estimate) -> list[Finding]:
    if matched is None or matched.n < FEWEST or not accuracy.low > 0.5 or matched.low > 0.5:
        return []
    evidence = f"accuracy is {percent(matched)} on pairs whose lengths differ by less than {100 * MATCHED:.0f} %"
    remedy = "Train and audit on more pairs of equal length."
    return [Finding("warning", "Not shown to be better than chance at equal length", evidence, remedy)]
