"""A rubric against people, criterion by criterion: who is right, who says the same, who changes its mind, and who decides.

Axes: n pairs, c criteria. Intervals are by prompt. A fault counts as right where the worse response has it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Curve, Estimate, Finding, Quantity, Report
from guerdon.feedback.rubric.table import CriteriaTable
from guerdon.formulas.agreement import pair_accuracy
from guerdon.formulas.clustered import clustered_share
from guerdon.formulas.resampling import bootstrap
from guerdon.formulas.rubrics import decisions_that_need, fit_scale
from guerdon.formulas.uncertainty import auroc
from guerdon.models.estimates import percent
from guerdon.models.judges.rubric.model import RubricTally
from guerdon.models.judges.rubric.rubrics import Criterion, Rubric, weights_of

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["rubric_report"]

SAME = 0.9  # correlation from which two criteria say the same
SAME_FOR_ALL = 0.8  # correlation of all criteria from which on the judge is at fault, not the rubric
MOST_CORRELATIONS = 20  # pairs of criteria in the report
UNSTABLE = 0.1  # share of answers that flip from which on a criterion is called unstable
MEASURES: Mapping[str, tuple[str, str]] = {
    "accuracy": ("agreement with people", "share of pairs that it orders as people do; a pair that it does not order counts half"),
    "auc": (
        "AUC of better against worse",
        "probability that it rates a response that people preferred above one that they did not, to any prompt",
    ),
    "met": ("responses that meet it", "share with P(met) of a half or more"),
    "flips": ("answers that flip", "share of answers that change when the question is reworded and the seed changes"),
    "decides": ("decisions that need it", "share of the rubric's decisions that change without it; a tie counts half"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one criterion; a measure that could not be taken is absent. spread: of P(met) over responses."""

    criterion: Criterion
    estimates: Mapping[str, Estimate]
    spread: float
    num_known: int


def rubric_report(
    rubric: Rubric,
    table: CriteriaTable,
    tally: RubricTally,
    again: Float[np.ndarray, "r c"] | None = None,
    about: Mapping[str, str] | None = None,
    *,
    draws: int = 500,
    seed: int = 0,
) -> Report:
    """The audit. again: p of the same responses when asked in other words, NaN where they were not."""
    measured = [_measure(rubric, table, again, i, draws, seed) for i in range(len(rubric.criteria))]
    known = np.isfinite(table.value)
    estimates = {"agreement": _share(pair_accuracy(table.value, table.q), table, known)}
    estimates["unresolved"] = Estimate(*clustered_share((~known).astype(float), table.group, table.weight))
    if known.any() and np.any(table.value[known]):
        estimates["scale"] = _scale(rubric, table, known, draws, seed)
    quantities = {
        "agreement": Quantity("agreement with people", "share", "The rubric"),
        "unresolved": Quantity("pairs without a reward for both", "share", "The rubric"),
        "scale": Quantity(
            "scale that fits people", "nats", "The rubric", "nats per point of the combined number, to write as `scale`"
        ),
    }
    for each in measured:
        for name, estimate in each.estimates.items():
            label, meaning = MEASURES[name]
            key = f"{name}/{each.criterion.id}"
            estimates[key] = estimate
            quantities[key] = Quantity(f"{label}, {each.criterion.id}", "share", _title(label), meaning)
    correlations = _correlations(rubric.criteria, table, seed)
    for (one, other), r in correlations.items():
        estimates[f"correlation/{one}/{other}"] = r
        quantities[f"correlation/{one}/{other}"] = Quantity(
            f"correlation of {one} and {other}", "number", "Criteria that say the same", "of P(met), over responses"
        )
    facts = {
        "rubric": f"{rubric.id} {rubric.version}",
        "hash": rubric.fingerprint,
        "rule": f"{rubric.combine}, {rubric.nats:g} nats per point",
        "criteria": str(len(rubric.criteria)),
        "pairs": f"{len(table):,}",
        "responses": f"{len(table.responses):,}",
        **(about or {}),
    }
    return Report(
        f"Rubric {rubric.id}",
        about=facts,
        estimates=estimates,
        findings=tuple(_findings(measured, correlations, tally)),
        curves=_curves(measured),
        quantities=quantities,
        summary=_summary(estimates["agreement"], measured),
    )


# ---- Measures ----------------------------------------------------------------------------------------------------------


def _measure(
    rubric: Rubric, table: CriteriaTable, again: Float[np.ndarray, "r c"] | None, i: int, draws: int, seed: int
) -> Measured:
    criterion = rubric.criteria[i]
    sign = -1.0 if criterion.weight < 0 else 1.0
    p, margin = table.responses[:, i], sign * (table.first[:, i] - table.second[:, i])
    known, paired = np.isfinite(p), np.isfinite(margin)
    estimates: dict[str, Estimate] = {}
    if paired.any():
        estimates["accuracy"] = _share(pair_accuracy(margin, table.q), table, paired)
        estimates["auc"] = _auc(table, i, sign, paired, draws, seed)
    if known.any():
        estimates["met"] = Estimate(*clustered_share((p[known] >= 0.5).astype(float), table.response_group[known]))
    if again is not None and (both := known & np.isfinite(again[:, i])).any():
        flips = ((p >= 0.5) != (again[:, i] >= 0.5)).astype(float)
        estimates["flips"] = Estimate(*clustered_share(flips[both], table.response_group[both]))
    whole = np.isfinite(table.first).all(axis=1) & np.isfinite(table.second).all(axis=1)
    if whole.any() and not rubric.prompts:
        weight, required = weights_of(rubric.criteria)
        needs = decisions_that_need(table.first[whole], table.second[whole], weight, required, rubric.combine)
        estimates["decides"] = Estimate(*clustered_share(needs[:, i], table.group[whole], table.weight[whole]))
    spread = float(np.ptp(p[known])) if known.any() else math.nan
    return Measured(criterion, estimates, spread, int(known.sum()))


def _share(values: Float[np.ndarray, " n"], table: CriteriaTable, known: np.ndarray) -> Estimate:
    if not known.any():
        return Estimate(math.nan, math.nan, math.nan, 0)
    return Estimate(*clustered_share(values[known], table.group[known], table.weight[known]))


def _auc(table: CriteriaTable, i: int, sign: float, known: np.ndarray, draws: int, seed: int) -> Estimate:
    """Better against worse responses, over all prompts; soft labels count as far as they go."""
    score = sign * np.concatenate([table.first[known, i], table.second[known, i]])
    better = np.concatenate([table.q[known], 1.0 - table.q[known]])
    group, weight = np.tile(table.group[known], 2), np.tile(table.weight[known], 2)

    def statistic(rows: np.ndarray) -> float:
        return auroc(score[rows], better[rows], weight[rows])

    return Estimate(*bootstrap(statistic, group, draws, seed))


def _scale(rubric: Rubric, table: CriteriaTable, known: np.ndarray, draws: int, seed: int) -> Estimate:
    points, q = table.value[known] / rubric.nats, table.q[known]
    weight = table.weight[known]

    def statistic(rows: np.ndarray) -> float:
        return fit_scale(points[rows], q[rows], weight[rows])

    return Estimate(*bootstrap(statistic, table.group[known], draws, seed))


# ---- Findings ----------------------------------------------------------------------------------------------------------


def _findings(
    measured: Sequence[Measured], correlations: Mapping[tuple[str, str], Estimate], tally: RubricTally
) -> Iterator[Finding]:
    yield from _failure_findings(tally)
    for each in measured:
        yield from _criterion_findings(each)
    yield from _same_findings(correlations)
    if len(measured) > 1:
        yield from _carrier_finding(measured)


def _failure_findings(tally: RubricTally) -> Iterator[Finding]:
    if tally.failures:
        counts = ", ".join(
            f"{name or 'no criterion'} {code} {count:,}" for (name, code), count in tally.failures.most_common(8)
        )
        yield Finding(
            "warning",
            f"{tally.unresolved:,} of {tally.responses:,} responses have no reward",
            f"failed calls: {counts}",
            "Run the command again: only what failed is asked for again. A criterion that always fails has to be rewritten.",
        )


def _criterion_findings(each: Measured) -> Iterator[Finding]:
    name, estimates = each.criterion.id, each.estimates
    if each.num_known and (each.spread < 1e-9 or estimates["met"].value in (0.0, 1.0)):
        answer = "yes" if estimates["met"].value >= 0.5 else "no"
        effect = "it has no effect" if each.spread < 1e-9 else f"P(met) varies by {each.spread:.2g} only"
        yield Finding(
            "warning",
            f"{name} is always answered {answer}",
            f"all {each.num_known:,} responses; {effect}",
            "Make it stricter, or drop it.",
        )
    accuracy = estimates.get("accuracy")
    if accuracy is not None and accuracy.high < 0.5:
        yield Finding(
            "warning",
            f"{name} points away from what people prefer",
            f"it agrees with people on {percent(accuracy)} of pairs",
            "Turn the sign of its weight, or rewrite it.",
        )
    elif accuracy is not None and accuracy.low <= 0.5 and each.spread > 1e-9:
        yield Finding(
            "note",
            f"{name} does not predict what people prefer",
            f"it agrees with people on {percent(accuracy)} of pairs",
            "Judge more pairs, or drop it if it is not there for its own sake.",
        )
    flips = estimates.get("flips")
    if flips is not None and flips.low > UNSTABLE:
        yield Finding(
            "warning",
            f"{name} is unstable",
            f"{percent(flips)} of its answers flip when it is asked in other words",
            "Say what to look for in the response, so that two readers would agree.",
        )


def _same_findings(correlations: Mapping[tuple[str, str], Estimate]) -> Iterator[Finding]:
    values = [abs(r.value) for r in correlations.values()]
    if len(values) > 2 and min(values) >= SAME_FOR_ALL:
        yield Finding(
            "warning",
            "The judge does not tell the criteria apart",
            f"its answers to any two of them correlate at {min(values):.2f} or more",
            "Use a stronger judge: this one gives a response the same answer whatever it is asked.",
        )
        return
    for (one, other), r in correlations.items():
        if abs(r.value) >= SAME:
            yield Finding(
                "warning",
                f"{one} and {other} say {'the same' if r.value > 0 else 'the opposite'}",
                f"their answers correlate at {r.value:.2f} [{r.low:.2f}, {r.high:.2f}] over {r.n:,} prompts",
                "Join them: what they say counts twice.",
            )


def _correlations(criteria: Sequence[Criterion], table: CriteriaTable, seed: int) -> dict[tuple[str, str], Estimate]:
    """The largest correlations between the answers to two criteria, over all responses that have both."""
    values = {}
    for i, j in combinations(range(len(criteria)), 2):
        a, b = table.responses[:, i], table.responses[:, j]
        known = np.isfinite(a) & np.isfinite(b)
        if known.sum() > 2 and np.ptp(a[known]) > 1e-9 and np.ptp(b[known]) > 1e-9:
            values[i, j] = float(np.corrcoef(a[known], b[known])[0, 1])
    largest = sorted(values, key=lambda key: -abs(values[key]))[:MOST_CORRELATIONS]
    return {(criteria[i].id, criteria[j].id): _correlation(table, i, j, seed) for i, j in largest}


def _correlation(table: CriteriaTable, i: int, j: int, seed: int) -> Estimate:
    known = np.isfinite(table.responses[:, [i, j]]).all(axis=1)
    both, group = table.responses[known][:, [i, j]], table.response_group[known]

    def statistic(rows: np.ndarray) -> float:
        a, b = both[rows].T
        return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 0 and np.ptp(b) > 0 else math.nan

    return Estimate(*bootstrap(statistic, group, 300, seed))


def _carrier_finding(measured: Sequence[Measured]) -> Iterator[Finding]:
    shares = {each.criterion.id: each.estimates["decides"] for each in measured if "decides" in each.estimates}
    if not shares:
        return
    name = max(shares, key=lambda key: shares[key].value)
    if shares[name].low > 0.5:
        yield Finding(
            "note",
            f"{name} decides alone more often than not",
            f"{percent(shares[name])} of decisions change without it",
            "A policy that games it games the rubric: lower its weight, or split it.",
        )


# ---- Words and curves ----------------------------------------------------------------------------------------------------


def _curves(measured: Sequence[Measured]) -> dict[str, Curve]:
    curves = {}
    for name, (label, _) in MEASURES.items():
        rows = [(each.criterion.id, each.estimates[name]) for each in measured if name in each.estimates]
        if len(rows) > 1:
            x = tuple(float(i) for i in range(len(rows)))
            curves[name] = Curve(
                x, tuple(y for _, y in rows), "criterion", label, "bars", x_names=tuple(key for key, _ in rows),
                title=_title(label),
            )  # fmt: skip
    return curves


def _title(label: str) -> str:
    return f"{label[:1].upper()}{label[1:]}"


def _summary(accuracy: Estimate, measured: Sequence[Measured]) -> str:
    if not accuracy.n:
        return "No pair has a reward for both responses."
    right = [each for each in measured if "accuracy" in each.estimates and each.estimates["accuracy"].low > 0.5]
    return (
        f"The rubric agrees with people on {percent(accuracy)} of pairs; {len(right)} of {len(measured)} criteria "
        "agree with them more often than chance."
    )
