"""Several models on the same comparisons: which differ in accuracy, when every two of them are compared.

Axis: n pairs. With k models there are k (k - 1) / 2 tests, so chance alone finds differences: their p-values are corrected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from string import ascii_lowercase
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.auditing.compare import LEVEL, compare_pairs, summarize_difference
from guerdon.contracts import Estimate, Finding, GuerdonError, Quantity, Report
from guerdon.formulas.estimation import holm
from guerdon.models.estimates import percent, points_by_name
from guerdon.models.scored_pairs import score_comparisons

if TYPE_CHECKING:
    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, Judge, RewardModel
    from guerdon.progress import Progress

__all__ = ["compare_many"]

MAX_MODELS: Final = len(ascii_lowercase)
SECTION = "Comparison"


def compare_many(
    models: Sequence[RewardModel | Judge],
    comparisons: Sequence[Comparison],
    options: AuditOptions,
    *,
    names: Sequence[str],
    progress: Progress | None = None,
) -> Report:
    """A report of which of several models are better, on comparisons that none was trained on; each scores them once.

    Keys, with a letter for each model in the order given: accuracy_a, ...; accuracy_difference_a_b, ...; and adjusted_p_a_b,
    ..., the p-value of equal accuracy by Holm's correction over all pairs of models. Curve: accuracy_by_model. Sections: the
    report of `compare` on each two.
    """
    if not comparisons:
        raise GuerdonError("compare: comparisons must be at least one, got none. Give held-out comparisons.")
    if not 2 < len(models) <= MAX_MODELS:
        raise GuerdonError(f"compare: models must be 3 to {MAX_MODELS}, got {len(models)}. Compare fewer at once.")
    if len(set(names)) < len(names):
        names = [f"{name} {letter}" for name, letter in zip(names, ascii_lowercase, strict=False)]
    scored = [
        score_comparisons(model, comparisons, keep_unresolved=True, progress=_part(progress, i, len(models)))
        for i, model in enumerate(models)
    ]
    resolved = np.all([pairs.is_resolved for pairs in scored], axis=0)
    if not resolved.any():
        raise GuerdonError(
            f"compare: all models must have a verdict on some pair, got none of {len(resolved)}. Read the failures by code."
        )
    scored = [pairs.select(resolved) for pairs in scored]
    sections = {
        (i, j): compare_pairs(scored[i], scored[j], comparisons, options, names=(names[i], names[j]))
        for i, j in combinations(range(len(models)), 2)
    }
    first = next(iter(sections.values()))
    about = {letter: name for letter, name in zip(ascii_lowercase, names, strict=False)}
    about |= {key: fact for key, fact in first.about.items() if key not in ("a", "b")}
    if not resolved.all():
        about["left out"] = f"{int((~resolved).sum())} of {len(resolved)} pairs, on which one of them has no verdict"
    accuracies = [
        sections[0, 1].estimates["accuracy_a"],
        *(sections[0, j].estimates["accuracy_b"] for j in range(1, len(models))),
    ]
    estimates = _estimates(accuracies, sections)
    better = list(_better(sections, estimates, names))
    return Report(
        f"{len(models)} models compared",
        {**about, "correction": f"Holm, over {len(sections)} pairs of models"},
        estimates,
        tuple(better),
        {"accuracy_by_model": points_by_name(names, accuracies, "model", "accuracy", title="Accuracy by model")},
        sections=tuple(replace(section, about={}) for section in sections.values()),
        summary=_summary(better, len(sections)),
        quantities=_quantities(names, sections),
    )


def _part(progress: Progress | None, i: int, num: int) -> Progress | None:
    """Progress of one model, counted over all."""
    return None if progress is None else lambda done, total: progress(i * total + done, num * total)


def _estimates(accuracies: Sequence[Estimate], sections: Mapping[tuple[int, int], Report]) -> dict[str, Estimate]:
    estimates = {f"accuracy_{letter}": e for letter, e in zip(ascii_lowercase, accuracies, strict=False)}
    p_values = [section.estimates["equal_accuracy_p"] for section in sections.values()]
    adjusted = holm(np.array([p.value for p in p_values]))
    for pair, section in sections.items():
        estimates[f"accuracy_difference_{_letters(pair)}"] = section.estimates["accuracy_difference"]
    for pair, p, value in zip(sections, p_values, adjusted.tolist(), strict=True):
        estimates[f"adjusted_p_{_letters(pair)}"] = replace(p, value=value)
    return estimates


def _letters(pair: tuple[int, int]) -> str:
    return "_".join(ascii_lowercase[i] for i in pair)


def _quantities(names: Sequence[str], sections: Mapping[tuple[int, int], Report]) -> dict[str, Quantity]:
    quantities = {
        f"accuracy_{letter}": Quantity(f"accuracy, {name} ({letter})", "share", SECTION, "pairs ordered as people do")
        for letter, name in zip(ascii_lowercase, names, strict=False)
    }
    for pair in sections:
        letters = _letters(pair)
        quantities[f"accuracy_difference_{letters}"] = Quantity(
            f"accuracy, {letters.replace('_', ' less ')}",
            "share",
            SECTION,
            "pair by pair; its interval is of these two alone",
        )
        quantities[f"adjusted_p_{letters}"] = Quantity(
            f"adjusted p, {letters.replace('_', ' and ')}",
            "number",
            SECTION,
            "of equal accuracy, with Holm's correction over all pairs of models",
        )
    return quantities


def _better(
    sections: Mapping[tuple[int, int], Report], estimates: Mapping[str, Estimate], names: Sequence[str]
) -> Iterator[Finding]:
    """A note for each two models of which one is shown to be better, the largest difference first."""

    def difference(pair: tuple[int, int]) -> Estimate:
        return estimates[f"accuracy_difference_{_letters(pair)}"]

    for pair in sorted(sections, key=lambda pair: -abs(difference(pair).value)):
        e, p = difference(pair), estimates[f"adjusted_p_{_letters(pair)}"]
        if p.value < LEVEL and (e.low > 0 or e.high < 0):
            i, j = pair
            title = summarize_difference({"accuracy_difference": e, "equal_accuracy_p": p}, (names[i], names[j]))
            evidence = f"accuracy of {names[i]} less that of {names[j]} is {percent(e)}; adjusted p = {p.value:.2g}"
            yield Finding("note", title, evidence)


def _summary(better: Sequence[Finding], num_tests: int) -> str:
    if not better:
        return f"No difference in accuracy is shown in any of {num_tests} pairs of models"
    return f"A difference in accuracy is shown in {len(better)} of {num_tests} pairs of models: {better[0].title}"
