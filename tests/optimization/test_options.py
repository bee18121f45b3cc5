"""Options that contradict each other, or would be ignored, are refused."""

from __future__ import annotations

import pytest
from optimization_runs import HELD_OUT, brevity, small_run

from guerdon import GuerdonError


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            {"baseline": "leave_one_out", "samples": 1},
            r"optimize\.samples must be 2 or more with optimize\.baseline=leave_one_out, which compares",
        ),
        (
            {"baseline": "group", "samples": 1},
            r"optimize\.samples must be 2 or more .*, got 1\. Set optimize\.samples=4",
        ),
        ({"minibatches": 9}, r"optimize\.minibatches must be at most 8, the replies in a batch, got 9\. Set a smaller"),
        ({"value": "reward"}, r"optimize\.value=reward: the reward must be one of our models"),
        ({"reward_scale": "reference"}, r"optimize\.reward_scale=reference: the model must store a reference"),
        (
            {"baseline": "group", "value_warmup": 2},
            r"optimize\.value_warmup must be left out .* has no value model, got 2\. Leave",
        ),
        (
            {"baseline": "group", "whiten_rewards": True},
            r"optimize\.whiten_rewards must be .*, got True\. Leave it out",
        ),
        (
            {"value_warmup": 1, "weight_decay": 0.1},
            r"optimize\.weight_decay must be 0 .*, got 0\.1\. Set one of the two",
        ),
        (
            {"kl_coef": 0.0, "kl_target": 1.0},
            r"optimize\.kl_coef must be greater than 0 .* 0 cannot adapt, got 0\.0\. Start",
        ),
        ({"gold": brevity}, r"a gold judge needs held-out prompts .*\. Give --held-out"),
        ({"gold": brevity, "held_out": HELD_OUT}, r"optimize\.check_every above 0"),
        ({"keep": "best_gold"}, r"optimize\.keep: needs a gold judge"),
        ({"stop_when": "over_optimized", "held_out": HELD_OUT}, r"optimize\.stop_when: needs a gold judge"),
    ],
)
def test_conflicting_options_are_refused(tiny_dir, options, error):
    with pytest.raises(GuerdonError, match=error):
        small_run(tiny_dir, **options)
