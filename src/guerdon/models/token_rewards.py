"""The reward after every token of a reply: what a reward model would say if the reply ended there.

Axes: n replies, t tokens of one reply. A model learned to score whole replies; at a prefix its head is read where nothing taught
it, so a value there is not calibrated. The last value is the reply's reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, final

import numpy as np

from guerdon.contracts import GuerdonError, PromptLike, ResponseLike, Scores, as_prompt, as_response
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.chat import ChatTokenizer
from guerdon.models.chat_template import replace_surrogates
from guerdon.models.reward_model import ScalarRewardModel

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.contracts import Response, RewardModel

__all__ = ["TokenRewards", "TokenScorer"]


@dataclass(frozen=True, slots=True)
class TokenRewards:
    """The reward after each token of one reply.

    tokens: their texts, which together are the reply as the chat template writes it, with what the template puts behind it. A
        token that ends inside a character has no text; the character is that of its first token.
    rewards: [t] after each token; the last is the reply's reward. start: before the first.
    truncated: whether the model saw only the end of the text.
    """

    tokens: tuple[str, ...]
    rewards: Float[np.ndarray, " t"]
    start: float
    truncated: bool = False

    @property
    def gains(self) -> Float[np.ndarray, " t"]:
        """What each token added [t]; start and gains sum to the reply's reward."""
        return np.diff(self.rewards, prepend=self.start)

    @property
    def reward(self) -> float:
        """Of the whole reply."""
        return float(self.rewards[-1]) if len(self.rewards) else self.start

    def as_row(self) -> dict[str, Any]:
        """As plain values."""
        return {"start": self.start, "tokens": list(self.tokens), "rewards": self.rewards.tolist()}


@final
class TokenScorer:
    """One of Guerdon's reward models, calibrated or not, that also scores every prefix of a reply. Fulfills RewardModel."""

    def __init__(self, model: RewardModel) -> None:
        inner = model.model if isinstance(model, CalibratedModel) else model
        if not isinstance(inner, ScalarRewardModel):
            raise GuerdonError(
                f"score: the reward of every token needs one model on this machine, got {type(inner).__name__}. "
                "Score with one member, or leave per-token rewards out."
            )
        if inner.network.encoder:
            raise GuerdonError(
                "score: the reward of every token needs a causal model, which reads from left to right, got an encoder. "
                "Choose another model, or leave per-token rewards out."
            )
        self.model, self.network = model, inner
        calibration = model.calibration if isinstance(model, CalibratedModel) else None
        self.shift = calibration.reference_mean if calibration else 0.0
        self.scale = calibration.temperature if calibration else 1.0

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """The rewards of whole replies, as the model gives them."""
        return self.model.score(prompts, responses)

    def score_tokens(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> list[TokenRewards]:
        """The reward after each token of response i as an answer to prompt i, all from one pass over the whole texts."""
        encoded = self.network.text.encode(prompts, responses)
        tokens = [
            reply_tokens(self.network.text, prompt, as_response(response), len(own.ids))
            for prompt, response, own in zip(prompts, responses, encoded, strict=True)
        ]
        since = [len(own.ids) - len(texts) - 1 for own, texts in zip(encoded, tokens, strict=True)]
        raw = self.network.score_prefixes([own.ids for own in encoded], since)
        values = [(own - self.shift) / self.scale for own in raw]
        return [
            TokenRewards(texts, own[1:], float(own[0]), part.truncated)
            for texts, own, part in zip(tokens, values, encoded, strict=True)
        ]


def reply_tokens(text: ChatTokenizer, prompt: PromptLike, response: Response, size: int) -> tuple[str, ...]:
    """The text of each token after the prompt, of a conversation of which the model reads the last `size` tokens.

    The first is the one that holds the reply's first character; the model has read at least one token before it.
    """
    if not text.tokenizer.is_fast:
        raise GuerdonError(
            f"{text.tokenizer.name_or_path or 'tokenizer'}: it must tell where in the text its tokens are, and a slow tokenizer "
            "does not. Save the model with a fast tokenizer."
        )
    template = text.renderer()
    rendered = template.conversation(as_prompt(prompt), response)
    start = len(replace_surrogates(rendered[: template.reply_start(as_prompt(prompt), rendered)]))
    rendered = replace_surrogates(rendered)
    spans = text.tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ends = np.maximum.accumulate([end for _, end in spans["offset_mapping"]])
    first = max(int(np.searchsorted(ends, start, side="right")), len(ends) - size + 1)
    bounds = [max(start, int(ends[first - 1])), *map(int, ends[first:])]
    return tuple(rendered[low:high] for low, high in pairwise(bounds))
