"""Functions as judges, and juries: what counts as a vote, and what never becomes one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import JudgeServer, completion
from toys import Constant, Good

from guerdon.config.judging import JudgeOptions
from guerdon.contracts import GuerdonError, Response, as_prompt
from guerdon.models.judges.build import build_judge
from guerdon.models.judges.comparing import Pair, VerdictJudge
from guerdon.models.judges.jury import Jury
from guerdon.models.judges.python_judge import PythonJudge, RewardModelJudge
from guerdon.models.judges.verdicts import PairVerdict
from guerdon.testing import check_judge

PROMPT = as_prompt("Name a prime number.")


def by_length(prompt: Any, first: Response, second: Response) -> float:
    return 0.1 * (len(first.text) - len(second.text))


def toward_longer(log_odds: float) -> PythonJudge:
    return PythonJudge(lambda p, a, b: log_odds if len(a.text) > len(b.text) else -log_odds)


def verdict_of(judge: VerdictJudge) -> PairVerdict:
    ((_, verdict),) = judge.compare([Pair(PROMPT, Response("longer"), Response("short"))])
    return verdict


# ---- Functions -----------------------------------------------------------------------------------------------------------


def test_a_function_is_a_judge() -> None:
    judge = PythonJudge(by_length)
    check_judge(judge)
    assert verdict_of(judge).log_odds == pytest.approx(0.1)
    assert verdict_of(judge).is_consistent


@pytest.mark.parametrize("answer", [math.nan, None, "1", [1.0], np.array([1.0])])
def test_what_is_no_number_is_a_failure(answer: Any) -> None:
    judge = PythonJudge(lambda p, a, b: answer)
    verdict = verdict_of(judge)
    assert verdict.q is None
    assert math.isnan(verdict.log_odds)
    assert {failure.code for failure in verdict.failures} == {"judge_error"}
    assert judge.tally.unresolved == 1


def test_an_error_of_a_function_fails_its_pair_alone() -> None:
    def touchy(prompt: Any, first: Response, second: Response) -> float:
        if "poison" in (first.text, second.text):
            raise ZeroDivisionError("by\nzero")
        return 1.0

    judge = PythonJudge(touchy, both_orders=False)
    odds = judge.log_odds([PROMPT] * 3, ["a", "poison", "b"], ["c", "d", "e"])
    assert odds[[0, 2]] == pytest.approx([1.0, 1.0])
    assert math.isnan(odds[1])
    assert judge.tally.failures == {"judge_error": 1}


def test_a_function_that_always_prefers_the_first_prefers_nothing() -> None:
    judge = PythonJudge(lambda p, a, b: 4.0)
    verdict = verdict_of(judge)
    assert verdict.q == pytest.approx(0.5)
    assert verdict.is_consistent is False
    assert judge.tally.bias == pytest.approx(4.0)


def test_a_function_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "judges.py"
    path.write_text("def longer(prompt, first, second):\n    return len(first.text) - len(second.text)\n")
    judge = build_judge(JudgeOptions(kind="python", function=f"{path}:longer"))
    assert judge.log_odds(["p"], ["aaa"], ["b"]) == pytest.approx([2.0])
    assert judge.name == "longer"
    with pytest.raises(GuerdonError, match="Did you mean longer"):
        build_judge(JudgeOptions(kind="python", function=f"{path}:longr"))
    with pytest.raises(GuerdonError, match=r"FILE\.py:NAME"):
        build_judge(JudgeOptions(kind="python", function="longer"))


def test_a_reward_that_is_not_finite_is_a_failure() -> None:
    class Half(Good):
        def score(self, prompts: Any, responses: Any) -> Any:
            scores = super().score(prompts, responses)
            scores.value[[r.text == "bad" for r in responses]] = math.nan
            return scores

    judge = RewardModelJudge(Half())
    odds = judge.log_odds(["p"] * 2, ["good", "bad"], ["it", "good"])
    assert odds[0] == pytest.approx(1.0)
    assert math.isnan(odds[1])
    assert judge.tally.failures == {"judge_error": 1}


# ---- Juries --------------------------------------------------------------------------------------------------------------


def test_a_jury_averages_the_log_odds_of_those_that_decided() -> None:
    jury = Jury([toward_longer(1.0), toward_longer(3.0)], quorum=2)
    assert verdict_of(jury).log_odds == pytest.approx(2.0)
    weighted = Jury([toward_longer(1.0), toward_longer(3.0)], quorum=2, weights=[3, 1])
    assert verdict_of(weighted).log_odds == pytest.approx(1.5)


def test_abstentions_never_pull_towards_a_tie() -> None:
    tie, biased, broken = (PythonJudge(lambda p, a, b, odds=odds: odds) for odds in (0.0, 5.0, math.nan))
    decided = [toward_longer(1.0), toward_longer(1.0)]
    verdict = verdict_of(Jury([tie, biased, broken, *decided], quorum=2))
    assert verdict.log_odds == pytest.approx(1.0)
    assert [failure.code for failure in verdict.failures] == ["judge_error", "judge_error"]


def test_without_a_quorum_there_is_no_verdict() -> None:
    jury = Jury([toward_longer(1.0), PythonJudge(lambda p, a, b: 0.0), RewardModelJudge(Constant())], quorum=2)
    verdict = verdict_of(jury)
    assert verdict.q is None
    assert math.isnan(verdict.log_odds)
    assert verdict.failures[-1].code == "no_quorum"
    assert jury.tally.unresolved_share == 1.0


def test_a_jury_is_a_judge_of_any_length() -> None:
    jury = Jury([toward_longer(1.0), PythonJudge(by_length)], quorum=1)
    pairs = [Pair(PROMPT, Response("a" * (i % 7)), Response("bbb")) for i in range(2500)]
    positions = [position for position, _ in jury.compare(iter(pairs))]
    assert sorted(positions) == list(range(2500))


def test_a_jury_from_options(tmp_path: Path) -> None:
    path = tmp_path / "judges.py"
    path.write_text("def longer(prompt, first, second):\n    return len(first.text) - len(second.text)\n")
    member = {"kind": "python", "function": f"{path}:longer"}
    jury = build_judge(JudgeOptions(kind="jury", judges=[member, member], quorum=2))
    assert jury.log_odds(["p"], ["aaa"], ["b"]) == pytest.approx([2.0])
    with pytest.raises(GuerdonError, match=r"judge\.judges\[1\]: sampls is not an option"):
        build_judge(JudgeOptions(kind="jury", judges=[member, {"sampls": "x"}]))
    with pytest.raises(GuerdonError, match="from 1 to the number of judges, 1"):
        build_judge(JudgeOptions(kind="jury", judges=[member], quorum=2))


# ---- Limits ----------------------------------------------------------------------------------------------------------------


def test_the_judges_of_a_jury_share_its_limits() -> None:
    def says(body: dict[str, Any], tried: int) -> dict[str, Any]:
        return completion("Verdict: 1", usage=(100, 4))

    with JudgeServer(says) as server:
        member = {"url": server.url, "mode": "pair_samples", "samples": 1, "tries": 1}
        members = [{**member, "model": name} for name in ("a", "b", "c")]
        jury = build_judge(JudgeOptions(kind="jury", judges=members, max_calls=7))
        verdicts = list(jury.compare([Pair(PROMPT, Response(f"longer {i}"), Response("short")) for i in range(4)]))
        assert sum(server.tries.values()) == 7, "of the 24 that three judges would ask"
    assert len(verdicts) == 4
    assert jury.tally.failures["budget_stop"] > 0


def test_a_limit_of_a_judge_within_a_jury_with_limits_is_refused() -> None:
    member = {"url": "http://x", "model": "a", "max_calls": 3}
    with pytest.raises(GuerdonError, match=r"judge\.judges\[0\]\.max_calls must be left out in a jury with limits"):
        build_judge(JudgeOptions(kind="jury", judges=[member], quorum=1, max_total_tokens=100))
