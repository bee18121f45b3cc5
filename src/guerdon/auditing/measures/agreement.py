"""How far people agree with each other, and so how well any model could do.

Axis: n pairs with votes (first better, tie, second better).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Finding, Quantity, Report
from guerdon.formulas.agreement import leave_one_out, majority_stands, pair_accuracy, raw_agreement
from guerdon.models.estimates import estimate_share

if TYPE_CHECKING:
    from guerdon.config import AuditOptions
    from guerdon.models.scored_pairs import ScoredPairs

TITLE = SECTION = "People"  # of the report, and of its numbers on the page
QUANTITIES: Mapping[str, Quantity] = {
    "ceiling_majority": Quantity(
        "ceiling", "share", SECTION, "how often the majority would stand if as many other people voted"
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
    "accuracy_voted": Quantity(
        "accuracy, pairs with votes", "share", SECTION, "accuracy on the pairs that two or more people judged"
    ),
}


def measure_agreement(pairs: ScoredPairs, options: AuditOptions) -> Report:
    """What people reach on the pairs that two or more of them judged; a note if there are none.

    Keys: ceiling_majority, person_vs_others, person_vs_person, model_vs_person, and accuracy_voted if some pairs have no votes.
    """
    has_votes = (pairs.votes >= 0).all(axis=1) & (pairs.votes.sum(axis=1) >= 2)
    if not has_votes.any():
        return Report(TITLE, findings=(_no_votes(),))
    votes, margin, q = pairs.votes[has_votes], pairs.margin[has_votes], pairs.q[has_votes]
    first, tie, second = votes.T
    with_model = np.where(margin > 0, first, np.where(margin < 0, second, (first + second) / 2))
    shares = {
        "ceiling_majority": majority_stands(votes),
        "person_vs_others": leave_one_out(votes),
        "model_vs_person": (with_model + tie / 2) / votes.sum(axis=1),
        "person_vs_person": raw_agreement(votes),
    }
    if not has_votes.all():
        shares["accuracy_voted"] = pair_accuracy(margin, q)
    group, weight = pairs.group[has_votes], pairs.weight[has_votes]
    estimates = {name: estimate_share(share, group, weight) for name, share in shares.items()}
    return Report(TITLE, estimates=estimates, quantities=QUANTITIES)


def _no_votes() -> Finding:
    return Finding(
        "note",
        "No ceiling is known",
        "no pair was judged by two or more people; on data such as HH, two people agree on about 63 % of pairs",
        "Have other people judge some pairs again: an accuracy means little without what people themselves reach.",
    )
