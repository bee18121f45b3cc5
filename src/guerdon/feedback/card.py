"""The judge card: how far a judge agrees with people, with itself, and with what it should not look at.

Axes: n pairs that people judged. Margins are the judge's log-odds that the first response is better, in nats, within +-8. Every
number has an interval over prompts. What has no verdict is counted and left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from guerdon.contracts import Comparison, Estimate, Finding, Quantity, Report
from guerdon.feedback import card_texts
from guerdon.formulas.agreement import cohen_kappa, leave_one_out, pair_accuracy
from guerdon.formulas.calibration import brier, calibration_slope, ece, fit_temperature
from guerdon.formulas.clustered import clustered_difference, clustered_mean, clustered_share
from guerdon.formulas.isotonic import IsotonicCurve, fit_isotonic, isotonic_log_odds
from guerdon.formulas.majority import measure_majority
from guerdon.formulas.regression import partial_slope
from guerdon.formulas.resampling import bootstrap
from guerdon.formulas.verdicts import clip_log_odds

if TYPE_CHECKING:
    from jaxtyping import Float

ISOTONIC_FROM = 1000  # pairs with a verdict, from which a curve is fitted instead of one temperature
FEWEST = 200  # pairs that a card should rest on

QUANTITIES = {
    "accuracy": Quantity("agreement with people's majority", "share", "Agreement", "A tie on either side counts half."),
    "ceiling": Quantity(
        "agreement of one person with the others", "share", "Agreement", "The human ceiling of one judgment, on pairs with several votes."
    ),
    "best_accuracy": Quantity(
        "best agreement that any judge can reach", "share", "Agreement", "The share of majorities that more people would confirm."
    ),
    "below_ceiling": Quantity("agreement less that of one person", "share", "Agreement", "On the pairs with several votes."),
    "kappa": Quantity("kappa with people's majority", "number", "Agreement", "1 is perfect, 0 is chance; both orders of each pair count."),
    "unresolved": Quantity("pairs without a verdict", "share", "Agreement"),
    "retest": Quantity("same preference with another seed", "share", "With itself"),
    "paraphrase_flips": Quantity("preferences that a paraphrased template flips", "share", "With itself"),
    "flip_rate": Quantity("pairs whose two orders disagree", "share", "Position"),
    "position_bias": Quantity("what being shown first adds", "nats", "Position"),
    "length": Quantity("what twice the length adds", "nats", "Bias", "Beside what people say of the pair."),
    "markup": Quantity("what twice the markup adds", "nats", "Bias", "Beside what people say, and length."),
    "list_items": Quantity("what twice the list items add", "nats", "Bias", "Beside what people say, and length."),
    "hedges": Quantity("what twice the hedges add", "nats", "Bias", "Beside what people say, and length."),
    "self_preference": Quantity(
        "what being of the judge's own family adds", "nats", "Bias", "Beside what people say, and length; where authors are known."
    ),
    "ece": Quantity("calibration error", "share", "Calibration", "Of P(first is better), against people's votes; 0 is perfect."),
    "brier": Quantity("Brier score", "number", "Calibration"),
    "brier_fitted": Quantity(
        "Brier score after the fitted map", "number", "Calibration", "Fitted on one half of the prompts, measured on the other, both ways."
    ),
    "temperature": Quantity(
        "temperature", "number", "Calibration", "Log-odds divided by it fit people best; above 1, the judge is overconfident."
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class JudgeMap:
    """What turns a judge's log-odds into people's: a temperature, or a monotone curve. judge: the fingerprint it belongs to."""

    judge: str
    temperature: float | None = None
    margin: tuple[float, ...] = ()
    log_odds: tuple[float, ...] = ()

    def __call__(self, margin: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """People's log-odds [n] of the judge's."""
        if self.temperature is not None:
            return np.asarray(margin, dtype=np.float64) / self.temperature
        return isotonic_log_odds(margin, IsotonicCurve(np.array(self.margin), np.array(self.log_odds)))

    def to_row(self) -> dict[str, Any]:
        """As plain values."""
        if self.temperature is not None:
            return {"judge": self.judge, "kind": "temperature", "temperature": self.temperature}
        return {"judge": self.judge, "kind": "isotonic", "margin": list(self.margin), "log_odds": list(self.log_odds)}


@dataclass(frozen=True)
class Answers:
    """What a judge said of pairs that people judged; NaN where there is no verdict, None where it was not asked.

    retest, paraphrase: margins with another seed, and with a paraphrased template. bias: of being shown first. flips: 1 where
    the two orders disagree.
    """

    comparisons: Sequence[Comparison]
    margin: Float[np.ndarray, " n"]
    bias: Float[np.ndarray, " n"]
    flips: Float[np.ndarray, " n"]
    retest: Float[np.ndarray, " n"] | None = None
    paraphrase: Float[np.ndarray, " n"] | None = None
    failures: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class JudgeCard:
    """The report of a judge, and the map that was fitted to people; None where too few pairs have a verdict."""

    report: Report
    map: JudgeMap | None


def judge_card(answers: Answers, name: str, fingerprint: str, about: Mapping[str, str], seed: int = 0) -> JudgeCard:
    """Measure a judge against people."""
    margin = clip_log_odds(answers.margin)
    has_verdict = ~np.isnan(margin)
    groups = np.array([comparison.group for comparison in answers.comparisons])
    estimates = {"unresolved": Estimate(*clustered_share((~has_verdict).astype(float), groups))}
    fitted = None
    if has_verdict.sum() >= 2:
        rows = _Rows.of(answers, margin, has_verdict, groups, seed)
        for part in (_agreement, _with_itself, _position):
            estimates |= part(rows, answers)
        estimates |= _bias(rows, name)
        calibration, fitted = _calibration(rows, fingerprint)
        estimates |= calibration
    report = Report(
        "Judge card",
        about={
            "judge": name,
            "fingerprint": fingerprint,
            "pairs": f"{len(margin):,}",
            **{f"failed: {code}": f"{count:,}" for code, count in answers.failures.items()},
            **about,
        },
        estimates=estimates,
        findings=tuple(_findings(estimates, int(has_verdict.sum()))),
        quantities=QUANTITIES,
        summary=_summary(estimates),
    )
    return JudgeCard(report, fitted)


# ---- The measures ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """The pairs with a verdict."""

    comparisons: Sequence[Comparison]
    margin: Float[np.ndarray, " n"]
    q: Float[np.ndarray, " n"]
    groups: np.ndarray
    is_kept: np.ndarray
    seed: int

    @classmethod
    def of(cls, answers: Answers, margin: Any, kept: np.ndarray, groups: np.ndarray, seed: int) -> _Rows:
        comparisons = [c for c, is_kept in zip(answers.comparisons, kept, strict=True) if is_kept]
        q = np.array([0.5 if c.q is None else c.q for c in comparisons])
        return cls(comparisons, margin[kept], q, groups[kept], kept, seed)

    def difference(self, measure: Any) -> Float[np.ndarray, " n"]:
        """A measure of the first response less that of the second."""
        return np.array([measure(c.responses[0]) - measure(c.responses[1]) for c in self.comparisons], dtype=float)


def _agreement(rows: _Rows, answers: Answers) -> dict[str, Estimate]:
    accuracy = pair_accuracy(rows.margin, rows.q)
    votes = np.array([c.preference.votes or (0, 0, 0) for c in rows.comparisons])
    three = [np.where(side > 0, 0, np.where(side < 0, 2, 1)) for side in (rows.margin, rows.q - 0.5)]
    estimates = {
        "accuracy": Estimate(*clustered_share(accuracy, rows.groups)),
        "kappa": Estimate(*cohen_kappa(three[0], three[1], rows.groups, seed=rows.seed)),
    }
    ceiling = leave_one_out(votes)
    several = ~np.isnan(ceiling)
    if several.any():
        estimates["ceiling"] = Estimate(*clustered_share(ceiling[several], rows.groups[several]))
        estimates["below_ceiling"] = Estimate(
            *clustered_difference(accuracy[several], ceiling[several], rows.groups[several])
        )
        majority = measure_majority(votes[several], rows.groups[several], np.ones(int(several.sum())), seed=rows.seed)
        if majority is not None and not majority.has_other_shape:
            estimates["best_accuracy"] = Estimate(*majority.best_accuracy)
    return estimates


def _with_itself(rows: _Rows, answers: Answers) -> dict[str, Estimate]:
    estimates = {}
    for name, column in (("retest", answers.retest), ("paraphrase_flips", answers.paraphrase)):
        if column is None:
            continue
        again = column[rows.is_kept]
        known = ~np.isnan(again)
        if known.any():
            same = (1.0 + np.sign(rows.margin[known]) * np.sign(again[known])) / 2.0
            values = same if name == "retest" else 1.0 - same
            estimates[name] = Estimate(*clustered_share(values, rows.groups[known]))
    return estimates


def _position(rows: _Rows, answers: Answers) -> dict[str, Estimate]:
    estimates = {}
    for name, column, mean in (
        ("flip_rate", answers.flips, clustered_share),
        ("position_bias", answers.bias, clustered_mean),
    ):
        values = np.round(column[rows.is_kept], 9) + 0.0
        known = ~np.isnan(values)
        if known.any():
            estimates[name] = Estimate(*mean(values[known], rows.groups[known]))
    return estimates


def _bias(rows: _Rows, name: str) -> dict[str, Estimate]:
    """Slopes beside people's label: what the judge adds for what people do not pay for. Of logarithms, for twice as much."""
    people = 2 * rows.q - 1
    length = rows.difference(card_texts.log_length)
    estimates = {}
    if length.any():
        estimates["length"] = _slope(rows, length, people[:, None], np.log(2))
    given = np.column_stack([people, length])
    for key, measure in (
        ("markup", card_texts.markup),
        ("list_items", card_texts.list_items),
        ("hedges", card_texts.hedges),
    ):
        difference = rows.difference(measure)
        if np.count_nonzero(difference) >= 2:
            estimates[key] = _slope(rows, difference, given, np.log(2))
    own = card_texts.family(name)
    is_own = rows.difference(lambda response: float(own is not None and card_texts.family(response.author) == own))
    if np.count_nonzero(is_own) >= 2:
        estimates["self_preference"] = _slope(rows, is_own, given, 1.0)
    return {key: estimate for key, estimate in estimates.items() if not np.isnan(estimate.value)}


def _slope(rows: _Rows, of: np.ndarray, given: np.ndarray, unit: float) -> Estimate:
    slope = partial_slope(rows.margin, of, given, rows.groups, seed=rows.seed)
    return Estimate(unit * slope.value, unit * slope.low, unit * slope.high, slope.n)


# ---- Calibration to people ---------------------------------------------------------------------------------------------


def _calibration(rows: _Rows, fingerprint: str) -> tuple[dict[str, Estimate], JudgeMap | None]:
    margin, q, groups = rows.margin, rows.q, rows.groups
    estimates = {
        "ece": Estimate(*bootstrap(lambda chosen: ece(margin[chosen], q[chosen]), groups, draws=300, seed=rows.seed)),
        "brier": Estimate(*clustered_mean(brier(margin, q), groups, within=(0.0, 1.0))),
    }
    if not margin.any() or len(np.unique(groups)) < 4:
        return estimates, None
    slope = calibration_slope(margin, q, groups)
    if not np.isnan(slope.value):
        low, high = (float(np.exp(-np.log(slope.value) + sign * 1.96 * slope.error)) for sign in (-1, 1))
        estimates["temperature"] = Estimate(1 / slope.value, low, high, len(np.unique(groups)))
    fitted = fit_map(margin, q, fingerprint)
    half = np.unique(groups, return_inverse=True)[1] % 2 == 0
    after = np.zeros(len(q))
    for part in (half, ~half):
        after[part] = brier(fit_map(margin[~part], q[~part], fingerprint)(margin[part]), q[part])
    estimates["brier_fitted"] = Estimate(*clustered_mean(after, groups, within=(0.0, 1.0)))
    return estimates, fitted


def fit_map(margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"], fingerprint: str) -> JudgeMap:
    """The map from the judge's log-odds to people's: a curve from ISOTONIC_FROM pairs on, else a temperature."""
    if len(margin) < ISOTONIC_FROM:
        return JudgeMap(fingerprint, temperature=fit_temperature(margin, q))
    curve = fit_isotonic(margin, q)
    return JudgeMap(fingerprint, margin=tuple(curve.margin.tolist()), log_odds=tuple(curve.log_odds.tolist()))


def mapped_q(judge_map: JudgeMap, log_odds: float) -> tuple[float, float]:
    """P(the first is better) and its log-odds, by the map."""
    mapped = float(judge_map(clip_log_odds(np.array([log_odds])))[0])
    return float(expit(mapped)), mapped


# ---- In words ----------------------------------------------------------------------------------------------------------


def _summary(estimates: Mapping[str, Estimate]) -> str:
    if "accuracy" not in estimates:
        return "the judge gave too few verdicts to be measured"
    text = f"agrees with people in {estimates['accuracy'].value:.0%} of pairs"
    if "ceiling" in estimates:
        text += f"; one person agrees with the others in {estimates['ceiling'].value:.0%}"
    return text


def _findings(estimates: Mapping[str, Estimate], verdicts: int) -> Iterator[Finding]:
    if verdicts < FEWEST:
        yield Finding(
            "note",
            "The card rests on few pairs",
            f"{verdicts:,} pairs have a verdict.",
            f"Use {FEWEST} or more; the intervals say how little is known.",
        )
    accuracy = estimates.get("accuracy")
    if accuracy is not None and accuracy.low <= 0.5:
        yield Finding(
            "warning",
            "The judge does not agree with people",
            f"Agreement {accuracy.value:.0%}, which is not shown to be better than a coin.",
            "Use a stronger judge, or another criterion.",
        )
    below = estimates.get("below_ceiling")
    if below is not None and below.high < 0:
        yield Finding(
            "warning", "The judge agrees less than a person does", f"{-below.value:.1%} less.", "Its labels add noise."
        )
    for key, words in (("length", "length"), ("markup", "markup"), ("list_items", "lists"), ("hedges", "hedges")):
        bias = estimates.get(key)
        if bias is not None and (bias.low > 0 or bias.high < 0) and abs(bias.value) > 0.1:
            verb = "rewards" if bias.value > 0 else "punishes"
            yield Finding(
                "warning",
                f"The judge {verb} {words}",
                f"Twice as much adds {bias.value:+.2f} nats beside what people say.",
                "A reward model that learns from its labels will learn this.",
            )
    own = estimates.get("self_preference")
    if own is not None and own.low > 0:
        yield Finding(
            "warning", "The judge prefers its own family", f"{own.value:+.2f} nats.", "Let another family judge."
        )
