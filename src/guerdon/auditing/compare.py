"""Two models on the same comparisons: which orders more pairs correctly, which has better odds, and where they disagree.

Axis: n pairs. Differences are a minus b, pair by pair, so their intervals are narrower than those of the two models suggest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.auditing.measures.accuracy import groups_to_detect
from guerdon.contracts import Curve, Estimate, Example, Finding, GuerdonError, Quantity, Report, digest_all
from guerdon.formulas.agreement import pair_accuracy
from guerdon.formulas.calibration import nll
from guerdon.formulas.calibration_error import calibration_error, debiased_error
from guerdon.formulas.clustered import sign_flip_p_value
from guerdon.formulas.resampling import bootstrap
from guerdon.models.calibration_error import ODDS
from guerdon.models.calibration_error import QUANTITIES as ODDS_QUANTITIES
from guerdon.models.estimates import (
    SHARED_QUANTITIES,
    describe_intervals,
    estimate_difference,
    estimate_mean,
    estimate_share,
    number,
    percent,
    points_by_name,
)
from guerdon.models.scored_pairs import ScoredPairs, score_comparisons

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, Judge, RewardModel
    from guerdon.progress import Progress

__all__ = ["LEVEL", "compare", "compare_pairs", "summarize_difference"]

POINTS: Final = 0.02  # the smallest difference of accuracy that matters
LEVEL: Final = 0.05

SECTION = "Comparison"
QUANTITIES: Mapping[str, Quantity] = {
    "accuracy_difference": Quantity("accuracy, a less b", "share", SECTION, "pair by pair, so its interval is narrow"),
    "only_a_right": Quantity("only a is right", "share", SECTION, "pairs that a orders correctly and b does not"),
    "only_b_right": Quantity("only b is right", "share", SECTION, "pairs that b orders correctly and a does not"),
    "equal_accuracy_p": Quantity(
        "p-value of equal accuracy",
        "number",
        SECTION,
        "groups change sign at random; n counts the groups in which one gets more right",
    ),
    "agreement": Quantity("they agree", "share", SECTION, "pairs that both order alike"),
    "margin_correlation": Quantity(
        "their margins agree", "number", SECTION, "1 where one is the other on another scale"
    ),
    "nll_difference": Quantity("log loss, a less b", "nats", ODDS, "below 0 the odds of a are better"),
    "ece_difference": Quantity("calibration error, a less b", "share", ODDS, "below 0 a is better calibrated"),
    **{
        f"{name}_{side}": described[name].variant(side)
        for described, name in ((SHARED_QUANTITIES, "accuracy"), (ODDS_QUANTITIES, "nll"), (ODDS_QUANTITIES, "ece"))
        for side in "ab"
    },
}


def compare(
    a: RewardModel | Judge,
    b: RewardModel | Judge,
    comparisons: Sequence[Comparison],
    options: AuditOptions,
    *,
    names: tuple[str, str] = ("A", "B"),
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """A report of how two models differ, on comparisons that neither was trained on.

    Keys: accuracy_a, accuracy_b, accuracy_difference, only_a_right, only_b_right, equal_accuracy_p, agreement,
    margin_correlation, nll_a, nll_b, nll_difference, ece_a, ece_b, ece_difference. Curve: difference_by_source, if there
    is more than one source. Examples: the pairs on which they disagree most.
    """
    if not comparisons:
        raise GuerdonError("compare: comparisons must be at least one, got none. Give held-out comparisons.")
    if names[0] == names[1]:
        names = (f"{names[0]} (a)", f"{names[1]} (b)")
    pairs_a, pairs_b = (
        score_comparisons(model, comparisons, keep_unresolved=True, progress=_half(progress, i))
        for i, model in enumerate((a, b))
    )
    both = pairs_a.is_resolved & pairs_b.is_resolved
    if not both.any():
        raise GuerdonError(
            f"compare: both models must have a verdict on some pair, got none of {len(both)}. Read the failures by code."
        )
    pairs_a, pairs_b = pairs_a.select(both), pairs_b.select(both)
    report = compare_pairs(pairs_a, pairs_b, comparisons, options, names=names)
    if not both.all():
        left_out = f"{int((~both).sum())} of {len(both)} pairs, on which one of them has no verdict"
        report = replace(report, about={**report.about, "left out": left_out})
    return report


def compare_pairs(
    pairs_a: ScoredPairs,
    pairs_b: ScoredPairs,
    comparisons: Sequence[Comparison],
    options: AuditOptions,
    *,
    names: tuple[str, str],
) -> Report:
    """The report of `compare`, from the pairs that the two models have scored."""
    estimates = {**_accuracy(pairs_a, pairs_b, options), **_odds(pairs_a, pairs_b, options)}
    is_multi_source = len(np.unique(pairs_a.source)) > 1
    facts = {
        "a": names[0],
        "b": names[1],
        "comparisons": str(len(comparisons)),
        "pairs": str(len(pairs_a)),
        "groups": str(pairs_a.num_groups),
        "comparisons hash": digest_all(comparison.id for comparison in comparisons),
        "intervals": describe_intervals(options.draws, options.seed),
    }
    return Report(
        f"{names[0]} compared with {names[1]}",
        facts,
        estimates,
        _findings(estimates, names),
        {"difference_by_source": _by_source(pairs_a, pairs_b)} if is_multi_source else {},
        _disagreements(comparisons, pairs_a, pairs_b, names, options.worst),
        summary=summarize_difference(estimates, names),
        quantities=QUANTITIES,
    )


def _half(progress: Progress | None, i: int) -> Progress | None:
    """Progress of the first model, or of the second, counted over both."""
    return None if progress is None else lambda done, total: progress(i * total + done, 2 * total)


def _accuracy(a: ScoredPairs, b: ScoredPairs, options: AuditOptions) -> dict[str, Estimate]:
    right_a, right_b = (pair_accuracy(pairs.margin, pairs.q) for pairs in (a, b))
    share = partial(estimate_share, groups=a.group, weight=a.weight)
    return {
        "accuracy_a": share(right_a),
        "accuracy_b": share(right_b),
        "accuracy_difference": estimate_difference(right_a, right_b, a.group, a.weight),
        "only_a_right": share((right_a > right_b).astype(np.float64)),
        "only_b_right": share((right_b > right_a).astype(np.float64)),
        "equal_accuracy_p": _equal_accuracy(right_a, right_b, a),
        "agreement": share((np.sign(a.margin) == np.sign(b.margin)).astype(np.float64)),
        "margin_correlation": _margin_correlation(a, b, options),
    }


def _equal_accuracy(right_a: Float[np.ndarray, " n"], right_b: Float[np.ndarray, " n"], pairs: ScoredPairs) -> Estimate:
    """The p-value of equal accuracy, by group, without an interval. n counts groups in which one model gets more right."""
    _, code = np.unique(pairs.group, return_inverse=True)
    difference = right_a - right_b
    num_unequal = int((np.abs(np.bincount(code, weights=pairs.weight * difference)) > 1e-9).sum())
    return Estimate(sign_flip_p_value(difference, pairs.group, pairs.weight), math.nan, math.nan, num_unequal)


def _margin_correlation(a: ScoredPairs, b: ScoredPairs, options: AuditOptions) -> Estimate:
    """Correlation through the origin, so that swapping the two responses of a pair does not change it."""

    def cosine(rows: Int[np.ndarray, " m"]) -> float:
        x, y = a.margin[rows], b.margin[rows]
        size = math.sqrt(float(x @ x) * float(y @ y))
        return float(x @ y) / size if size > 0 else math.nan

    return Estimate(*bootstrap(cosine, a.group, options.draws, options.seed))


def _odds(a: ScoredPairs, b: ScoredPairs, options: AuditOptions) -> dict[str, Estimate]:
    """Log loss and calibration error of each model, and their differences."""
    nll_a, nll_b = (nll(pairs.margin, pairs.q) for pairs in (a, b))
    mean = partial(estimate_mean, groups=a.group, weight=a.weight)

    def error(pairs: ScoredPairs, rows: Int[np.ndarray, " m"]) -> float:
        return debiased_error(pairs.margin[rows], pairs.q[rows], pairs.group[rows], options.bins)

    return {
        "nll_a": mean(nll_a),
        "nll_b": mean(nll_b),
        "nll_difference": mean(nll_a - nll_b),
        "ece_a": Estimate(*calibration_error(a.margin, a.q, a.group, options.bins)),
        "ece_b": Estimate(*calibration_error(b.margin, b.q, b.group, options.bins)),
        "ece_difference": _centered(lambda rows: error(a, rows) - error(b, rows), a, options),
    }


def _centered(
    statistic: Callable[[Int[np.ndarray, " m"]], float], pairs: ScoredPairs, options: AuditOptions
) -> Estimate:
    """An interval shifted to be centered at the value, for resampling biases calibration errors upward."""
    value, low, high, n = bootstrap(statistic, pairs.group, options.draws, options.seed)
    half = (high - low) / 2
    return Estimate(value, value - half, value + half, n)


def _by_source(a: ScoredPairs, b: ScoredPairs) -> Curve:
    right_a, right_b = (pair_accuracy(pairs.margin, pairs.q) for pairs in (a, b))
    names, y = np.unique(a.source), []
    for name in names:
        own = a.source == name
        y.append(estimate_difference(right_a[own], right_b[own], a.group[own], a.weight[own]))
    return points_by_name(
        (str(name) or "no source" for name in names),
        y,
        "source",
        "accuracy, a less b",
        title="Difference of accuracy by source",
    )


# ---- In words ----------------------------------------------------------------------------------------------------


def summarize_difference(estimates: Mapping[str, Estimate], names: tuple[str, str]) -> str:
    """Which model is better. The interval and the test must agree: ties count half in both, and both go by group."""
    difference, p = estimates["accuracy_difference"], estimates["equal_accuracy_p"]
    is_clear, is_significant = difference.low > 0 or difference.high < 0, p.value < LEVEL
    better, worse = names if difference.value > 0 else names[::-1]
    points = f"{100 * abs(difference.value):.1f} points"
    if is_clear and is_significant:
        return f"{better} is better: it orders {points} more of the pairs correctly than {worse}"
    if is_clear or is_significant:
        return (
            f"Borderline: {better} orders {points} more of the pairs correctly than {worse}, which chance may explain"
        )
    return f"No difference in accuracy is shown between {names[0]} and {names[1]}"


def _findings(estimates: Mapping[str, Estimate], names: tuple[str, str]) -> tuple[Finding, ...]:
    difference, p = estimates["accuracy_difference"], estimates["equal_accuracy_p"]
    evidence = (
        f"accuracy of {names[0]} less that of {names[1]} is {percent(difference)}; p = {p.value:.2g}, from the {p.n} groups "
        "in which one orders more pairs correctly"
    )
    notes = [Finding("note", summarize_difference(estimates, names), evidence, _needed(difference))]
    loss, error = estimates["nll_difference"], estimates["ece_difference"]
    if loss.low > 0 or loss.high < 0:
        better = names[0] if loss.high < 0 else names[1]
        evidence = f"log loss of {names[0]} less {names[1]} is {number(loss)}, calibration error {percent(error)}"
        notes.append(
            Finding("note", f"The odds of {better} are better", evidence, "Calibrate both on the same data first.")
        )
    return tuple(notes)


def _needed(difference: Estimate) -> str:
    """How many groups would show a difference of POINTS; empty if these are enough, or show a difference already."""
    if difference.low > 0 or difference.high < 0 or not difference.high > difference.low:
        return ""
    needed = groups_to_detect(POINTS, difference)
    if needed <= difference.n:
        return ""
    return f"About {needed} groups are needed to see a difference of {100 * POINTS:.0f} points four times in five."


def _disagreements(
    comparisons: Sequence[Comparison], a: ScoredPairs, b: ScoredPairs, names: tuple[str, str], num: int
) -> tuple[Example, ...]:
    """Up to `num` pairs that the models order differently, one per comparison; first those where both are most certain.

    Certainty is the margin in a model's own standard deviations, since raw scales do not compare.
    """
    scale_a, scale_b = (float(np.sqrt(np.mean(pairs.margin**2))) or 1.0 for pairs in (a, b))
    certainty = np.minimum(np.abs(a.margin) / scale_a, np.abs(b.margin) / scale_b)
    disagree: Bool[np.ndarray, " n"] = np.sign(a.margin) * np.sign(b.margin) < 0
    order = np.flatnonzero(disagree)[np.argsort(-certainty[disagree], kind="stable")]
    _, earliest = np.unique(a.index[order], return_index=True)
    return tuple(_example(comparisons, a, b, names, int(row)) for row in order[np.sort(earliest)][:num])


def _example(
    comparisons: Sequence[Comparison], a: ScoredPairs, b: ScoredPairs, names: tuple[str, str], row: int
) -> Example:
    """The response that a prefers, then the one that b prefers."""
    comparison = comparisons[a.index[row]]
    pair, q = [int(a.first[row]), int(a.second[row])], float(a.q[row])
    order = (0, 1) if a.margin[row] > 0 else (1, 0)
    if q == 0.5:
        title = "People call it a tie"
    else:
        title = f"People side with {names[order.index(0 if q > 0.5 else 1)]}"
    return Example(
        title=title,
        prompt=comparison.prompt,
        responses=tuple(comparison.responses[pair[side]] for side in order),
        labels=tuple(
            f"{name} prefers this, by {abs(float(pairs.margin[row])):.2f}"
            for name, pairs in zip(names, (a, b), strict=True)
        ),
        rewards=(math.nan, math.nan),
    )
