"""A rubric in judge.yaml: the judge that is built gives verdicts by it, and its rewards have a column per criterion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rubric_worlds import CORRECT, KIND, model_of, rubric_of

from guerdon.config import JudgeOptions, make
from guerdon.contracts import GuerdonError, Response, as_prompt
from guerdon.models.judges.build import build_judge, build_respondent
from guerdon.models.judges.calls import MemoryCallLog
from guerdon.models.judges.comparing import Pair
from guerdon.models.judges.failures import Failure
from guerdon.models.judges.rewards import as_reward_model
from guerdon.models.judges.rubric.judge import RubricJudge

RULES = {CORRECT: lambda text: 0.9 if "right" in text else 0.2, KIND: lambda text: 0.5}
RUBRIC = rubric_of({"id": "correct", "text": CORRECT}, {"id": "kind", "text": KIND})


def pair(first="right", second="wrong"):
    return Pair(as_prompt("Q"), Response(first), Response(second), "item 7")


def test_verdicts_are_differences_of_rewards():
    model = model_of(RUBRIC, RULES)
    judge = RubricJudge(model)
    ((_, verdict),) = judge.compare([pair()])
    assert verdict.log_odds == pytest.approx(4 * (0.9 - 0.2) / 2)
    assert judge.log_odds(["Q"], ["wrong"], ["right"])[0] == pytest.approx(-verdict.log_odds)
    assert {record.item for record in model.respondent.log.records.values()} >= {"item 7"}
    assert (judge.tally.pairs, judge.tally.unresolved, model.tally.responses) == (2, 0, 4)


def test_a_pair_with_a_failed_criterion_is_unresolved_with_its_code():
    judge = RubricJudge(model_of(RUBRIC, {**RULES, KIND: Failure("timeout")}))
    ((_, verdict),) = judge.compare([pair()])
    assert not verdict.is_resolved
    assert [failure.code for failure in verdict.failures] == ["timeout", "timeout"]
    assert np.isnan(judge.log_odds(["Q"], ["a"], ["b"])).all()


def test_its_rewards_are_the_rubrics_own():
    judge = RubricJudge(model_of(RUBRIC, RULES))
    assert as_reward_model(judge) is judge.model
    assert set(as_reward_model(judge).score(["Q"], ["right"]).attributes) == {"correct", "kind"}


def test_judge_yaml_may_name_a_rubric(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text("criteria: [The response is kind.]")
    options = make(JudgeOptions, {"url": "http://localhost:1", "model": "m", "rubric": str(path)})
    judge = build_judge(options)
    assert isinstance(judge, RubricJudge)
    assert judge.name == "m+r"
    with pytest.raises(GuerdonError, match="rubric must be a YAML or JSONL file"):
        build_judge(options.model_copy(update={"rubric": str(tmp_path / "none.yaml")}))


def test_what_a_rubric_would_ignore_is_refused():
    with pytest.raises(GuerdonError, match=r"judge\.mode must be auto or pair_samples with a rubric"):
        make(JudgeOptions, {"url": "http://localhost", "model": "m", "rubric": "r.yaml", "mode": "ranking"})
    with pytest.raises(GuerdonError, match=r"judge\.rubric must be left out for a judge of kind python"):
        make(JudgeOptions, {"kind": "python", "function": "f.py:g", "rubric": "r.yaml"})
    with pytest.raises(GuerdonError, match=r"judge\.kind must be endpoint or local"):
        build_respondent(make(JudgeOptions, {"kind": "python", "function": "f.py:g"}), MemoryCallLog())
