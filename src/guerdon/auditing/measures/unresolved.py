"""Pairs on which a judge has no verdict: how many, and whether they are missing at random.

They are left out of every estimate. If failures depend on who wrote a response or on how long it is, what is left is no fair
sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.contracts import Finding, Quantity, Report, Severity
from guerdon.models.estimates import CORRECTNESS, estimate_share, percent
from guerdon.models.judges.missing import missingness_findings

if TYPE_CHECKING:
    from jaxtyping import Shaped

    from guerdon.contracts import Comparison
    from guerdon.models.scored_pairs import ScoredPairs

TITLE = "Pairs without a verdict"
MAX_UNRESOLVED: Final = 0.02
QUANTITIES: Mapping[str, Quantity] = {
    "unresolved": Quantity(
        "pairs without a verdict", "share", CORRECTNESS, "left out of every other number, never counted as ties"
    ),
}


def measure_unresolved(pairs: ScoredPairs, comparisons: Sequence[Comparison], seed: int = 0) -> Report:
    """Key: unresolved. `pairs` holds all pairs, with a margin of NaN where the judge has no verdict."""
    failed = ~pairs.is_resolved
    share = estimate_share(failed.astype(np.float64), pairs.group, pairs.weight)
    estimates = {"unresolved": share}
    if not failed.any():
        return Report(TITLE, estimates=estimates, quantities=QUANTITIES)
    severity: Severity = "warning" if share.value > MAX_UNRESOLVED else "note"
    findings = [
        Finding(
            severity,
            "The judge has no verdict on some pairs",
            f"{int(failed.sum())} of {len(pairs)} pairs, {percent(share)}; they are left out of every number",
            "Read the failures by code; raise max_tokens or reasks, or use a model that answers in the requested form.",
        )
    ]
    lengths = (pairs.first_length + pairs.second_length).astype(np.float64)
    findings += missingness_findings(failed, _authors(pairs, comparisons), lengths, pairs.group, seed)
    return Report(TITLE, estimates=estimates, findings=tuple(findings), quantities=QUANTITIES)


def _authors(pairs: ScoredPairs, comparisons: Sequence[Comparison]) -> Shaped[np.ndarray, " n"]:
    """Who wrote the two responses, in any order; the source of the comparison where nobody is named."""
    names = []
    for index, i, j in zip(pairs.index.tolist(), pairs.first.tolist(), pairs.second.tolist(), strict=True):
        authors = sorted(comparisons[index].responses[side].author or "" for side in (i, j))
        names.append(" and ".join(authors) if any(authors) else comparisons[index].source or "")
    return np.array(names, dtype=np.str_)
