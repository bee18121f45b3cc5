"""The transformers classifier behind a reward model: which class reads it, its head, its adapters."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from guerdon.contracts import GuerdonError
from guerdon.errors import counted, verb
from guerdon.models.engine.checkpoint_files import one_line
from guerdon.models.engine.device import pick_device, pick_dtype
from guerdon.models.engine.loaded_weights import fill_buffers, refuse_misfit, refuse_oversized, refuse_unread
from guerdon.models.engine.modules import unwrap_peft
from guerdon.models.engine.pretrained import (
    checkpoint_folder,
    disable_dropout,
    is_classifier,
    is_encoder,
    quiet,
    unreadable,
)
from guerdon.models.engine.stored_head import StoredHead, read_head

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from guerdon.config import ModelOptions

HEAD_NAMES = ("score", "classifier", "v_head.summary", "value_head", "reward_head")


# ---- The class ---------------------------------------------------------------------------------------------------


def build_classifier(
    source: str, config: PretrainedConfig, options: ModelOptions, *, trained: bool = False
) -> tuple[PreTrainedModel, bool]:
    """The family's ForSequenceClassification model with a float32 head, and whether that head is newly initialized.

    `trained` requires every weight to be stored, the head's too. New weights are drawn from torch's global generator.
    """
    from transformers import AutoModelForSequenceClassification

    _refuse_other_heads(source, config, options)
    stored = copy.deepcopy(config)
    set_labels(config, options.attributes or [f"LABEL_{i}" for i in range(options.heads)])
    config.problem_type = "regression"
    config.use_cache = False
    register_family(config)
    build = partial(_build_empty, options=options)
    with quiet(), one_line(unreadable(source, "config.json or its weights cannot be used")):
        refuse_oversized(source, config, build)
        classifier, info = AutoModelForSequenceClassification.from_pretrained(
            source,
            config=config,
            revision=options.revision,
            dtype=pick_dtype(options.dtype, pick_device(options.device)),
            trust_remote_code=options.trust_remote_code,
            use_safetensors=True,
            attn_implementation=choose_attention(config, options),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, in our own words
        )
        fill_buffers(classifier, config, build, source)
    name = head_name(classifier)
    refuse_misfit(source, info["mismatched_keys"], name)
    is_new = any(key.startswith((name, "score", "classifier")) for key in info["missing_keys"])
    folder = checkpoint_folder(source, options)
    head = read_head(folder, config) if folder and not is_encoder(config) else None
    known = [f"{head.name}.{part}" for part in ("weight", "bias")] if head else []
    refuse_unread(source, info["unexpected_keys"], classifier, stored, known)
    _refuse_missing(source, info["missing_keys"], classifier, trained=trained)
    disable_dropout(classifier)
    if not is_encoder(config):
        reward_head(classifier).float()  # whatever the backbone's dtype
        if head:
            _copy_head(classifier, head, source)
    return classifier, is_new and head is None


def _build_empty(config: PretrainedConfig, options: ModelOptions) -> PreTrainedModel:
    """The family's class, newly initialized."""
    from transformers import AutoModelForSequenceClassification

    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(
        config,
        dtype=pick_dtype(options.dtype, pick_device(options.device)),
        trust_remote_code=options.trust_remote_code,
        attn_implementation=choose_attention(config, options),
    )
    return model


def _refuse_missing(source: str, missing: Iterable[str], classifier: PreTrainedModel, *, trained: bool) -> None:
    """Raise for weights that no file holds. Only a model to be trained may lack a head, and an encoder's pooler before it."""
    prefix = f"{classifier.base_model_prefix}."
    backbone = [key for key in missing if key.startswith(prefix) and not key.startswith(f"{prefix}pooler.")]
    absent = sorted(missing if trained else backbone)
    if absent:
        raise GuerdonError(
            f"{source}: {counted(len(absent), 'weight')} {verb(len(absent), 'are')} missing, the first "
            f"{absent[0]}: not a complete checkpoint of the "
            "architecture in config.json. Run `guerdon doctor` on it."
        )


def register_family(config: PretrainedConfig) -> None:
    """Give a causal family that lacks a ForSequenceClassification class one, built from transformers' generic parts."""
    from transformers import AutoModelForSequenceClassification
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    )

    if type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or hasattr(config, "auto_map"):
        return
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise GuerdonError(
            f"model.base: transformers must have a causal language model or a classifier of type {config.model_type!r}, "
            "it has neither. Choose a text model."
        )
    from transformers.modeling_layers import GenericForSequenceClassification
    from transformers.modeling_utils import PreTrainedModel

    causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    causal = causal[0] if isinstance(causal, tuple) else causal
    parent = next(c for c in causal.__mro__[1:] if issubclass(c, PreTrainedModel) and "PreTrainedModel" in c.__name__)
    family = causal.__name__.removesuffix("ForCausalLM").removesuffix("LMHeadModel")
    built = type(
        f"{family}ForSequenceClassification", (GenericForSequenceClassification, parent), {"config_class": type(config)}
    )
    AutoModelForSequenceClassification.register(type(config), built, exist_ok=True)


def choose_attention(config: PretrainedConfig, options: ModelOptions) -> str:
    """The attention implementation in the options; eager if none was set and the family has no sdpa."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    is_known = type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    family: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)] if is_known else None
    is_set = "attention" in options.model_fields_set
    return options.attention if is_set or getattr(family, "_supports_sdpa", True) else "eager"


def _refuse_other_heads(source: str, config: PretrainedConfig, options: ModelOptions) -> None:
    """Raise if the options ask a model that already has heads for another number of them."""
    if options.heads > 1 and is_classifier(config) and config.num_labels != options.heads:
        raise GuerdonError(
            f"model.heads must be {config.num_labels}, the number that {source} already has, got {options.heads}. "
            "Start from a language model, or train members one by one."
        )


# ---- The head ----------------------------------------------------------------------------------------------------


def head_name(classifier: Any) -> str:
    """The attribute that holds the classifier's last projection."""
    return next(name for name in HEAD_NAMES if isinstance(getattr(classifier, name, None), nn.Module))


def reward_head(classifier: Any) -> Any:
    """The projection from hidden states to rewards."""
    return getattr(classifier, head_name(classifier))


def linear_head(classifier: Any, source: str = "model") -> nn.Linear:
    """The head as one linear layer, each of whose rows is a head of its own. An error if it is not linear."""
    head = reward_head(unwrap_peft(classifier))
    if not isinstance(head, nn.Linear):
        raise GuerdonError(
            f"{source}: the head must be a linear layer for several heads to share a backbone, got {type(head).__name__}. "
            "Train members one by one, or choose a causal model."
        )
    return head


def set_head(classifier: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """Replace the head by a linear one with these rows [heads, h], one label per row."""
    plain = unwrap_peft(classifier)
    heads, width = weight.shape
    head = nn.Linear(width, heads, bias=bias is not None, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        head.weight.copy_(weight)
        if bias is not None:
            head.bias.copy_(bias)
    setattr(plain, head_name(plain), head)
    set_labels(plain.config, [f"LABEL_{i}" for i in range(heads)])
    plain.num_labels = heads


@contextmanager
def single_head(classifier: Any, row: int) -> Iterator[None]:
    """Inside the block the classifier has only that row of its head, as it is written to disk."""
    plain = unwrap_peft(classifier)
    whole, labels = linear_head(plain), list(plain.config.id2label.values())
    bias = None if whole.bias is None else whole.bias.detach()[row : row + 1]
    set_head(plain, whole.weight.detach()[row : row + 1], bias)
    try:
        yield
    finally:
        setattr(plain, head_name(plain), whole)
        set_labels(plain.config, labels)
        plain.num_labels = len(labels)


def set_labels(config: PretrainedConfig, names: Sequence[str]) -> None:
    """Write one label per head into a configuration."""
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}


def _copy_head(classifier: PreTrainedModel, head: StoredHead, source: str) -> None:
    """Put the values that were saved into the classifier's head; its bias, a constant, is left to the caller."""
    target = reward_head(classifier).weight
    if head.weight.shape != target.shape:
        raise GuerdonError(
            f"{source}: {head.name}.weight must have shape {tuple(target.shape)} to fit the backbone, "
            f"got {tuple(head.weight.shape)}. Pair the head with its own base model."
        )
    with torch.no_grad():
        target.copy_(head.weight)


# ---- Adapters ----------------------------------------------------------------------------------------------------


def add_adapters(model: PreTrainedModel, options: ModelOptions, seed: int, *, train_head: bool = True) -> Any:
    """The model with LoRA on its backbone's linear layers (Hu 2021, arXiv 2106.09685).

    Everything else is frozen, except that `train_head` keeps what is outside the backbone trainable in full.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    linear = {n.rsplit(".", 1)[-1] for n, m in model.base_model.named_modules() if isinstance(m, nn.Linear | Conv1D)}
    targets = options.lora_targets or sorted(linear)
    if unknown := set(targets) - linear:
        raise GuerdonError(
            f"model.lora_targets must name linear layers, got {sorted(unknown)[0]!r}. Choose from {', '.join(sorted(linear))}."
        )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's remarks on Conv1D, and on names that transformers is about to drop
        torch.manual_seed(seed)
        adapted = get_peft_model(
            model,
            LoraConfig(
                r=options.lora_rank,
                lora_alpha=options.lora_alpha,
                target_modules=targets,
                exclude_modules=rf"(?!{model.base_model_prefix}\.).*",
            ),
        )
    if not train_head:
        return adapted
    backbone = {id(parameter) for parameter in model.base_model.parameters()}
    outside = [p for p in model.parameters() if id(p) not in backbone]  # the head, and an encoder's pooler before it
    for parameter in [*outside, *reward_head(model).parameters()]:
        parameter.requires_grad_(True)
    return adapted


def merge_adapters(model: Any) -> PreTrainedModel:
    """The plain transformers model, with any adapters folded into its weights."""
    if hasattr(model, "merge_and_unload"):
        return model.merge_and_unload()  # type: ignore[no-any-return]
    return model  # type: ignore[no-any-return]
