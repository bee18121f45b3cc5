"""The gate before any number: a score that depends on its company, or is not finite, says nothing.

Axis: n responses. An "error" refuses the audit, a "warning" lets it pass with a word, a "note" is the proof of passing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import (
    Finding,
    GuerdonError,
    Severity,
    as_response,
)
from guerdon.formulas.estimation import clopper_pearson
from guerdon.models.batch_invariance import BatchInvariance, measure_batch_invariance

if TYPE_CHECKING:
    from guerdon.config import AuditOptions
    from guerdon.contracts import (
        PromptLike,
        ResponseLike,
        RewardModel,
        Scores,
    )

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
    """Score at most options.hygiene_rows responses alone, together, shuffled, beside long and short ones, and again.

    `tokenize` gives the ids the model reads for a prompt and its response, `special` the ids named bos, eos and pad.
    """
    prompts, responses = list(prompts)[: options.hygiene_rows], list(responses)[: options.hygiene_rows]
    if len(prompts) != len(responses) or len(prompts) < 2:
        raise GuerdonError(
            f"hygiene gate: give 2 rows or more, got {len(prompts)} prompts and {len(responses)} responses"
        )
    scores = model.score(prompts, responses)
    if broken := _not_finite(scores):
        return broken
    company = measure_batch_invariance(model, prompts, responses, options.seed)
    findings = [*_company_findings(company), *_truncation(scores), *_equal_scores(scores, prompts, responses)]
    if tokenize is not None:
        findings += _token_findings([tokenize(p, r) for p, r in zip(prompts, responses, strict=True)], special or {})
    return tuple(findings)


def _not_finite(scores: Scores) -> tuple[Finding, ...]:
    value = np.asarray(scores.value)
    bad = int(np.count_nonzero(~np.isfinite(value)))
    if not bad:
        return ()
    evidence = f"{bad} of {value.size} scores are NaN or infinite"
    return (
        Finding(
            "error", "Scores are not finite", evidence, "Score in float32; look for an empty text or a broken head."
        ),
    )


def _company_findings(company: BatchInvariance) -> list[Finding]:
    spread = company.spread or 1.0
    seen = {name: change / spread for name, change in company.changes.items()}
    worst = max(seen, key=lambda name: seen[name])
    evidence = "; ".join(f"{name}: {change:.2g}" for name, change in seen.items())
    evidence = f"largest change of {len(company.alone)} scores, in their standard deviations, from alone to {evidence}"
    if not seen[worst] > WARN:
        return [Finding("note", "A score does not depend on its company", evidence)]
    severity: Severity = "error" if seen[worst] > REFUSE else "warning"
    if worst == "a second time":
        remedy = "Put the model in evaluation mode; switch dropout off."
        return [Finding(severity, "Scores change when repeated", evidence, remedy)]
    remedy = (
        "Check the attention mask, that the reward is read at the last real token, that no statistic spans the batch."
    )
    return [Finding(severity, "Scores depend on their company", evidence, remedy)]


def _truncation(scores: Scores) -> list[Finding]:
    cut, n = int(np.count_nonzero(scores.truncated)), len(scores.truncated)
    if not cut:
        return []
    share = clopper_pearson(cut, n)
    evidence = f"{cut} of {n} texts, {share.value:.3g} [{share.low:.3g}, {share.high:.3g}]"
    return [
        Finding(
            "warning", "Texts are truncated", evidence, "Raise the model's max_length, or drop long texts and say so."
        )
    ]


def _equal_scores(scores: Scores, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> list[Finding]:
    """Equal rewards of different texts: the mark of a coarse number type, or of a model that has learned nothing."""
    texts = [f"{prompt!r}\0{as_response(r).text}" for prompt, r in zip(prompts, responses, strict=True)]
    value = dict(zip(texts, np.asarray(scores.value).tolist(), strict=True))
    pairs = len(value) * (len(value) - 1) // 2
    equal = sum(count * (count - 1) // 2 for count in Counter(value.values()).values())
    if pairs == 0 or equal / pairs <= TIES:
        return []
    evidence = f"{equal} of {pairs} pairs of different texts get exactly the same score"
    if equal == pairs:
        return [
            Finding("warning", "All scores are equal", evidence, "Train the model; check that its head was loaded.")
        ]
    return [
        Finding("warning", "Many scores are exactly equal", evidence, "Compute the head and the scores in float32.")
    ]


def _token_findings(rows: Sequence[Sequence[int]], special: Mapping[str, int | None]) -> list[Finding]:
    findings = []
    bos, eos, pad = (special.get(name) for name in ("bos", "eos", "pad"))
    if bos is not None:
        # Chat models such as SmolLM use the same token to open every turn: only those that the text begins with count.
        counts = Counter(len(list(takewhile(lambda token: token == bos, row))) for row in rows)
        if set(counts) != {1}:
            seen = ", ".join(
                f"{count} in {rows_with} of {len(rows)} texts" for count, rows_with in sorted(counts.items())
            )
            remedy = "Tokenize the chat template's output without adding special tokens again."
            findings.append(
                Finding("warning", "A text does not begin exactly once", f"beginning-of-text tokens: {seen}", remedy)
            )
    if pad is not None and pad == eos:
        evidence = f"token {pad} both pads and ends a text"
        findings.append(
            Finding("warning", "Padding looks like an ending", evidence, "Give the tokenizer a pad token of its own.")
        )
    return findings
