"""How often the model orders a pair as people do, and how often rules without a model do.

Axis: n pairs. People's preference is the majority's, q > 0.5. A pair that people or the model call a tie counts half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.contracts import Curve, Estimate, Finding, Quantity, Report, prompt_identity
from guerdon.errors import counted, verb
from guerdon.formulas.agreement import pair_accuracy
from guerdon.formulas.clustered import group_codes
from guerdon.models.estimates import (
    CORRECTNESS,
    SHARED_QUANTITIES,
    estimate_difference,
    estimate_share,
    percent,
    points_by_name,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped

    from guerdon.contracts import Comparison
    from guerdon.models.scored_pairs import ScoredPairs

FEWEST_GROUPS: Final = 15  # with fewer no interval is known to hold: benchmarks/coverage.py
FEWEST_WITH_RARER: Final = 10  # groups with a pair of the rarer kind, right or wrong
FEWEST_EVEN: Final = 8  # groups of equal share that those pairs come to
LENGTH_BINS: Final = 8
FEWEST_IN_BIN: Final = 20
WITHIN: Final = 0.05  # half the width of an interval of accuracy that a decision needs
POWER_80: Final = 1.96 + 0.84  # standard errors between a difference and 0 for 80 % power at a two-sided 5 %

TITLE = "Accuracy"
QUANTITIES: Mapping[str, Quantity] = {
    "constant": Quantity(
        "anchor: a constant", "share", CORRECTNESS, "accuracy of a model that gives everything the same reward"
    ),
    "accuracy_decided": Quantity(
        "accuracy, no ties", "share", CORRECTNESS, "pairs with a winner only; equal rewards count half"
    ),
    "accuracy_longer_preferred": Quantity(
        "when the better is longer", "share", CORRECTNESS, "accuracy on pairs whose better response is longer"
    ),
    "accuracy_shorter_preferred": Quantity(
        "when the better is shorter", "share", CORRECTNESS, "accuracy on pairs whose better response is shorter"
    ),
    "preference_ties": Quantity("tied labels", "share", CORRECTNESS, "pairs that people call equal"),
    **SHARED_QUANTITIES,
}


def measure_accuracy(pairs: ScoredPairs) -> Report:
    """Accuracy and its anchors, by length and by source.

    Keys: accuracy, accuracy_strict, longer_wins, constant, accuracy_above_longer, model_ties, preference_ties,
    accuracy_decided (where people call some pairs ties), accuracy_longer_preferred and accuracy_shorter_preferred (where
    there are such pairs), truncated. Curves: accuracy_by_length, accuracy_by_source.
    """
    is_right = pair_accuracy(pairs.margin, pairs.q)
    longer = pairs.first_length - pairs.second_length
    is_right_by_length = pair_accuracy(longer.astype(np.float64), pairs.q)
    is_decided, every_row = ~pairs.is_tie, np.ones(len(pairs), dtype=bool)
    toward_better = longer * np.sign(pairs.q - 0.5)

    def share(values: Float[np.ndarray, " n"], rows: Bool[np.ndarray, " n"] = every_row) -> Estimate:
        return share_of_rows(values, rows, pairs)

    estimates = {
        "accuracy": share(is_right),
        "longer_wins": share(is_right_by_length),
        "constant": share(np.full(len(pairs), 0.5)),
        "accuracy_above_longer": estimate_difference(is_right, is_right_by_length, pairs.group, pairs.weight),
        "accuracy_strict": share((is_right == 1.0).astype(np.float64), is_decided),
    }
    if pairs.is_tie.any():
        estimates["accuracy_decided"] = share(is_right, is_decided)
    for name, rows in (("longer", toward_better > 0), ("shorter", toward_better < 0)):
        if rows.any():
            estimates[f"accuracy_{name}_preferred"] = share(is_right, rows)
    estimates["model_ties"] = share((pairs.margin == 0).astype(np.float64))
    estimates["preference_ties"] = share(pairs.is_tie.astype(np.float64))
    estimates["truncated"] = share(pairs.truncated.astype(np.float64))
    curves = {}
    if by_length := _by_length(is_right, toward_better, pairs):
        curves["accuracy_by_length"] = by_length
    if len(np.unique(pairs.source)) > 1:
        curves["accuracy_by_source"] = _by_source(is_right, pairs)
    findings = (*_findings(estimates), *few_prompts_finding(is_right, pairs.group, pairs.weight))
    return Report(TITLE, {}, estimates, findings, curves, quantities=QUANTITIES)


def share_of_rows(values: Float[np.ndarray, " n"], rows: Bool[np.ndarray, " n"], pairs: ScoredPairs) -> Estimate:
    """The share that values in [0, 1] give on some of the pairs."""
    return estimate_share(values[rows], pairs.group[rows], pairs.weight[rows])


def _by_length(
    is_right: Float[np.ndarray, " n"],
    toward_better: Float[np.ndarray, " n"],
    pairs: ScoredPairs,
) -> Curve | None:
    """Accuracy in bins of equal mass of (better minus worse) length; None with too few pairs for two bins."""
    is_decided = ~pairs.is_tie
    num_bins = min(LENGTH_BINS, int(is_decided.sum()) // FEWEST_IN_BIN)
    if num_bins < 2:
        return None
    edges = np.unique(np.quantile(toward_better[is_decided], np.linspace(0, 1, num_bins + 1)[1:-1]))
    bin_of = np.searchsorted(edges, toward_better, side="right")
    rows_by_bin = [is_decided & (bin_of == number) for number in np.unique(bin_of[is_decided])]
    return Curve(
        tuple(float(np.median(toward_better[rows])) for rows in rows_by_bin),
        tuple(share_of_rows(is_right, rows, pairs) for rows in rows_by_bin),
        "length of the better minus the worse answer, characters",
        "accuracy",
        title="Accuracy by difference in length",
        caption="A model that only counts characters gets 0 % left of zero and 100 % right of it; "
        "for one that ignores length the curve is flat.",
    )


def _by_source(is_right: Float[np.ndarray, " n"], pairs: ScoredPairs) -> Curve:
    sources = np.unique(pairs.source)
    return points_by_name(
        (str(source) or "no source" for source in sources),
        (share_of_rows(is_right, pairs.source == source, pairs) for source in sources),
        "source",
        "accuracy",
        title="Accuracy by source",
    )


def _findings(estimates: dict[str, Estimate]) -> tuple[Finding, ...]:
    accuracy, above = estimates["accuracy"], estimates["accuracy_above_longer"]
    findings = []
    if accuracy.high < 0.5:
        title = "The model prefers the worse answer"
        remedy = "Check that first and second, or chosen and rejected, are not swapped in its training data."
        findings.append(Finding("warning", title, f"accuracy is {percent(accuracy)}", remedy))
    elif not accuracy.low > 0.5:
        title = "Not shown to be better than chance"
        evidence = f"accuracy is {percent(accuracy)}, an interval that includes 50"
        remedy = "Audit on more prompts; if the interval still includes 50, train on more or cleaner comparisons."
        findings.append(Finding("warning", title, evidence, remedy))
    if not above.low > 0:
        title = "Not shown to be better than preferring the longer answer"
        evidence = (
            f"accuracy is {percent(accuracy)}, that of preferring the longer answer {percent(estimates['longer_wins'])}, "
            f"the difference {percent(above)}"
        )
        remedy = (
            "Compare the two on pairs of equal length; train on pairs whose length does not reveal the better answer."
        )
        findings.append(Finding("warning", title, evidence, remedy))
    findings += [*_length_finding(estimates), *_power_finding(accuracy)]
    if estimates["truncated"].value > 0:
        title = "The model did not see all the text"
        evidence = f"a text was truncated in {percent(estimates['truncated'])} of pairs"
        remedy = "Raise the model's max_length, or drop the longest comparisons and report it."
        findings.append(Finding("warning", title, evidence, remedy))
    return tuple(findings)


def few_prompts_finding(
    is_right: Float[np.ndarray, " n"], group: Shaped[np.ndarray, " n"], weight: Float[np.ndarray, " n"]
) -> list[Finding]:
    """Where benchmarks/coverage.py shows intervals of accuracy that miss the truth more often than one time in twenty."""
    code = group_codes(group, len(group))
    sums = [np.bincount(code, weights=weight * kind) for kind in (1.0 - is_right, is_right)]
    wrong, right = (int((total > 0).sum()) for total in sums)
    num_groups = len(sums[0])
    if num_groups < 2 or min(wrong, right) == 0:  # an exact interval
        return []
    even = min(float(total.sum() ** 2 / (total**2).sum()) for total in sums)  # Kish 1965
    if num_groups >= FEWEST_GROUPS and min(wrong, right) >= FEWEST_WITH_RARER and even >= FEWEST_EVEN:
        return []
    evidence = (
        f"{num_groups} groups, {wrong} of them with a pair that is not ordered correctly and {right} with one that is, the rarer "
        f"kind as uneven as in {even:.1f} equal groups; an interval needs {FEWEST_GROUPS} groups and {FEWEST_WITH_RARER} of either "
        f"kind, as even as {FEWEST_EVEN}, to hold 95 times in 100"
    )
    return [Finding("note", "The accuracy's interval may be too narrow", evidence, "Audit on more prompts.")]


def shared_prompts_finding(comparisons: Sequence[Comparison]) -> list[Finding]:
    """That the rows of one prompt count as independent, because the file gives them groups of their own."""
    prompts = len({prompt_identity(comparison.prompt) for comparison in comparisons})
    groups = len({comparison.group for comparison in comparisons})
    if prompts >= groups / 2:
        return []
    evidence = (
        f"there {verb(groups, 'are')} {counted(groups, 'group')} for {counted(prompts, 'prompt')}, and "
        "intervals count groups: they say how the numbers would "
        "vary with other groups of these prompts, not with other prompts"
    )
    remedy = "Leave the field `group` out where the rows of one prompt are not independent."
    return [Finding("note", "Many groups share a prompt", evidence, remedy)]


def groups_to_detect(difference: float, measured: Estimate) -> int:
    """How many groups would show a difference four times in five, at the error per group with which `measured` is known."""
    error = (measured.high - measured.low) / (2 * 1.96)
    return math.ceil(measured.n * (error * POWER_80 / difference) ** 2)


def half_width(estimate: Estimate) -> float:
    """Half the width of the interval; NaN without one."""
    return (estimate.high - estimate.low) / 2


def groups_needed(accuracy: Estimate) -> int:
    """About how many groups would make the interval no wider than WITHIN either way."""
    return round_up(accuracy.n * (half_width(accuracy) / WITHIN) ** 2)


def round_up(value: float) -> int:
    """Rounded up to two digits: a sample size is not known more exactly than that."""
    unit = int(10 ** max(0, math.floor(math.log10(value)) - 1))
    return math.ceil(value / unit) * unit


def _length_finding(estimates: dict[str, Estimate]) -> list[Finding]:
    longer, shorter = estimates.get("accuracy_longer_preferred"), estimates.get("accuracy_shorter_preferred")
    if longer is None or shorter is None or not (shorter.high < 0.5 < longer.low):
        return []
    title = "When the better answer is shorter, the model picks the longer one"
    evidence = (
        f"accuracy is {percent(longer)} where the better answer is longer, {percent(shorter)} where it is shorter"
    )
    remedy = "Read its mistakes; balance the training pairs by length, or penalize length."
    return [Finding("warning", title, evidence, remedy)]


def _power_finding(accuracy: Estimate) -> list[Finding]:
    half = half_width(accuracy)
    if math.isnan(half):
        return [Finding("warning", "Too little evidence", "a single group gives no interval", "Audit on more prompts.")]
    if half <= WITHIN:
        return []
    evidence = (
        f"there {verb(accuracy.n, 'are')} {counted(accuracy.n, 'group')}; about {groups_needed(accuracy)} are "
        "needed to know accuracy within "
        f"{100 * WITHIN:.0f} points"
    )
    return [Finding("warning", "Too little evidence", evidence, "Audit on more prompts before comparing models.")]
