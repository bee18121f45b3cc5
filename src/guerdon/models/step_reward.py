"""A reward for a solution from the scores of its steps: the lowest, their product, or the last.

Axes: n responses, k steps of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, final, get_args

import numpy as np
from scipy.special import log_expit

from guerdon.contracts import GuerdonError, Response, Scores, as_response, digest
from guerdon.conversation import STEP_JOINT
from guerdon.errors import field_error
from guerdon.models.fingerprint import fingerprint_of

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.contracts import PromptLike, ResponseLike, RewardModel

__all__ = ["StepReward", "StepRule", "combine_steps", "up_to_each_step"]

StepRule = Literal["min", "product", "last"]


@final
class StepReward:
    """A reward model that scores a solution up to each of its steps, and combines those scores. Fulfills RewardModel.

    Steps are what blank lines part. A step's score is the model's reward of the response if it ended there, in nats: log-odds
    of being right, for a model that learned them. See `combine_steps` for the rules.
    """

    def __init__(self, model: RewardModel, rule: StepRule = "min") -> None:
        if rule not in (rules := get_args(StepRule)):
            raise field_error("rule", f"one of {', '.join(rules)}", rule, "Choose one.")
        self.model, self.rule = model, rule

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes a score."""
        return digest(["steps", self.rule, fingerprint_of(self.model)])

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """The combined reward of response i as an answer to prompt i; truncated where any of its steps was."""
        steps = [up_to_each_step(as_response(response)) for response in responses]
        if len(prompts) != len(steps):
            raise GuerdonError(f"score: there must be one prompt per response, got {len(prompts)} for {len(steps)}.")
        scores = self.model.score(
            [prompt for prompt, own in zip(prompts, steps, strict=True) for _ in own],
            [step for own in steps for step in own],
        )
        ends = np.cumsum([len(own) for own in steps], dtype=np.int64).tolist()
        spans = [slice(end - len(own), end) for end, own in zip(ends, steps, strict=True)]
        return Scores(
            np.array([combine_steps(scores.value[span], self.rule) for span in spans], dtype=np.float64),
            np.array([scores.truncated[span].any() for span in spans], dtype=bool),
        )


def combine_steps(scores: Float[np.ndarray, " k"], rule: StepRule) -> float:
    """Log-odds of k steps, at least one, in; the solution's reward in nats out.

    min: the lowest. product: the log-probability that all steps are right, as if they were independent; it falls with their number
    (Lightman et al. 2023, arXiv 2305.20050, section 2.6). last: that of the whole solution.
    """
    if rule == "product":
        return float(log_expit(scores).sum())
    return float(scores.min() if rule == "min" else scores[-1])


def up_to_each_step(response: Response) -> list[Response]:
    """The response ended after each step, the whole one last. One with several messages is one step."""
    if response.messages:
        return [response]
    ends, at = [], 0
    for part in response.text.split(STEP_JOINT):
        at += len(part)
        if part.strip():
            ends.append(at)
        at += len(STEP_JOINT)
    return [*(Response(response.text[:end]) for end in ends[:-1]), response]
