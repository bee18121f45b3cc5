"""A policy from a directory or a hub name, and back: the language model and its tokenizer as transformers writes them."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.config import ModelOptions, PolicyOptions
from guerdon.contracts import GuerdonError
from guerdon.io.directories import write_directory
from guerdon.models.chat import ensure_pad_token
from guerdon.models.directory.loading import resolve
from guerdon.models.engine.checkpoint_files import one_line, read_adapter, refuse_damaged
from guerdon.models.engine.classifier import add_adapters, merge_adapters
from guerdon.models.engine.device import keep_freed_memory, pick_device, pick_dtype
from guerdon.models.engine.loaded_weights import (
    REWARD_HEADS,
    fill_buffers,
    refuse_misfit,
    refuse_oversized,
    refuse_unread,
)
from guerdon.models.engine.pretrained import (
    align_weights,
    disable_dropout,
    is_classifier,
    is_encoder,
    quiet,
    read_config,
    read_tokenizer,
    refuse_nan,
)
from guerdon.models.policy import LanguagePolicy

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

ADVICE = "Pass a language model, not a reward model, an encoder or a translator."


def save_policy(policy: LanguagePolicy, folder: Path) -> None:
    """Write the policy as a directory that transformers and servers load, adapters merged into a copy of its weights."""
    has_adapters = hasattr(policy.model, "merge_and_unload")
    model = merge_adapters(copy.deepcopy(policy.model) if has_adapters else policy.model)
    tokenizer = copy.deepcopy(policy.tokenizer)
    tokenizer.chat_template = policy.chat_template

    def fill(scratch: Path) -> None:
        with quiet():
            model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)

    write_directory(folder, fill)


def load_policy(
    options: PolicyOptions, *, adapters: bool = False, seed: int = 0, keep_adapters: bool = False
) -> LanguagePolicy:
    """A policy from a hub name, a directory, 'starter' or one of our runs; with new adapters if they are to be trained.

    A directory that holds only peft adapters is loaded with the model that they name, and merged into its weights; with
    keep_adapters they stay apart, so that `as_reference` gives the model without them.
    """
    source = resolve(options.base)
    run = Path(source)
    if (run / "run.json").is_file() and (run / "policy").is_dir() and not (run / "config.json").exists():
        source = str(run / "policy")
    with _policy_option_names():
        return _load(source, options, adapters, seed, keep_adapters)


def _load(source: str, options: PolicyOptions, adapters: bool, seed: int, keep_adapters: bool) -> LanguagePolicy:
    adapter_folder = source if holds_only_adapters(source) else None
    if adapter_folder:
        source = base_of_adapters(source)
    model_options = ModelOptions(
        base=options.base,
        revision=options.revision,
        trust_remote_code=options.trust_remote_code,
        lora_rank=options.lora_rank,
        lora_alpha=options.lora_alpha,
        lora_targets=options.lora_targets,
    )
    config = read_config(source, model_options)
    refuse_damaged(source, "generation_config.json")
    if is_classifier(config):
        raise GuerdonError(f"{source}: is a reward model or a classifier, which cannot generate. {ADVICE}")
    tokenizer = read_tokenizer(source, model_options)
    ensure_pad_token(tokenizer)
    device = pick_device(options.device)
    model = _load_causal_model(source, config, options, pick_dtype(options.dtype, device))
    if adapter_folder:
        model = _with_stored_adapters(model, adapter_folder)
        model = model if keep_adapters else model.merge_and_unload()
    refuse_nan(model, source)
    disable_dropout(model)
    keep_freed_memory()
    if adapters and options.lora_rank:
        model = add_adapters(model, model_options, seed, train_head=False)
    model.to(device).eval()
    align_weights(model)
    return LanguagePolicy(
        model,
        tokenizer,
        system=options.system,
        name=options.base,
        max_prompt=options.max_prompt,
        stop=options.stop,
        template=options.template,
    )


def _load_causal_model(source: str, config: PretrainedConfig, options: PolicyOptions, dtype: torch.dtype) -> Any:
    """The causal language model. Every weight must be stored: with a random unembedding it would generate at random."""
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    def build(empty: PretrainedConfig) -> Any:
        return AutoModelForCausalLM.from_config(empty, dtype=dtype, trust_remote_code=options.trust_remote_code)

    from_pretrained: Any = AutoModelForCausalLM.from_pretrained
    stored = copy.deepcopy(config)  # loading changes it
    with (
        quiet(),
        one_line(f"{source}: not a causal language model by config.json and its weights ({{reason}}). {ADVICE}"),
    ):
        if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
            refuse_oversized(source, config, build)
        model, info = from_pretrained(
            source,
            dtype=dtype,
            revision=options.revision,
            trust_remote_code=options.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, in our own words
        )
        fill_buffers(model, config, build, source)
    refuse_misfit(source, info["mismatched_keys"])
    if missing := sorted(info["missing_keys"]):
        raise GuerdonError(
            f"{source}: not a causal language model, {missing[0]} is missing, which config.json describes. {ADVICE}"
        )
    value_heads = [
        name for name in info["unexpected_keys"] if name.startswith(REWARD_HEADS)
    ]  # of TRL's PPO: not for sampling
    refuse_unread(source, info["unexpected_keys"], model, stored, value_heads)
    if is_encoder(model.config):
        raise GuerdonError(
            f"{source}: {type(model).__name__} attends in both directions, so it cannot generate. {ADVICE}"
        )
    return model


def holds_only_adapters(source: str) -> bool:
    """Whether a directory holds peft adapters without the model that they belong to."""
    folder = Path(source)
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def base_of_adapters(folder: str) -> str:
    """The model that a directory of adapters was trained on."""
    base = (read_adapter(Path(folder)) or {}).get("base_model_name_or_path")
    if not base:
        raise GuerdonError(f"{folder}: adapter_config.json has no base_model_name_or_path. Name the base model there.")
    return str(base)


def _with_stored_adapters(model: Any, folder: str) -> Any:
    """The model with the adapters of a directory beside its weights."""
    from peft import PeftModel

    base = model.config.name_or_path
    refusal = f"{folder}: the adapters of adapter_config.json do not fit {base} ({{reason}}). Pass the adapters of that model."
    with quiet(), warnings.catch_warnings(), one_line(refusal):
        warnings.simplefilter("ignore")  # peft's remarks on names that transformers is about to drop
        return PeftModel.from_pretrained(model, folder)


@contextmanager
def _policy_option_names() -> Iterator[None]:
    """Inside the block, errors about options that reward models have too name the policy's option."""
    try:
        yield
    except GuerdonError as error:
        raise GuerdonError(re.sub(r"\bmodel\.(device|lora_targets)\b", r"policy.\1", str(error))) from None
