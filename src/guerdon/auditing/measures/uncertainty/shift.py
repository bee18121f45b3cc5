"""Does the model notice texts unlike its training data? By the p-value of each reply being in distribution.

Axis: m replies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from scipy.stats import beta

from guerdon.auditing.probes.shifted_replies import FEWEST_REPLIES, Replies
from guerdon.contracts import (
    Curve,
    Estimate,
    Example,
    Finding,
    GuerdonError,
    Quantity,
    RewardModel,
    as_prompt,
    as_response,
    prompt_digest,
)
from guerdon.errors import claim_and_advice
from guerdon.formulas.resampling import bootstrap
from guerdon.formulas.uncertainty import auroc
from guerdon.models.estimates import estimate_share, percent, points_by_name

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Shaped

    from guerdon.auditing.measures.uncertainty.signals import SignalTable
    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, PromptLike, ResponseLike
    from guerdon.models.scored_pairs import ScoredPairs

__all__ = ["ShiftEstimate", "ShiftResult", "detection_curves", "measure_shift", "outside_examples", "shift_findings"]

ALARM: Final = 0.05  # p-value up to which a text counts as outside: the rate of false alarms
SHOWN: Final = 3  # examples
NO_LANGUAGE: Final = ("gibberish", "other_language")  # derived sets that every model should notice

Of = Literal["auroc", "detected"]

SECTION = "Texts of another kind"
QUANTITIES: Mapping[str, Quantity] = {
    "outside": Quantity(
        "outside its data", "share", SECTION, "replies with p at most 0.05; 5 % of texts like its data"
    ),
    "false_alarms": Quantity("false alarms", "share", SECTION, "these comparisons' replies, if they are like its data"),
}


@dataclass(frozen=True, slots=True)
class ShiftEstimate:
    """What is estimated of a set of replies. auroc: how well it is separated. detected: share with p at most ALARM."""

    name: str
    of: Of

    @property
    def key(self) -> str:
        """Its name in a report: shift_auroc_NAME, detected_NAME."""
        return f"shift_auroc_{self.name}" if self.of == "auroc" else f"detected_{self.name}"

    @property
    def quantity(self) -> Quantity:
        """How to read it."""
        if self.of == "auroc":
            meaning = "such a reply has a smaller p than one of these comparisons; chance gives 50 %"
            return Quantity(f"separated: {_words(self.name)}", "share", SECTION, meaning)
        return Quantity(f"detected: {_words(self.name)}", "share", SECTION, "such replies with p at most 0.05")


@dataclass(frozen=True, slots=True)
class ScoredReplies:
    """Each reply of the comparisons once: its p-value, reward and group, and which response of which comparison it is."""

    p: Float[np.ndarray, " m"]
    reward: Float[np.ndarray, " m"]
    group: Shaped[np.ndarray, " m"]
    response: Int[np.ndarray, "m 2"]

    @staticmethod
    def of(comparisons: Sequence[Comparison], pairs: ScoredPairs) -> ScoredReplies:
        """From the pairs, which must have p-values."""
        assert pairs.first_shift_p is not None
        assert pairs.second_shift_p is not None
        response, rows = pairs.each_response()
        p = np.concatenate([pairs.first_shift_p, pairs.second_shift_p])[rows]
        reward = np.concatenate([pairs.first_reward, pairs.second_reward])[rows]
        return ScoredReplies(p, reward, np.array([comparisons[i].group for i, _ in response]), response)


@dataclass(frozen=True, slots=True)
class ShiftResult:
    """What was measured of the comparisons' replies and of each shifted set; empty without p-values."""

    replies: ScoredReplies | None = None
    estimates: dict[str, Estimate] = field(default_factory=dict)
    quantities: Mapping[str, Quantity] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    refusals: tuple[Finding, ...] = ()


def measure_shift(
    model: RewardModel,
    comparisons: Sequence[Comparison],
    pairs: ScoredPairs,
    shifted: Mapping[str, Replies],
    options: AuditOptions,
) -> ShiftResult:
    """outside, and for each shifted set how well its replies are separated; a set that the model refuses becomes a note."""
    replies = ScoredReplies.of(comparisons, pairs)
    estimates = {"outside": _share(replies.p <= ALARM, replies.group)}
    if shifted:
        estimates["false_alarms"] = estimates["outside"]
    measured: dict[ShiftEstimate, Estimate] = {}
    refusals = []
    for name, (prompts, responses) in shifted.items():
        try:
            p, group = _p_values(model, prompts, responses)
        except GuerdonError as error:  # the other sets can still be measured
            claim, advice = claim_and_advice(str(error))
            refusals.append(Finding("note", f"Not measured: {_words(name)}", claim, advice))
            continue
        measured[ShiftEstimate(name, "auroc")] = _auroc(replies, p, group, options)
        measured[ShiftEstimate(name, "detected")] = _share(p <= ALARM, group)
    return ShiftResult(
        replies,
        estimates | {of.key: estimate for of, estimate in measured.items()},
        {**QUANTITIES, **{of.key: of.quantity for of in measured}},
        tuple(dict.fromkeys(of.name for of in measured)),
        tuple(refusals),
    )


def shift_findings(result: ShiftResult, table: SignalTable, given: Sequence[str]) -> list[Finding]:
    """Whether these comparisons are outside the training data, and which shifted sets go unnoticed.

    Sets without language and those that the user gave should be noticed; a reply to another prompt need not be.
    """
    assert result.replies is not None
    expected = (*NO_LANGUAGE, *given)
    return [
        *_outside_findings(result.estimates["outside"], table, result.replies),
        *(_unnoticed(name, result) for name in expected if _is_unnoticed(name, result)),
        *result.refusals,
    ]


def detection_curves(result: ShiftResult) -> dict[str, Curve]:
    """The share of each set that is detected, next to that of the comparisons' own replies."""
    if "false_alarms" not in result.estimates:
        return {}
    detected = [result.estimates[ShiftEstimate(name, "detected").key] for name in result.names]
    curve = points_by_name(
        ("these comparisons", *map(_words, result.names)),
        (result.estimates["false_alarms"], *detected),
        "kind of text",
        f"share with p <= {ALARM}",
        title="Which texts of another kind are detected",
        caption=f"Texts like the training data are near {ALARM}.",
    )
    return {"detected": curve}


def outside_examples(result: ShiftResult, comparisons: Sequence[Comparison], num: int) -> tuple[Example, ...]:
    """Up to `num` replies, and at most SHOWN, that count as outside; the smallest p first."""
    if result.replies is None:
        return ()
    replies = result.replies
    rows = [row for row in np.argsort(replies.p, kind="stable") if replies.p[row] <= ALARM]
    return tuple(_outside_example(replies, row, comparisons) for row in rows[: min(SHOWN, num)])


def _p_values(
    model: RewardModel, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]
) -> tuple[Float[np.ndarray, " m"], Shaped[np.ndarray, " m"]]:
    """p-value and group of each reply. Where some are too long for the model, the longer half is dropped, again and again.

    The group is the prompt, or the reply itself if all of them answer one prompt.
    """
    rows = sorted(range(len(prompts)), key=lambda i: len(as_response(responses[i]).text))
    while True:
        try:
            p = model.score([prompts[i] for i in rows], [responses[i] for i in rows]).shift_p
        except GuerdonError:
            if len(rows) < 2 * FEWEST_REPLIES:
                raise
            rows = rows[: len(rows) // 2]
            continue
        assert p is not None
        group = np.array([prompt_digest(as_prompt(prompts[i])) for i in rows])
        return p, group if len(np.unique(group)) > 1 else np.array([str(i) for i in rows])


def _share(values: Bool[np.ndarray, " m"], group: Shaped[np.ndarray, " m"]) -> Estimate:
    return estimate_share(values.astype(np.float64), group, np.ones(len(values)))


def _auroc(
    replies: ScoredReplies, p: Float[np.ndarray, " k"], group: Shaped[np.ndarray, " k"], options: AuditOptions
) -> Estimate:
    """How well k shifted replies are separated from the comparisons' own."""
    both, groups = np.concatenate([replies.p, p]), np.concatenate([replies.group, group])
    is_shifted = np.repeat([0.0, 1.0], [len(replies.p), len(p)])

    def on_rows(rows: Int[np.ndarray, " m"]) -> float:
        return auroc(-both[rows], is_shifted[rows])

    return Estimate(*bootstrap(on_rows, groups, options.draws, options.seed))


def _outside_findings(outside: Estimate, table: SignalTable, replies: ScoredReplies) -> list[Finding]:
    """The held-out replies are a sample too: with G groups of them, the rate of false alarms itself has a Beta distribution."""
    num_held_out = max(19.0, 1.0 / float(replies.p.min()) - 1.0)
    k = max(1, math.floor(ALARM * (num_held_out + 1)))
    by_chance = float(beta.ppf(0.975, k, num_held_out + 1 - k))
    if not outside.low > by_chance:
        return []
    is_outside = table.signals["shift"] >= -ALARM
    cost = estimate_share(is_outside.astype(np.float64) * table.wrong, table.group, table.weight)
    errors = ", ".join(
        f"{percent(table.error_rate(rows))} {where} it"
        for where, rows in (("outside", is_outside), ("inside", ~is_outside))
        if rows.any()
    )
    evidence = (
        f"{percent(outside)} of replies have p <= {ALARM}; texts like the training data would give {100 * ALARM:.0f}, by chance "
        f"up to {100 * by_chance:.2g}; the model is wrong on {errors}"
    )
    title = f"{100 * outside.value:.0f} % of these texts are outside the training data"
    remedy = "Trust scores of such texts only as far as the error there allows; train on comparisons of this kind."
    return [Finding("warning", title, evidence, remedy, cost)]


def _is_unnoticed(name: str, result: ShiftResult) -> bool:
    return name in result.names and not result.estimates[ShiftEstimate(name, "auroc").key].low > 0.5


def _unnoticed(name: str, result: ShiftResult) -> Finding:
    auroc, detected = (
        result.estimates[key] for key in (ShiftEstimate(name, "auroc").key, ShiftEstimate(name, "detected").key)
    )
    evidence = (
        f"such a reply has a smaller p than an ordinary one in {percent(auroc)} of cases, where chance gives 50; "
        f"{percent(detected)} are detected at p <= {ALARM}"
    )
    remedy = "Do not rely on shift_p to keep such texts out; filter them by a rule."
    return Finding("warning", f"The model does not notice {_words(name)}", evidence, remedy)


def _outside_example(replies: ScoredReplies, row: int, comparisons: Sequence[Comparison]) -> Example:
    index, which = replies.response[row]
    comparison = comparisons[index]
    title = f"Unlike the training data: p = {replies.p[row]:.2g}"
    reward = (float(replies.reward[row]),)
    return Example(title, comparison.prompt, (comparison.responses[which],), ("outside",), reward)


def _words(name: str) -> str:
    return name.replace("_", " ")
