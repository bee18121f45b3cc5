"""Two models on the same comparisons: which orders more pairs rightly, which means its odds, and where they disagree.

Axis: n pairs. Differences are a's less b's, pair by pair: their intervals are narrower than the two apart suggest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.auditing.measures.accuracy import POWER_80
from guerdon.contracts import Curve, Estimate, Example, Finding, GuerdonError, Quantity, Report, digest_all
from guerdon.formulas.agreement import pair_accuracy
from guerdon.formulas.calibration import ece, nll
from guerdon.formulas.estimation import mcnemar
from guerdon.formulas.resampling import bootstrap, bootstrap_mean
from guerdon.models.calibration_error import ODDS
from guerdon.models.calibration_error import QUANTITIES as ODDS_QUANTITIES
from guerdon.models.estimates import SHARED_QUANTITIES, estimate_share
from guerdon.models.scored_pairs import ScoredPairs, score_comparisons

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, Judge, RewardModel
    from guerdon.models.scored_pairs import Progress

POINTS: Final = 0.02  # a difference of accuracy worth telling two models apart by

SECTION = "One beside the other"
QUANTITIES: Mapping[str, Quantity] = {
    "accuracy_difference": Quantity("accuracy, a less b", "share", SECTION, "pair by pair, so its interval is narrow"),
    "only_a_right": Quantity("only a is right", "share", SECTION, "pairs that a orders rightly and b does not"),
    "only_b_right": Quantity("only b is right", "share", SECTION, "pairs that b orders rightly and a does not"),
    "mcnemar_p": Quantity(
        "p-value of equal accuracy",
        "number",
        SECTION,
        "exact, pairs taken as independent; n counts those only one gets right",
    ),
    "agreement": Quantity("they agree", "share", SECTION, "pairs that both order alike"),
    "margin_correlation": Quantity(
        "their margins agree", "number", SECTION, "1 where one is the other on another scale"
    ),
    "nll_difference": Quantity("log loss, a less b", "nats", ODDS, "below 0 the odds of a say more"),
    "ece_difference": Quantity("calibration error, a less b", "share", ODDS, "below 0 a means its odds more"),
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
    """What tells two models apart on comparisons that neither has seen.

    Keys: accuracy_a, accuracy_b, accuracy_difference, only_a_right, only_b_right, mcnemar_p, agreement,
    margin_correlation, nll_a, nll_b, nll_difference, ece_a, ece_b, ece_difference. Curve: difference_by_source, where
    there is more than one source. Examples: the pairs on which they disagree most.
    """
    if not comparisons:
        raise GuerdonError("compare: no comparisons; remedy: give at least one")
    if names[0] == names[1]:
        names = (f"{names[0]} (a)", f"{names[1]} (b)")
    both = [score_comparisons(model, comparisons, progress=_half(progress, i)) for i, model in enumerate((a, b))]
    ours, theirs = both
    right_a, right_b = (pair_accuracy(pairs.margin, pairs.q) for pairs in both)

    def mean(values: Float[np.ndarray, " n"]) -> Estimate:
        return estimate_share(values, ours.group, ours.weight, options)

    estimates = {
        "accuracy_a": mean(right_a),
        "accuracy_b": mean(right_b),
        "accuracy_difference": _difference(right_a - right_b, ours, options),
        "only_a_right": mean((right_a > right_b).astype(np.float64)),
        "only_b_right": mean((right_b > right_a).astype(np.float64)),
        "mcnemar_p": _mcnemar(right_a, right_b),
        "agreement": mean((np.sign(ours.margin) == np.sign(theirs.margin)).astype(np.float64)),
        "margin_correlation": _correlation(ours, theirs, options),
        **_odds(ours, theirs, options),
    }
    curves = {}
    if len(np.unique(ours.source)) > 1:
        curves["difference_by_source"] = _by_source(right_a - right_b, ours, options)
    facts = {
        "a": names[0],
        "b": names[1],
        "comparisons": str(len(comparisons)),
        "pairs": str(len(ours)),
        "groups": str(ours.num_groups),
        "comparisons hash": digest_all(comparison.id for comparison in comparisons),
        "intervals": f"95 %, {options.draws} bootstrap draws by group, seed {options.seed}",
    }
    return Report(
        f"{names[0]} beside {names[1]}",
        facts,
        estimates,
        _findings(estimates, names),
        curves,
        _disagreements(comparisons, ours, theirs, names, options.worst),
        summary=_sentence(estimates, names),
        quantities=QUANTITIES,
    )


def _half(progress: Progress | None, i: int) -> Progress | None:
    """Progress of the first model, or the second, as one count over both."""
    return None if progress is None else lambda done, total: progress(i * total + done, 2 * total)


def _difference(values: Float[np.ndarray, " n"], pairs: ScoredPairs, options: AuditOptions) -> Estimate:
    return Estimate(*bootstrap_mean(values, pairs.group, pairs.weight, options.draws, options.seed))


def _mcnemar(right_a: Float[np.ndarray, " n"], right_b: Float[np.ndarray, " n"]) -> Estimate:
    """The exact p of equal accuracy, pairs taken as independent; it has no interval. n counts the pairs that differ."""
    only_a, only_b = int((right_a > right_b).sum()), int((right_b > right_a).sum())
    return Estimate(mcnemar(only_a, only_b), math.nan, math.nan, only_a + only_b)


def _correlation(a: ScoredPairs, b: ScoredPairs, options: AuditOptions) -> Estimate:
    """Of the margins, with the sign that the order shown gives them: through the origin, so no order changes it."""

    def cosine(rows: np.ndarray) -> float:
        x, y = a.margin[rows], b.margin[rows]
        size = math.sqrt(float(x @ x) * float(y @ y))
        return float(x @ y) / size if size > 0 else math.nan

    return Estimate(*bootstrap(cosine, a.group, options.draws, options.seed))


def _odds(a: ScoredPairs, b: ScoredPairs, options: AuditOptions) -> dict[str, Estimate]:
    """Log loss and calibration error of each, and their differences."""
    found = {}
    losses = [nll(pairs.margin, pairs.q) for pairs in (a, b)]
    for name, loss in zip("ab", losses, strict=True):
        found[f"nll_{name}"] = _difference(loss, a, options)
    found["nll_difference"] = _difference(losses[0] - losses[1], a, options)

    def error(pairs: ScoredPairs, rows: np.ndarray) -> float:
        return float(ece(pairs.margin[rows], pairs.q[rows], options.bins))

    for name, pairs in zip("ab", (a, b), strict=True):
        found[f"ece_{name}"] = _resampled(lambda rows, pairs=pairs: error(pairs, rows), a, options)  # type: ignore[misc]
    found["ece_difference"] = _resampled(lambda rows: error(a, rows) - error(b, rows), a, options)
    return found


def _resampled(statistic: Callable[[np.ndarray], float], pairs: ScoredPairs, options: AuditOptions) -> Estimate:
    """Limits shifted to surround the value: resampling adds to a calibration error (see models/odds.py)."""
    found = bootstrap(statistic, pairs.group, options.draws, options.seed)
    half = (found.high - found.low) / 2
    return Estimate(found.value, found.value - half, found.value + half, found.n)


def _by_source(difference: Float[np.ndarray, " n"], pairs: ScoredPairs, options: AuditOptions) -> Curve:
    names = np.unique(pairs.source)
    y = []
    for name in names:
        chosen = pairs.source == name
        y.append(
            Estimate(
                *bootstrap_mean(
                    difference[chosen], pairs.group[chosen], pairs.weight[chosen], options.draws, options.seed
                )
            )
        )
    shown = tuple(str(name) or "no source" for name in names)
    return Curve(
        tuple(float(i) for i in range(len(names))),
        tuple(y),
        "source",
        "accuracy, a less b",
        kind="points",
        title="Difference of accuracy by source",
        x_names=shown,
    )


# ---- In words ----------------------------------------------------------------------------------------------------


def _sentence(found: dict[str, Estimate], names: tuple[str, str]) -> str:
    difference = found["accuracy_difference"]
    points = f"{100 * abs(difference.value):.1f} points"
    if difference.low > 0 or difference.high < 0:
        better, worse = names if difference.low > 0 else names[::-1]
        return f"{better} orders {points} more of the pairs rightly than {worse}"
    return f"No difference of accuracy is shown between {names[0]} and {names[1]}"


def _findings(found: dict[str, Estimate], names: tuple[str, str]) -> tuple[Finding, ...]:
    difference, p = found["accuracy_difference"], found["mcnemar_p"]
    evidence = (
        f"{names[0]} less {names[1]}: accuracy {difference}; of {p.n} pairs that only one gets right, p = {p.value:.2g}"
    )
    notes = [Finding("note", _sentence(found, names), evidence, _needed(difference))]
    loss, error = found["nll_difference"], found["ece_difference"]
    if loss.low > 0 or loss.high < 0:
        better = names[0] if loss.high < 0 else names[1]
        said = f"log loss of {names[0]} less {names[1]} {loss}, calibration error {error}"
        notes.append(Finding("note", f"The odds of {better} say more", said, "Calibrate both on the same data first."))
    return tuple(notes)


def _needed(difference: Estimate) -> str:
    """How many groups would tell a difference of POINTS, where this many do not."""
    error = (difference.high - difference.low) / (2 * 1.96)
    if difference.low > 0 or difference.high < 0 or not error > 0:
        return ""
    needed = math.ceil(difference.n * (error * POWER_80 / POINTS) ** 2)
    if needed <= difference.n:
        return ""
    return f"About {needed} groups are needed to see a difference of {100 * POINTS:.0f} points four times in five."


def _disagreements(
    comparisons: Sequence[Comparison], a: ScoredPairs, b: ScoredPairs, names: tuple[str, str], num: int
) -> tuple[Example, ...]:
    """Up to `num` pairs that the two order differently, one a comparison; first those where both are surest.

    Each model is sure by its own measure, its margin in its own standard deviations: raw scales do not compare.
    """
    scale_a, scale_b = (float(np.sqrt(np.mean(pairs.margin**2))) or 1.0 for pairs in (a, b))
    sure = np.minimum(np.abs(a.margin) / scale_a, np.abs(b.margin) / scale_b)
    apart: Bool[np.ndarray, " n"] = np.sign(a.margin) * np.sign(b.margin) < 0
    order = np.flatnonzero(apart)[np.argsort(-sure[apart], kind="stable")]
    _, earliest = np.unique(a.index[order], return_index=True)
    return tuple(_example(comparisons, a, b, names, int(row)) for row in order[np.sort(earliest)][:num])


def _example(
    comparisons: Sequence[Comparison], a: ScoredPairs, b: ScoredPairs, names: tuple[str, str], row: int
) -> Example:
    comparison = comparisons[a.index[row]]
    places, q = [int(a.first[row]), int(a.second[row])], float(a.q[row])
    choice = (0, 1) if a.margin[row] > 0 else (1, 0)  # where a's choice stands, and b's
    people = None if q == 0.5 else 0 if q > 0.5 else 1
    with_people = names[choice.index(people)] if people is not None else ""
    return Example(
        title=f"People side with {with_people}" if with_people else "People call it a tie",
        prompt=comparison.prompt,
        responses=tuple(comparison.responses[places[side]] for side in choice),
        labels=tuple(
            f"{name} prefers this, by {abs(float(pairs.margin[row])):.2f}"
            for name, pairs in zip(names, (a, b), strict=True)
        ),
        rewards=(math.nan, math.nan),
    )
