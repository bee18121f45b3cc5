"""Conformance checks for your own reward model, judge or policy: a broken promise is an AssertionError with the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Judge, Message, Policy, RewardModel, Scores, as_prompt
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
    """Check that scores are finite float64 [n] and batch invariant.

    Each score must be the same alone, in a batch, in any order, next to long and short neighbors, and a second time.
    `tolerance` is the largest change allowed, as a share of the scores' standard deviation (of 1 if all are equal).
    """
    prompts, responses = _given_or_default(prompts, responses)
    assert isinstance(model, RewardModel), f"{type(model).__name__} must have score(prompts, responses)"
    _check_scores(model.score([], []), 0)
    _check_scores(model.score(prompts, responses), len(prompts))
    invariance = measure_batch_invariance(model, prompts, responses)
    std = invariance.std or 1.0
    for batch, change in invariance.changes.items():
        assert change <= tolerance * std, (
            f"a score changed by {change:.3g} when scored {batch}: {change / std:.3g} standard "
            f"deviations of the scores, {tolerance:.3g} allowed; look for padding, pooling or batch statistics"
        )


def check_judge(
    judge: Judge,
    prompts: Sequence[PromptLike] | None = None,
    responses: Sequence[ResponseLike] | None = None,
    *,
    tolerance: float = 1e-4,
) -> None:
    """Check that log-odds are finite float64 [n], and the same a second time and in any order.

    Swapping the two responses may change them: `guerdon audit` measures that as position bias. `tolerance` is the largest change
    allowed, as a share of the log-odds' standard deviation (of 1 if all are equal).
    """
    prompts, first = _given_or_default(prompts, responses)
    second = [*first[1:], *first[:1]]
    assert isinstance(judge, Judge), f"{type(judge).__name__} must have log_odds(prompts, first, second)"
    log_odds = judge.log_odds(prompts, first, second)
    _check_array("log_odds", log_odds, (len(prompts),))
    allowed = tolerance * (float(log_odds.std()) or 1.0)
    repeated = judge.log_odds(prompts, first, second)
    reordered = judge.log_odds(prompts[::-1], first[::-1], second[::-1])[::-1]
    for when, other in (("a second time", repeated), ("in another order", reordered)):
        change = float(np.max(np.abs(other - log_odds), initial=0.0))
        assert change <= allowed, f"log-odds changed by {change:.3g} when asked {when}, {allowed:.3g} allowed"


def check_policy(policy: Policy, prompts: Sequence[PromptLike] | None = None, *, max_tokens: int = 8) -> None:
    """Check that a policy gives n responses to each prompt, in order, with finish reasons, and the same ones for the same seed."""
    prompts = list(PROMPTS[:2]) if prompts is None else list(prompts)
    assert isinstance(policy, Policy), (
        f"{type(policy).__name__} must have sample(prompts, n, max_tokens, temperature, seed)"
    )
    rollouts = policy.sample(prompts, 3, max_tokens, 1.0, 0)
    expected, counts = 3 * len(prompts), (len(rollouts.prompts), len(rollouts.responses))
    assert counts == (expected, expected), (
        f"there must be {expected} responses and as many prompts, got {counts[1]} responses and {counts[0]} prompts"
    )
    in_order = [as_prompt(prompt) for prompt in prompts for _ in range(3)]
    assert list(rollouts.prompts) == in_order, (
        "responses to one prompt must stand together, in the order of the prompts"
    )
    finishes = {response.finish for response in rollouts.responses}
    assert finishes <= {"stop", "length"}, f"every sampled response must finish by stop or length, got {finishes}"
    repeated = policy.sample(prompts, 3, max_tokens, 1.0, 0)
    pairs = zip(rollouts.responses, repeated.responses, strict=True)
    num_different = sum(one.text != other.text for one, other in pairs)
    assert num_different == 0, f"the same seed must give the same responses, got {num_different} different"


def _given_or_default(
    prompts: Sequence[PromptLike] | None, responses: Sequence[ResponseLike] | None
) -> tuple[list[PromptLike], list[ResponseLike]]:
    assert (prompts is None) == (responses is None), "pass both prompts and responses, or neither"
    if prompts is None or responses is None:
        return list(PROMPTS), list(RESPONSES)
    assert len(prompts) == len(responses) >= 2, (
        f"there must be 2 rows or more, got {len(prompts)} prompts and {len(responses)} responses"
    )
    return list(prompts), list(responses)


def _check_scores(scores: Scores, n: int) -> None:
    _check_array("value", scores.value, (n,))
    truncated = scores.truncated
    assert truncated.shape == (n,), f"truncated must have shape [{n}], got {list(truncated.shape)}"
    assert truncated.dtype == np.bool_, f"truncated must be bool, got {truncated.dtype}"
    if scores.std is not None:
        _check_array("std", scores.std, (n,))
    if scores.members is not None:
        _check_array("members", scores.members, (len(scores.members), n))
    for name, values in scores.attributes.items():
        _check_array(f"attribute {name}", values, (n,))


def _check_array(name: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    assert isinstance(values, np.ndarray), f"{name} must be a numpy array, got {type(values).__name__}"
    assert values.shape == shape, f"{name} must have shape {list(shape)}, got {list(values.shape)}"
    assert values.dtype == np.float64, f"{name} must be float64, got {values.dtype}"
    num_bad = int(np.count_nonzero(~np.isfinite(values)))
    assert num_bad == 0, f"{name} must be finite, got {num_bad} other values"
