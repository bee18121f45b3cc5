"""An isotonic judge is not a reward model, keeps the model's preferences, and survives a round trip."""

from __future__ import annotations

import json

import numpy as np
import pytest
from toys import Good

from guerdon.contracts import GuerdonError, Judge, RewardModel
from guerdon.formulas.isotonic import IsotonicCurve, fit_isotonic
from guerdon.models.isotonic import IsotonicJudge
from guerdon.testing import check_judge

CURVE = IsotonicCurve(np.array([-3.0, -1.0, 1.0, 3.0]), np.array([-1.0, -0.5, 0.5, 1.0]))
PROMPTS, FIRST = ["p"] * 4, ["good", "good good good", "no", "good good"]
SECOND = ["no", "no", "good good good good good", "good"]


class First:
    """A judge with a taste for the first response."""

    def log_odds(self, prompts, first, second):
        return np.array([float(len(a) - len(b)) + 1.0 for a, b in zip(first, second, strict=True)])


def test_it_is_a_judge_and_not_a_reward_model():
    judge = IsotonicJudge(Good(), CURVE)
    check_judge(judge)
    assert isinstance(judge, Judge)
    assert not isinstance(judge, RewardModel)


def test_margins_go_through_the_curve_and_swapping_flips_them():
    judge = IsotonicJudge(Good(), CURVE)
    odds = judge.log_odds(PROMPTS, FIRST, SECOND)
    assert odds == pytest.approx([0.5, 1.0, -1.0, 0.5])
    assert judge.log_odds(PROMPTS, SECOND, FIRST) == pytest.approx(-odds)


def test_a_judge_can_be_wrapped_and_keeps_its_own_position_bias():
    judge = IsotonicJudge(First(), CURVE)
    assert judge.log_odds(["p"], ["ab"], ["ab"]) == pytest.approx([0.5])
    assert judge.log_odds(["p"], ["ab"], ["abc"]) == pytest.approx([0.0])


def test_mapped_margins_do_not_add_up():
    """Why no reward model can have these odds."""
    judge = IsotonicJudge(Good(), CURVE)
    a, b, c = "good good good", "good good", "no"
    ab, bc, ac = judge.log_odds(["p"] * 3, [a, b, a], [b, c, c])
    assert ab + bc > ac + 0.1


def test_a_curve_survives_a_round_trip_and_determines_the_fingerprint():
    rng = np.random.default_rng(0)
    fitted = IsotonicJudge(Good(), fit_isotonic(rng.normal(size=50), rng.integers(0, 2, 50).astype(float)))
    again = IsotonicJudge.from_dict(Good(), json.loads(json.dumps(fitted.as_dict())))
    np.testing.assert_array_equal(again.log_odds(PROMPTS, FIRST, SECOND), fitted.log_odds(PROMPTS, FIRST, SECOND))
    assert again.fingerprint == fitted.fingerprint != IsotonicJudge(Good(), CURVE).fingerprint


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"margin": [0.0]}, "the keys must be margin and log_odds, got margin"),
        ({"margin": [0.0, 1.0], "log_odds": [0.0]}, r"got 2 and 1\. Fit it again"),
        ({"margin": [], "log_odds": []}, "got 0 and 0"),
        ({"margin": [0.0, 1.0], "log_odds": [1.0, 0.0]}, r"the curve must never decrease\. Fit it again"),
    ],
)
def test_an_invalid_curve_is_refused(values, message):
    with pytest.raises(GuerdonError, match=message):
        IsotonicJudge.from_dict(Good(), values)
