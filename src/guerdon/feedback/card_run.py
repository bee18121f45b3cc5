"""Asks a judge what its card needs: the pairs that people judged, the same with another seed, and in other words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from guerdon.contracts import Comparison, Preference, prompt_identity, response_identity
from guerdon.feedback.card import Answers
from guerdon.feedback.judging import ComparesPairs
from guerdon.models.judges.prompted import Pair, PromptedJudge
from guerdon.models.judges.prompts import REWORDED
from guerdon.models.judges.verdicts import PairVerdict


def ask_for_card(
    judge: ComparesPairs,
    comparisons: Sequence[Comparison],
    *,
    paraphrase: str | None = None,
    again: bool = True,
    advance: Callable[[int], None] = lambda number: None,
) -> Answers:
    """What the judge says of pairs that people judged.

    again: also ask with another seed and with a paraphrased template, which a model that is prompted can be. paraphrase: the
    template to use; by default the shipped paraphrase of a shipped template.
    """
    verdicts = _verdicts(judge, comparisons, advance)
    margin = np.array([verdict.log_odds for verdict in verdicts])
    answers = Answers(
        comparisons,
        margin,
        np.array([np.nan if v.bias is None or not v.is_resolved else v.bias for v in verdicts]),
        np.array([np.nan if v.is_consistent is None else float(not v.is_consistent) for v in verdicts]),
        failures=Counter(failure.code for verdict in verdicts for failure in verdict.failures),
    )
    if rounds_of_card(judge, paraphrase, again) == 1 or not isinstance(judge, PromptedJudge):
        return answers

    def margins_with(**changes: Any) -> np.ndarray:
        other = PromptedJudge(judge.respondent, judge.options.model_copy(update=changes))
        return np.array([verdict.log_odds for verdict in _verdicts(other, comparisons, advance)])

    template = paraphrase or _paraphrase_of(judge)
    return replace(
        answers,
        retest=margins_with(seed=(judge.options.seed + 1) % 2**31),
        paraphrase=margins_with(template=template) if template else None,
    )


def rounds_of_card(judge: ComparesPairs, paraphrase: str | None, again: bool) -> int:
    """How often a card asks about each pair: once, again with another seed, and in other words where there are any."""
    if not again or not isinstance(judge, PromptedJudge):
        return 1
    return 3 if paraphrase or _paraphrase_of(judge) else 2


def _paraphrase_of(judge: PromptedJudge) -> str | None:
    """The shipped paraphrase of the judge's template; None for a template of the user's."""
    name = judge.interview.template.name
    return f"{name}_reworded" if judge.options.template in (None, name) and name in REWORDED else None


def _verdicts(
    judge: ComparesPairs, comparisons: Sequence[Comparison], advance: Callable[[int], None]
) -> list[PairVerdict]:
    verdicts: list[Any] = [None] * len(comparisons)
    pairs = (Pair(c.prompt, c.responses[0], c.responses[1], c.id) for c in comparisons)
    for position, verdict in judge.compare(pairs):
        verdicts[position] = verdict
        advance(1)
    return verdicts


def pooled(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Pairs once each, with the votes of all rows about them; rows of more than two responses are left out.

    A row with counted votes has these, another one is one vote; soft labels without votes are averaged.
    """
    pairs: dict[Any, list[tuple[Comparison, bool]]] = {}
    for comparison in comparisons:
        if len(comparison.responses) != 2:
            continue
        first, second = (str(response_identity(response)) for response in comparison.responses)
        key = str(prompt_identity(comparison.prompt)), min(first, second), max(first, second)
        pairs.setdefault(key, []).append((comparison, first > second))
    return [_pooled_row(rows) for rows in pairs.values()]


def _pooled_row(rows: Sequence[tuple[Comparison, bool]]) -> Comparison:
    head, is_swapped = rows[0]
    if len(rows) == 1:
        return head
    votes, total = np.zeros(3, dtype=int), 0.0
    is_counted = True
    for row, swapped in rows:
        q = 0.5 if row.q is None else row.q
        given = row.preference.votes
        if given is None and q in (0.0, 0.5, 1.0):
            given = (int(q == 1.0), int(q == 0.5), int(q == 0.0))
        is_counted = is_counted and given is not None
        same = swapped == is_swapped
        votes += np.array(given or (0, 0, 0))[:: 1 if same else -1]
        total += q if same else 1.0 - q
    if is_counted and votes.sum():
        first, tie, second = (int(count) for count in votes)
        return replace(head, preference=Preference(q=(first + tie / 2) / int(votes.sum()), votes=(first, tie, second)))
    return replace(head, preference=Preference(q=total / len(rows)))
