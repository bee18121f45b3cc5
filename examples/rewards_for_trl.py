"""A saved reward model as a reward function for TRL's GRPO and RLOO trainers.

    from rewards_for_trl import reward_function

    trainer = GRPOTrainer(model=..., reward_funcs=reward_function("runs/mine/model", max_completion_length=256), ...)

Do not give TRL the directory itself as `reward_funcs`: the reward model would see a reply that was cut at the length limit as if
it had ended, and the rewards would be raw. Here a cut reply stays open, the temperature is applied, and texts are rendered and
truncated as in training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import guerdon
from guerdon import Response

Messages = Sequence[dict[str, str]]


def reward_function(
    model: str | Path | guerdon.RewardModel, *, max_completion_length: int | None = None
) -> Callable[..., list[float]]:
    """A function for TRL: from prompts and completions (texts or messages) it returns a reward in nats for each completion.

    max_completion_length: that of the trainer; a completion of that many tokens counts as cut.
    """
    scorer = guerdon.load(model, truncation="left") if isinstance(model, str | Path) else model

    def guerdon_reward(
        prompts: Sequence[str | Messages],
        completions: Sequence[str | Messages],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **_: Any,
    ) -> list[float]:
        lengths = [len(ids) for ids in completion_ids] if completion_ids is not None else [0] * len(completions)
        limit = max_completion_length or float("inf")
        replies = [
            Response(text_of(completion), finish="length" if length >= limit else "stop")
            for completion, length in zip(completions, lengths, strict=True)
        ]
        rewards: list[float] = scorer.score(prompts, replies).value.tolist()
        return rewards

    return guerdon_reward


def text_of(completion: str | Messages) -> str:
    """The text of a completion, which TRL gives as a string or as a list with one assistant message."""
    return completion if isinstance(completion, str) else "".join(message["content"] for message in completion)


if __name__ == "__main__":
    import sys

    reward = reward_function(sys.argv[1])
    print(reward(["Write a tweet."] * 2, ["What a lovely day!", "What an awful day."]))
