"""A directory or a hub name in, a reward model out: a saved one, an ensemble, or a new head on a base model."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from guerdon.config import ModelOptions
from guerdon.contracts import GuerdonError
from guerdon.errors import field_error
from guerdon.io.directories import recover
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration, Card
from guerdon.models.chat import ChatTokenizer, ensure_pad_token
from guerdon.models.directory.formats import CARD_FILE, RESTORE_CARD, is_ensemble, read_card, read_manifest
from guerdon.models.directory.layout import refuse_headless, stored_dtype
from guerdon.models.directory.shared_backbone import can_share, stack_heads
from guerdon.models.directory.uncertainty_file import read_uncertainty_of
from guerdon.models.engine.classifier import add_adapters, build_classifier, linear_head, reward_head
from guerdon.models.engine.device import keep_freed_memory, pick_device
from guerdon.models.engine.loaded_weights import TESTED_FAMILIES, refuse_adapter
from guerdon.models.engine.pretrained import (
    align_weights,
    checkpoint_folder,
    context_length,
    is_encoder,
    quiet,
    read_config,
    read_tokenizer,
    refuse_nan,
)
from guerdon.models.engine.stored_head import StoredHead, read_head
from guerdon.models.ensemble import Ensemble
from guerdon.models.reward_model import ScalarNetwork, ScalarRewardModel, init_head
from guerdon.models.template_source import saved_system_message

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

log = logging.getLogger("guerdon")


# ---- Saved models ------------------------------------------------------------------------------------------------


def load(
    folder: str | Path, options: ModelOptions | None = None, *, with_uncertainty: bool = True, batch_tokens: int = 4096
) -> CalibratedModel:
    """A saved reward model or ensemble, with its calibration and, unless switched off, its measured uncertainty."""
    recover(Path(folder))
    if is_ensemble(folder):
        return _load_ensemble(Path(folder), options, with_uncertainty=with_uncertainty, batch_tokens=batch_tokens)
    model = load_reward_model(folder, options, with_uncertainty=with_uncertainty)
    model.batch_tokens = batch_tokens
    return CalibratedModel(model, model.card.calibration)


def load_reward_model(
    folder: str | Path, options: ModelOptions | None = None, *, with_uncertainty: bool = True
) -> ScalarRewardModel:
    """A single saved reward model, whose scores are raw: ours, or any `AutoModelForSequenceClassification` with one label."""
    recover(Path(folder))
    name = str(folder)
    card = read_card(name)
    given = options or ModelOptions()
    chosen = _with_stored(given, card) if card else given
    chosen = chosen.model_copy(update={"base": name, "lora_rank": 0, "lora_targets": [], "heads": 1})
    refuse_headless(name, chosen)
    if "dtype" not in given.model_fields_set:
        # On a CPU always float32: bfloat16 scores depend on their batch by rounding.
        is_on_cpu = pick_device(chosen.device).type == "cpu"
        chosen = chosen.model_copy(update={"dtype": "float32" if is_on_cpu else stored_dtype(name, chosen)})
    model = create_reward_model(chosen, trained=True)
    if card:
        _refuse_other_card(card, model, name)
        card = dataclasses.replace(card, max_length=model.text.max_length, truncation=model.text.truncation)
        model = ScalarRewardModel(model.network, model.text, card, autocast=chosen.autocast)
    else:
        model = _as_others_read_it(model, name, chosen)
    if with_uncertainty:
        model.uncertainty = read_uncertainty_of(model, name)
    return model


def bias_as_calibration(head: StoredHead | None) -> Calibration:
    """The bias of a head, which our layout cannot hold, as the mean that calibration subtracts."""
    return Calibration() if head is None or head.bias is None else Calibration(reference_mean=-float(head.bias.mean()))


def _refuse_other_card(card: Card, model: ScalarRewardModel, folder: str) -> None:
    """Raise if a stored card describes another kind of model than the weights next to it."""
    if card.read_out != model.card.read_out:
        claim = f"{model.card.read_out}, the one of its family"
        raise field_error(f"{Path(folder) / CARD_FILE}: read_out", claim, card.read_out, RESTORE_CARD)


def _as_others_read_it(model: ScalarRewardModel, folder: str, options: ModelOptions) -> ScalarRewardModel:
    """A model that another trainer saved: the bias of its head is kept, and what we cannot know is said."""
    if model.network.encoder:
        log.warning(
            "%s: was not saved by Guerdon. An encoder that was trained on pairs (question, answer) scores wrongly here, "
            "because it is given one text; compare with its own examples first.",
            folder,
        )
        return model
    path = checkpoint_folder(folder, options)
    head = read_head(path, model.network.classifier.config) if path else None
    return model.with_card(calibration=bias_as_calibration(head))


def _load_ensemble(
    folder: Path, options: ModelOptions | None, *, with_uncertainty: bool, batch_tokens: int
) -> CalibratedModel:
    """A saved ensemble, with the calibration of the whole. A backbone that all members share is loaded and run once."""
    manifest = read_manifest(folder)
    models = _load_members(
        [folder / name for name in manifest.members], manifest.shared_backbone, options, with_uncertainty
    )
    for model in models:
        model.batch_tokens = batch_tokens
    members = [CalibratedModel(model, model.card.calibration) for model in models]
    return CalibratedModel(Ensemble(members, manifest.rule, manifest.scale), manifest.calibration)


def _load_members(
    folders: Sequence[Path], is_shared: bool, options: ModelOptions | None, with_uncertainty: bool
) -> list[ScalarRewardModel]:
    """One model with all heads if the members share a backbone, else one model per member."""
    if not (is_shared and can_share(folders)):
        return [load_reward_model(folder, options, with_uncertainty=with_uncertainty) for folder in folders]
    model = load_reward_model(folders[0], options, with_uncertainty=False)
    stack_heads(model, folders)
    return [model]


def _with_stored(options: ModelOptions, card: Card) -> ModelOptions:
    """The options with what the card stores about text, except for options that were set."""
    stored = {name: getattr(card, name) for name in ("max_length", "truncation", "template", "system")}
    unset = {name: value for name, value in stored.items() if name not in options.model_fields_set}
    return options.model_copy(update=unset | {"attributes": list(card.attributes)})


# ---- New models --------------------------------------------------------------------------------------------------


def create_reward_model(options: ModelOptions, *, seed: int = 0, trained: bool = False) -> ScalarRewardModel:
    """A reward model to train: the base with a new head, or a saved reward model with its own head.

    The head is drawn from normal(0, model.head_scale/sqrt(h+1)) with its own generator (Stiennon 2020; Huang 2024, arXiv 2403.17031).
    Several heads are drawn as single ones would be from seed, seed + 1, ... A `trained` model must have its head stored.
    """
    options.refuse_conflicts()
    source = resolve(options.base)
    refuse_adapter(Path(source))
    family = read_config(source, options).model_type
    if family in TESTED_FAMILIES:
        return _create(source, options, seed, trained)
    log.info(
        "%s: family %s is not one that Guerdon is tested with; it is loaded twice to compare scores", source, family
    )
    first = _probe(_create(source, options, seed, trained))
    model = _create(source, options, seed, trained)
    if not np.array_equal(first, _probe(model)) or not np.isfinite(first).all():
        raise GuerdonError(
            f"{source}: a model of family {family} must give the same finite scores at every load, got {first.tolist()} and "
            f"{_probe(model).tolist()}. Choose a model of another family."
        )
    return model


def _probe(model: ScalarRewardModel) -> Float[np.ndarray, " a"]:
    """The rewards of a few tokens from all over the vocabulary."""
    assert model.text.vocabulary is not None
    ids = np.linspace(0, model.text.vocabulary - 1, 12).astype(np.int32)
    model.network.eval()
    with torch.inference_mode():
        return model.network([ids])[0].float().cpu().numpy()  # type: ignore[no-any-return]


def _create(source: str, options: ModelOptions, seed: int, trained: bool) -> ScalarRewardModel:
    """A reward model from a checkpoint; see create_reward_model."""
    config = read_config(source, options)
    tokenizer = read_tokenizer(source, options)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)  # for an encoder's new pooler and head, and for the row of a new pad token
        classifier, is_new = build_classifier(source, config, options, trained=trained)
        ensure_pad_token(tokenizer)
        rows = _add_row_for_padding(classifier, tokenizer)
    classifier.config.pad_token_id = tokenizer.pad_token_id
    encoder = is_encoder(classifier.config)
    if options.heads > 1:
        linear_head(classifier, source)
    if is_new and not encoder:
        init_head(reward_head(classifier), seed, options.head_scale, apart=options.heads > 1)
    if options.lora_rank:
        classifier = add_adapters(classifier, options, seed)
    text = dataclasses.replace(_text_for(tokenizer, classifier.config, options), vocabulary=rows)
    if len(tokenizer) > rows:
        text.encode(["a"], ["b"])  # refuses a template whose own tokens the model does not have
    keep_freed_memory()
    network = ScalarNetwork(classifier, encoder=encoder).to(pick_device(options.device))
    align_weights(network)
    refuse_nan(network, source)
    return ScalarRewardModel(network, text, _card_for(text, options), autocast=options.autocast)


def _add_row_for_padding(classifier: PreTrainedModel, tokenizer: Any) -> int:
    """Give a new pad token, which no text attends to, its row of the embedding. Returns how many tokens have a stored row."""
    embeddings: Any = classifier.get_input_embeddings()
    rows = int(embeddings.weight.shape[0])
    if tokenizer.pad_token_id >= rows:
        classifier.resize_token_embeddings(tokenizer.pad_token_id + 1, mean_resizing=False)
    return rows


def load_text(options: ModelOptions) -> ChatTokenizer:
    """How the model of these options reads conversations; no weights are loaded."""
    source = resolve(options.base)
    card = read_card(source)
    chosen = _with_stored(options, card) if card else options
    config = read_config(source, chosen)
    text = _text_for(read_tokenizer(source, chosen), config, chosen)
    return dataclasses.replace(text, vocabulary=getattr(config.get_text_config(), "vocab_size", None))


def resolve(base: str) -> str:
    """A model's directory or hub name; "starter" downloads the starter model and gives its directory."""
    if base == "starter":
        from guerdon.models.directory.starter import starter_model

        return str(starter_model())
    return base


def _text_for(tokenizer: Any, config: PretrainedConfig, options: ModelOptions) -> ChatTokenizer:
    """How conversations reach a model of this configuration. A max_length that was set must fit its context."""
    context = context_length(config)
    if context and options.max_length > context and "max_length" in options.model_fields_set:
        raise GuerdonError(
            f"model.max_length must be at most {context}, the context of {options.base}, got {options.max_length}. "
            f"Set model.max_length={context}."
        )
    length = min(options.max_length, context or options.max_length)
    system = options.system if "system" in options.model_fields_set else saved_system_message(tokenizer)
    return ChatTokenizer(tokenizer, length, options.truncation, options.template, system, is_encoder(config))


def _card_for(text: ChatTokenizer, options: ModelOptions) -> Card:
    attributes = tuple(options.attributes)
    return Card(
        max_length=text.max_length,
        truncation=text.truncation,
        template=text.template,
        template_hash=text.template_hash,
        system=text.system,
        read_out="family_pooling" if text.encoder else "last_token",
        attributes=attributes,
        attribute_weights=tuple(1 / len(attributes) for _ in attributes),
        base=options.base,
    )
