"""The alignment tax: what a policy can no longer do after it was optimized, item by item beside the policy that it began from.

Axes: n items of a task, the same for both policies; t tasks. A score is higher for better; tax = before - after.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from guerdon.alignment_tax import battery
from guerdon.alignment_tax.battery import Choice, Task
from guerdon.alignment_tax.harness import harness_tasks, to_lm_eval
from guerdon.contracts import (
    Curve,
    Estimate,
    Example,
    Finding,
    GuerdonError,
    Prompt,
    Quantity,
    Report,
    Response,
    Unit,
    as_prompt,
)
from guerdon.formulas import drift
from guerdon.formulas.alignment_tax import (
    Tax,
    linearized,
    mean_and_worst,
    task_correlation,
    tax_of_mean,
    tax_of_share,
    vocabulary_entropy,
)
from guerdon.formulas.estimation import benjamini_hochberg, wilson
from guerdon.formulas.resampling import bootstrap_mean
from guerdon.models.engine.kv_cache import SampledTokens
from guerdon.models.estimates import SHARED_QUANTITIES
from guerdon.models.likelihood import continuation_likelihood, text_likelihood

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.auditing.overoptimization import Trajectory
    from guerdon.config import TaxOptions
    from guerdon.models.policy import LanguagePolicy

__all__ = ["TASKS", "Gain", "Measured", "alignment_tax", "compare", "gain_of", "measure", "results"]

FALSE_CALLS = 0.05  # share of tasks called taxed that are not (Benjamini & Hochberg)
EXAMPLES = 3
SHOWN = 400  # letters of a text that is shown
READ = ("text", "minimal_pairs", "cloze", "arithmetic", "copy")
SAID = ("unrepeated", "distinct", "vocabulary", "answered", "json")
TASKS = (*READ, *SAID)
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
    "Take an earlier checkpoint or raise optimize.kl_coef, and measure again; what a larger KL price does not mend (InstructGPT's "
    "did not at 2.0) a share of pretraining text in the updates mostly does."
)

SECTION = "Alignment tax"
TASK_LABELS: Mapping[str, tuple[str, Unit, str]] = {  # label, unit and meaning of a score
    "text": ("text", "nats", "log-likelihood a token of held-out text"),
    "minimal_pairs": ("grammar", "share", "pairs of sentences of which the right one is likelier"),
    "cloze": ("last word", "share", "sentences whose right last word is likelier than three others"),
    "arithmetic": ("sums", "share", "sums to two digits whose result is likelier than three near misses"),
    "copy": ("copying", "nats", "log-likelihood a token of a list that was read just before"),
    "unrepeated": ("without repeats", "share", "runs of four words in a reply that had not stood in it before"),
    "distinct": ("different pairs", "share", "different pairs of words among all in the replies' beginnings"),
    "vocabulary": ("vocabulary", "nats", "entropy of the words of the replies' beginnings"),
    "answered": ("answered", "share", "harmless requests that are not declined"),
    "json": ("valid JSON", "share", "requests for a JSON object that are answered with one"),
}
QUANTITIES: Mapping[str, Quantity] = {
    "tax_mean": Quantity("mean tax", "number", SECTION, "mean over tasks of what was lost, in standard errors of each"),
    "tax_worst": Quantity(
        "worst tax", "number", SECTION, "the largest loss of a task, in standard errors, allowing for the choice"
    ),
    **SHARED_QUANTITIES,
}


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A policy's scores of each task; and its replies to the open requests as token ids, for its distance from another."""

    name: str
    tasks: Mapping[str, Task]
    asked: list[Any] = field(default_factory=list)
    drawn: SampledTokens | None = None


@dataclass(frozen=True, slots=True)
class Gain:
    """What a policy's optimization brought, by a run's held-out prompts: reward, gold where there was one, KL (nats/sequence)."""

    proxy: Estimate
    kl: Estimate
    gold: Estimate | None = None
    update: int | None = None


def alignment_tax(
    reference: LanguagePolicy | None,
    policy: LanguagePolicy | Mapping[str, LanguagePolicy],
    options: TaxOptions,
    texts: Sequence[str] | None = None,
    gains: Gain | Mapping[str, Gain] | None = None,
    about: Mapping[str, str] | None = None,
) -> Report:
    """What one policy, or each of several by name, can do less well than the reference: on the offline battery and on the tasks of
    lm-evaluation-harness that are named.

    `reference` None is the policy without its adapters. `texts` are held-out texts of your own instead of the built-in ones.
    `gains` say what the optimization brought (`gain_of` a run's checks), for the one table of gain, KL and tax.
    """
    policies = dict(policy) if isinstance(policy, Mapping) else {policy.name or "policy": policy}
    if not policies:
        raise GuerdonError("tax: no policy; remedy: give one")
    first = next(iter(policies.values()))
    before = measure(first if reference is None else reference, options, texts, as_reference=reference is None)
    known = gains if isinstance(gains, Mapping) else {} if gains is None else dict.fromkeys(policies, gains)
    afters, distances = {}, {}
    for name, each in policies.items():
        refuse_unlike(reference or first, each)
        afters[name] = measure(each, options, texts)
        distances[name] = distance(afters[name], reference or each, options, as_reference=reference is None)
    return compare(before, afters, options, gains=known, distances=distances, about=about)


# ---- Measuring ---------------------------------------------------------------------------------------------------


def measure(
    policy: LanguagePolicy, options: TaxOptions, texts: Sequence[str] | None = None, *, as_reference: bool = False
) -> Measured:
    """A policy's scores of every task that the options ask for; of the policy without its adapters where `as_reference`."""
    wanted = options.tasks or [*TASKS]
    if unknown := [task for task in wanted if task not in TASKS]:
        raise GuerdonError(f"tax.tasks: {unknown[0]} is no task; known are {', '.join(TASKS)}")
    tasks: dict[str, Task] = {}
    with _adapters(policy, off=as_reference):
        for form in ("plain", "chat") if options.form == "both" else (options.form,):
            end = "_chat" if form == "chat" and options.form == "both" else ""
            read = _read_tasks(policy, wanted, form == "chat", options, texts)
            tasks |= {f"{name}{end}": task for name, task in read.items()}
        if options.form == "both":  # a task's two forms side by side
            tasks = {name: tasks[name] for base in READ for name in (base, f"{base}_chat") if name in tasks}
        found, asked, drawn = _said_tasks(policy, wanted, options)
        tasks |= found
        if options.lm_eval:
            tasks |= harness_tasks(policy, options)
    return Measured(policy.name, tasks, asked, drawn)


def distance(
    measured: Measured, reference: LanguagePolicy, options: TaxOptions, *, as_reference: bool = False
) -> Estimate | None:
    """KL to the reference over the policy's replies to the open requests, nats/sequence; None where none were drawn."""
    if measured.drawn is None:
        return None
    replies, nats = measured.drawn.replies, np.zeros(len(measured.drawn.replies))
    texts = [np.concatenate(pair) for pair in zip(measured.asked, replies, strict=True)]
    with torch.inference_mode(), _adapters(reference, off=as_reference), reference._at_rest():
        for rows in reference.batches(texts, options.micro_tokens):
            found = reference.forward(
                [measured.asked[i] for i in rows], [replies[i] for i in rows], options.temperature
            )
            sums = [float(x.double().sum()) for x in found.log_prob.split([len(replies[i]) for i in rows])]
            nats[rows] = sums
    return _mean(measured.drawn.log_prob - nats, options)


def refuse_unlike(reference: LanguagePolicy, policy: LanguagePolicy) -> None:
    """Two policies that read texts differently cannot be compared item by item."""
    if reference.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise GuerdonError(
            f"tax: {policy.name or 'the policy'} and its reference have different tokenizers; remedy: --reference with the model "
            "that it began from"
        )
    if reference.template_hash != policy.template_hash:
        raise GuerdonError(
            f"tax: {policy.name or 'the policy'} and its reference render a chat differently; remedy: policy.template=plain, which "
            "both take, or one policy.system"
        )


@contextmanager
def _adapters(policy: LanguagePolicy, *, off: bool) -> Iterator[None]:
    if not off:
        yield
        return
    if not hasattr(policy.model, "disable_adapter"):
        raise GuerdonError(
            f"tax: {policy.name or 'the policy'} has no adapters to take off, so nothing says what it began from; "
            "remedy: --reference with that model"
        )
    with policy.as_reference():
        yield


def _read_tasks(
    policy: LanguagePolicy, wanted: Sequence[str], chat: bool, options: TaxOptions, texts: Sequence[str] | None
) -> dict[str, Task]:
    """Tasks in which given texts are read, plain or as replies in a chat."""
    found: dict[str, Task] = {}
    form = "chat" if chat else "plain"
    if "text" in wanted:
        found["text"] = _text_task(policy, chat, options, battery.TEXTS if texts is None else texts)
    for name, items, chance in (
        ("minimal_pairs", battery.minimal_pairs(options.seed), 0.5),
        ("cloze", battery.cloze(options.seed), 0.25),
        ("arithmetic", battery.arithmetic(options.seed), 0.25),
    ):
        if name in wanted:
            found[name] = _choice_task(policy, f"{name} {form}", items, chance, chat, options)
    if "copy" in wanted:
        copies = battery.copies(options.seed)
        contexts = [as_prompt(item.ask) if chat else item.context for item in copies]
        said = [item.continuation.strip() if chat else item.continuation for item in copies]
        nats = continuation_likelihood(policy, contexts, said, micro_tokens=options.micro_tokens).per_token
        told = tuple(f"{x:.3f} nats a token" for x in nats)
        found["copy"] = Task(nats, "copy", asked=tuple(item.context for item in copies), said=told)
    return found


def _text_task(policy: LanguagePolicy, chat: bool, options: TaxOptions, given: Sequence[str]) -> Task:
    texts = [text for text in given if text.strip()]
    if not texts:
        raise GuerdonError(
            "tax: no held-out text with a word in it; remedy: a file of texts, or none for the built-in ones"
        )
    if chat:
        ask = [as_prompt(battery.TEXT_ASK)] * len(texts)
        read = continuation_likelihood(policy, ask, texts, micro_tokens=options.micro_tokens)
    else:
        read = text_likelihood(policy, texts, micro_tokens=options.micro_tokens)
    told = tuple(f"{x:.3f} nats a token" for x in read.per_token)
    return Task(read.per_token, "text", asked=tuple(texts), said=told)


def _choice_task(
    policy: LanguagePolicy, bank: str, items: Sequence[Choice], chance: float, chat: bool, options: TaxOptions
) -> Task:
    """Right where the right continuation is likelier, as a whole, than each wrong one."""
    contexts: list[str | Prompt] = []
    continuations: list[str] = []
    for item in items:
        for text in (item.right, *item.wrong):
            contexts.append(as_prompt(item.ask) if chat else item.context)
            continuations.append(text.strip() if chat else text)
    nats = continuation_likelihood(policy, contexts, continuations, micro_tokens=options.micro_tokens).log_prob
    table = nats.reshape(len(items), -1)
    ahead = table[:, 0] - table[:, 1:].max(axis=1)
    likeliest = [(item.right, *item.wrong)[int(np.argmax(row))].strip() for item, row in zip(items, table, strict=True)]
    return Task(
        (ahead > 0).astype(np.float64),
        bank.split()[0],
        share=True,
        chance=chance,
        kinds=tuple(item.kind for item in items),
        asked=tuple(f"{item.context}{item.right}".strip() for item in items),
        said=tuple(f"{text} (right by {x:+.2f} nats)" for text, x in zip(likeliest, ahead, strict=True)),
    )


def _said_tasks(
    policy: LanguagePolicy, wanted: Sequence[str], options: TaxOptions
) -> tuple[dict[str, Task], list[Any], SampledTokens | None]:
    """Tasks in which the policy replies; and the open requests with their replies, as token ids."""
    requests = {
        "open": battery.OPEN if set(wanted) & {"unrepeated", "distinct", "vocabulary"} else (),
        "answered": battery.BENIGN if "answered" in wanted else (),
        "json": tuple(ask for ask, _ in battery.JSON) if "json" in wanted else (),
    }
    if not any(requests.values()):
        return {}, [], None
    asked, drawn, texts = _replies(policy, [ask for some in requests.values() for ask in some], options)
    replies, at = {}, 0
    for kind, some in requests.items():
        replies[kind] = tuple(texts[at : at + len(some)])
        at += len(some)
    found: dict[str, Task] = {}
    for name, score in _open_scores(replies["open"]).items():
        if name in wanted:
            found[name] = Task(score, "open", asked=battery.OPEN, said=replies["open"])
    if "answered" in wanted:
        right = [not battery.refuses(text) for text in replies["answered"]]
        found["answered"] = _shares(right, "answered", requests, replies)
    if "json" in wanted:
        right = [battery.holds_json(t, keys) for t, (_, keys) in zip(replies["json"], battery.JSON, strict=True)]
        found["json"] = _shares(right, "json", requests, replies)
    num = len(requests["open"])
    open_ = SampledTokens(drawn.replies[:num], drawn.finish[:num], drawn.log_prob[:num])
    return found, asked[:num], open_ if num else None


def _shares(
    right: Sequence[bool], kind: str, requests: Mapping[str, tuple[str, ...]], replies: Mapping[str, tuple[str, ...]]
) -> Task:
    return Task(np.array(right, dtype=np.float64), kind, share=True, asked=requests[kind], said=replies[kind])


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


def _replies(
    policy: LanguagePolicy, requests: Sequence[str], options: TaxOptions
) -> tuple[list[Any], SampledTokens, list[str]]:
    """One reply to each request, with the same chances for every policy."""
    asked = [policy.encode(as_prompt(request)) for request in requests]
    for request, ids in zip(requests, asked, strict=True):
        if reason := policy.prompt_problem(ids, options.max_tokens):
            raise GuerdonError(f"tax: {request[:40]!r}: {reason.split(';')[0]}; remedy: a smaller tax.max_tokens")
    drawn = policy.generate(asked, 1, options.max_tokens, options.temperature, options.seed)
    texts = [policy.response(reply, finish).text for reply, finish in zip(drawn.replies, drawn.finish, strict=True)]
    return asked, drawn, texts


# ---- Comparing ---------------------------------------------------------------------------------------------------


def compare(
    before: Measured,
    afters: Mapping[str, Measured],
    options: TaxOptions,
    *,
    gains: Mapping[str, Gain] | None = None,
    distances: Mapping[str, Estimate | None] | None = None,
    about: Mapping[str, str] | None = None,
) -> Report:
    """Measurements of the reference and of each policy in, the report out.

    Keys, of one policy: tax_mean and tax_worst (in standard errors, over tasks); kl; proxy_gain and gold_gain where known;
    tax_NAME, score_NAME_before and score_NAME_after of each task. Curves: tax_by_task, tax_by_phenomenon; tax_by_kl,
    tax_by_proxy_gain, tax_by_gold_gain. Of several policies: a section each, and their gain, KL and tax together as
    KEY_of_POLICY.
    """
    facts = {
        "reference": before.name or "the policy without its adapters",
        "tasks": str(len(before.tasks)),
        "items": str(sum(len(task.score) for task in before.tasks.values())),
        "form": {"both": "plain text, and in the chat template", "plain": "plain text", "chat": "in the chat template"}[
            options.form
        ],
        "intervals": f"95 %, {options.draws} bootstrap draws by item, seed {options.seed}",
        **(about or {}),
    }
    parts = {
        name: _one(before, after, options, (gains or {}).get(name), (distances or {}).get(name))
        for name, after in afters.items()
    }
    curves = _pareto(parts)
    if len(parts) == 1:
        ((name, part),) = parts.items()
        return replace(
            part, title="Alignment tax", about={**part.about, "policy": name, **facts}, curves={**part.curves, **curves}
        )
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
    sections = tuple(replace(part, title=name) for name, part in parts.items())
    return Report(
        "Alignment tax",
        {"policies": ", ".join(parts), **facts},
        together,
        (*findings, *_dominated(parts)),
        curves,
        sections=sections,
        summary=_summary_of_many(parts),
        quantities={key: Quantity(key.replace("_", " "), "number", SECTION) for key in together if key[:4] == "tax_"},
    )


def results(before: Measured, after: Measured, options: TaxOptions) -> dict[str, Any]:
    """The comparison in the form of lm-evaluation-harness's results.json."""
    return to_lm_eval(before.tasks, after.tasks, _taxes(before, after, options))


def gain_of(run: Trajectory, update: int | None = None, draws: int = 2000, seed: int = 0) -> Gain:
    """What a run had gained at the check of an update (the last unless given) over its first check, prompt by prompt."""
    at = len(run.updates) - 1 if update is None else run.updates.index(update)
    proxy, kl, *rest = drift.complete_prompts(run.names, run.proxy, run.kl, *([] if run.gold is None else [run.gold]))

    def mean(values: np.ndarray) -> Estimate:
        return Estimate(*bootstrap_mean(values, range(len(values)), draws=draws, seed=seed))

    gold = mean(rest[0][at] - rest[0][0]) if rest else None
    return Gain(mean(proxy[at] - proxy[0]), mean(kl[at]), gold, run.updates[at])


def _taxes(before: Measured, after: Measured, options: TaxOptions) -> dict[str, Tax]:
    found: dict[str, Tax] = {}
    for name, task in before.tasks.items():
        now = after.tasks.get(name)
        if now is None or len(now.score) != len(task.score):
            raise GuerdonError(
                f"tax: {name} was measured on other items before than after; remedy: the same options for both"
            )
        if task.share and now.share:
            found[name] = tax_of_share(task.score, now.score)
        else:
            found[name] = tax_of_mean(task.score, now.score, options.draws, options.seed)
    return found


def _one(
    before: Measured, after: Measured, options: TaxOptions, gain: Gain | None, measured_kl: Estimate | None
) -> Report:
    """A policy beside the reference."""
    taxes = _taxes(before, after, options)
    names = list(taxes)
    z = np.array([taxes[name].standardized for name in names])
    differences = [before.tasks[name].score - after.tasks[name].score for name in names]
    mean, worst = mean_and_worst(z, task_correlation(differences, [before.tasks[name].bank for name in names]))
    q = dict(zip(names, benjamini_hochberg(np.array([taxes[name].p for name in names])).tolist(), strict=True))
    estimates = {"tax_mean": Estimate(*mean), "tax_worst": Estimate(*worst)}
    kl = gain.kl if gain else measured_kl
    estimates |= {} if gain is None else {"proxy_gain": gain.proxy} | ({"gold_gain": gain.gold} if gain.gold else {})
    estimates |= {} if kl is None else {"kl": kl}
    for name in names:
        estimates[f"tax_{name}"] = Estimate(*taxes[name].difference)
        estimates[f"score_{name}_before"] = _score(before.tasks[name], options)
        estimates[f"score_{name}_after"] = _score(after.tasks[name], options)
    about = {"worst task": names[int(np.argmax(z))]}
    if kl is not None:
        about["KL from"] = "the run's held-out prompts" if gain else "replies to the battery's open requests"
    if gain and gain.update is not None:
        about["update"] = str(gain.update)
    findings = _findings(before, after, taxes, q)
    summary = _summary(findings, worst.value, names[int(np.argmax(z))])
    curves = {"tax_by_task": _by_task(names, z), **_by_phenomenon(before, after)}
    return Report("", about, estimates, tuple(findings), curves, summary=summary, quantities=_quantities(names))


def _quantities(names: Iterable[str]) -> dict[str, Quantity]:
    """QUANTITIES, and those of each task: what was lost, and its score before and after. A task of one's own has its name."""
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


def _score(task: Task, options: TaxOptions) -> Estimate:
    if task.share:
        return Estimate(*wilson(float(task.score.sum()), len(task.score)))
    return _mean(task.score, options)


def _mean(values: Float[np.ndarray, " n"], options: TaxOptions) -> Estimate:
    return Estimate(*bootstrap_mean(values, range(len(values)), draws=options.draws, seed=options.seed))


# ---- What is said of it ------------------------------------------------------------------------------------------


def word(name: str) -> str:
    """A task in words."""
    base, chat = (name.removesuffix("_chat"), ", in a chat") if name.endswith("_chat") else (name, "")
    return f"{WORDS[base]}{chat}" if base in WORDS else name


def _findings(before: Measured, after: Measured, taxes: Mapping[str, Tax], q: Mapping[str, float]) -> list[Finding]:
    found: list[Finding] = []
    for name in sorted(taxes, key=lambda name: -taxes[name].standardized):
        tax = taxes[name]
        evidence = f"{_said(before, after, name)}; tax {_interval(tax)}, q = {q[name]:.2g} over {len(taxes)} tasks"
        if q[name] < FALSE_CALLS and tax.difference.value > 0:
            shown = _examples(name, before.tasks[name], after.tasks[name])
            found.append(Finding("warning", f"Taxed: {word(name)}", evidence, REMEDY, examples=shown))
        elif q[name] < FALSE_CALLS and tax.difference.value < 0:
            found.append(Finding("note", f"Better than before: {word(name)}", evidence))
    if not any(finding.severity == "warning" for finding in found):
        open_ = max(taxes, key=lambda name: taxes[name].difference.high / taxes[name].error)
        evidence = (
            f"{len(taxes)} tasks; the least is known of {word(open_)}: tax {_interval(taxes[open_])}. A loss within an interval "
            "is not excluded"
        )
        found.append(Finding("note", "No alignment tax is seen", evidence))
    blind = [name for name, task in before.tasks.items() if _at_chance(task)]
    if blind:
        evidence = ", ".join(f"{word(name)}: {before.tasks[name].score.mean():.2f}" for name in blind)
        remedy = "Read nothing into these tasks; name harder-won abilities with tax.lm_eval."
        found.append(Finding("note", "The reference cannot do it, so nothing can be lost", evidence, remedy))
    return found


def _at_chance(task: Task) -> bool:
    """Whether a share is not shown to be above what a model that knows nothing gets."""
    return task.share and wilson(float(task.score.sum()), len(task.score)).low <= (task.chance or 0.0)


def _said(before: Measured, after: Measured, name: str) -> str:
    return f"from {before.tasks[name].score.mean():.3f} to {after.tasks[name].score.mean():.3f}"


def _interval(tax: Tax) -> str:
    return f"{tax.difference.value:.3g} [{tax.difference.low:.3g}, {tax.difference.high:.3g}]"


def _examples(name: str, before: Task, after: Task) -> tuple[Example, ...]:
    """The items that lost most, for a person to read."""
    if not before.asked:
        return ()
    lost = before.score - after.score
    chosen = [int(i) for i in np.argsort(-lost, kind="stable")[:EXAMPLES] if lost[i] > 0]
    return tuple(
        Example(
            title=word(name),
            prompt=as_prompt(before.asked[i][:SHOWN]),
            responses=(Response(before.said[i][:SHOWN]), Response(after.said[i][:SHOWN])),
            labels=("before", "after"),
            rewards=(float(before.score[i]), float(after.score[i])),
        )
        for i in chosen
    )


def _summary(findings: Sequence[Finding], worst: float, name: str) -> str:
    taxed = [f.title.removeprefix("Taxed: ") for f in findings if f.severity == "warning"]
    if not taxed:
        return "No alignment tax is seen"
    return f"Taxed on {len(taxed)} task{'s' * (len(taxed) > 1)}: {'; '.join(taxed)}. Worst by {worst:.1f} standard errors: {word(name)}"


def _summary_of_many(parts: Mapping[str, Report]) -> str:
    taxed = {name: sum(f.severity == "warning" for f in part.findings) for name, part in parts.items()}
    return "; ".join(
        f"{name}: taxed on {num} tasks" if num else f"{name}: no tax is seen" for name, num in taxed.items()
    )


def _dominated(parts: Mapping[str, Report]) -> list[Finding]:
    """Policies that another beats at both gain and tax, by the values alone."""
    key = next((k for k in ("gold_gain", "proxy_gain") if all(k in part.estimates for part in parts.values())), None)
    if key is None:
        return []
    at = {name: (part.estimates[key].value, part.estimates["tax_mean"].value) for name, part in parts.items()}
    found = []
    for name, (gain, tax) in at.items():
        better = [other for other, (g, x) in at.items() if g >= gain and x <= tax and (g, x) != (gain, tax)]
        if better:
            other, what = better[0], key.removesuffix("_gain")
            evidence = (
                f"{other} gained {at[other][0]:.3g} of {what} at a mean tax of {at[other][1]:.2f} standard errors; "
                f"{name} gained {gain:.3g} at {tax:.2f}"
            )
            found.append(Finding("note", f"{name} is beaten at gain and at tax", evidence, f"Keep {other}."))
    return found


# ---- Curves ------------------------------------------------------------------------------------------------------


def _by_task(names: Sequence[str], z: Float[np.ndarray, " t"]) -> Curve:
    return Curve(
        tuple(float(i) for i in range(len(names))),
        tuple(Estimate(float(x), float(x) - 1.96, float(x) + 1.96, len(names)) for x in z),
        "task",
        "tax, standard errors",
        kind="points",
        x_names=tuple(names),
        caption="Above 0 something was lost. Of twenty tasks without a tax, one interval misses 0 by chance.",
    )


def _by_phenomenon(before: Measured, after: Measured) -> dict[str, Curve]:
    name = next((n for n in ("minimal_pairs", "minimal_pairs_chat") if n in before.tasks), None)
    if name is None:
        return {}
    old, new = before.tasks[name], after.tasks[name]
    kinds = list(dict.fromkeys(old.kinds))
    y = []
    for kind in kinds:
        chosen = np.array([each == kind for each in old.kinds])
        y.append(Estimate(*tax_of_share(old.score[chosen], new.score[chosen]).difference))
    x = tuple(float(i) for i in range(len(kinds)))
    return {
        "tax_by_phenomenon": Curve(x, tuple(y), "phenomenon", "tax, share of pairs", "points", x_names=tuple(kinds))
    }


def _pareto(parts: Mapping[str, Report]) -> dict[str, Curve]:
    """Mean tax against what was paid and what was gained, the reference at (0, 0)."""
    labels = {"kl": "KL, nats/sequence", "proxy_gain": "reward, gain in nats", "gold_gain": "gold, gain"}
    curves = {}
    for key, label in labels.items():
        known = [
            (p.estimates[key].value, name, p.estimates["tax_mean"]) for name, p in parts.items() if key in p.estimates
        ]
        known = [(0.0, "reference", Estimate(0.0, 0.0, 0.0, 1)), *sorted(known, key=lambda each: each[0])]
        if len(known) > 1:
            caption = (
                "From left to right: " + ", ".join(name for _, name, _ in sorted(known, key=lambda each: each[0])) + "."
            )
            ordered = sorted(known, key=lambda each: each[0])
            curves[f"tax_by_{key}"] = Curve(
                tuple(x for x, _, _ in ordered),
                tuple(y for _, _, y in ordered),
                label,
                "mean tax, standard errors",
                kind="points",
                caption=caption,
            )
    return curves
