"""Labeled comparisons as a table of criteria: what a rubric's judge said about both responses of each pair.

Axes: n pairs, c shared criteria. p is P(the criterion is met), NaN where there is no verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Comparison, GuerdonError, Prompt, Response, prompt_digest, response_digest
from guerdon.models.judges.rubric.model import Judged, RubricModel
from guerdon.models.scored_pairs import comparable_pairs

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

    from guerdon.progress import Progress

__all__ = ["CriteriaTable", "judge_comparisons"]


@dataclass(frozen=True, slots=True)
class CriteriaTable:
    """Pairs in the order of the comparisons, without ties of people.

    first, second: p of both responses, by criterion. value: nats by which the first response is better by the rubric, with the
    criteria of single prompts. q: P(first is better) by people. group: of the comparison. first_row, second_row: which
    response of `responses` each is; responses: p of every different response once, by criterion, and its group.
    """

    first: Float[np.ndarray, "n c"]
    second: Float[np.ndarray, "n c"]
    value: Float[np.ndarray, " n"]
    q: Float[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]
    group: Shaped[np.ndarray, " n"]
    first_row: Shaped[np.ndarray, " n"]
    second_row: Shaped[np.ndarray, " n"]
    responses: Float[np.ndarray, "r c"]
    response_group: Shaped[np.ndarray, " r"]

    def __len__(self) -> int:
        return len(self.q)


def judge_comparisons(
    model: RubricModel, comparisons: Sequence[Comparison], progress: Progress | None = None
) -> CriteriaTable:
    """Every different response judged once, and the pairs that people do not call a tie."""
    rows, judged, group = _different(comparisons)
    c = len(model.rubric.criteria)
    p, reward = np.full((len(judged), c), np.nan), np.full(len(judged), np.nan)
    for done, (position, verdict) in enumerate(model.judge(judged), 1):
        reward[position] = verdict.reward
        p[position] = [each.p for each in verdict.verdicts[:c]] if verdict.criteria else np.nan
        if progress is not None:
            progress(done, len(judged))
    pairs = [
        (comparison, rows[index, i], rows[index, j], q, 1 / num)
        for index, comparison in enumerate(comparisons)
        for num in [max(1, sum(1 for _ in comparable_pairs(comparison)))]
        for i, j, q in comparable_pairs(comparison)
        if q != 0.5
    ]
    if not pairs:
        raise GuerdonError(
            "data must have at least one comparison that is no tie, got none. Give comparisons that people have labeled."
        )
    first, second = (np.array([pair[k] for pair in pairs], dtype=np.int64) for k in (1, 2))
    return CriteriaTable(
        first=p[first],
        second=p[second],
        value=reward[first] - reward[second],
        q=np.array([pair[3] for pair in pairs], dtype=np.float64),
        weight=np.array([pair[0].weight * pair[4] for pair in pairs], dtype=np.float64),
        group=np.array([pair[0].group for pair in pairs], dtype=np.str_),
        first_row=first,
        second_row=second,
        responses=p,
        response_group=np.array(group, dtype=np.str_),
    )


def _different(comparisons: Sequence[Comparison]) -> tuple[dict[tuple[int, int], int], list[Judged], list[str]]:
    """Which response of the list each response of each comparison is, the list of different ones, and their groups."""
    rows: dict[tuple[int, int], int] = {}
    number: dict[tuple[str, str], int] = {}
    judged: list[Judged] = []
    groups: list[str] = []
    for index, comparison in enumerate(comparisons):
        for i, response in enumerate(comparison.responses):
            key = _key(comparison.prompt, response)
            if key not in number:
                number[key] = len(judged)
                judged.append(Judged(comparison.prompt, response))
                groups.append(comparison.group)
            rows[index, i] = number[key]
    return rows, judged, groups


def _key(prompt: Prompt, response: Response) -> tuple[str, str]:
    return prompt_digest(prompt), response_digest(response)
