"""Rollouts hold responses in groups of N per prompt, columns stay with them in every selection and join; weights have bounds."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from guerdon.contracts import Comparison, GuerdonError, Preference, Response, Rollouts, as_prompt


def rollouts(p: int = 3, size: int = 2, **columns: object) -> Rollouts:
    n = p * size
    return Rollouts(
        tuple(as_prompt(f"prompt {i}") for i in range(p) for _ in range(size)),
        tuple(Response(f"reply {i}") for i in range(n)),
        samples=size,
        reward=np.arange(n, dtype=np.float64),
        truncated=np.arange(n) % 2 == 1,
        token_ids=tuple(np.array([i]) for i in range(n)),
        **columns,
    )


def test_a_column_as_a_table_has_a_row_per_prompt():
    held = rollouts()
    assert len(held) == 6
    assert held.by_prompt(held.reward).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert held.by_prompt(held.gold) is None
    assert held.prompts_once == tuple(as_prompt(f"prompt {i}") for i in range(3))
    assert [[r.text for r in group] for group in held.responses_by_prompt][1] == ["reply 2", "reply 3"]


def test_a_prompt_that_was_drawn_twice_has_two_groups():
    held = dataclasses.replace(rollouts(), prompts=(as_prompt("the same"),) * 6)
    assert held.by_prompt(held.reward).shape == (3, 2)


def test_selected_rows_keep_their_columns():
    held = rollouts(kl=np.arange(6) / 10).select(np.array([4, 1]))
    assert [response.text for response in held.responses] == ["reply 4", "reply 1"]
    assert held.prompts == (as_prompt("prompt 2"), as_prompt("prompt 0"))
    assert held.reward.tolist() == [4, 1]
    assert held.kl.tolist() == [0.4, 0.1]
    assert held.truncated.tolist() == [False, True]
    assert [ids.tolist() for ids in held.token_ids] == [[4], [1]]
    assert held.log_prob is None
    assert held.samples == 1
    assert len(held.select([])) == 0


def test_joining_the_parts_gives_the_whole():
    held = rollouts(gold=np.ones(6))
    again = Rollouts.join([held.select([0, 1], samples=2), held.select([2, 3, 4, 5], samples=2)])
    assert again.responses == held.responses
    assert again.samples == 2
    assert again.by_prompt(again.reward).tolist() == held.by_prompt(held.reward).tolist()
    assert again.gold.tolist() == [1] * 6
    assert [ids.tolist() for ids in again.token_ids] == [[i] for i in range(6)]


def test_a_column_that_one_part_lacks_is_left_out():
    joined = Rollouts.join([rollouts(gold=np.ones(6)), rollouts(size=4)])
    assert joined.gold is None
    assert joined.reward.shape == (18,)
    assert joined.samples == 1
    assert len(Rollouts.join([])) == 0


def test_columns_of_another_length_and_uneven_groups_are_refused():
    with pytest.raises(GuerdonError, match="gold must have one entry for each of 6 responses, got 5"):
        rollouts(gold=np.ones(5))
    with pytest.raises(GuerdonError, match="prompts must have one entry for each of 1 responses, got 0"):
        Rollouts((), (Response("a"),))
    with pytest.raises(GuerdonError, match="samples must be at least 1 and divide the 6 responses, got 4"):
        dataclasses.replace(rollouts(), samples=4)
    with pytest.raises(GuerdonError, match="samples must be at least 1"):
        dataclasses.replace(rollouts(), samples=0)


@pytest.mark.parametrize("weight", [0.0, -1.0, 1e-7, 1.1e6, 1e308, math.inf, math.nan])
def test_a_weight_whose_sums_could_overflow_or_vanish_is_refused(weight):
    with pytest.raises(
        GuerdonError, match=r"weight must be a number from 1e-6 to 1e6, got .*\. Correct or drop the row\."
    ):
        Comparison("p", (Response("a"), Response("b")), Preference(q=1.0), weight=weight)


@pytest.mark.parametrize("weight", [1e-6, 1e6])
def test_a_weight_may_be_at_its_bounds(weight):
    assert Comparison("p", (Response("a"), Response("b")), Preference(q=1.0), weight=weight).weight == weight
