"""A reward model or a judge and comparisons in, a report out: how often it is right, and how far to trust its odds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from assay.audit.accuracy import measure_accuracy
from assay.audit.hygiene import hygiene_gate
from assay.audit.mistakes import worst_mistakes
from assay.audit.odds import measure_curves
from assay.audit.order import measure_order
from assay.audit.people import measure_people
from assay.contracts import AssayError, Finding, Report, RewardModel, digest_all
from assay.models.pairs import Progress, score_comparisons

if TYPE_CHECKING:
    from assay.config import AuditOptions
    from assay.contracts import Comparison, Judge, Prompt, Response

__all__ = ["audit", "hygiene_gate", "hygiene_rows"]


def audit(
    model: RewardModel | Judge,
    comparisons: Sequence[Comparison],
    options: AuditOptions,
    *,
    hygiene: tuple[Finding, ...] | None = None,
    about: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """What is known of the model after these comparisons, which nothing else has seen.

    `hygiene` holds the findings of a gate already passed; None runs `hygiene_gate` here, on a few responses of the
    comparisons. A finding of severity "error" stops the audit: the report then holds the gate's findings and no number.
    """
    if not comparisons:
        raise AssayError("audit: no comparisons; remedy: give at least one")
    if hygiene is None:
        hygiene = ()
        if isinstance(model, RewardModel):
            hygiene = hygiene_gate(model, *hygiene_rows(comparisons, options.hygiene_rows), options)
    facts = {**(about or {}), "comparisons": str(len(comparisons))}
    if any(finding.severity == "error" for finding in hygiene):
        return Report("Audit", facts, findings=hygiene)

    pairs = score_comparisons(model, comparisons, progress=progress)
    if len(pairs) == 0:
        raise AssayError("audit: no comparable pair; remedy: give verdicts that rank at least two responses")
    parts = [
        measure_accuracy(pairs, options),
        measure_people(pairs, options),
        measure_curves(pairs, options),
    ]
    if not isinstance(model, RewardModel):
        parts.append(measure_order(model, comparisons, pairs, options))
    facts |= {
        "pairs": str(len(pairs)),
        "groups": str(pairs.num_groups),
        "comparisons hash": digest_all(comparison.id for comparison in comparisons),
        "intervals": f"95 %, {options.draws} bootstrap draws by group, seed {options.seed}",
    }
    return Report(
        "Audit",
        facts,
        {name: estimate for part in parts for name, estimate in part.estimates.items()},
        (*hygiene, *(finding for part in parts for finding in part.findings)),
        {name: curve for part in parts for name, curve in part.curves.items()},
        worst_mistakes(comparisons, pairs, options.worst),
    )


def hygiene_rows(comparisons: Sequence[Comparison], num_rows: int) -> tuple[list[Prompt], list[Response]]:
    """Prompts and responses for the gate: first, second, first, ... of comparisons spread evenly over the data."""
    step = max(1, len(comparisons) // num_rows)
    chosen = comparisons[::step][:num_rows]
    if len(chosen) < num_rows:
        every = [(c.prompt, response) for c in chosen for response in c.responses][:num_rows]
    else:
        every = [(c.prompt, c.responses[i % 2]) for i, c in enumerate(chosen)]
    return [prompt for prompt, _ in every], [response for _, response in every]
