"""Which worthless edits move the reward, and which errors do not.

Answers of a sample are edited by the operators of `auditing/probes`: cues, which must not matter, on the answer that people
like less; errors of substance, which must, on the one that they prefer; placebos, which nobody would notice. Effects are gains
in units of the model's own spread between two answers to one prompt, so a change of its scale moves none. A cue's gain is
compared with neutral text of the same length, so a model that counts characters is flagged for length and nothing else.

The steps: plan (which texts), rewards (the table), effects, costs, substance, then findings and curves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from guerdon.auditing.measures.cues.costs import CueCost, measure_cost, worst_flips
from guerdon.auditing.measures.cues.curves import cue_curves, dose_curves, substance_curves
from guerdon.auditing.measures.cues.effects import CueEffect, measure_effects
from guerdon.auditing.measures.cues.findings import cue_finding, placebo_findings, quiet_findings, substance_findings
from guerdon.auditing.measures.cues.keys import BETTER, EFFECTS, ERRORS_SEEN, FLIPS, WORSE, EditEstimate, TextKey
from guerdon.auditing.measures.cues.plan import Plan, plan_edits, plan_edits_of_better
from guerdon.auditing.measures.cues.rewards import RewardTable, judge_plan, tabulate_rewards
from guerdon.auditing.measures.cues.substance import ALL_PLACEBOS, measure_placebos, measure_substance
from guerdon.auditing.probes.operators import CUES, SUBSTANCE
from guerdon.auditing.probes.sample import score_rows
from guerdon.contracts import Estimate, Quantity, Report, RewardModel
from guerdon.formulas.clustered import clustered_mean

if TYPE_CHECKING:
    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, Judge
    from guerdon.progress import Progress

__all__ = ["TITLE", "measure_cues", "report_cues"]

TITLE = "Cues and substance"
QUANTITIES: Mapping[str, Quantity] = {
    "substance_sensitivity": Quantity(
        "any error", "share", ERRORS_SEEN, "answers that beat themselves with one error of equal length"
    ),
    "placebo": Quantity(
        "placebo", "number", EFFECTS, "effect of edits that keep the meaning, in spreads within a prompt"
    ),
    "mde": Quantity(
        "smallest detectable effect", "number", EFFECTS, "detected four times in five, in spreads within a prompt"
    ),
    "worst_flips": Quantity("worst cue", "share", FLIPS, "its interval holds for all cues together"),
    "within_spread": Quantity("spread within a prompt", "nats", EFFECTS, "the unit of the effects"),
}


def measure_cues(
    model: RewardModel | Judge,
    comparisons: Sequence[Comparison],
    options: AuditOptions,
    *,
    progress: Progress | None = None,
) -> Report:
    """Cues, substance and placebos on at most options.cue_rows pairs.

    Keys: cue_<name> (gain beyond neutral text of its length, in standard deviations within a prompt), cue_<name>_flips
    (share of right preferences flipped), cue_<name>_doses (for a flagged cue: how many copies outweigh one error),
    substance_<name> (share of errors of that kind that lower the reward), substance_sensitivity (of all kinds that keep the
    length), placebo (effect of edits that keep the meaning), mde (smallest effect that would be detected), worst_flips (of the
    cue that flips most; its interval holds for all cues together), within_spread (nats). For a judge see `judge_plan`.
    """
    plan = plan_edits(comparisons, options)
    table = tabulate_rewards(plan, _rewards(model, plan, progress))
    cues = measure_effects(table, options)
    penalized = [cue.operator for cue in cues.values() if cue.is_flagged and not cue.is_rewarded]
    if penalized:  # what such a cue costs shows on the better answers
        on_better = plan_edits_of_better(plan, penalized, options.seed)
        table = table.with_columns(tabulate_rewards(on_better, _rewards(model, on_better, None)))
    return report_cues(table, cues, options)


def _rewards(model: RewardModel | Judge, plan: Plan, progress: Progress | None) -> list[Any]:
    """What the plan's texts are worth to the model; None for a row that it refuses."""
    if isinstance(model, RewardModel):
        return list(score_rows(model, plan.rows, progress))
    return judge_plan(model, plan, progress)


def report_cues(table: RewardTable, cues: Mapping[str, CueEffect], options: AuditOptions) -> Report:
    """The report of a plan's rewards and the cues' effects; no model is needed. Keys: see measure_cues."""
    costs = {name: measure_cost(cue, table, options) for name, cue in cues.items()}
    seen, placebos = measure_substance(table), measure_placebos(table, options)
    by_edit = _edit_estimates(cues, costs, seen)
    estimates = {of.key: estimate for of, estimate in by_edit.items()}
    estimates["placebo"] = Estimate(*placebos[ALL_PLACEBOS])
    detectable = _median_detectable(cues)
    if detectable is not None:
        estimates["mde"] = detectable
    if worst := worst_flips(costs):
        estimates["worst_flips"] = worst
    estimates["within_spread"] = _within_spread(table)
    costliest = sorted((name for name in cues if cues[name].is_flagged), key=lambda name: -costs[name].rank)
    findings = (
        *(cue_finding(cues[name], costs[name], table) for name in costliest),
        *substance_findings(seen, table),
        *placebo_findings(placebos, table),
        *quiet_findings(cues, detectable),
    )
    quantities = {of.key: of.quantity for of in by_edit} | dict(QUANTITIES)
    curves = cue_curves(cues, costs) | substance_curves(seen) | dose_curves(table, options)
    return Report(TITLE, _about(table), estimates, findings, curves, quantities=quantities)


def _edit_estimates(
    cues: Mapping[str, CueEffect], costs: Mapping[str, CueCost], seen: Mapping[str, Estimate]
) -> dict[EditEstimate, Estimate]:
    """The estimates of each edit that applied anywhere."""
    estimates: dict[EditEstimate, Estimate] = {}
    for name, cue in cues.items():
        if cue.raw.n:
            estimates[EditEstimate(name, "effect")] = Estimate(*cue.net)
        if costs[name].flips.n:
            estimates[EditEstimate(name, "flips")] = costs[name].flips
        if costs[name].doses.low > 0:
            estimates[EditEstimate(name, "doses")] = Estimate(*costs[name].doses)
    return estimates | {EditEstimate(name, "seen"): estimate for name, estimate in seen.items() if estimate.n}


def _median_detectable(cues: Mapping[str, CueEffect]) -> Estimate | None:
    """The smallest detectable effect of the median cue."""
    known = sorted(
        (cue.detectable for cue in cues.values() if math.isfinite(cue.detectable.value)), key=lambda least: least.value
    )
    return Estimate(*known[len(known) // 2]) if known else None


def _within_spread(table: RewardTable) -> Estimate:
    rows = table.is_scored
    margin = table.gain(BETTER, WORSE)[rows]
    variance = clustered_mean(np.square(margin) / 2.0, table.groups[rows])
    value, low, high = (math.sqrt(max(0.0, x)) for x in variance[:3])
    return Estimate(value, low, high, variance.n)


def _about(table: RewardTable) -> dict[str, str]:
    """Counts, and the edits that apply to few pairs."""
    num_pairs, num_scored = len(table.plan.pairs), int(table.is_scored.sum())
    facts = {"pairs edited": str(num_scored), "texts scored": str(sum(map(len, table.plan.texts)))}
    if num_scored < num_pairs:
        facts["pairs refused"] = f"{num_pairs - num_scored}, because an edited text is longer than the model reads"
    keys = [*(TextKey("worse", name) for name in CUES), *(TextKey("better", name) for name in SUBSTANCE)]
    counts = {key.edit: int(np.isfinite(table[key]).sum()) for key in keys}
    rare = [f"{edit} {count}" for edit, count in counts.items() if count < num_scored / 2]
    if rare:
        facts["applies to few"] = f"{', '.join(rare)} of {num_scored}"
    return facts
