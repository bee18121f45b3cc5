"""A policy's scores on the battery: texts that it reads, and requests that it answers.

Axes: n items of a task.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guerdon.alignment_tax import battery, requests
from guerdon.alignment_tax.harness import harness_tasks
from guerdon.alignment_tax.minimal_pairs import minimal_pairs
from guerdon.alignment_tax.tasks import READ_TASKS, TASKS, Choice, Task
from guerdon.contracts import Estimate, GuerdonError, Prompt, Rollouts, as_prompt
from guerdon.formulas import drift
from guerdon.formulas.alignment_tax import linearized, vocabulary_entropy
from guerdon.formulas.clustered import clustered_mean
from guerdon.models.likelihood import continuation_likelihood, text_likelihood

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.config import TaxOptions
    from guerdon.models.policy import LanguagePolicy

__all__ = ["Measurement", "kl_to_reference", "measure", "refuse_unlike"]


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """A policy's scores on each task, and its replies to the open requests, for its KL to another policy."""

    name: str
    tasks: Mapping[str, Task]
    rollouts: Rollouts | None = None


def measure(
    policy: LanguagePolicy, options: TaxOptions, texts: Sequence[str] | None = None, *, as_reference: bool = False
) -> Measurement:
    """A policy's scores on every task that the options name; with `as_reference`, of the policy without its adapters."""
    names = options.tasks or [*TASKS]
    if unknown := [name for name in names if name not in TASKS]:
        raise GuerdonError(f"tax.tasks must name tasks, got {unknown[0]}. Choose from {', '.join(TASKS)}.")
    tasks: dict[str, Task] = {}
    with _adapters(policy, off=as_reference):
        for form in ("plain", "chat") if options.form == "both" else (options.form,):
            suffix = "_chat" if form == "chat" and options.form == "both" else ""
            read = _read_tasks(policy, names, form == "chat", options, texts)
            tasks |= {f"{name}{suffix}": task for name, task in read.items()}
        if options.form == "both":  # a task's two forms side by side
            tasks = {name: tasks[name] for base in READ_TASKS for name in (base, f"{base}_chat") if name in tasks}
        generated, rollouts = _generated_tasks(policy, names, options)
        tasks |= generated
        if options.lm_eval:
            tasks |= harness_tasks(policy, options)
    return Measurement(policy.name, tasks, rollouts)


def kl_to_reference(
    measurement: Measurement, reference: LanguagePolicy, options: TaxOptions, *, as_reference: bool = False
) -> Estimate | None:
    """KL to the reference over the policy's replies to the open requests, nats/sequence; None if none were drawn."""
    rollouts = measurement.rollouts
    if rollouts is None:
        return None
    assert rollouts.prompt_ids is not None
    assert rollouts.token_ids is not None
    with _adapters(reference, off=as_reference):
        log_prob = reference.token_log_probs(
            rollouts.prompt_ids, rollouts.token_ids, options.temperature, options.micro_tokens
        )
    difference = rollouts.log_prob - log_prob
    return Estimate(*clustered_mean(difference, range(len(difference))))


def refuse_unlike(reference: LanguagePolicy, policy: LanguagePolicy) -> None:
    """An error for two policies that read texts differently: they cannot be compared item by item."""
    name = policy.name or "the policy"
    if reference.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise GuerdonError(
            f"tax: {name} and its reference must have one tokenizer, got two. Pass --reference with the initial policy."
        )
    if reference.template_hash != policy.template_hash:
        raise GuerdonError(
            f"tax: {name} and its reference must render a chat alike, got two renderings. "
            "Set policy.template=plain, which both accept, or one policy.system."
        )


@contextmanager
def _adapters(policy: LanguagePolicy, *, off: bool) -> Iterator[None]:
    if not off:
        yield
        return
    if not hasattr(policy.model, "disable_adapter"):
        raise GuerdonError(
            f"tax: {policy.name or 'the policy'} must have adapters to take off if no reference is given, got none. "
            "Pass --reference with the initial policy."
        )
    with policy.as_reference():
        yield


# ---- Tasks in which the policy reads -------------------------------------------------------------------------------


def _read_tasks(
    policy: LanguagePolicy, names: Sequence[str], is_chat: bool, options: TaxOptions, texts: Sequence[str] | None
) -> dict[str, Task]:
    """Texts read plainly, or as replies in a chat."""
    tasks: dict[str, Task] = {}
    form = "chat" if is_chat else "plain"
    if "text" in names:
        tasks["text"] = _text_task(policy, is_chat, options, battery.TEXTS if texts is None else texts)
    for name, items, chance in (
        ("minimal_pairs", minimal_pairs(options.seed), 0.5),
        ("cloze", battery.cloze(options.seed), 0.25),
        ("arithmetic", battery.arithmetic(options.seed), 0.25),
    ):
        if name in names:
            tasks[name] = _choice_task(policy, f"{name} {form}", items, chance, is_chat, options)
    if "copy" in names:
        tasks["copy"] = _copy_task(policy, is_chat, options)
    return tasks


def _text_task(policy: LanguagePolicy, is_chat: bool, options: TaxOptions, given: Sequence[str]) -> Task:
    texts = [text for text in given if text.strip()]
    if not texts:
        raise GuerdonError(
            "tax: held-out texts must hold at least one word, got none. Give a file of texts, or none for the built-in ones."
        )
    if is_chat:
        prompts = [as_prompt(battery.TEXT_ASK)] * len(texts)
        read = continuation_likelihood(policy, prompts, texts, micro_tokens=options.micro_tokens)
    else:
        read = text_likelihood(policy, texts, micro_tokens=options.micro_tokens)
    return Task(read.per_token, "text", items=tuple(texts), answers=_in_nats(read.per_token))


def _choice_task(
    policy: LanguagePolicy, bank: str, items: Sequence[Choice], chance: float, is_chat: bool, options: TaxOptions
) -> Task:
    """An item is right if the right continuation is likelier, as a whole, than each wrong one."""
    contexts: list[str | Prompt] = []
    continuations: list[str] = []
    for item in items:
        for text in (item.right, *item.wrong):
            contexts.append(as_prompt(item.ask) if is_chat else item.context)
            continuations.append(text.strip() if is_chat else text)
    nats = continuation_likelihood(policy, contexts, continuations, micro_tokens=options.micro_tokens).log_prob
    table = nats.reshape(len(items), -1)
    margin = table[:, 0] - table[:, 1:].max(axis=1)
    likeliest = [(item.right, *item.wrong)[int(np.argmax(row))].strip() for item, row in zip(items, table, strict=True)]
    return Task(
        (margin > 0).astype(np.float64),
        bank.split()[0],
        is_share=True,
        chance=chance,
        kinds=tuple(item.kind for item in items),
        items=tuple(f"{item.context}{item.right}".strip() for item in items),
        answers=tuple(f"{text} (right by {x:+.2f} nats)" for text, x in zip(likeliest, margin, strict=True)),
    )


def _copy_task(policy: LanguagePolicy, is_chat: bool, options: TaxOptions) -> Task:
    copies = battery.copies(options.seed)
    contexts = [as_prompt(item.ask) if is_chat else item.context for item in copies]
    continuations = [item.continuation.strip() if is_chat else item.continuation for item in copies]
    nats = continuation_likelihood(policy, contexts, continuations, micro_tokens=options.micro_tokens).per_token
    return Task(nats, "copy", items=tuple(item.context for item in copies), answers=_in_nats(nats))


def _in_nats(per_token: Float[np.ndarray, " n"]) -> tuple[str, ...]:
    return tuple(f"{x:.3f} nats per token" for x in per_token)


# ---- Tasks in which the policy replies -----------------------------------------------------------------------------


def _generated_tasks(
    policy: LanguagePolicy, names: Sequence[str], options: TaxOptions
) -> tuple[dict[str, Task], Rollouts | None]:
    """Tasks on replies; and the replies to the open requests, None if no task needs them."""
    prompts = {
        "open": requests.OPEN if set(names) & {"unrepeated", "distinct", "vocabulary"} else (),
        "answered": requests.BENIGN if "answered" in names else (),
        "json": tuple(request for request, _ in requests.JSON) if "json" in names else (),
    }
    if not any(prompts.values()):
        return {}, None
    rollouts = _sample_replies(policy, [request for part in prompts.values() for request in part], options)
    replies, start = {}, 0
    for kind, part in prompts.items():
        replies[kind] = tuple(response.text for response in rollouts.responses[start : start + len(part)])
        start += len(part)
    tasks: dict[str, Task] = {}
    for name, score in _open_scores(replies["open"]).items():
        if name in names:
            tasks[name] = Task(score, "open", items=requests.OPEN, answers=replies["open"])
    right = {
        "answered": [not requests.refuses(text) for text in replies["answered"]],
        "json": [
            requests.holds_json(text, keys)
            for text, (_, keys) in zip(replies["json"], requests.JSON if prompts["json"] else (), strict=True)
        ],
    }
    for name, marks in right.items():
        if name in names:
            score = np.array(marks, dtype=np.float64)
            tasks[name] = Task(score, name, is_share=True, items=prompts[name], answers=replies[name])
    num_open = len(prompts["open"])
    return tasks, rollouts.select(range(num_open)) if num_open else None


def _sample_replies(policy: LanguagePolicy, texts: Sequence[str], options: TaxOptions) -> Rollouts:
    """One reply to each request, drawn with the same seed for every policy."""
    prompts = [as_prompt(text) for text in texts]
    prompt_ids = [policy.encode(prompt) for prompt in prompts]
    for text, ids in zip(texts, prompt_ids, strict=True):
        if problem := policy.prompt_problem(ids, options.max_tokens):
            raise GuerdonError(f"tax: {text[:40]!r}: {_first_clause(problem)}. Lower tax.max_tokens.")
    return policy.sample_encoded(prompts, prompt_ids, 1, options.max_tokens, options.temperature, options.seed)


def _first_clause(problem: str) -> str:
    return problem.split(". ")[0].rstrip(".")


def _open_scores(texts: Sequence[str]) -> dict[str, Float[np.ndarray, " n"]]:
    def distinct(rows: Sequence[object]) -> float:
        value = drift.distinct([str(row) for row in rows], 2).value
        return 0.0 if math.isnan(value) else value

    def entropy(rows: Sequence[object]) -> float:
        return vocabulary_entropy([str(row) for row in rows])

    return {
        "unrepeated": np.array([1.0 - drift.repetition(text) for text in texts]),
        "distinct": linearized(texts, distinct),
        "vocabulary": linearized(texts, entropy),
    }
