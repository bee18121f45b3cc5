"""What each annotator is worth: ability, left bias, agreement with the others, and what is odd about them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from guerdon.contracts import Estimate
from guerdon.data.aggregate.judgments import Judgments
from guerdon.formulas.agreement import leave_one_out_votes
from guerdon.formulas.annotators import Abilities, two_sided_p

__all__ = ["FLAGS", "Annotator", "annotators_of"]

SURE_OF_BIAS = 0.001  # two-sided p-value from which a left bias is flagged
FEWEST_JUDGMENTS = 20  # from which habits are flagged
SAME_ANSWER = 0.95  # share of an annotator's judgments that are the same answer, from which it is a habit
NO_ABILITY = 0.5  # nats; below, a vote is right at most 62 % of the time
FLAGS = {
    "reversed": "votes say the opposite of what they mean",
    "left-biased": "prefers whatever is shown first",
    "right-biased": "prefers whatever is shown second",
    "same answer": f"gives one answer in {SAME_ANSWER:.0%} of judgments or more",
    "guesses": "votes carry next to no information",
}
ANSWERS = ("left", "tie", "right")


@dataclass(frozen=True, slots=True)
class Annotator:
    """One annotator. Ability, left bias and tie threshold are nats; intervals are normal, n is judgments.

    with_others: how often a vote agrees with the majority of the others, ties counting half; NaN where nobody else judged.
    usual_answer: the most frequent one, left, tie or right, and its share. flags: keys of FLAGS.
    """

    name: str
    judgments: int
    ability: Estimate
    left_bias: Estimate
    tie_threshold: Estimate
    with_others: float
    usual_answer: tuple[str, float]
    flags: tuple[str, ...]

    def row(self) -> dict[str, object]:
        """The annotator as a row of a table."""
        row: dict[str, object] = {"annotator": self.name, "judgments": self.judgments}
        for name in ("ability", "left_bias", "tie_threshold"):
            estimate: Estimate = getattr(self, name)
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        with_others = None if math.isnan(self.with_others) else self.with_others
        answer, share = self.usual_answer
        return {
            **row, "agrees_with_others": with_others, "usual_answer": answer, "usual_answer_share": share, "flags": list(self.flags),
        }  # fmt: skip


def annotators_of(judgments: Judgments, fit: Abilities) -> Iterator[Annotator]:
    """Every named annotator, most judgments first."""
    table, num = judgments.table, len(judgments.names)
    answers = np.zeros((table.num_annotators, 3))
    np.add.at(answers, (table.annotator, table.shown_vote), table.weight)
    totals = np.bincount(judgments.ratings.annotator, minlength=num)
    bias_p = two_sided_p(fit.left_bias, np.where(fit.left_bias_se > 0, fit.left_bias_se, math.inf))
    with_others = _agreement_with_others(judgments)
    for i in np.argsort(-totals[:num], kind="stable").tolist():
        n, usual = int(totals[i]), int(answers[i].argmax())
        share = float(answers[i, usual] / answers[i].sum())
        ability = _estimate(fit.ability[i], fit.ability_se[i], n)
        flags = []
        if fit.is_reversed[i]:
            flags.append("reversed")
        if bias_p[i] < SURE_OF_BIAS:
            flags.append("left-biased" if fit.left_bias[i] > 0 else "right-biased")
        if n >= FEWEST_JUDGMENTS and share >= SAME_ANSWER:
            flags.append("same answer")
        if n >= FEWEST_JUDGMENTS and ability.low <= 0 <= ability.high < NO_ABILITY:
            flags.append("guesses")
        yield Annotator(
            judgments.names[i],
            n,
            ability,
            _estimate(fit.left_bias[i], fit.left_bias_se[i], n),
            _estimate(fit.tie_threshold[i], fit.tie_threshold_se[i], n, lowest=0.0),
            float(with_others[i]),
            (ANSWERS[usual], share),
            tuple(flags),
        )


def _agreement_with_others(judgments: Judgments) -> Float[np.ndarray, " j"]:
    ratings, num = judgments.ratings, len(judgments.names)
    agrees = leave_one_out_votes(judgments.counts, ratings.pair, ratings.vote)
    has_others = ~np.isnan(agrees)
    total = np.bincount(ratings.annotator[has_others], weights=agrees[has_others], minlength=num)
    size = np.bincount(ratings.annotator[has_others], minlength=num)
    agreement: np.ndarray = np.divide(total, size, out=np.full(num, math.nan), where=size > 0)
    return agreement


def _estimate(value: float, se: float, n: int, lowest: float = -math.inf) -> Estimate:
    return Estimate(float(value), float(max(lowest, value - 1.96 * se)), float(value + 1.96 * se), n)
