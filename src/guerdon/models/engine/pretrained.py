"""What is read from a transformers checkpoint, on disk or on the hub: its configuration, its tokenizer, single tensors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from guerdon.contracts import GuerdonError
from guerdon.models.engine.checkpoint_files import SMALL_TOKENIZER_FILES, one_line, refuse_damaged

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from guerdon.config import ModelOptions

ALIGNMENT = 64  # bytes, to which torch aligns its own memory


def read_config(source: str, options: ModelOptions) -> PretrainedConfig:
    """The model's configuration, or a one-line error that says why it cannot be read."""
    from transformers import AutoConfig

    refuse_damaged(source, "config.json")
    with one_line(unreadable(source, "config.json cannot be used")):
        return AutoConfig.from_pretrained(  # type: ignore[no-any-return]
            source, revision=options.revision, trust_remote_code=options.trust_remote_code
        )


def read_tokenizer(source: str, options: ModelOptions) -> Any:
    """The model's fast tokenizer."""
    from transformers import AutoTokenizer

    refuse_damaged(source, *SMALL_TOKENIZER_FILES)
    with one_line(
        f"{source}: no usable tokenizer in tokenizer.json and tokenizer_config.json ({{reason}}). "
        "Copy the base model's tokenizer files there."
    ):
        return AutoTokenizer.from_pretrained(
            source, revision=options.revision, trust_remote_code=options.trust_remote_code
        )


def checkpoint_folder(source: str, options: ModelOptions) -> Path | None:
    """Where a checkpoint's files are on this machine: the directory itself, or what the hub's cache holds of it."""
    from transformers.utils.hub import cached_file

    if Path(source).is_dir():
        return Path(source)
    quietly = {
        f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors", "gated_repo")
    }
    file = cached_file(source, "config.json", revision=options.revision, **quietly)
    return Path(file).parent if file else None


def context_length(config: PretrainedConfig) -> int | None:
    """The number of positions the model was trained for; None if its configuration does not say."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    value = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)
    if value and config.model_type in {"roberta", "xlm-roberta", "camembert"}:
        value -= 2  # their positions start after the padding index
    return int(value) if value else None


def is_encoder(config: PretrainedConfig) -> bool:
    """Whether the family attends in both directions, so that it pools a text in its own way."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and (
        type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or not getattr(config, "is_decoder", False)
    )


def is_classifier(config: PretrainedConfig) -> bool:
    """Whether the configuration names a sequence classifier."""
    return any("ForSequenceClassification" in name for name in getattr(config, "architectures", None) or [])


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout rate to 0, in training mode too, so that two forward passes agree."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def refuse_nan(model: nn.Module, source: str) -> None:
    """Raise if any weight is NaN or infinite, with the tensor's name."""
    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise GuerdonError(
                f"{source}: weight {name.removeprefix('classifier.')} must be finite, it holds NaN or infinity. "
                "Take an earlier checkpoint."
            )


def checkpoint_activations(model: Any, option: str) -> None:
    """Keep no activations of the model's layers: the backward pass computes them again.

    Raises GuerdonError, which names the option to turn off, if the model does not support it.
    """
    with quiet():
        try:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        except ValueError as error:
            raise GuerdonError(f"{option} must be false for this model ({error}). Set {option}=false.") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Hide transformers' progress bars and notices: what matters in them is reported as an error."""
    from transformers.utils import logging as hf_logging

    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # addressed to library authors, not to users
            yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()


def unreadable(source: str, what: str) -> str:
    """The error for one_line when transformers cannot load a directory or a hub name."""
    path = Path(source)
    if path.is_dir():
        missing = "" if (path / "config.json").is_file() else " (no config.json)"
        return (
            f"{source}: not a readable model{missing}: {what} ({{reason}}). "
            "Pass a directory that holds config.json and safetensors files."
        )
    return f"{source}: not a directory, and no model from the hub: {{reason}}. Check the name and the network."


def align_weights(model: nn.Module) -> None:
    """Copy weights that do not begin at a multiple of ALIGNMENT bytes, as in a mapped file.

    Products on CPUs round differently with them, so a model read from a file would not give the scores that it gave in memory.
    """
    for weight in model.parameters():
        if weight.device.type == "cpu" and weight.data_ptr() % ALIGNMENT:
            weight.data = weight.data.clone()
