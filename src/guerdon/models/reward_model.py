"""A language model whose unembedding is replaced by a projection to one scalar: create, score, save, load.

Axes: n conversations, t tokens, h hidden size, a heads (1, or one per rated attribute or ensemble member). The backbone may be
bfloat16; the head and the scores are always float32. The reward is read at the last token of the text, whatever the padding.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from guerdon.config import ModelOptions
from guerdon.contracts import (
    GuerdonError,
    PromptLike,
    ResponseLike,
    Scores,
    digest,
)
from guerdon.formulas.ensemble import spread as between
from guerdon.models import laplace
from guerdon.models.calibrated import Calibration
from guerdon.models.chat import Encoded, Text, ensure_pad_token
from guerdon.models.directory import layout
from guerdon.models.engine.backbone import Backbone, Texts, pad
from guerdon.models.engine.device import autocast, keep_freed_memory, pick_device
from guerdon.models.engine.modules import unwrap_peft
from guerdon.models.engine.prepacked import prepacked_weights
from guerdon.models.laplace import Uncertainty
from guerdon.models.scored_pairs import margin_std

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

CARD_VERSION = 1
Keep = Callable[[Sequence[int], Float[np.ndarray, "r h"]], None]


@dataclass(frozen=True, slots=True)
class Card:
    """What reward.json says beside the weights: everything a score needs that is not a weight, with where it came from."""

    calibration: Calibration = field(default_factory=Calibration)
    max_length: int = 1024
    truncation: str = "refuse"
    template: str = "model"
    template_hash: str = ""
    system: str | None = None
    read_out: str = "last_token"
    attributes: tuple[str, ...] = ()
    attribute_weights: tuple[float, ...] = ()
    tie_threshold: float | None = None
    base: str = ""
    data_hash: str = ""
    uncertainty: Mapping[str, Any] = field(default_factory=dict)
    self_test: tuple[tuple[str, str, float], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        values = {"version": CARD_VERSION, **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)}} | {
            "calibration": self.calibration.as_dict()
        }
        if not self.uncertainty:  # an older Guerdon refuses a key that it does not know
            del values["uncertainty"]
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any], place: str) -> Card:
        """Read the JSON form; an unknown version or key is an error that names it."""
        if not isinstance(values, Mapping):
            raise GuerdonError(f"{place}: holds no object; remedy: restore it from where the model was saved")
        known = {f.name for f in dataclasses.fields(Card)}
        body = dict(values)
        version = body.pop("version", None)
        if version != CARD_VERSION:
            raise GuerdonError(
                f"{place}: version is {CARD_VERSION} here, got {version!r}; remedy: install the Guerdon that wrote it"
            )
        if unknown := set(body) - known:
            raise GuerdonError(
                f"{place}: unknown key {sorted(unknown)[0]!r}; remedy: install the Guerdon that wrote it"
            )
        body["calibration"] = Calibration.from_dict(body.get("calibration", {}))
        for name in ("attributes", "attribute_weights"):
            body[name] = tuple(body.get(name, ()))
        body["self_test"] = tuple(tuple(row) for row in body.get("self_test", ()))
        return Card(**body)


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
        self.classifier = self.backbone.model = layout.merged(self.classifier)

    def forward(self, texts: Texts) -> Float[Tensor, "n a"]:
        """Rewards of texts as token ids, float32; each is read at its text's last token, and no text sees another."""
        if self.encoder:  # the family's own pooling and head
            ids, mask = (x.to(self.backbone.device) for x in pad(texts, self.classifier.config.pad_token_id or 0))
            return self.classifier(input_ids=ids, attention_mask=mask).logits.float()  # type: ignore[no-any-return]
        return self.project(self.backbone.hidden_states(texts))

    def read_from(self, texts: Texts, since: Sequence[int]) -> Float[Tensor, "r a"]:
        """Rewards at each token of text i from since[i] on, text after text: what a value model starts from."""
        return self.project(self.backbone.hidden_states(texts, since))

    def project(self, states: Float[Tensor, "r h"]) -> Float[Tensor, "r a"]:
        """Rewards of hidden states, float32."""
        with torch.autocast(states.device.type, enabled=False):
            head = layout.head(unwrap_peft(self.classifier))
            return head(states.to(head.weight.dtype))  # type: ignore[no-any-return]


class ScalarRewardModel:
    """A reward model on this machine: fulfills RewardModel, and Judge by subtraction. Scores are raw, without calibration.

    Several heads without attributes are the members of an ensemble, whose reward is their mean; `models.ensemble` has the rest.
    """

    def __init__(
        self,
        network: ScalarNetwork,
        text: Text,
        card: Card,
        *,
        autocast: str = "no",
        batch_tokens: int = 4096,
        uncertainty: Uncertainty | None = None,
    ) -> None:
        self.network, self.text, self.card = network, text, card
        self.autocast, self.batch_tokens = autocast, batch_tokens
        self.uncertainty = uncertainty

    def score(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[ResponseLike],
        progress: Callable[[int], None] | None = None,
    ) -> Scores:
        """Reward of response i as an answer to prompt i. `progress` is told how many were done after each batch."""
        encoded = self.text.encode(prompts, responses)
        known = self.uncertainty
        if known is None:
            return self._scores(encoded, progress)
        std, shift_p = np.zeros(len(encoded)), np.zeros(len(encoded))

        def keep(rows: Sequence[int], states: Float[np.ndarray, "r h"]) -> None:
            std[rows], shift_p[rows] = known.std(states), known.shift_p(states)

        scores = self._scores(encoded, progress, keep)
        return dataclasses.replace(scores, std=std, shift_p=shift_p)

    def read(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[ResponseLike],
        progress: Callable[[int], None] | None = None,
    ) -> tuple[Scores, Float[np.ndarray, "n h"]]:
        """Rewards, and what the head reads of each text (float32), from one pass."""
        if self.network.encoder:
            raise GuerdonError(
                "this model's family pools the text in a way of its own, so its head reads no last token; remedy: a causal model"
            )
        encoded = self.text.encode(prompts, responses)
        width = layout.linear_head(self.network.classifier).in_features
        found = np.zeros((len(encoded), width), dtype=np.float32)

        def keep(rows: Sequence[int], states: Float[np.ndarray, "r h"]) -> None:
            found[rows] = states

        return self._scores(encoded, progress, keep), found

    def score_pairs(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[ResponseLike],
        first: Int[np.ndarray, " p"],
        second: Int[np.ndarray, " p"],
    ) -> tuple[Scores, Float[np.ndarray, " p"] | None]:
        """Rewards, and the spread of the margins between responses first[i] and second[i], from one pass.

        The spread is None where no uncertainty was measured; of several heads without one, it is that between their margins.
        """
        if self.uncertainty is None:
            scores = self.score(prompts, responses)
            heads = scores.members
            return scores, None if heads is None else between(heads[:, first] - heads[:, second])
        scores, found = self.read(prompts, responses)
        wide = found.astype(np.float64)
        std, shift_p = self.uncertainty.std(wide), self.uncertainty.shift_p(wide)
        spread = self.uncertainty.margin_std(wide[first] - wide[second])
        return dataclasses.replace(scores, std=std, shift_p=shift_p), spread

    def margin_std(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Spread of each margin, raw units: what is not known of the head. An error where no uncertainty was measured."""
        return margin_std(self, prompts, first, second)

    def _scores(
        self, encoded: Sequence[Encoded], progress: Callable[[int], None] | None, keep: Keep | None = None
    ) -> Scores:
        rewards = self._rewards(encoded, progress, keep)
        truncated = np.array([e.truncated for e in encoded], dtype=bool)
        if self.heads > 1:
            return Scores(rewards.mean(axis=1), truncated, std=between(rewards.T), members=rewards.T)
        weights = np.asarray(self.card.attribute_weights or [1.0])
        return Scores(
            value=np.asarray(rewards @ weights),
            truncated=truncated,
            attributes={name: rewards[:, i] for i, name in enumerate(self.card.attributes)},
        )

    def log_odds(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Nats in favor of the first."""
        scores = self.score([*prompts, *prompts], [*first, *second]).value
        margins: np.ndarray = scores[: len(prompts)] - scores[len(prompts) :]
        return margins

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes a raw score."""
        return digest(
            [layout.fingerprint(self.network), self.text.template_hash, self.text.max_length, self.card.truncation]
        )

    @property
    def heads(self) -> int:
        """Members of an ensemble on this backbone; 1 is no ensemble."""
        return 1 if self.card.attributes else int(unwrap_peft(self.network.classifier).config.num_labels)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def _rewards(
        self, encoded: Sequence[Encoded], progress: Callable[[int], None] | None, keep: Keep | None = None
    ) -> Float[np.ndarray, "n a"]:
        """Rewards by head; `keep` is handed the rows of each batch with what the head reads of them."""
        heads = max(self.heads, len(self.card.attributes))
        rewards = np.zeros((len(encoded), heads), dtype=np.float64)
        self.network.eval()
        texts = [e.ids for e in encoded]
        with torch.inference_mode(), autocast(self.device, self.autocast), prepacked_weights(self.network):
            for rows in self.network.backbone.split_into_batches(texts, self.batch_tokens):
                batch = [texts[i] for i in rows]
                if keep is None:
                    found = self.network(batch)
                else:
                    states = self.network.backbone.hidden_states(batch)
                    found = self.network.project(states)
                    keep(rows, states.float().cpu().numpy())
                rewards[rows] = found.cpu().double().numpy()
                if progress:
                    progress(len(rows))
        if not np.isfinite(rewards).all():
            bad = int(np.flatnonzero(~np.isfinite(rewards).all(axis=1))[0])
            raise GuerdonError(
                f"score of response {bad} is {rewards[bad, 0]}; remedy: check the weights with `guerdon doctor DIR`, or use float32"
            )
        return rewards


def create(options: ModelOptions, *, seed: int = 0, trained: bool = False) -> ScalarRewardModel:
    """A reward model to be trained: the base with a fresh head, or a saved reward model with the head it has.

    The head is drawn from normal(0, model.head_scale/sqrt(h+1)) with its own generator (Stiennon 2020; Huang 2024, arXiv 2403.17031).
    Each of several heads is drawn as the one head of its own seed: seed, seed + 1, ... A `trained` model must have its head.
    """
    if options.heads > 1 and options.attributes:
        raise GuerdonError(
            f"model.heads={options.heads}: with model.attributes there is one head an attribute; remedy: model.heads=1"
        )
    source = resolve(options.base)
    config = layout.read_config(source, options)
    tokenizer = layout.read_tokenizer(source, options)
    with torch.random.fork_rng(devices=[]), layout.quiet():
        torch.manual_seed(seed)  # for an encoder's fresh pooler and head, and for the embedding of a new pad token
        classifier, fresh = layout.build_classifier(source, config, options, trained=trained)
        ensure_pad_token(tokenizer)
        embeddings: Any = classifier.get_input_embeddings()
        if len(tokenizer) > embeddings.weight.shape[0]:
            classifier.resize_token_embeddings(len(tokenizer))
    classifier.config.pad_token_id = tokenizer.pad_token_id
    encoder = layout.is_encoder(classifier.config)
    if options.heads > 1:
        layout.linear_head(classifier, source)
    if fresh and not encoder:
        init_head(layout.head(classifier), seed, options.head_scale, apart=options.heads > 1)
    if options.lora_rank:
        classifier = layout.with_adapters(classifier, options, seed)
    text = text_for(tokenizer, classifier.config, options)
    attributes = tuple(options.attributes)
    card = Card(
        max_length=text.max_length,
        truncation=text.truncation,
        template=text.template,
        template_hash=text.template_hash,
        system=text.system,
        read_out="family_pooling" if encoder else "last_token",
        attributes=attributes,
        attribute_weights=tuple(1 / len(attributes) for _ in attributes),
        base=options.base,
    )
    keep_freed_memory()
    network = ScalarNetwork(classifier, encoder=encoder).to(pick_device(options.device))
    refuse_nan(network, source)
    return ScalarRewardModel(network, text, card, autocast=options.autocast)


def text_for(tokenizer: Any, config: PretrainedConfig, options: ModelOptions) -> Text:
    """How conversations reach a model of this configuration; a max_length that was asked for must fit its context."""
    context = layout.context_length(config)
    if context and options.max_length > context and "max_length" in options.model_fields_set:
        raise GuerdonError(
            f"model.max_length={options.max_length}: {options.base} has a context of {context} tokens; remedy: model.max_length={context}"
        )
    length = min(options.max_length, context or options.max_length)
    return Text(tokenizer, length, options.truncation, options.template, options.system, layout.is_encoder(config))


def read_card(folder: str | Path) -> Card | None:
    """The reward.json of a directory; None where there is none."""
    place = Path(folder) / "reward.json"
    if not place.is_file():
        return None
    try:
        return Card.from_dict(json.loads(place.read_text("utf-8")), str(place))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GuerdonError(
            f"{place}: not valid JSON ({error}); remedy: restore it from where the model was saved"
        ) from None


def with_stored(options: ModelOptions, card: Card) -> ModelOptions:
    """The options with what the card stores about text, except where the user chose otherwise."""
    stored = {name: getattr(card, name) for name in ("max_length", "truncation", "template", "system")}
    unset = {name: value for name, value in stored.items() if name not in options.model_fields_set}
    return options.model_copy(update=unset | {"attributes": list(card.attributes)})


def load(
    folder: str | Path, options: ModelOptions | None = None, *, with_uncertainty: bool = True
) -> ScalarRewardModel:
    """A saved reward model directory, ours or any `AutoModelForSequenceClassification` one with a single label.

    With what was measured of its uncertainty, unless `with_uncertainty` says not to look.
    """
    layout.recover(Path(folder))
    folder = str(folder)
    given = options or ModelOptions()
    card = read_card(folder)
    if card:
        given = with_stored(given, card)
    given = given.model_copy(update={"base": folder, "lora_rank": 0, "heads": 1})
    layout.refuse_headless(folder, given)
    if "dtype" not in (options or ModelOptions()).model_fields_set:
        # On a CPU always float32: bfloat16 scores depend on their batch by rounding.
        on_cpu = pick_device(given.device).type == "cpu"
        given = given.model_copy(update={"dtype": "float32" if on_cpu else layout.stored_dtype(folder, given)})
    model = create(given, trained=True)
    if card:
        card = dataclasses.replace(card, max_length=model.text.max_length, truncation=model.text.truncation)
        model = ScalarRewardModel(model.network, model.text, card, autocast=given.autocast)
    if with_uncertainty:
        model.uncertainty = laplace.read_for(model, folder)
    return model


def save(model: ScalarRewardModel, folder: str | Path) -> None:
    """Write a directory that plain transformers 5 and 4.51, vLLM and OpenRLHF load with equal scores. Atomic.

    Several heads are written as an ensemble: a directory of such directories.
    """
    if model.heads > 1:
        from guerdon.models.ensemble import Ensemble
        from guerdon.models.ensemble import save as save_ensemble

        return save_ensemble(Ensemble([model]), folder)
    layout.write_directory(Path(folder), lambda scratch: fill(model, scratch))


def fill(model: ScalarRewardModel, folder: Path) -> None:
    """Write a model's files into a directory that is there."""
    known = model.uncertainty
    card = dataclasses.replace(model.card, uncertainty=dict(known.provenance) if known else {})
    layout.fill(layout.merged(model.network.classifier), model.text, card.as_dict(), folder)
    if known:
        laplace.write(known, folder)


def resolve(base: str) -> str:
    """A model's name or directory; 'starter' fetches the offline kit."""
    if base == "starter":
        from guerdon.models.directory.starter import starter_model

        return str(starter_model())
    return base


def init_head(head: nn.Linear, seed: int, scale: float = 1.0, *, apart: bool = False) -> None:
    """Draw the head from normal(0, scale/sqrt(h+1)), reproducibly and apart from every other source of randomness.

    `apart` draws row i as the head of one row and seed + i.
    """
    rows = [head.weight[i : i + 1] for i in range(head.out_features)] if apart else [head.weight]
    with torch.no_grad():
        std = scale / math.sqrt(head.in_features + 1)
        for i, row in enumerate(rows):
            generator = torch.Generator().manual_seed(seed + i)
            row.copy_(torch.randn(row.shape, generator=generator) * std)
        if head.bias is not None:
            head.bias.zero_()


def refuse_nan(network: nn.Module, source: str) -> None:
    """A model with NaN or infinite weights is refused by the tensor's name."""
    for name, value in network.named_parameters():
        if not torch.isfinite(value).all():
            raise GuerdonError(
                f"{source}: weight {name.removeprefix('classifier.')} holds NaN or infinity; remedy: take an earlier checkpoint"
            )
