"""Does the reward depend on the prompt? Answers are scored again under another prompt.

Axis: n prompts, taken two by two. Every prompt and every answer appears once matched and once mismatched, so neither a
prompt's own level nor an answer's own quality makes a difference: only the fit between them does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.auditing.probes.sample import Pair, Text, sample_pairs, score_rows
from guerdon.contracts import Estimate, Example, Finding, GuerdonError, Quantity, Report, Response
from guerdon.formulas.cues import pair_correlation
from guerdon.formulas.resampling import bootstrap
from guerdon.formulas.uncertainty import auroc
from guerdon.models.estimates import estimate_share, number, percent

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, RewardModel
    from guerdon.progress import Progress

__all__ = ["TITLE", "measure_relevance"]

SAME: Final = 0.9  # correlation of margins above which the prompt explains a fifth of their variance at most
RARELY: Final = 0.7  # a model that reads prompts matches answers to them more often than this
SHOWN: Final = 2  # examples

TITLE = "Relevance"
SECTION = "Does it read the prompt?"
QUANTITIES: Mapping[str, Quantity] = {
    "relevance_auroc": Quantity(
        "own above foreign answers", "share", SECTION, "an answer to its own prompt beats an answer to another prompt"
    ),
    "relevance_swap": Quantity(
        "answers fit their prompts",
        "share",
        SECTION,
        "two prompts with their own answers beat them with answers swapped",
    ),
    "prompt_free_share": Quantity(
        "margins without the prompt",
        "number",
        SECTION,
        "correlation with margins under another prompt; 1 if it is not read",
    ),
}


def measure_relevance(
    model: RewardModel, comparisons: Sequence[Comparison], options: AuditOptions, *, progress: Progress | None = None
) -> Report:
    """At most options.cue_rows prompts, each with another prompt's answers as well as its own.

    Keys: relevance_auroc (an answer to its own prompt beats an answer to another), relevance_swap (two prompts with their own
    answers beat the same with the answers swapped: as before, without what a prompt or an answer is worth by itself),
    prompt_free_share (correlation of margins with those under another prompt: 1 if the prompt is not read).
    """
    pairs = _one_per_group(sample_pairs(comparisons, options.cue_rows, options.seed))
    if len(pairs) < 2:
        raise GuerdonError(
            f"relevance: two prompts must have two different answers each, got {len(pairs)}. Give more comparisons."
        )
    couples = list(zip(pairs[0::2], pairs[1::2], strict=False))
    rewards = score_rows(model, [_texts(*couple) for couple in couples], progress)
    scored = [(couple, row.reshape(2, 2, 2)) for couple, row in zip(couples, rewards, strict=True) if row is not None]
    table = np.array([row for _, row in scored])
    fit = (table[:, 0, 0, 0] + table[:, 1, 1, 0]) - (table[:, 0, 1, 0] + table[:, 1, 0, 0])
    groups = np.array([couple[0].group for couple, _ in scored], dtype=np.str_)
    estimates = _estimates(table, fit, groups, options)
    about = {"prompts": str(2 * len(scored))}
    if len(scored) < len(couples):
        about["prompts refused"] = str(2 * (len(couples) - len(scored)))
    worst = [scored[row] for row in np.argsort(fit, kind="stable")[:SHOWN] if fit[row] < 0]
    findings = _findings(estimates, tuple(_example(couple, row[:, :, 0]) for couple, row in worst))
    return Report(TITLE, about, estimates, findings, quantities=QUANTITIES)


def _one_per_group(pairs: Sequence[Pair]) -> list[Pair]:
    by_group: dict[str, Pair] = {}
    for pair in pairs:
        by_group.setdefault(pair.group, pair)
    return list(by_group.values())


def _texts(first: Pair, second: Pair) -> list[Text]:
    """Prompt by prompt: the first's answers, then the second's, the better before the worse."""
    return [(p.prompt, text) for p in (first, second) for a in (first, second) for text in (a.better, a.worse)]


def _estimates(
    table: Float[np.ndarray, "c 2 2 2"],
    fit: Float[np.ndarray, " c"],
    groups: Shaped[np.ndarray, " c"],
    options: AuditOptions,
) -> dict[str, Estimate]:
    """From rewards by couple, prompt, whose answers, better or worse; and the fit of each couple."""
    own = np.stack([table[:, i, i, 0] for i in (0, 1)], axis=1)
    foreign = np.stack([table[:, i, 1 - i, 0] for i in (0, 1)], axis=1)
    margin = np.concatenate([table[:, i, i, 0] - table[:, i, i, 1] for i in (0, 1)])
    elsewhere = np.concatenate([table[:, 1 - i, i, 0] - table[:, 1 - i, i, 1] for i in (0, 1)])

    def own_above_foreign(rows: np.ndarray) -> float:
        values = np.concatenate([own[rows].ravel(), foreign[rows].ravel()])
        return auroc(values, np.repeat([1.0, 0.0], [own[rows].size, foreign[rows].size]))

    twice = np.concatenate([groups, groups])
    prompt_free = pair_correlation(margin, elsewhere, np.ones(len(margin)), twice, None, options.draws, options.seed)
    return {
        "relevance_auroc": Estimate(*bootstrap(own_above_foreign, groups, options.draws, options.seed)),
        "relevance_swap": estimate_share((1.0 + np.sign(fit)) / 2.0, groups, np.ones(len(fit))),
        "prompt_free_share": Estimate(*prompt_free),
    }


def _findings(estimates: dict[str, Estimate], examples: tuple[Example, ...]) -> tuple[Finding, ...]:
    swap, prompt_free = estimates["relevance_swap"], estimates["prompt_free_share"]
    evidence = (
        f"answers fit their own prompts better than each other's in {percent(swap)} of prompt pairs, where chance gives 50; "
        f"margins correlate with those under another prompt by {number(prompt_free)}"
    )
    if not (swap.high < RARELY or prompt_free.low > SAME or math.isnan(prompt_free.value)):
        return (Finding("note", "The model reads the prompt", evidence),)
    remedy = (
        "Add pairs in which the worse answer is a good answer to another prompt; check that prompts are not cut off."
    )
    cost = Estimate(1 - swap.value, 1 - swap.high, 1 - swap.low, swap.n)
    return (Finding("warning", "The model hardly reads the prompt", evidence, remedy, cost, examples),)


def _example(couple: tuple[Pair, Pair], better: Float[np.ndarray, "2 2"]) -> Example:
    """The prompt under which the other prompt's answer wins by most. better: rewards by prompt and whose answer."""
    i = int(np.argmax([better[0, 1] - better[0, 0], better[1, 0] - better[1, 1]]))
    this, other = couple[i], couple[1 - i]
    return Example(
        "An answer to another prompt is rewarded more",
        this.prompt,
        (Response(this.better), Response(other.better)),
        ("its own answer", "another prompt's answer"),
        (float(better[i, i]), float(better[i, 1 - i])),
    )
