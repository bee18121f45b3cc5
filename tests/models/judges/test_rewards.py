"""Verdicts as rewards: the order of responses, what a missing verdict does, and the methods."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scripted_judges import judge_by, shown_first, shown_second, tokens
from toys import Good

from guerdon.contracts import GuerdonError, Response
from guerdon.formulas.verdicts import bradley_terry_rewards
from guerdon.models.judges.calls import Answer, Question
from guerdon.models.judges.failures import Failure
from guerdon.models.judges.python_judge import PythonJudge, RewardModelJudge
from guerdon.models.judges.rewards import JudgeReward, as_reward_model, rewards_of_rankings, tournament_pairs

TEXTS = ["a", "bb", "ccc", "dddd"]


def by_length(prompt: Any, first: Response, second: Response) -> float:
    if "poison" in first.text + second.text:
        return math.nan
    return 0.5 * (len(first.text) - len(second.text))


def test_a_tournament_recovers_rewards_that_explain_every_verdict() -> None:
    value = JudgeReward(PythonJudge(by_length)).score(["p"] * 4, TEXTS).value
    assert np.diff(value) == pytest.approx([0.5] * 3, abs=0.08)  # the prior shrinks them
    assert value.mean() == pytest.approx(0.0, abs=1e-9)


def test_rewards_do_not_depend_on_the_order_of_rows_or_other_prompts() -> None:
    reward = JudgeReward(PythonJudge(by_length), opponents=2)
    prompts, texts = ["p", "q"] * 4, [text for text in TEXTS for _ in range(2)]
    value = reward.score(prompts, texts).value
    order = [5, 0, 3, 7, 2, 6, 1, 4]
    shuffled = reward.score([prompts[i] for i in order], [texts[i] for i in order]).value
    assert shuffled == pytest.approx(value[order])
    assert value[::2] == pytest.approx(value[1::2])


def test_equal_responses_are_judged_once_and_get_equal_rewards() -> None:
    judge = PythonJudge(by_length)
    value = JudgeReward(judge).score(["p"] * 3, ["a", "bbb", "a"]).value
    assert value[0] == value[2]
    assert judge.tally.pairs == 1


def test_a_response_without_a_verdict_gets_no_reward() -> None:
    reward = JudgeReward(PythonJudge(by_length))
    value = reward.score(["p"] * 4, ["a", "poison", "ccc", "dd"]).value
    assert np.isnan(value).tolist() == [False, True, False, False]
    assert (reward.unresolved, reward.scored) == (1, 4)
    with pytest.raises(GuerdonError, match="at least two responses to each prompt"):
        reward.score(["alone"], ["a"])
    assert reward.score(["equal"] * 2, ["a", "a"]).value.tolist() == [0.0, 0.0]


def test_a_run_stops_where_too_many_responses_have_no_verdict() -> None:
    reward = JudgeReward(PythonJudge(by_length), unresolved_max=0.02)
    texts = ["a", "bb", "ccc", "poison"]
    for _ in range(2):  # 2 of 8: as many as may fail in the first 100
        reward.score(["p"] * 4, texts)
    with pytest.raises(GuerdonError, match=r"at most 2 % of responses may have no verdict, got 3 of 12 \(judge_error"):
        reward.score(["p"] * 4, texts)


def test_unconnected_responses_are_not_put_on_one_scale() -> None:
    first, second = np.array([0, 1, 3]), np.array([1, 2, 4])
    value = bradley_terry_rewards(first, second, np.array([0.9, 0.9, 0.9]), 6)
    assert np.isnan(value).tolist() == [False, False, False, True, True, True]
    assert value[:3].sum() == pytest.approx(0.0, abs=1e-12)


CIRCLES = [
    (6, None, 15), (6, 2, 6), (6, 4, 12), (6, 5, 15), (4, 3, 6), (2, 1, 1), (1, None, 0), (1, 2, 0),
]  # fmt: skip


@pytest.mark.parametrize(("k", "opponents", "games"), CIRCLES)
def test_every_response_of_a_circle_meets_as_many_others(k: int, opponents: int | None, games: int) -> None:
    pairs = tournament_pairs(k, opponents)
    assert len(pairs) == games
    assert len({tuple(sorted(pair)) for pair in pairs.tolist()}) == games
    if k > 1:
        assert np.bincount(pairs.ravel(), minlength=k).min() >= min(opponents or k - 1, k - 1)


def test_scores_are_multiplied_by_the_nats_of_a_point() -> None:
    def script(question: Question) -> Answer:
        return Answer(str(len(shown_first(question))), "stop")

    judge = judge_by(script, log_probs=False, mode="score", score_by="text", nats_per_point=0.5)
    reward = JudgeReward(judge)
    assert reward.method == "score"
    assert reward.score(["p"] * 4, TEXTS).value == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert reward.score(["p"], ["too long for the scale"]).value == pytest.approx([math.nan], nan_ok=True)
    assert judge.tally.failures == {"schema_invalid": 1}


def test_rankings_become_rewards() -> None:
    def script(question: Question) -> Answer:
        text = question.messages[1].content
        shown = [part.split(">\n", 1)[1].split("\n</response")[0] for part in text.split("<response-")[1:]]
        best_first = sorted(range(len(shown)), key=lambda i: -len(shown[i]))
        return Answer("Ranking: " + " > ".join(str(i + 1) for i in best_first), "stop")

    judge = judge_by(script, log_probs=False, mode="ranking")
    value = JudgeReward(judge).score(["p"] * 4, TEXTS).value
    assert (np.diff(value) > 0).all()
    assert judge.log_odds(["p"], ["aaa"], ["b"])[0] == pytest.approx(math.log(5))  # 2 of 2 rankings, smoothed: 2.5 / 3


def test_a_failed_ranking_is_no_reward() -> None:
    judge = judge_by(lambda question: Failure("timeout"), log_probs=False, mode="ranking")
    assert np.isnan(JudgeReward(judge).score(["p"] * 3, TEXTS[:3]).value).all()
    assert np.isnan(rewards_of_rankings((), 3)).all()


def test_opposite_rankings_cancel() -> None:
    assert rewards_of_rankings([(0, 1, 2), (2, 1, 0)], 3) == pytest.approx([0.0] * 3, abs=1e-9)


def test_a_method_that_the_judge_does_not_have_is_refused() -> None:
    with pytest.raises(GuerdonError, match=r"Use tournament, or set judge\.mode=score"):
        JudgeReward(PythonJudge(by_length), "score")


def test_a_reward_model_keeps_its_own_rewards() -> None:
    model = Good()
    assert as_reward_model(RewardModelJudge(model)) is model


def test_a_judge_that_always_says_1_gives_equal_rewards() -> None:
    judge = judge_by(lambda question: tokens(1 - 1e-9), mode="pair")
    assert JudgeReward(judge).score(["p"] * 3, TEXTS[:3]).value == pytest.approx([0.0] * 3, abs=1e-6)


def test_a_prompted_tournament_prefers_what_the_judge_prefers() -> None:
    def script(question: Question) -> Answer:
        gap = len(shown_first(question)) - len(shown_second(question))
        return tokens(1 / (1 + math.exp(-gap)))

    value = JudgeReward(judge_by(script, mode="pair")).score(["p"] * 4, TEXTS).value
    assert np.diff(value) == pytest.approx([1.0] * 3, abs=0.25)  # the prior shrinks them
