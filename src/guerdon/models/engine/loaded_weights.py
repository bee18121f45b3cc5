"""Does a model in memory hold what its checkpoint says, no more and no less? Asked before and after transformers loads it.

transformers ignores tensors that nothing reads, and leaves buffers that no file holds as uninitialized memory where a family's
initialization does not fill them: either changes scores without a word.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from guerdon.contracts import GuerdonError
from guerdon.models.engine.checkpoint_files import one_line, read_adapter, shards_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

Build = Callable[["PretrainedConfig"], "PreTrainedModel"]

# What a language model has on top of its backbone: a classifier has no use for it.
LANGUAGE_HEADS: Final = (
    "lm_head.", "embed_out.", "cls.", "decoder.", "lm_predictions.", "mask_predictions.", "generator_predictions.",
    "discriminator_predictions.", "mtp.",
)  # fmt: skip
REWARD_HEADS: Final = ("score.", "v_head.", "value_head.", "reward_head.", "classifier.", "regression_layer.")
# Families, by their model_type, that the tests load twice with equal scores. Any other is loaded twice when it is used.
TESTED_FAMILIES: Final = frozenset(
    {
        "bert", "bloom", "cohere", "deberta-v2", "distilbert", "electra", "falcon_h1", "gemma", "gemma2", "gemma3_text", "gpt2",
        "gpt_neox", "gpt_oss", "granite", "jamba", "lfm2", "llama", "mistral", "mixtral", "modernbert", "olmo2", "olmoe", "phi3",
        "phimoe", "qwen2", "qwen3", "qwen3_moe", "qwen3_next", "recurrent_gemma", "roberta", "smollm3", "xlm-roberta",
    }
)  # fmt: skip
SPARE: Final = 2**24  # weights that a new head, pooler or padding may add
PACKED: Final = 16  # weights that one stored number holds at most, in quantized checkpoints
RESTORE: Final = "Restore the files from where the model was saved."


# ---- Before ------------------------------------------------------------------------------------------------------


def refuse_adapter(folder: Path) -> None:
    """Raise if the directory holds a LoRA adapter, which is no model: its base and perhaps its head are elsewhere."""
    adapter = read_adapter(folder)
    if adapter is None:
        return
    if any(folder.glob("model*.safetensors")):
        raise GuerdonError(
            f"{folder}: holds adapter_config.json next to whole weights, so it is unclear which are meant. "
            "Delete adapter_config.json if the adapter is merged into them."
        )
    base = adapter.get("base_model_name_or_path") or "a base model that it does not name"
    names = [name for file in sorted(folder.glob("*.safetensors")) for name in shapes_in(file)]
    if any(f".{head}" in name for name in names for head in REWARD_HEADS):
        raise GuerdonError(
            f"{folder}: is a LoRA adapter with a reward head, not a model. "
            f"Merge it into {base} with peft's merge_and_unload(), save the result, and pass that folder."
        )
    raise GuerdonError(
        f"{folder}: is a LoRA adapter of {base} without a reward head, so its rewards are lost. "
        'Train it again with modules_to_save=["score"], or pass a merged model that has its head.'
    )


def refuse_oversized(source: str, config: PretrainedConfig, build: Build) -> None:
    """Raise if config.json describes many more weights than a directory's files hold, before memory is allocated for them."""
    files = shards_of(Path(source)) if Path(source).is_dir() else []
    if not files or getattr(config, "quantization_config", None):
        return
    stored = sum(torch.Size(shape).numel() for file in files for shape in shapes_in(file).values())
    with torch.device("meta"):
        model = build(copy.deepcopy(config))
    described = sum(value.numel() for value in (*model.parameters(), *model.buffers()))
    if described > PACKED * stored + SPARE:
        raise GuerdonError(
            f"{source}: config.json must describe the weights next to it, got {described:,} weights where the files hold "
            f"{stored:,}. {RESTORE}"
        )


def shapes_in(file: Path) -> Mapping[str, list[int]]:
    """The shape of each tensor in a safetensors file, from its header."""
    from safetensors import safe_open

    with one_line(f"{file}: not readable ({{reason}}). Copy the file again."):
        with safe_open(str(file), framework="pt") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}


# ---- After -------------------------------------------------------------------------------------------------------


def refuse_misfit(source: str, mismatched: Iterable[tuple[str, Any, Any]], head: str | None = None) -> None:
    """Raise for a tensor whose shape is not that of the model; `head` is the name of its reward head."""
    for name, stored, wanted in sorted(mismatched, key=lambda row: (not row[0].startswith(head or "-"), row[0])):
        if head and name.startswith(head) and len(stored) == 2 and stored[-1] == wanted[-1]:
            raise GuerdonError(
                f"{source}: its head has {stored[0]} rows, and a reward is {wanted[0]} number{'s' * (wanted[0] > 1)}. "
                f"Name the rows with model.attributes=[a, b, ...] to read their mean, or train a model with one label."
            )
        raise GuerdonError(
            f"{source}: {name} must have the shape that config.json gives, {list(wanted)}, got {list(stored)}. {RESTORE}"
        )


def refuse_unread(
    source: str, unexpected: Iterable[str], model: PreTrainedModel, stored: PretrainedConfig, known: Iterable[str] = ()
) -> None:
    """Raise for tensors that nothing reads, the head of a language model and the `known` names aside.

    stored: the configuration as it was before transformers wrote the model's own class into it.
    """
    prefix = f"{model.base_model_prefix}."
    unread = sorted(
        name for name in set(unexpected) - set(known) if not name.removeprefix(prefix).startswith(LANGUAGE_HEADS)
    )
    if not unread:
        return
    heads = _names_of_heads(stored)
    unread = [name for name in unread if name.startswith(prefix) or name not in heads]
    if not unread:
        return
    named = ", ".join(unread[:2])
    if all(name.removeprefix(prefix).startswith(REWARD_HEADS) for name in unread):
        raise GuerdonError(
            f"{source}: its reward head must be one linear layer, got {named}. "
            "Score with the code that it came with, or train a head on its language model."
        )
    raise GuerdonError(
        f"{source}: config.json must describe every tensor next to it, got {len(unread)} that its architecture does not read: "
        f"{named}{', ...' if len(unread) > 2 else ''}. {RESTORE}"
    )


def _names_of_heads(config: PretrainedConfig) -> set[str]:
    """The tensors of the class that config.json names, which has a head of its own on the same backbone."""
    import transformers

    family: Any = next((getattr(transformers, name, None) for name in config.architectures or []), None)
    if family is None:
        return set()
    with torch.device("meta"):
        return set(family(copy.deepcopy(config)).state_dict())


def fill_buffers(model: PreTrainedModel, config: PretrainedConfig, build: Build, source: str) -> None:
    """Set every buffer that no checkpoint holds to what the family's own constructor computes.

    transformers builds a model without memory and then allocates such buffers: what the family's initialization does not fill
    stays uninitialized (Falcon-H1's mup_vector).
    """
    from accelerate import init_empty_weights

    stored = set(model.state_dict())
    absent = {name: buffer for name, buffer in model.named_buffers() if name not in stored}
    if not absent:
        return
    with init_empty_weights(include_buffers=False):
        computed = dict(build(copy.deepcopy(config)).named_buffers())
    wrong = [name for name, buffer in absent.items() if not _is_equal(buffer, computed.get(name))]
    if not wrong:
        return
    with init_empty_weights(include_buffers=False):
        again = dict(build(copy.deepcopy(config)).named_buffers())
    for name in wrong:
        value = computed.get(name)
        if value is None or not _is_equal(value, again.get(name)):
            raise GuerdonError(
                f"{source}: the {config.model_type} family keeps {name} outside its checkpoints, and its code does not give it "
                "the same value twice, so scores would change at every load. Choose a model of another family."
            )
        with torch.no_grad():
            absent[name].copy_(value)


def _is_equal(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    """Whether both hold the same finite values, or the same limits; NaN equals nothing."""
    return other is not None and one.shape == other.shape and torch.equal(one.cpu(), other.to(one.dtype).cpu())
