"""The gate before any number: scores that depend on the rest of the batch, or are not finite, mean nothing.

Axis: n responses. A finding of severity "error" refuses the audit, a "warning" lets it pass, a "note" is evidence of passing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Estimate, Finding, GuerdonError, Severity, as_prompt, as_response, response_identity
from guerdon.errors import counted, verb
from guerdon.formulas.estimation import clopper_pearson
from guerdon.models.batch_invariance import BatchInvariance, measure_batch_invariance
from guerdon.models.estimates import percent

if TYPE_CHECKING:
    from guerdon.config import AuditOptions
    from guerdon.contracts import PromptLike, ResponseLike, RewardModel, Scores

__all__ = ["hygiene_gate"]

REFUSE = 1e-2  # standard deviations of the scores; half precision stays below it
WARN = 1e-3  # single precision stays far below it
TIES = 0.01  # share of pairs of different texts

Tokenize = Callable[["PromptLike", "ResponseLike"], Sequence[int]]


def hygiene_gate(
    model: RewardModel,
    prompts: Sequence[PromptLike],
    responses: Sequence[ResponseLike],
    options: AuditOptions,
    *,
    tokenize: Tokenize | None = None,
    special: Mapping[str, int | None] | None = None,
) -> tuple[Finding, ...]:
    """Findings on batch invariance, truncation, equal scores and special tokens, from at most options.hygiene_rows responses.

    `tokenize` gives the ids that the model reads for a prompt and its response; `special` gives the ids named bos, eos and pad.
    """
    prompts, responses = list(prompts)[: options.hygiene_rows], list(responses)[: options.hygiene_rows]
    if len(prompts) != len(responses) or len(prompts) < 2:
        raise GuerdonError(
            "hygiene gate: prompts and responses must be two or more, as many of each, "
            f"got {len(prompts)} prompts and {len(responses)} responses. Give more comparisons."
        )
    scores = model.score(prompts, responses)
    if errors := _not_finite(scores):
        return errors
    invariance = measure_batch_invariance(model, prompts, responses, options.seed)
    findings = [_batch_finding(invariance), *_truncation(scores), *_equal_scores(scores, prompts, responses)]
    if tokenize is not None:
        findings += _token_findings([tokenize(p, r) for p, r in zip(prompts, responses, strict=True)], special or {})
    return tuple(findings)


def _not_finite(scores: Scores) -> tuple[Finding, ...]:
    value = np.asarray(scores.value)
    num_bad = int(np.count_nonzero(~np.isfinite(value)))
    if not num_bad:
        return ()
    evidence = f"{num_bad} of {counted(value.size, 'score')} {verb(num_bad, 'are')} NaN or infinite"
    remedy = "Score in float32; look for an empty text or a broken head."
    return (Finding("error", "Scores are not finite", evidence, remedy),)


def _batch_finding(invariance: BatchInvariance) -> Finding:
    changes = {name: change / (invariance.std or 1.0) for name, change in invariance.changes.items()}
    worst = max(changes, key=lambda name: changes[name])
    evidence = (
        f"largest change of {len(invariance.alone)} scores against scoring each alone, in standard deviations of the scores: "
        + "; ".join(f"{name}, {change:.2g}" for name, change in changes.items())
    )
    if not changes[worst] > WARN:
        return Finding("note", "A score does not depend on the rest of its batch", evidence)
    severity: Severity = "error" if changes[worst] > REFUSE else "warning"
    if worst == "a second time":
        remedy = "Put the model in evaluation mode; switch dropout off."
        return Finding(severity, "Scores change when repeated", evidence, remedy)
    remedy = "Check that padding is masked, that the reward is read at the last real token, and that no statistic spans the batch."
    return Finding(severity, "Scores depend on the rest of the batch", evidence, remedy)


def _truncation(scores: Scores) -> list[Finding]:
    num_cut, n = int(np.count_nonzero(scores.truncated)), len(scores.truncated)
    if not num_cut:
        return []
    evidence = f"{num_cut} of {n} texts, {percent(Estimate(*clopper_pearson(num_cut, n)))}"
    remedy = "Raise the model's max_length, or drop long texts and report it."
    return [Finding("warning", "Texts are truncated", evidence, remedy)]


def _equal_scores(scores: Scores, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> list[Finding]:
    """Equal rewards of different texts: the sign of a coarse number type, or of a model that has learned nothing."""
    texts = [
        (as_prompt(prompt), response_identity(as_response(r))) for prompt, r in zip(prompts, responses, strict=True)
    ]
    value = dict(zip(texts, np.asarray(scores.value).tolist(), strict=True))
    num_pairs = len(value) * (len(value) - 1) // 2
    num_equal = sum(count * (count - 1) // 2 for count in Counter(value.values()).values())
    if num_pairs == 0 or num_equal / num_pairs <= TIES:
        return []
    evidence = f"{num_equal} of {num_pairs} pairs of different texts get exactly the same score"
    if num_equal == num_pairs:
        remedy = "Train the model; check that its head was loaded."
        return [Finding("warning", "All scores are equal", evidence, remedy)]
    remedy = "Compute the head and the scores in float32."
    return [Finding("warning", "Many scores are exactly equal", evidence, remedy)]


def _token_findings(rows: Sequence[Sequence[int]], special: Mapping[str, int | None]) -> list[Finding]:
    findings = []
    bos, eos, pad = (special.get(name) for name in ("bos", "eos", "pad"))
    if bos is not None:
        # Chat models such as SmolLM open every turn with this token: only those at the start of the text count.
        counts = Counter(len(list(takewhile(lambda token: token == bos, row))) for row in rows)
        if set(counts) != {1}:
            shares = ", ".join(f"{count} in {num} of {len(rows)} texts" for count, num in sorted(counts.items()))
            evidence = f"beginning-of-text tokens: {shares}"
            remedy = "Tokenize the chat template's output without adding special tokens again."
            findings.append(Finding("warning", "Texts do not begin with one beginning-of-text token", evidence, remedy))
    if pad is not None and pad == eos:
        evidence = f"token {pad} both pads a text and ends it"
        remedy = "Give the tokenizer a separate pad token."
        findings.append(Finding("warning", "Padding looks like the end of a text", evidence, remedy))
    return findings
