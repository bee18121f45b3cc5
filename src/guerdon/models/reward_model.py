"""A language model whose unembedding is replaced by a projection to one scalar per head: the network, and the model that scores.

Axes: n conversations, t tokens, h hidden size, a heads (1, or one per rated attribute or ensemble member), r rows of states. The
backbone may be bfloat16; the head and the scores are always float32. The reward is read at the last token of the text, whatever
the padding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from guerdon.contracts import GuerdonError, PromptLike, ResponseLike, Scores, digest
from guerdon.formulas.ensemble import spread as member_spread
from guerdon.models.card import Card
from guerdon.models.chat import ChatTokenizer, Encoded
from guerdon.models.engine.backbone import Backbone, Texts, pad
from guerdon.models.engine.classifier import linear_head, merge_adapters, reward_head
from guerdon.models.engine.device import autocast
from guerdon.models.engine.modules import unwrap_peft
from guerdon.models.engine.prepacked import prepacked_weights
from guerdon.models.fingerprint import tokenizer_fingerprint, weights_fingerprint
from guerdon.models.scored_pairs import ComparesByReward

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from guerdon.models.uncertainty import Uncertainty

OnStates = Callable[[Sequence[int], Float[np.ndarray, "r h"]], None]
"""Called per batch with the rows in it and what the head reads of each, float32."""


class ScalarNetwork(nn.Module):
    """Token ids in, rewards out. Wraps a transformers ForSequenceClassification model; the head is read in float32."""

    def __init__(self, classifier: PreTrainedModel, *, encoder: bool) -> None:
        super().__init__()
        self.classifier = classifier
        self.encoder = encoder
        self.backbone = Backbone(classifier, is_encoder=encoder)
        self.tie_raw = nn.Parameter(torch.tensor(0.0))

    @property
    def tie_threshold(self) -> Tensor:
        """Rao-Kupper's tau in nats, >= 0."""
        return nn.functional.softplus(self.tie_raw)

    def merge(self) -> None:
        """Fold adapters into the weights."""
        self.classifier = self.backbone.model = merge_adapters(self.classifier)

    def forward(self, texts: Texts) -> Float[Tensor, "n a"]:
        """Rewards of token id sequences, float32, read at each one's last token. No text attends to another."""
        if self.encoder:  # the family's own pooling and head
            ids, mask = (x.to(self.backbone.device) for x in pad(texts, self.classifier.config.pad_token_id or 0))
            return self.classifier(input_ids=ids, attention_mask=mask).logits.float()  # type: ignore[no-any-return]
        return self.project(self.backbone.hidden_states(texts))

    def read_from(self, texts: Texts, since: Sequence[int]) -> Float[Tensor, "r a"]:
        """Rewards at each token of text i from position since[i] on, text after text: where a value model starts from."""
        return self.project(self.backbone.hidden_states(texts, since))

    def project(self, states: Float[Tensor, "r h"]) -> Float[Tensor, "r a"]:
        """Rewards of hidden states, float32."""
        with torch.autocast(states.device.type, enabled=False):
            head = reward_head(unwrap_peft(self.classifier))
            return head(states.to(head.weight.dtype))  # type: ignore[no-any-return]


class ScalarRewardModel(ComparesByReward):
    """A reward model on this machine. Fulfills RewardModel, and Judge by subtraction. Scores are raw, without calibration.

    Several heads without attributes are the members of an ensemble, whose reward is their mean; see also `models.ensemble`.
    """

    def __init__(
        self,
        network: ScalarNetwork,
        text: ChatTokenizer,
        card: Card,
        *,
        autocast: str = "no",
        batch_tokens: int = 4096,
        uncertainty: Uncertainty | None = None,
    ) -> None:
        self.network, self.text, self.card = network, text, card
        self.autocast, self.batch_tokens = autocast, batch_tokens
        self.uncertainty = uncertainty

    def with_card(self, **changes: Any) -> ScalarRewardModel:
        """The same network with other fields on its card."""
        return ScalarRewardModel(
            self.network,
            self.text,
            dataclasses.replace(self.card, **changes),
            autocast=self.autocast,
            batch_tokens=self.batch_tokens,
            uncertainty=self.uncertainty,
        )

    def with_uncertainty(self, uncertainty: Uncertainty | None) -> ScalarRewardModel:
        """The same network with a measured uncertainty."""
        provenance = dict(uncertainty.provenance) if uncertainty else {}
        model = self.with_card(uncertainty=provenance)
        model.uncertainty = uncertainty
        return model

    def score(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[ResponseLike],
        progress: Callable[[int], None] | None = None,
    ) -> Scores:
        """Reward of response i as an answer to prompt i. `progress` is called after each batch with its size."""
        return self.score_encoded(self.text.encode(prompts, responses), progress)

    def score_encoded(self, encoded: Sequence[Encoded], progress: Callable[[int], None] | None = None) -> Scores:
        """As `score`, of token ids."""
        uncertainty = self.uncertainty
        if uncertainty is None:
            return self._score(encoded, progress)
        std, shift_p = np.zeros(len(encoded)), np.zeros(len(encoded))

        def measure(rows: Sequence[int], states: Float[np.ndarray, "r h"]) -> None:
            std[rows], shift_p[rows] = uncertainty.std(states), uncertainty.shift_p(states)

        scores = self._score(encoded, progress, measure)
        return dataclasses.replace(scores, std=std, shift_p=shift_p)

    def score_with_features(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[ResponseLike],
        progress: Callable[[int], None] | None = None,
    ) -> tuple[Scores, Float[np.ndarray, "n h"]]:
        """Rewards, and what the head reads of each text (float32), from one pass."""
        if self.network.encoder:
            raise GuerdonError(
                "score: features are read at the last token, but this model's family pools the text in its own way. "
                "Choose a causal model."
            )
        encoded = self.text.encode(prompts, responses)
        width = linear_head(self.network.classifier).in_features
        features = np.zeros((len(encoded), width), dtype=np.float32)

        def store(rows: Sequence[int], states: Float[np.ndarray, "r h"]) -> None:
            features[rows] = states

        return self._score(encoded, progress, store), features

    def score_pairs(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[ResponseLike],
        first: Int[np.ndarray, " p"],
        second: Int[np.ndarray, " p"],
    ) -> tuple[Scores, Float[np.ndarray, " p"] | None]:
        """Rewards, and the standard deviation of the margins between responses first[i] and second[i], from one pass.

        Without a measured uncertainty it is that between the heads' margins, or None for a single head.
        """
        if self.uncertainty is None:
            scores = self.score(prompts, responses)
            members = scores.members
            return scores, None if members is None else member_spread(members[:, first] - members[:, second])
        scores, features = self.score_with_features(prompts, responses)
        wide = features.astype(np.float64)
        std, shift_p = self.uncertainty.std(wide), self.uncertainty.shift_p(wide)
        spread = self.uncertainty.margin_std(wide[first] - wide[second])
        return dataclasses.replace(scores, std=std, shift_p=shift_p), spread

    def score_prefixes(self, texts: Texts, since: Sequence[int]) -> list[Float[np.ndarray, " r"]]:
        """The raw reward of text i read at each of its tokens from position since[i] on, as if it ended there."""
        rewards: list[np.ndarray] = [np.zeros(0)] * len(texts)
        self.network.eval()
        with torch.inference_mode(), autocast(self.device, self.autocast), prepacked_weights(self.network):
            for rows in self.network.backbone.split_into_batches(texts, self.batch_tokens) if len(texts) else ():
                outputs = self.network.read_from([texts[i] for i in rows], [since[i] for i in rows]).cpu().double()
                for i, own in zip(rows, outputs.split([len(texts[i]) - since[i] for i in rows]), strict=True):
                    _refuse_not_finite(own.numpy())
                    rewards[i] = self._combine(own.numpy())
        return rewards

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes a raw score."""
        card, text = self.card, self.text
        return digest(
            [
                [weights_fingerprint(self.network), self.autocast, card.attributes, card.attribute_weights],
                [tokenizer_fingerprint(text.tokenizer), text.template_hash, text.max_length, card.truncation],
            ]
        )

    @property
    def heads(self) -> int:
        """Number of ensemble members on this backbone; 1 for a single model."""
        return 1 if self.card.attributes else int(unwrap_peft(self.network.classifier).config.num_labels)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def _score(
        self, encoded: Sequence[Encoded], progress: Callable[[int], None] | None, on_states: OnStates | None = None
    ) -> Scores:
        rewards = self._rewards(encoded, progress, on_states)
        truncated = np.array([e.truncated for e in encoded], dtype=bool)
        if self.heads > 1:
            return Scores(self._combine(rewards), truncated, std=member_spread(rewards.T), members=rewards.T)
        return Scores(
            value=self._combine(rewards),
            truncated=truncated,
            attributes={name: rewards[:, i] for i, name in enumerate(self.card.attributes)},
        )

    def _combine(self, rewards: Float[np.ndarray, "n a"]) -> Float[np.ndarray, " n"]:
        """One reward of those of the heads: the members' mean, or the weighted sum of the attributes."""
        if self.heads > 1:
            return np.asarray(rewards.mean(axis=1))
        return np.asarray(rewards @ np.asarray(self.card.attribute_weights or [1.0]))

    def _rewards(
        self, encoded: Sequence[Encoded], progress: Callable[[int], None] | None, on_states: OnStates | None = None
    ) -> Float[np.ndarray, "n a"]:
        heads = max(self.heads, len(self.card.attributes))
        rewards = np.zeros((len(encoded), heads), dtype=np.float64)
        self.network.eval()
        texts = [e.ids for e in encoded]
        with torch.inference_mode(), autocast(self.device, self.autocast), prepacked_weights(self.network):
            for rows in self.network.backbone.split_into_batches(texts, self.batch_tokens):
                batch = [texts[i] for i in rows]
                if on_states is None:
                    outputs = self.network(batch)
                else:
                    states = self.network.backbone.hidden_states(batch)
                    outputs = self.network.project(states)
                    on_states(rows, states.float().cpu().numpy())
                rewards[rows] = outputs.cpu().double().numpy()
                if progress:
                    progress(len(rows))
        _refuse_not_finite(rewards)
        return rewards


def _refuse_not_finite(rewards: Float[np.ndarray, "n a"]) -> None:
    is_finite = np.isfinite(rewards).all(axis=1)
    if not is_finite.all():
        bad = int(np.flatnonzero(~is_finite)[0])
        raise GuerdonError(
            f"score: the reward of response {bad} must be finite, got {rewards[bad, 0]}. "
            "Check the weights with `guerdon doctor DIR`, or use float32."
        )


def init_head(head: nn.Linear, seed: int, scale: float = 1.0, *, apart: bool = False) -> None:
    """Draw the head from normal(0, scale/sqrt(h+1)) with generators of its own, so that no other random draw changes it.

    With `apart`, row i is drawn as a head of one row is from seed + i.
    """
    rows = [head.weight[i : i + 1] for i in range(head.out_features)] if apart else [head.weight]
    with torch.no_grad():
        std = scale / math.sqrt(head.in_features + 1)
        for i, row in enumerate(rows):
            generator = torch.Generator().manual_seed(seed + i)
            row.copy_(torch.randn(row.shape, generator=generator) * std)
        if head.bias is not None:
            head.bias.zero_()
