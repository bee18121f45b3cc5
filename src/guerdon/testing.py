"""The promises of the contracts, run on a stranger's object. A broken one is an AssertionError with the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import (
    Judge,
    Message,
    Policy,
    RewardModel,
    Scores,
    as_prompt,
)
from guerdon.models.batch_invariance import measure_batch_invariance

if TYPE_CHECKING:
    from guerdon.contracts import PromptLike, ResponseLike

__all__ = ["check_judge", "check_policy", "check_reward_model"]

PROMPTS: tuple[PromptLike, ...] = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "Is 91 a prime number?",
    (Message("user", "Hello"), Message("assistant", "Hello! How can I help?"), Message("user", "Tell me a joke.")),
    "Wie heißt du?",
    "List three colors.",
)
RESPONSES: tuple[str, ...] = (
    "Paris.",
    "The sea is wide, grey and patient, and it keeps what it is given longer than any of us would care to count.",
    "No: 91 is 7 times 13.",
    "Why did the scarecrow win a prize? He was outstanding in his field.",
    "Ich heiße Ada. \N{WAVING HAND SIGN}",
    "Red.",
)


def check_reward_model(
    model: RewardModel,
    prompts: Sequence[PromptLike] | None = None,
    responses: Sequence[ResponseLike] | None = None,
    *,
    tolerance: float = 1e-4,
) -> None:
    """A score is the same alone, in a batch, in any order, beside long and short neighbors, and twice; float64 [n], finite.

    `tolerance` is the largest change allowed, as a share of the scores' standard deviation (of 1 where all are equal).
    """
    prompts, responses = _given_or_ours(prompts, responses)
    assert isinstance(model, RewardModel), f"{type(model).__name__} has no score(prompts, responses)"
    _check_shape(model.score([], []), 0)
    _check_shape(model.score(prompts, responses), len(prompts))
    invariance = measure_batch_invariance(model, prompts, responses)
    std = invariance.std or 1.0
    for name, change in invariance.changes.items():
        assert change <= tolerance * std, (
            f"a score changed by {change:.3g} when scored {name}: {change / std:.3g} standard "
            f"deviations of the scores, {tolerance:.3g} allowed; look for padding, pooling or batch statistics"
        )


def check_judge(
    judge: Judge,
    prompts: Sequence[PromptLike] | None = None,
    responses: Sequence[ResponseLike] | None = None,
    *,
    tolerance: float = 1e-4,
) -> None:
    """Log-odds are float64 [n], finite, the same twice and in any order. Swapping may change them: audit that."""
    prompts, first = _given_or_ours(prompts, responses)
    second = [*first[1:], *first[:1]]
    assert isinstance(judge, Judge), f"{type(judge).__name__} has no log_odds(prompts, first, second)"
    odds = judge.log_odds(prompts, first, second)
    _check_array("log_odds", odds, (len(prompts),))
    allowed = tolerance * (float(odds.std()) or 1.0)
    again = judge.log_odds(prompts, first, second)
    turned = judge.log_odds(prompts[::-1], first[::-1], second[::-1])[::-1]
    for name, other in (("a second time", again), ("in another order", turned)):
        changed = float(np.max(np.abs(other - odds), initial=0.0))
        assert changed <= allowed, f"log-odds changed by {changed:.3g} when asked {name}, {allowed:.3g} allowed"


def check_policy(policy: Policy, prompts: Sequence[PromptLike] | None = None, *, max_tokens: int = 8) -> None:
    """n responses to each prompt, standing together, each with a finish reason; the same seed says the same again."""
    prompts = list(PROMPTS[:2]) if prompts is None else list(prompts)
    assert isinstance(policy, Policy), f"{type(policy).__name__} has no sample(...)"
    drawn = policy.sample(prompts, 3, max_tokens, 1.0, 0)
    asked_for, came = 3 * len(prompts), (len(drawn.prompts), len(drawn.responses))
    assert came == (asked_for, asked_for), f"asked for {asked_for} responses, got {came[1]} beside {came[0]} prompts"
    asked = [as_prompt(prompt) for prompt in prompts for _ in range(3)]
    assert list(drawn.prompts) == asked, "responses of one prompt stand together, in the order of the prompts"
    finishes = {response.finish for response in drawn.responses}
    assert finishes <= {"stop", "length"}, f"every sampled response says stop or length, got {finishes}"
    again = policy.sample(prompts, 3, max_tokens, 1.0, 0)
    texts, repeated = ([response.text for response in each.responses] for each in (drawn, again))
    assert texts == repeated, (
        f"the same seed drew {sum(a != b for a, b in zip(texts, repeated, strict=True))} other responses"
    )


def _given_or_ours(
    prompts: Sequence[PromptLike] | None, responses: Sequence[ResponseLike] | None
) -> tuple[list[PromptLike], list[ResponseLike]]:
    assert (prompts is None) == (responses is None), "give both prompts and responses, or neither"
    if prompts is None or responses is None:
        return list(PROMPTS), list(RESPONSES)
    assert len(prompts) == len(responses) >= 2, f"give 2 rows or more, got {len(prompts)} and {len(responses)}"
    return list(prompts), list(responses)


def _check_shape(scores: Scores, n: int) -> None:
    _check_array("value", scores.value, (n,))
    assert scores.truncated.shape == (n,), f"truncated is [{n}], got {list(scores.truncated.shape)}"
    assert scores.truncated.dtype == np.bool_, f"truncated is bool, got {scores.truncated.dtype}"
    if scores.std is not None:
        _check_array("std", scores.std, (n,))
    if scores.members is not None:
        _check_array("members", scores.members, (len(scores.members), n))
    for name, values in scores.attributes.items():
        _check_array(f"attribute {name}", values, (n,))


def _check_array(name: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    assert isinstance(values, np.ndarray), f"{name} is a numpy array, got {type(values).__name__}"
    assert values.shape == shape, f"{name} is {list(shape)}, got {list(values.shape)}"
    assert values.dtype == np.float64, f"{name} is float64, got {values.dtype}"
    assert np.isfinite(values).all(), (
        f"{name} is finite, got {np.flatnonzero(~np.isfinite(values)).size} places that are not"
    )
