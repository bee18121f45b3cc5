"""A judge as a reward model, by a stated method: one score per response, or comparisons among a prompt's responses.

score: the score of a response by itself, times nats_per_point. tournament: the responses to one prompt are compared with each
other, all pairs or around a circle, and Bradley-Terry rewards are fitted to the verdicts. ranking: the same fit to rankings of
all of them. Rewards of the last two depend on the other responses to the prompt, with mean 0 in each prompt; a prompt needs
two of them. A response without a verdict gets NaN, never a number, and too many of these stop the run.

Axes: n responses, k different responses to one prompt. Rewards are nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

from guerdon.contracts import (
    Prompt,
    PromptLike,
    Response,
    ResponseLike,
    Scores,
    as_prompt,
    as_response,
    digest,
    response_identity,
)
from guerdon.errors import GuerdonError, field_error
from guerdon.formulas.verdicts import bradley_terry_rewards, smoothed_share
from guerdon.models.judges.comparing import Pair, VerdictJudge
from guerdon.models.judges.prompted import PromptedJudge
from guerdon.models.judges.python_judge import RewardModelJudge
from guerdon.models.judges.rubric.judge import RubricJudge

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from guerdon.contracts import RewardModel

RewardMethod = Literal["score", "tournament", "ranking"]
UNRESOLVED_OVER = 100  # responses that a share of failures is counted over at least


def as_reward_model(
    judge: VerdictJudge, opponents: int | None = None, unresolved_max: float | None = None
) -> RewardModel:
    """The rewards of a judge: a reward model's or a rubric's own, else by the method of the judge's mode.

    opponents: responses that each is compared with in a tournament; all by default. unresolved_max: see JudgeReward.
    """
    if isinstance(judge, RewardModelJudge | RubricJudge):
        return judge.model
    return JudgeReward(judge, opponents=opponents, unresolved_max=unresolved_max)


@dataclass(slots=True)
class _Group:
    """The different responses to one prompt in an order that rows do not change, and which response each row has."""

    prompt: Prompt
    responses: list[Response]
    rows: list[tuple[int, int]]  # row, position among `responses`


class JudgeReward:
    """A judge that gives rewards. Fulfills RewardModel, but for a tournament or ranking, whose rewards depend on the group.

    unresolved, scored: responses without a reward, and all, since it was created. unresolved_max: share of responses without a
    reward above which it raises GuerdonError, counted over at least UNRESOLVED_OVER responses; None never does.
    """

    def __init__(
        self,
        judge: VerdictJudge,
        method: RewardMethod | None = None,
        *,
        opponents: int | None = None,
        unresolved_max: float | None = None,
    ) -> None:
        mode = judge.interview.mode if isinstance(judge, PromptedJudge) else ""
        self.judge, self.opponents, self.unresolved_max = judge, opponents, unresolved_max
        self.method: RewardMethod = method or (
            "score" if mode == "score" else "ranking" if mode == "ranking" else "tournament"
        )
        if self.method != "tournament" and mode != self.method:
            claim = f"a method that a judge of mode {mode or 'pair'} has"
            raise field_error("method", claim, self.method, f"Use tournament, or set judge.mode={self.method}.")
        if opponents is not None and opponents < 1:
            raise field_error("judge.opponents", "at least 1", opponents, "Leave it out to compare all.")
        self.unresolved = self.scored = 0

    @property
    def name(self) -> str:
        """The judge's."""
        return self.judge.name

    @property
    def fingerprint(self) -> str:
        """A hash of what changes the rewards."""
        return digest(["judge reward", self.judge.fingerprint, self.method, self.opponents])

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Rewards in nats; NaN for a response without a verdict."""
        groups = _group([as_prompt(p) for p in prompts], [as_response(r) for r in responses])
        if self.method != "score" and any(len(group.rows) < 2 for group in groups):
            raise GuerdonError(
                f"reward {self.name}: a judge that compares must get at least two responses to each prompt, got one. "
                "Draw more samples per prompt, or set judge.mode=score."
            )
        value = np.full(len(prompts), math.nan)
        for index, rewards in self._rewards(groups):
            for row, position in groups[index].rows:
                value[row] = rewards[position]
        self.scored += len(value)
        self.unresolved += int(np.isnan(value).sum())
        self._stop_where_too_many_fail()
        return Scores(value, np.zeros(len(value), dtype=bool))

    def _stop_where_too_many_fail(self) -> None:
        """What is left would be a selection: the texts that are easy to judge."""
        limit = self.unresolved_max
        if limit is not None and self.unresolved > limit * max(self.scored, UNRESOLVED_OVER):
            codes = ", ".join(f"{code} {num}" for code, num in self.judge.tally.failures.most_common())
            raise GuerdonError(
                f"reward {self.name}: at most {100 * limit:g} % of responses may have no verdict, got {self.unresolved} of "
                f"{self.scored} ({codes or 'no code'}). Correct the judge, or raise judge.unresolved_max."
            )

    def _rewards(self, groups: Sequence[_Group]) -> Iterator[tuple[int, Float[np.ndarray, " k"]]]:
        """The position of each group, and the rewards of its responses."""
        if self.method == "tournament":
            yield from self._tournaments(groups)
            return
        judge = self.judge
        assert isinstance(judge, PromptedJudge)
        if self.method == "score":
            conversations = (judge.interview.scores(group.prompt, group.responses) for group in groups)
            for index, scores in judge.respondent.converse(conversations):
                judge.tally.failures.update(score.failure.code for score in scores if score.failure)
                yield index, judge.options.nats_per_point * np.array([score.score for score in scores])
            return
        yield from ((i, np.zeros(1)) for i, group in enumerate(groups) if len(group.responses) == 1)
        ranked = [(i, group) for i, group in enumerate(groups) if len(group.responses) > 1]
        for at, verdict in judge.respondent.converse(judge.interview.ranking(g.prompt, g.responses) for _, g in ranked):
            index, group = ranked[at]
            judge.tally.failures.update(failure.code for failure in verdict.failures)
            yield index, rewards_of_rankings(verdict.rankings, len(group.responses))

    def _tournaments(self, groups: Sequence[_Group]) -> Iterator[tuple[int, Float[np.ndarray, " k"]]]:
        games = [tournament_pairs(len(group.responses), self.opponents) for group in groups]
        starts = np.cumsum([0, *(len(pairs) for pairs in games)])
        q = np.full(starts[-1], math.nan)
        pairs = (
            Pair(group.prompt, group.responses[i], group.responses[j])
            for group, own in zip(groups, games, strict=True)
            for i, j in own.tolist()
        )
        for position, verdict in self.judge.compare(pairs):
            q[position] = math.nan if verdict.q is None else verdict.q
        for index, (group, own) in enumerate(zip(groups, games, strict=True)):
            if len(group.responses) == 1:  # equal responses are equally good: nothing has to be asked
                yield index, np.zeros(1)
                continue
            of_group = q[starts[index] : starts[index + 1]]
            known = ~np.isnan(of_group)
            yield index, bradley_terry_rewards(own[known, 0], own[known, 1], of_group[known], len(group.responses))


def tournament_pairs(k: int, opponents: int | None = None) -> Int[np.ndarray, "g 2"]:
    """Pairs of positions that are compared: all, or, around a circle, each with its next ones, at least `opponents` in all."""
    steps = k - 1 if opponents is None else math.ceil(opponents / 2)
    if opponents is None or 2 * steps >= k - 1:
        pairs = list(combinations(range(k), 2))
    else:
        pairs = [(i, (i + step) % k) for step in range(1, steps + 1) for i in range(k)]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def rewards_of_rankings(rankings: Sequence[Sequence[int]], k: int) -> Float[np.ndarray, " k"]:
    """Bradley-Terry rewards of k responses from rankings, best first: each pair's share of rankings, smoothed. NaN without any."""
    if not rankings:
        return np.full(k, math.nan)
    ranks = np.array([np.argsort(ranking) for ranking in rankings])  # [rankings, k], 0 is best
    pairs = tournament_pairs(k)
    wins = (ranks[:, pairs[:, 0]] < ranks[:, pairs[:, 1]]).sum(axis=0)
    q = np.array([smoothed_share(int(won), 0, len(rankings)) for won in wins])
    return bradley_terry_rewards(pairs[:, 0], pairs[:, 1], q, k)


def _group(prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[_Group]:
    """Rows by prompt. Equal responses to a prompt are one, and their order depends on their texts alone."""
    rows_of: dict[Prompt, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows_of.setdefault(prompt, []).append(row)
    groups = []
    for prompt, rows in rows_of.items():
        keys = {row: digest(response_identity(responses[row])) for row in rows}
        by_key = {keys[row]: responses[row] for row in reversed(rows)}
        order = {key: position for position, key in enumerate(sorted(by_key))}
        groups.append(_Group(prompt, [by_key[key] for key in order], [(row, order[keys[row]]) for row in rows]))
    return groups
