"""Bradley-Terry and Plackett-Luce fits against those of choix, whose numbers are in cases/choix.json."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from guerdon.data.checks.model_names import name_strengths
from guerdon.formulas.preference import bradley_terry, plackett_luce
from guerdon.formulas.verdicts import bradley_terry_rewards
from guerdon.models.judges.rewards import rewards_of_rankings

CASES = json.loads((Path(__file__).parents[1] / "cases" / "choix.json").read_text(encoding="utf-8"))
PAIRWISE, SOFT, RANKINGS = CASES["pairwise"], CASES["soft"], CASES["rankings"]
WINS = np.array(PAIRWISE["wins"])
WINNER, LOSER = (np.repeat(side, WINS.ravel()) for side in np.indices(WINS.shape).reshape(2, -1))


def close(ours: object, theirs: object, atol: float = 1e-7) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize(("prior_std", "name"), [(1e6, "maximum_likelihood"), (3.0, "prior_3")])
def test_rewards_of_a_tournament_are_those_of_choix(prior_std: float, name: str) -> None:
    close(bradley_terry_rewards(WINNER, LOSER, np.ones(len(WINNER)), len(WINS), prior_std), PAIRWISE[name])


def test_rewards_from_probabilities_are_those_from_as_many_games() -> None:
    q, first, second = (np.array(SOFT[name]) for name in ("q", "first", "second"))
    close(bradley_terry_rewards(first, second, q, 4), SOFT["rewards"])


def test_rewards_of_rankings_are_those_of_choix_on_their_pairs() -> None:
    close(rewards_of_rankings(RANKINGS["rankings"], 4), RANKINGS["pairs"])


def test_strengths_of_model_names_are_those_of_choix() -> None:
    """scikit-learn stops at a gradient of 1e-4, so that three digits agree."""
    pairs = {
        (str(i), str(j)): [int(WINS[i, j]), int(WINS[j, i])] for i, j in permutations(range(len(WINS)), 2) if i < j
    }
    strength = name_strengths([pairs])
    values = np.array([strength[str(i)] for i in range(len(WINS))])
    close(values - values.mean(), PAIRWISE["c_10"], atol=1e-3)


def test_the_pairwise_loss_is_smallest_where_choix_puts_the_rewards() -> None:
    rewards = torch.tensor(PAIRWISE["maximum_likelihood"], dtype=torch.float64, requires_grad=True)
    loss = bradley_terry(rewards[torch.tensor(WINNER)], rewards[torch.tensor(LOSER)]).sum()
    (gradient,) = torch.autograd.grad(loss, rewards)
    close(loss.item(), -PAIRWISE["log_likelihood"])
    close(gradient, np.zeros(len(WINS)))


def test_the_loss_of_rankings_is_smallest_where_choix_puts_the_rewards() -> None:
    rewards = torch.tensor(RANKINGS["plackett_luce"], dtype=torch.float64, requires_grad=True)
    ranks = torch.tensor(RANKINGS["rankings"]).argsort(dim=1)
    loss = plackett_luce(rewards.expand(len(ranks), -1), ranks, torch.ones_like(ranks, dtype=torch.bool)).sum()
    (gradient,) = torch.autograd.grad(loss, rewards)
    close(loss.item(), -RANKINGS["log_likelihood"])
    close(gradient, np.zeros(4))
