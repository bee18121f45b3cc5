"""The report of the alignment tax: each policy compared with the reference item by item, and all policies by gain, KL and tax.

Axes: n items of a task, the same before and after; t tasks. Higher scores are better; tax = before - after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from guerdon.alignment_tax.curves import tax_by_gain, tax_by_phenomenon, tax_by_task
from guerdon.alignment_tax.findings import (
    dominated_policies,
    loss_in_words,
    summarize,
    summarize_policies,
    tax_findings,
)
from guerdon.alignment_tax.harness import to_lm_eval
from guerdon.contracts import Estimate, GuerdonError, Quantity, Report, Unit
from guerdon.formulas.alignment_tax import Tax, mean_and_worst, task_correlation, tax_of_mean, tax_of_share
from guerdon.formulas.clustered import clustered_mean
from guerdon.formulas.estimation import benjamini_hochberg, wilson
from guerdon.models.estimates import SHARED_QUANTITIES

if TYPE_CHECKING:
    from guerdon.alignment_tax.measure import Measurement
    from guerdon.alignment_tax.tasks import Task
    from guerdon.config import TaxOptions

__all__ = ["Gain", "compare", "results"]

SECTION = "Alignment tax"
FORMS = {"both": "plain text, and in the chat template", "plain": "plain text", "chat": "in the chat template"}
TASK_LABELS: Mapping[str, tuple[str, Unit, str]] = {  # label, unit and meaning of a score
    "text": ("text", "nats", "log-likelihood per token of held-out text"),
    "minimal_pairs": ("grammar", "share", "pairs of sentences of which the right one is likelier"),
    "cloze": ("last word", "share", "sentences whose right last word is likelier than three others"),
    "arithmetic": ("sums", "share", "sums to two digits whose result is likelier than three near misses"),
    "copy": ("copying", "nats", "log-likelihood per token of a list that was read just before"),
    "unrepeated": ("without repeats", "share", "runs of four words in a reply that had not occurred in it before"),
    "distinct": ("different pairs", "share", "different pairs of words among all in the replies' beginnings"),
    "vocabulary": ("vocabulary", "nats", "entropy of the words of the replies' beginnings"),
    "answered": ("answered", "share", "harmless requests that are not declined"),
    "json": ("valid JSON", "share", "requests for a JSON object that are answered with one"),
}
QUANTITIES: Mapping[str, Quantity] = {
    "tax_mean": Quantity(
        "mean tax, standard errors",
        "number",
        SECTION,
        "mean over tasks of what was lost, each in its own standard errors",
    ),
    "tax_worst": Quantity(
        "worst tax, standard errors", "number", SECTION, "the largest loss of a task, allowing for the selection"
    ),
    **SHARED_QUANTITIES,
}


@dataclass(frozen=True, slots=True)
class Gain:
    """What a policy's optimization gained on a run's held-out prompts: reward, gold if there was one, KL (nats/sequence)."""

    proxy: Estimate
    kl: Estimate
    gold: Estimate | None = None
    update: int | None = None


def compare(
    before: Measurement,
    afters: Mapping[str, Measurement],
    options: TaxOptions,
    *,
    gains: Mapping[str, Gain] | None = None,
    distances: Mapping[str, Estimate | None] | None = None,
) -> Report:
    """The report of measurements of the reference and of each policy.

    Keys, of one policy: tax_mean and tax_worst (in standard errors, over tasks); kl; proxy_gain and gold_gain if known;
    tax_NAME, score_NAME_before and score_NAME_after of each task. Curves: tax_by_task, tax_by_phenomenon; tax_by_kl,
    tax_by_proxy_gain, tax_by_gold_gain. Of several policies: a section each, and their gain, KL and tax together as
    KEY_of_POLICY.
    """
    facts = {
        "reference": before.name or "the policy without its adapters",
        "tasks": str(len(before.tasks)),
        "items": str(sum(len(task.score) for task in before.tasks.values())),
        "form": FORMS[options.form],
        "intervals": "95 %, by item; items are taken as independent, in intervals and tests",
    }
    parts = {
        name: _compare_one(before, after, (gains or {}).get(name), (distances or {}).get(name))
        for name, after in afters.items()
    }
    curves = tax_by_gain(parts)
    if len(parts) == 1:
        ((name, part),) = parts.items()
        about = {**part.about, "policy": name, **facts}
        return replace(part, title=f"{SECTION} of {name}", about=about, curves={**part.curves, **curves})
    together = {
        f"{key}_of_{name}": part.estimates[key]
        for key in ("proxy_gain", "gold_gain", "kl", "tax_mean", "tax_worst")
        for name, part in parts.items()
        if key in part.estimates
    }
    findings = tuple(
        replace(finding, title=f"{name}: {finding.title}")
        for name, part in parts.items()
        for finding in part.findings
        if finding.severity == "warning"
    )
    return Report(
        SECTION,
        {"policies": ", ".join(parts), **facts},
        together,
        (*findings, *dominated_policies(parts)),
        curves,
        sections=tuple(replace(part, title=name) for name, part in parts.items()),
        summary=summarize_policies(parts),
        quantities={key: Quantity(key.replace("_", " "), "number", SECTION) for key in together if key[:4] == "tax_"},
    )


def results(before: Measurement, after: Measurement) -> dict[str, Any]:
    """The comparison in the form of lm-evaluation-harness's results.json."""
    return to_lm_eval(before.tasks, after.tasks, _taxes(before, after))


def _compare_one(before: Measurement, after: Measurement, gain: Gain | None, distance: Estimate | None) -> Report:
    """One policy compared with the reference."""
    taxes = _taxes(before, after)
    names = list(taxes)
    z = np.array([taxes[name].standardized for name in names])
    differences = [before.tasks[name].score - after.tasks[name].score for name in names]
    mean, worst = mean_and_worst(z, task_correlation(differences, [before.tasks[name].bank for name in names]))
    q = dict(zip(names, benjamini_hochberg(np.array([taxes[name].p for name in names])).tolist(), strict=True))
    estimates = {"tax_mean": Estimate(*mean), "tax_worst": Estimate(*worst)}
    kl = gain.kl if gain else distance
    estimates |= {} if gain is None else {"proxy_gain": gain.proxy} | ({"gold_gain": gain.gold} if gain.gold else {})
    estimates |= {} if kl is None else {"kl": kl}
    for name in names:
        estimates[f"tax_{name}"] = Estimate(*taxes[name].difference)
        estimates[f"score_{name}_before"] = _score(before.tasks[name])
        estimates[f"score_{name}_after"] = _score(after.tasks[name])
    worst_task = names[int(np.argmax(z))]
    about = {"worst task": worst_task}
    if kl is not None:
        about["KL from"] = "the run's held-out prompts" if gain else "replies to the battery's open requests"
    if gain and gain.update is not None:
        about["update"] = str(gain.update)
    findings = tax_findings(before.tasks, after.tasks, taxes, q)
    summary = summarize(findings, worst_task, loss_in_words(taxes[worst_task], before.tasks[worst_task]))
    curves = {"tax_by_task": tax_by_task(names, z), **tax_by_phenomenon(before.tasks, after.tasks)}
    return Report("", about, estimates, tuple(findings), curves, summary=summary, quantities=_quantities(names))


def _taxes(before: Measurement, after: Measurement) -> dict[str, Tax]:
    taxes: dict[str, Tax] = {}
    for name, task in before.tasks.items():
        other = after.tasks.get(name)
        if other is None or len(other.score) != len(task.score):
            raise GuerdonError(
                f"tax: {name} must be measured on the same items before and after, got others. Use the same options for both."
            )
        if task.is_share and other.is_share:
            taxes[name] = tax_of_share(task.score, other.score)
        else:
            taxes[name] = tax_of_mean(task.score, other.score)
    return taxes


def _score(task: Task) -> Estimate:
    if task.is_share:
        return Estimate(*wilson(float(task.score.sum()), len(task.score)))
    return Estimate(*clustered_mean(task.score, range(len(task.score))))


def _quantities(names: Iterable[str]) -> dict[str, Quantity]:
    """QUANTITIES, and those of each task: what was lost, and its score before and after. A task of lm-eval has its name."""
    quantities = dict(QUANTITIES)
    for name in names:
        task = name.removesuffix("_chat")
        if task not in TASK_LABELS:
            for key in (f"tax_{name}", f"score_{name}_before", f"score_{name}_after"):
                quantities[key] = Quantity(key.replace("_", " "), "number", SECTION)
            continue
        label, unit, meaning = TASK_LABELS[task]
        score = Quantity(f"{label}{' in a chat' if task != name else ''}", unit, SECTION, meaning)
        quantities[f"tax_{name}"] = score.variant("lost")
        quantities |= {f"score_{name}_{when}": score.variant(when) for when in ("before", "after")}
    return quantities
