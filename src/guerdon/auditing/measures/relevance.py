"""Does the reward read the prompt? Answers are scored again under another prompt, and prompts change partners.

Axis: n prompts, taken two by two. Every prompt and every answer is seen once matched and once mismatched, so that neither a
prompt's own level nor an answer's own worth tells the two apart: only the fit between them does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.auditing.probes.sample import (
    Pair,
    Text,
    sample_pairs,
    score_rows,
)
from guerdon.contracts import Estimate, Example, Finding, GuerdonError, Quantity, Report, Response
from guerdon.formulas.cues import pair_correlation
from guerdon.formulas.resampling import bootstrap
from guerdon.formulas.uncertainty import auroc
from guerdon.models.estimates import estimate_share

if TYPE_CHECKING:
    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, RewardModel
    from guerdon.models.scored_pairs import Progress

__all__ = ["measure_relevance"]

SAME = 0.9  # a correlation of margins above this leaves the prompt a fifth of their variance at most
RARELY = 0.7  # a model that reads prompts knows whose answer is whose more often than this

SECTION = "Does it read the prompt?"
QUANTITIES: Mapping[str, Quantity] = {
    "relevance_auroc": Quantity("own above other prompts'", "share", SECTION, "an answer to its own prompt wins"),
    "relevance_swap": Quantity(
        "fits its own prompt", "share", SECTION, "two prompts with their answers beat them with answers exchanged"
    ),
    "prompt_free_share": Quantity(
        "margins that need no prompt", "number", SECTION, "correlation with margins under another prompt; 1 reads none"
    ),
}


def measure_relevance(
    model: RewardModel, comparisons: Sequence[Comparison], options: AuditOptions, *, progress: Progress | None = None
) -> Report:
    """At most options.cue_rows prompts, each with another prompt's answers as well as its own.

    Keys: relevance_auroc (an answer to its own prompt is rewarded above an answer to another), relevance_swap (two prompts
    and their answers are rewarded more as they belong together than with the answers exchanged: the same, without what a
    prompt or an answer is worth by itself), prompt_free_share (correlation of margins with those under another prompt: 1 if
    the prompt is not read).
    """
    pairs = _one_a_group(sample_pairs(comparisons, options.cue_rows, options.seed))
    if len(pairs) < 2:
        raise GuerdonError("relevance: needs two prompts with two different answers each; remedy: more comparisons")
    couples = list(zip(pairs[0::2], pairs[1::2], strict=False))
    rows = [_texts(*couple) for couple in couples]
    scored = [
        (couple, r) for couple, r in zip(couples, score_rows(model, rows, progress), strict=True) if r is not None
    ]
    # prompt of the couple, whose answers, better or worse
    reward = np.array([r.reshape(2, 2, 2) for _, r in scored])
    groups = np.array([couple[0].group for couple, _ in scored], dtype=np.str_)
    own = np.stack([reward[:, i, i, 0] for i in (0, 1)], axis=1)
    foreign = np.stack([reward[:, i, 1 - i, 0] for i in (0, 1)], axis=1)
    fit = own.sum(axis=1) - foreign.sum(axis=1)
    margin = np.concatenate([reward[:, i, i, 0] - reward[:, i, i, 1] for i in (0, 1)])
    elsewhere = np.concatenate([reward[:, 1 - i, i, 0] - reward[:, 1 - i, i, 1] for i in (0, 1)])

    def matched_above(rows: np.ndarray) -> float:
        mine, others = own[rows].ravel(), foreign[rows].ravel()
        return auroc(np.concatenate([mine, others]), np.repeat([1.0, 0.0], [len(mine), len(others)]))

    twice = np.concatenate([groups, groups])
    free = pair_correlation(margin, elsewhere, np.ones(len(margin)), twice, None, options.draws, options.seed)
    estimates = {
        "relevance_auroc": Estimate(*bootstrap(matched_above, groups, options.draws, options.seed)),
        "relevance_swap": estimate_share((1.0 + np.sign(fit)) / 2.0, groups, np.ones(len(fit)), options),
        "prompt_free_share": Estimate(*free),
    }
    facts = {"prompts": str(2 * len(scored))}
    if len(scored) < len(couples):
        facts["prompts refused"] = str(2 * (len(couples) - len(scored)))
    worst = [scored[row] for row in np.argsort(fit, kind="stable")[:2] if fit[row] < 0]
    findings = _findings(estimates, tuple(_example(*each) for each in worst))
    return Report("Relevance", facts, estimates, findings, quantities=QUANTITIES)


def _one_a_group(pairs: Sequence[Pair]) -> list[Pair]:
    found: dict[str, Pair] = {}
    for pair in pairs:
        found.setdefault(pair.group, pair)
    return list(found.values())


def _texts(first: Pair, second: Pair) -> list[Text]:
    """Prompt by prompt: the first's answers, then the second's, the better before the worse."""
    return [(p.prompt, text) for p in (first, second) for a in (first, second) for text in (a.better, a.worse)]


def _example(couple: tuple[Pair, Pair], rewards: np.ndarray) -> Example:
    """The prompt under which the other's answer wins by most."""
    table = rewards.reshape(2, 2, 2)[:, :, 0]
    i = int(np.argmax([table[0, 1] - table[0, 0], table[1, 0] - table[1, 1]]))
    here, other = couple[i], couple[1 - i]
    return Example(
        "An answer to another prompt is rewarded more",
        here.prompt,
        (Response(here.better), Response(other.better)),
        ("its own answer", "another prompt's answer"),
        (float(table[i, i]), float(table[i, 1 - i])),
    )


def _findings(found: dict[str, Estimate], examples: tuple[Example, ...]) -> tuple[Finding, ...]:
    swap, free = found["relevance_swap"], found["prompt_free_share"]
    evidence = (
        f"answers fit their own prompts better than each other's in {swap} of couples, a coin in 0.5; margins under another "
        f"prompt correlate with the true ones by {free}"
    )
    if not (swap.high < RARELY or free.low > SAME or math.isnan(free.value)):
        return (Finding("note", "It reads the prompt", evidence),)
    remedy = (
        "Add pairs in which the worse answer is a good answer to another prompt; check that prompts are not cut off."
    )
    cost = Estimate(1 - swap.value, 1 - swap.high, 1 - swap.low, swap.n)
    return (Finding("warning", "It hardly reads the prompt", evidence, remedy, cost, examples),)
