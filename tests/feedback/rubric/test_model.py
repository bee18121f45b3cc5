"""A rubric as a reward model: each criterion on its own, combined by the stated rule, and never a default."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rubric_worlds import CORRECT, KIND, SOURCE, model_of, rubric_of

from guerdon.contracts import Judge, RewardModel
from guerdon.models.judges.calls import Answer
from guerdon.models.judges.failures import Failure
from guerdon.models.judges.rubric.model import RubricModel
from guerdon.models.judges.rubric.rubrics import OWN, as_rubric
from guerdon.testing import check_reward_model

RULES = {
    CORRECT: lambda text: 0.9 if "right" in text else 0.2,
    KIND: lambda text: 0.5,
    SOURCE: lambda text: 0.99 if "source" in text else 0.01,
}
ALL = (
    {"id": "correct", "text": CORRECT, "weight": 2},
    {"id": "kind", "text": KIND},
    {"id": "source", "text": SOURCE, "weight": -1},
)


def test_the_reward_is_the_weighted_mean_of_what_is_met_times_the_scale() -> None:
    model = model_of(rubric_of(*ALL), RULES)
    scores = model.score(["Q", "Q"], ["right", "wrong, source"])
    # 4 nats times (2 x 0.9 + 0.5 - 0.01) / 4, and (2 x 0.2 + 0.5 - 0.99) / 4
    assert scores.value == pytest.approx([2.29, -0.09])
    assert scores.attributes["correct"] == pytest.approx([0.9, 0.2])
    assert scores.attributes["source"] == pytest.approx([0.99, 0.01])  # a fault: the probability that it is avoided


@pytest.mark.parametrize(
    ("rule", "value"),
    [("weighted_sum", 2.29), ("log_odds", (2 * math.log(9) + 0 + math.log(99)) / 4)],
)
def test_other_rules_combine_as_they_say(rule: str, value: float) -> None:
    model = model_of(rubric_of(*ALL, combine=rule), RULES)
    assert model.score(["Q"], ["right"]).value == pytest.approx([value])


def test_a_required_criterion_that_is_not_met_gives_the_lowest_reward() -> None:
    gated = ({**ALL[0], "required": True}, *ALL[1:])
    values = model_of(rubric_of(*gated), RULES).score(["Q", "Q"], ["right", "wrong"]).value
    assert values == pytest.approx([2.29, -1.0])  # 4 nats times -1 / 4: every fault, and nothing else
    fault = (*ALL[:2], {**ALL[2], "required": True})
    values = model_of(rubric_of(*fault), RULES).score(["Q", "Q"], ["right", "right, source"]).value
    assert values == pytest.approx([2.29, -1.0])


def test_a_failed_criterion_is_no_reward_and_is_counted() -> None:
    model = model_of(rubric_of(*ALL), {**RULES, KIND: Failure("timeout")})
    scores = model.score(["Q", "Q"], ["right", "wrong"])
    assert np.isnan(scores.value).all()
    assert np.isnan(scores.attributes["kind"]).all()
    assert scores.attributes["correct"] == pytest.approx([0.9, 0.2])  # what was judged is kept
    assert model.tally.failures == {("kind", "timeout"): 2}
    assert model.tally.unresolved_share == 1.0
    assert np.isnan(model.log_odds(["Q"], ["right"], ["wrong"])).all()


def test_a_prompt_without_criteria_has_no_reward() -> None:
    rubric = as_rubric({"prompts": [{"prompt": "Q", "criteria": [CORRECT]}]}, "r")
    model = model_of(rubric, RULES)
    scores = model.score(["Q", "Other"], ["right", "right"])
    assert scores.value == pytest.approx([3.6, math.nan], nan_ok=True)
    assert scores.attributes[OWN] == pytest.approx([0.9, math.nan], nan_ok=True)
    assert model.tally.failures == {("", "judge_error"): 1}


def test_it_is_a_reward_model_and_a_judge_by_subtraction() -> None:
    model = model_of(rubric_of(*ALL), RULES)
    assert isinstance(model, RewardModel)
    assert isinstance(model, Judge)
    check_reward_model(model)
    values = model.score(["Q", "Q"], ["right", "wrong"]).value
    assert model.log_odds(["Q"], ["right"], ["wrong"])[0] == values[0] - values[1]


def test_without_log_probabilities_words_are_drawn_and_their_share_is_smoothed() -> None:
    rubric = rubric_of({"id": "kind", "text": KIND})
    model = model_of(rubric, RULES, log_probs=False, samples=3)
    said = iter(["Yes.", "no", "yes, it does", "Hm"])

    def answer_all(questions):
        return [Answer(next(said)) for _ in questions]

    model.respondent._answer_all = answer_all
    # a share of (2 + 1/2) / (3 + 1)
    assert model.score(["Q"], ["x"]).attributes["kind"] == pytest.approx([0.625])


def test_a_score_counts_by_its_place_on_the_scale() -> None:
    rubric = rubric_of({"id": "kind", "text": KIND, "kind": "score", "low": 1, "high": 5})
    model = model_of(rubric, RULES)
    parts = {"4": 0.5, "5": 0.5}
    model.respondent._answer_all = lambda questions: [
        Answer("4", "length", {k: math.log(v) for k, v in parts.items()}) for _ in questions
    ]
    assert model.score(["Q"], ["x"]).attributes["kind"] == pytest.approx([(4.5 - 1) / 4])


def test_questions_about_one_response_share_everything_before_the_criterion() -> None:
    model = model_of(rubric_of(*ALL), RULES)
    model.score(["Q"], ["right {criterion} {low}"])
    texts = [question.messages[1].content for question in model.respondent.asked]
    heads = {text.partition("Criterion: ")[0] for text in texts}
    assert len(texts) == 3
    assert len(heads) == 1
    assert "right {criterion} {low}" in heads.pop()
    assert {question.messages[0].content for question in model.respondent.asked} == {
        model.respondent.asked[0].messages[0].content
    }


def test_the_fingerprint_changes_with_the_rubric_and_the_way_it_is_judged() -> None:
    one = model_of(rubric_of(*ALL), RULES)
    assert one.fingerprint == model_of(rubric_of(*ALL), RULES).fingerprint
    assert one.fingerprint != model_of(rubric_of(*ALL[:2]), RULES).fingerprint
    assert one.fingerprint != model_of(rubric_of(*ALL), RULES, seed=1).fingerprint
    reworded = RubricModel(one.respondent, one.rubric, one.options, wording="reworded")
    assert one.fingerprint != reworded.fingerprint


def test_calls_carry_the_hash_of_the_rubric() -> None:
    model = model_of(rubric_of(*ALL), RULES)
    model.score(["Q"], ["right"])
    items = {record.item for record in model.respondent.log.records.values()}
    assert items == {f"rubric {model.rubric.fingerprint} {name}" for name in ("correct", "kind", "source")}
