"""What the taxes of a policy mean in words: which tasks were taxed, which cannot tell, and which policy is dominated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.alignment_tax.tasks import MAX_CHARACTERS
from guerdon.contracts import Example, Finding, Report, Response, as_prompt
from guerdon.formulas.estimation import wilson
from guerdon.models.estimates import number, percent

if TYPE_CHECKING:
    from guerdon.alignment_tax.tasks import Task
    from guerdon.formulas.alignment_tax import Tax

__all__ = ["dominated_policies", "loss_in_words", "summarize", "summarize_policies", "tax_findings"]

MAX_FALSE_DISCOVERY = 0.05  # share of tasks called taxed that are not (Benjamini & Hochberg)
EXAMPLES = 3
WORDS: Mapping[str, str] = {
    "text": "log-likelihood of held-out text",
    "minimal_pairs": "grammar (minimal pairs)",
    "cloze": "the last word",
    "arithmetic": "sums to two digits",
    "copy": "copying from the context",
    "unrepeated": "replies without repeats",
    "distinct": "different pairs of words",
    "vocabulary": "vocabulary of the replies",
    "answered": "harmless requests answered",
    "json": "valid JSON on request",
}
REMEDY = (
    "Take an earlier checkpoint or raise optimize.kl_coef, and measure again. What a larger KL penalty does not restore "
    "(InstructGPT's did not at 2.0), a share of pretraining text in the updates mostly does."
)


def tax_findings(
    before: Mapping[str, Task], after: Mapping[str, Task], taxes: Mapping[str, Tax], q: Mapping[str, float]
) -> list[Finding]:
    """Tasks that were taxed or improved, worst first; what is least certain if none was taxed; tasks that cannot tell."""
    findings: list[Finding] = []
    for name in sorted(taxes, key=lambda name: -taxes[name].standardized):
        tax = taxes[name]
        scores = " to ".join(_score(task[name]) for task in (before, after))
        lost = loss_in_words(tax, before[name])
        evidence = f"from {scores}: lost {lost}; false discovery rate {q[name]:.2g} over {len(taxes)} tasks"
        if q[name] < MAX_FALSE_DISCOVERY and tax.difference.value > 0:
            examples = _examples(name, before[name], after[name])
            findings.append(Finding("warning", f"Taxed: {in_words(name)}", evidence, REMEDY, examples=examples))
        elif q[name] < MAX_FALSE_DISCOVERY and tax.difference.value < 0:
            findings.append(Finding("note", f"Better than before: {in_words(name)}", evidence))
    if not any(finding.severity == "warning" for finding in findings):
        least_known = max(taxes, key=lambda name: taxes[name].difference.high / taxes[name].error)
        evidence = (
            f"{len(taxes)} tasks; the least is known about {in_words(least_known)}: lost "
            f"{loss_in_words(taxes[least_known], before[least_known])}. A loss within an interval is not excluded"
        )
        findings.append(Finding("note", "No alignment tax is seen", evidence))
    at_chance = [name for name, task in before.items() if _is_at_chance(task)]
    if at_chance:
        evidence = ", ".join(f"{in_words(name)}: {_score(before[name])}" for name in at_chance)
        remedy = "Conclude nothing from these tasks; name tasks that the reference can do with tax.lm_eval."
        findings.append(Finding("note", "The reference cannot do it, so nothing can be lost", evidence, remedy))
    return findings


def summarize(findings: Sequence[Finding], worst_task: str, loss: str) -> str:
    """One policy's taxed tasks in a sentence. loss: what it lost on the worst task, in words."""
    taxed = [f.title.removeprefix("Taxed: ") for f in findings if f.severity == "warning"]
    if not taxed:
        return "No alignment tax is seen"
    tasks = f"{len(taxed)} task{'s' * (len(taxed) > 1)}: {'; '.join(taxed)}"
    return f"Taxed on {tasks}. It lost most on {in_words(worst_task)}: {loss}"


def summarize_policies(parts: Mapping[str, Report]) -> str:
    """How many tasks were taxed, policy by policy."""
    taxed = {name: sum(f.severity == "warning" for f in part.findings) for name, part in parts.items()}
    return "; ".join(
        f"{name}: taxed on {num} tasks" if num else f"{name}: no tax is seen" for name, num in taxed.items()
    )


def dominated_policies(parts: Mapping[str, Report]) -> list[Finding]:
    """Policies that another beats in both gain and tax, by the values alone."""
    key = next((k for k in ("gold_gain", "proxy_gain") if all(k in part.estimates for part in parts.values())), None)
    if key is None:
        return []
    points = {name: (part.estimates[key].value, part.estimates["tax_mean"].value) for name, part in parts.items()}
    findings = []
    for name, (gain, tax) in points.items():
        better = [other for other, (g, x) in points.items() if g >= gain and x <= tax and (g, x) != (gain, tax)]
        if better:
            other, quantity = better[0], key.removesuffix("_gain")
            evidence = (
                f"{other} gained {points[other][0]:.3g} of {quantity} at a mean tax of {points[other][1]:.2f} standard "
                f"errors; {name} gained {gain:.3g} at {tax:.2f}"
            )
            findings.append(Finding("note", f"{name} is beaten in gain and in tax", evidence, f"Keep {other}."))
    return findings


def in_words(name: str) -> str:
    """A task in words."""
    base, chat = (name.removesuffix("_chat"), ", in a chat") if name.endswith("_chat") else (name, "")
    return f"{WORDS[base]}{chat}" if base in WORDS else name


def loss_in_words(tax: Tax, task: Task) -> str:
    """What was lost, in points of a share or in the task's own unit, with its interval."""
    return percent(tax.difference) if task.is_share else number(tax.difference)


def _score(task: Task) -> str:
    mean = float(task.score.mean())
    return f"{100 * mean:.1f}\N{NO-BREAK SPACE}%" if task.is_share else f"{mean:.3f}"


def _is_at_chance(task: Task) -> bool:
    """Whether a share is not shown to be above what a model that knows nothing gets."""
    return task.is_share and wilson(float(task.score.sum()), len(task.score)).low <= (task.chance or 0.0)


def _examples(name: str, before: Task, after: Task) -> tuple[Example, ...]:
    """The items that lost most, for a person to read."""
    if not before.items:
        return ()
    lost = before.score - after.score
    chosen = [int(i) for i in np.argsort(-lost, kind="stable")[:EXAMPLES] if lost[i] > 0]
    return tuple(
        Example(
            title=in_words(name),
            prompt=as_prompt(before.items[i][:MAX_CHARACTERS]),
            responses=(Response(before.answers[i][:MAX_CHARACTERS]), Response(after.answers[i][:MAX_CHARACTERS])),
            labels=("before", "after"),
            rewards=(float(before.score[i]), float(after.score[i])),
        )
        for i in chosen
    )
