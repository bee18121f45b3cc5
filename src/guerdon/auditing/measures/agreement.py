"""How far people agree with each other, and so how well any model could do.

Axis: n pairs with votes (first better, tie, second better).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Estimate, Finding, Quantity, Report
from guerdon.errors import counted
from guerdon.formulas.agreement import leave_one_out, pair_accuracy, raw_agreement
from guerdon.formulas.majority import FEWEST_GROUPS, FEWEST_SPLIT, FEWEST_TO_CHECK, measure_majority
from guerdon.models.estimates import estimate_share, number, percent

if TYPE_CHECKING:
    from jaxtyping import Int, Shaped

    from guerdon.config import AuditOptions
    from guerdon.formulas.majority import Majority
    from guerdon.models.scored_pairs import ScoredPairs

TITLE = SECTION = "People"  # of the report, and of its numbers on the page
QUANTITIES: Mapping[str, Quantity] = {
    "best_accuracy": Quantity(
        "best possible accuracy",
        "share",
        SECTION,
        "majorities that all people would share, if preferences vary between pairs as a beta distribution fitted to the votes",
    ),
    "accuracy_majority": Quantity(
        "accuracy, pairs with a majority", "share", SECTION, "what the best possible accuracy is to be compared with"
    ),
    "majority_again": Quantity(
        "same majority again",
        "share",
        SECTION,
        "how often as many fresh votes have the same majority; a tied one counts half",
    ),
    "person_vs_person": Quantity(
        "two people agree", "share", SECTION, "two raters of the same pair give the same label"
    ),
    "person_vs_others": Quantity(
        "one person vs the others", "share", SECTION, "a rater agrees with the majority of the other raters"
    ),
    "model_vs_person": Quantity(
        "model vs one person", "share", SECTION, "the model agrees with one rater drawn at random"
    ),
}


def measure_agreement(pairs: ScoredPairs, options: AuditOptions) -> Report:
    """What people reach on the pairs that two or more of them judged; a note if there are none, or too few to fit a prior.

    Keys: best_accuracy and majority_again where a prior can be fitted and the votes do not contradict its shape, with
    accuracy_majority if some pairs have no majority; person_vs_others, person_vs_person, model_vs_person.
    """
    has_votes = (pairs.votes >= 0).all(axis=1) & (pairs.votes.sum(axis=1) >= 2)
    if not has_votes.any():
        return Report(TITLE, findings=(_no_votes(),))
    votes, margin = pairs.votes[has_votes], pairs.margin[has_votes]
    group, weight = pairs.group[has_votes], pairs.weight[has_votes]
    estimates = {}
    too_good: tuple[Finding, ...] = ()
    majority = measure_majority(votes, group, weight, options.draws, options.seed)
    if majority is not None and not majority.has_other_shape:
        estimates = {"best_accuracy": Estimate(*majority.best_accuracy), "majority_again": Estimate(*majority.again)}
        has_majority = has_votes & (pairs.votes[:, 0] != pairs.votes[:, 2])
        is_right = pair_accuracy(pairs.margin, pairs.q)[has_majority]
        accuracy = estimate_share(is_right, pairs.group[has_majority], pairs.weight[has_majority])
        if not has_majority.all():
            estimates["accuracy_majority"] = accuracy
        too_good = _above_the_best(accuracy, estimates["best_accuracy"])
    first, tie, second = votes.T
    with_model = np.where(margin > 0, first, np.where(margin < 0, second, (first + second) / 2))
    shares = {
        "person_vs_others": leave_one_out(votes),
        "model_vs_person": (with_model + tie / 2) / votes.sum(axis=1),
        "person_vs_person": raw_agreement(votes),
    }
    estimates |= {name: estimate_share(share, group, weight) for name, share in shares.items()}
    findings = (_too_few_votes(votes, group),) if majority is None else _shape_findings(majority)
    findings = (*too_good, *findings)
    return Report(TITLE, estimates=estimates, findings=findings, quantities=QUANTITIES)


def _shape_findings(majority: Majority) -> tuple[Finding, ...]:
    """That the votes contradict the fitted prior, or cannot; nothing if they could and do not."""
    if majority.excess is None:
        title = "The best possible accuracy rests on an assumption"
        evidence = (
            f"it holds if preferences vary between pairs as a beta distribution, which cannot be checked: fewer than {FEWEST_GROUPS} "
            f"groups have {FEWEST_TO_CHECK} votes for a side; where half of the pairs are clear and half are coin tosses it is "
            "4 to 7 points too high"
        )
        remedy = f"Have {FEWEST_TO_CHECK} or more people judge some pairs, and do not take it for a bound before."
        return (Finding("note", title, evidence, remedy),)
    if not majority.has_other_shape:
        return ()
    evidence = (
        "preferences do not vary between pairs as a beta distribution, from which it would follow: the mean fourth power of "
        f"people's lead differs from that of the distribution by {number(Estimate(*majority.excess))}"
    )
    remedy = "Compare the accuracy with how often two people agree, not with a best possible one."
    return (Finding("note", "The best possible accuracy is not known", evidence, remedy),)


def _above_the_best(accuracy: Estimate, best: Estimate) -> tuple[Finding, ...]:
    """That the model agrees with these majorities more often than any model could that has not seen the votes."""
    if not accuracy.low > best.high:
        return ()
    evidence = f"accuracy on pairs with a majority {percent(accuracy)}, best possible {percent(best)}"
    remedy = "Check that the model was not trained on these votes, and that the scores were not made from them."
    return (Finding("warning", "The accuracy is higher than any model could reach", evidence, remedy),)


def _no_votes() -> Finding:
    return Finding(
        "note",
        "The best possible accuracy is not known",
        "no pair was judged by two or more people; on data such as HH, two people agree on about 63 % of pairs",
        "Have other people judge some pairs again: an accuracy means little without what people themselves reach.",
    )


def _too_few_votes(votes: Int[np.ndarray, "n 3"], group: Shaped[np.ndarray, " n"]) -> Finding:
    first, _, second = votes.T
    twice, split = (len(np.unique(group[rows])) for rows in (first + second >= 2, np.minimum(first, second) > 0))
    return Finding(
        "note",
        "The best possible accuracy is not known",
        f"two or more people chose a side in {counted(twice, 'group')}, and different sides in {split} of them: how far preferences are "
        f"divided can be fitted from {FEWEST_GROUPS} and {FEWEST_SPLIT}",
        "Have other people judge more pairs again.",
    )
