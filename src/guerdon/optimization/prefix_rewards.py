"""The reward of every prefix of a reply, read at the policy's own tokens: the potential of `optimize.dense`.

Axes: b replies, t tokens of a reply, r prefixes of all replies one after another, k sources or members. A model learned to score
whole replies; its value of a prefix is a guess, which makes learning faster or slower and moves no optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from guerdon.contracts import GuerdonError, Rollouts
from guerdon.models.calibrated import CalibratedModel, components
from guerdon.models.ensemble import Ensemble
from guerdon.models.policy import LanguagePolicy
from guerdon.models.reward_model import ScalarRewardModel
from guerdon.optimization.rewards import Reward

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.models.engine.backbone import Texts

__all__ = ["prefix_rewards", "refuse_without_prefixes"]


def prefix_rewards(reward: Reward, rollouts: Rollouts, max_tokens: int) -> Float[torch.Tensor, "b t"]:
    """The reward before each token of each reply, float64, 0.0 after its last; one packed pass per model.

    A model reads the policy's tokens, of a long prompt the last that leave room for a reply of max_tokens: what it says of a
    prefix depends on nothing that follows.
    """
    assert rollouts.prompt_ids is not None, "rollouts of a LanguagePolicy have token ids"
    assert rollouts.token_ids is not None, "rollouts of a LanguagePolicy have token ids"
    if not len(rollouts):  # a process without a prompt
        return torch.zeros(0, 1, dtype=torch.float64)
    room = min(model.text.max_length for model in _models(reward)) - max_tokens
    prompts = [ids[-room:] for ids in rollouts.prompt_ids]
    texts = [np.concatenate([prompt, ids[:-1]]) for prompt, ids in zip(prompts, rollouts.token_ids, strict=True)]
    since = [len(prompt) - 1 for prompt in prompts]
    values = reward.combine({name: _read(reward.sources[name], texts, since) for name in reward.weighted_names})
    sizes = [len(ids) for ids in rollouts.token_ids]
    return pad_sequence(list(torch.from_numpy(values).split(sizes)), batch_first=True)


def refuse_without_prefixes(reward: Reward, policy: LanguagePolicy, max_tokens: int) -> None:
    """Raise GuerdonError for a reward that has no value for a prefix of the policy's tokens."""
    if reward.members is not None:
        raise _refusal("a rule for members that is the ensemble's own", "another", "Leave members out.")
    for model in _models(reward):
        if not isinstance(model, ScalarRewardModel):
            name = getattr(model, "__name__", type(model).__name__)
            raise _refusal("reward models on this machine, which have a value for every prefix", name)
        if model.network.encoder:
            raise _refusal("causal reward models, which read from left to right", "an encoder")
        if model.heads > 1:
            raise _refusal("reward models with one head each", f"{model.heads} heads")
        if policy.tokenizer.get_vocab() != model.text.tokenizer.get_vocab():
            raise _refusal("a policy and a reward model that share a tokenizer", "two")
        if model.text.max_length <= max_tokens:
            claim = f"a reward model that reads more than optimize.max_tokens={max_tokens} tokens"
            raise _refusal(claim, str(model.text.max_length), "Lower optimize.max_tokens.")


def _refusal(
    claim: str, value: str, advice: str = "Choose another reward, or leave optimize.dense out."
) -> GuerdonError:
    return GuerdonError(f"optimize.dense must have {claim}, got {value}. {advice}")


def _models(reward: Reward) -> list[Any]:
    """The models that count in the reward, without calibration, an ensemble as its members."""
    return [part for name in reward.weighted_names for part in components(reward.sources[name])]


def _read(source: Any, texts: Texts, since: Sequence[int]) -> Float[np.ndarray, " r"]:
    """The values of one source: a calibration and an ensemble's rule and scale are applied to each prefix as to a reply."""
    if isinstance(source, CalibratedModel):
        return source.values_in_nats(_read(source.model, texts, since))
    if isinstance(source, Ensemble):
        members = np.stack([_read(model, texts, since) for model in source.models])
        return source.rule(members if source.scale is None else source.scale(members))
    assert isinstance(source, ScalarRewardModel), "refused before"
    return np.concatenate(source.score_prefixes(texts, since))
