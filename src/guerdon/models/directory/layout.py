"""A reward model on disk: which transformers class reads it, and the directory that every reader understands.

The layout is what plain transformers 5 and 4.51, vLLM, SGLang and OpenRLHF load with equal scores: architecture
`<Family>ForSequenceClassification`, one label, `problem_type: regression` (raw scores, no sigmoid), a pad token that never
ends a text, and the keys that older readers look for beside the new ones.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from guerdon.config import ModelOptions
from guerdon.contracts import GuerdonError
from guerdon.models.engine.device import pick_device, pick_dtype
from guerdon.models.engine.modules import unwrap_peft

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from guerdon.models.chat import Text

ENSEMBLE = "ensemble.json"  # a directory that holds it is no model, but a directory of some
HEAD_NAMES = ("score", "classifier", "v_head.summary", "value_head", "reward_head")


def read_config(source: str, options: ModelOptions) -> PretrainedConfig:
    """The model's configuration, or one line about why there is none."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(  # type: ignore[no-any-return]
            source, revision=options.revision, trust_remote_code=options.trust_remote_code
        )
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise GuerdonError(_why_unreadable(source, error)) from None


def read_tokenizer(source: str, options: ModelOptions) -> Any:
    """The model's tokenizer, in its fast form."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            source, revision=options.revision, trust_remote_code=options.trust_remote_code
        )
    except (OSError, ValueError, KeyError, AttributeError, json.JSONDecodeError) as error:
        raise GuerdonError(
            f"{source}: no usable tokenizer ({_first_line(error)}); remedy: copy the base model's tokenizer files there"
        ) from None


def build_classifier(
    source: str, config: PretrainedConfig, options: ModelOptions, *, trained: bool = False
) -> tuple[PreTrainedModel, bool]:
    """The family's ForSequenceClassification model in the chosen dtype with a float32 head, and whether the head is fresh.

    `trained` says that every weight must be there, the head's too. Fresh weights are drawn from torch's own generator.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification

    _refuse_other_heads(source, config, options)
    label(config, options.attributes or [f"LABEL_{i}" for i in range(options.heads)])
    config.problem_type = "regression"
    config.use_cache = False
    register_family(config)
    try:
        with quiet():
            classifier, info = AutoModelForSequenceClassification.from_pretrained(
                source,
                config=config,
                revision=options.revision,
                dtype=pick_dtype(options.dtype, pick_device(options.device)),
                trust_remote_code=options.trust_remote_code,
                use_safetensors=True,
                attn_implementation=attention(config, options),
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise GuerdonError(_why_unreadable(source, error)) from None
    missing = set(info["missing_keys"])
    name = head_name(classifier)
    may_be_fresh = () if trained else ("score", "classifier", "pooler", "bert.pooler", "head.", name)
    absent = sorted(key for key in missing if not key.startswith(may_be_fresh))
    if absent:
        raise GuerdonError(
            f"{source}: {len(absent)} weights are missing, the first {absent[0]}; "
            "remedy: this is no complete checkpoint of its architecture; run `guerdon doctor` on it"
        )
    fresh = any(key.startswith((name, "score", "classifier")) for key in missing)
    silence_dropout(classifier)
    if not is_encoder(config):
        restore_float32_head(classifier, source, fresh)
    return classifier, fresh


def register_family(config: PretrainedConfig) -> None:
    """Give a causal family without a ForSequenceClassification class one, from transformers' generic parts."""
    from transformers import AutoModelForSequenceClassification
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    )

    if type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or hasattr(config, "auto_map"):
        return
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise GuerdonError(
            f"model type {config.model_type!r}: transformers knows neither a causal language model nor a classifier of it; "
            "remedy: choose a text model as model.base"
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


def attention(config: PretrainedConfig, options: ModelOptions) -> str:
    """The attention asked for; where nothing was asked and the family has no sdpa, eager."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    known = type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    family: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)] if known else None
    asked = "attention" in options.model_fields_set
    return options.attention if asked or getattr(family, "_supports_sdpa", True) else "eager"


def is_encoder(config: PretrainedConfig) -> bool:
    """Whether the family attends in both directions, so that its own pooling reads the text."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and (
        type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or not getattr(config, "is_decoder", False)
    )


def head_name(classifier: Any) -> str:
    """Name of the classifier's last projection."""
    return next(name for name in HEAD_NAMES if isinstance(getattr(classifier, name, None), nn.Module))


def head(classifier: Any) -> Any:
    """The projection from hidden state to rewards."""
    return getattr(classifier, head_name(classifier))


def label(config: PretrainedConfig, names: Sequence[str]) -> None:
    """Write one label a head into a configuration."""
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}


def linear_head(classifier: Any, source: str = "model") -> nn.Linear:
    """The head, where it is one linear layer, so that each of its rows is a head of its own."""
    found = head(unwrap_peft(classifier))
    if not isinstance(found, nn.Linear):
        raise GuerdonError(
            f"{source}: its head is a {type(found).__name__}, of which heads cannot share a backbone; "
            "remedy: train members one by one, or choose a causal model"
        )
    return found


def set_head(classifier: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """Put a linear head of other rows [heads, h] in the place of the one there is, a label each."""
    plain = unwrap_peft(classifier)
    heads, width = weight.shape
    new = nn.Linear(width, heads, bias=bias is not None, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        new.weight.copy_(weight)
        if bias is not None:
            new.bias.copy_(bias)
    setattr(plain, head_name(plain), new)
    label(plain.config, [f"LABEL_{i}" for i in range(heads)])
    plain.num_labels = heads


@contextmanager
def one_head(classifier: Any, row: int) -> Iterator[None]:
    """The classifier with one of its heads alone, for as long as it takes to write it."""
    plain = unwrap_peft(classifier)
    whole, labels = linear_head(plain), list(plain.config.id2label.values())
    bias = None if whole.bias is None else whole.bias.detach()[row : row + 1]
    set_head(plain, whole.weight.detach()[row : row + 1], bias)
    try:
        yield
    finally:
        setattr(plain, head_name(plain), whole)
        label(plain.config, labels)
        plain.num_labels = len(labels)


def with_adapters(classifier: PreTrainedModel, options: ModelOptions, seed: int, *, train_head: bool = True) -> Any:
    """LoRA on the backbone's linear layers; a reward head keeps training in full, all else is frozen (Hu 2021, arXiv 2106.09685)."""
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    linear = {
        n.rsplit(".", 1)[-1] for n, m in classifier.base_model.named_modules() if isinstance(m, nn.Linear | Conv1D)
    }
    targets = options.lora_targets or sorted(linear)
    if unknown := set(targets) - linear:
        raise GuerdonError(
            f"model.lora_targets: no linear layer is called {sorted(unknown)[0]!r}; remedy: choose from {', '.join(sorted(linear))}"
        )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's remarks on Conv1D, and on names that transformers is about to drop
        torch.manual_seed(seed)
        adapted = get_peft_model(
            classifier,
            LoraConfig(
                r=options.lora_rank,
                lora_alpha=options.lora_alpha,
                target_modules=targets,
                exclude_modules=rf"(?!{classifier.base_model_prefix}\.).*",
            ),
        )
    if not train_head:
        return adapted
    backbone = {id(parameter) for parameter in classifier.base_model.parameters()}
    outside = [
        p for p in classifier.parameters() if id(p) not in backbone
    ]  # the head, and an encoder's pooler before it
    for parameter in [*outside, *head(classifier).parameters()]:
        parameter.requires_grad_(True)
    return adapted


def restore_float32_head(classifier: PreTrainedModel, source: str, fresh: bool) -> None:
    """Keep the head in float32 over any backbone, at the precision that was saved."""
    projection = head(classifier).float()
    if fresh:
        return
    stored = stored_tensor(source, f"{head_name(classifier)}.weight")
    if stored is not None and stored.shape == projection.weight.shape:
        with torch.no_grad():
            projection.weight.copy_(stored.float())


def stored_tensor(source: str, name: str) -> torch.Tensor | None:
    """One tensor of a safetensors directory, or None."""
    from safetensors import safe_open

    for file in sorted(Path(source).glob("*.safetensors")) if Path(source).is_dir() else []:
        with safe_open(str(file), framework="pt") as tensors:
            if name in tensors.keys():
                return cast(torch.Tensor, tensors.get_tensor(name))
    return None


def silence_dropout(model: nn.Module) -> None:
    """Set every dropout to 0, in train mode too: two forward passes agree, and scores while training are scores."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def context_length(config: PretrainedConfig) -> int | None:
    """Most positions the model was made for, or None where it does not say."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    value = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)
    if value and config.model_type in {"roberta", "xlm-roberta", "camembert"}:
        value -= 2  # positions start behind the padding index
    return int(value) if value else None


def stored_dtype(folder: str, options: ModelOptions) -> str:
    """The dtype that a saved model's backbone has, as an option's value."""
    dtype = getattr(read_config(folder, options), "dtype", None)
    return "bfloat16" if dtype == torch.bfloat16 else "float32"  # bfloat16 would round a float16 model's weights


def is_classifier(folder: str, options: ModelOptions) -> bool:
    """Whether the directory says that it holds a sequence classifier."""
    return any(
        "ForSequenceClassification" in name
        for name in getattr(read_config(folder, options), "architectures", None) or []
    )


def refuse_headless(folder: str, options: ModelOptions) -> None:
    """A directory that is no reward model is refused before weights are read."""
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise GuerdonError(
            f"{folder}: a reward model is a directory, this is a file; remedy: give the folder that holds config.json"
        )
    if "/" not in folder and not path.exists():
        raise GuerdonError(
            f"{folder}: no such directory; remedy: give the folder that `guerdon train --out` wrote, or a hub name such as org/model"
        )
    if is_ensemble(path):
        raise GuerdonError(
            f"{folder}: is an ensemble, a directory of models; remedy: `guerdon.load`, or one of its members ({folder}/member-1)"
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise GuerdonError(
            f"{folder}: holds no config.json, so it is no model; remedy: give the folder that `guerdon train` wrote (RUN/model)"
        )
    config = read_config(folder, options)
    names = getattr(config, "architectures", None) or [""]
    if not any("SequenceClassification" in name or "Reward" in name for name in names):
        raise GuerdonError(
            f"{folder}: architecture {names[0] or '?'} has no reward head; remedy: `guerdon train`, or see `guerdon doctor {folder}`"
        )


def merged(classifier: Any) -> PreTrainedModel:
    """The plain transformers model, adapters folded into the weights."""
    if hasattr(classifier, "merge_and_unload"):
        return classifier.merge_and_unload()  # type: ignore[no-any-return]
    return classifier  # type: ignore[no-any-return]


def is_ensemble(folder: str | Path) -> bool:
    """Whether the directory holds the members of an ensemble."""
    return (Path(folder) / ENSEMBLE).is_file()


def fill(classifier: PreTrainedModel, text: Text, card: dict[str, Any], folder: Path) -> None:
    """Write a reward model's files into a directory that is there."""
    _write_weights(classifier, folder)
    _write_tokenizer(text, folder)
    (folder / "config.json").write_text(json.dumps(portable_config(classifier, text), indent=2) + "\n", "utf-8")
    write_card(card, folder)


def write_card(card: dict[str, Any], folder: Path) -> None:
    """Write what a score needs beside the weights into a directory that is there."""
    (folder / "reward.json").write_text(json.dumps(card, indent=2) + "\n", "utf-8")


def write_policy(model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    """Write a causal language model's whole directory, as transformers and its servers read it."""

    def fill(scratch: Path) -> None:
        with quiet():
            model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)

    write_directory(folder, fill)


def write_directory(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a directory beside its final place, then rename it there; an old model is replaced, a killed write leaves none."""
    from safetensors import SafetensorError

    recover(folder)
    if folder.exists() and not _is_whole(folder) and not _is_empty(folder):
        raise GuerdonError(f"{folder}: exists and is no model, so it is not replaced; remedy: write elsewhere")
    scratch = folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".{folder.name}.*"):  # by a save that was killed, not by one that is going on
            if time.time() - left.stat().st_mtime > 86_400:
                shutil.rmtree(left, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        fill(scratch)
        for path in scratch.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes for its owner alone
            if path.is_file():
                _fsync(path)
        os.chmod(scratch, 0o755)
        old = _set_aside(folder)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        scratch.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as its own error
        why = getattr(error, "strerror", None) or _first_line(error)
        raise GuerdonError(f"cannot write {folder}: {why}; remedy: free space, or write elsewhere") from None
    finally:
        if scratch != folder:
            shutil.rmtree(scratch, ignore_errors=True)


def fingerprint(model: nn.Module) -> str:
    """What tells a model's weights from others': a hash over the beginning of each."""
    total = hashlib.sha256()
    for name, value in model.named_parameters():
        total.update(name.encode() + value.detach().flatten()[:64].float().cpu().numpy().tobytes())
    return total.hexdigest()[:16]


def recover(folder: Path) -> None:
    """Put a model back that a kill between write's two renames left under its hidden name."""
    old = _set_aside(folder)
    if not folder.exists() and _is_whole(old):
        old.rename(folder)


def _set_aside(folder: Path) -> Path:
    whole = Path(os.path.abspath(folder))
    return whole.parent / f".{whole.name}.old"


def _is_whole(folder: Path) -> bool:
    return (folder / "config.json").is_file() or is_ensemble(folder)


def _refuse_other_heads(source: str, config: PretrainedConfig, options: ModelOptions) -> None:
    """A model that has heads already has as many as it has."""
    is_headed = any("ForSequenceClassification" in name for name in getattr(config, "architectures", None) or [])
    if options.heads > 1 and is_headed and config.num_labels != options.heads:
        raise GuerdonError(
            f"model.heads={options.heads}: {source} has a head already ({config.num_labels} of them); "
            "remedy: start from a language model, or train members one by one"
        )


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and next(folder.iterdir(), None) is None


def portable_config(classifier: PreTrainedModel, text: Text) -> dict[str, Any]:
    """config.json for new and old readers: raw scores, a pad token, and the legacy rope and dtype keys beside the new ones."""
    config = copy.deepcopy(classifier.config)
    config.architectures = [type(classifier).__name__]
    config.pad_token_id = text.tokenizer.pad_token_id
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    values.update(
        id2label={str(i): name for i, name in (config.id2label or {}).items()},
        label2id=config.label2id,
        problem_type="regression",
        value_head_prefix=head_name(classifier),
        torch_dtype=str(
            next(p for n, p in classifier.named_parameters() if head_name(classifier) not in n).dtype
        ).removeprefix("torch."),
    )
    values.update(legacy_rope(getattr(config, "rope_parameters", None)))
    return values


def legacy_rope(parameters: Any) -> dict[str, Any]:
    """transformers 4's rope keys; without them a 4.x reader falls back to theta 10000 and scores wrongly without a word."""
    if not isinstance(parameters, dict) or not parameters:
        return {}
    if "rope_theta" in parameters:
        rest = {k: v for k, v in parameters.items() if k != "rope_theta" and v is not None}
        scaling = {"rope_scaling": rest} if rest.get("rope_type", "default") != "default" else {}
        return {"rope_theta": parameters["rope_theta"], **scaling}
    full, sliding = parameters.get("full_attention") or {}, parameters.get("sliding_attention") or {}
    keys = {"rope_theta": full.get("rope_theta"), "rope_local_base_freq": sliding.get("rope_theta")}
    return {k: v for k, v in keys.items() if v is not None}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own bars and notices off the user's screen: what matters of them comes back as an error."""
    from transformers.utils import logging as hf_logging

    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # between libraries, not for users
            yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()


def _write_weights(classifier: PreTrainedModel, folder: Path) -> None:
    with quiet():
        classifier.save_pretrained(folder)
    generation = folder / "generation_config.json"
    generation.unlink(missing_ok=True)


def _write_tokenizer(text: Text, folder: Path) -> None:
    tokenizer = copy.deepcopy(text.tokenizer)
    tokenizer.chat_template = text.chat_template
    tokenizer.model_max_length = text.max_length
    tokenizer.save_pretrained(folder)
    place = folder / "tokenizer_config.json"
    values = json.loads(place.read_text("utf-8"))
    values["tokenizer_class"] = "PreTrainedTokenizerFast"
    if not text.encoder:  # 4.x would hand token_type_ids to models that take none
        values["model_input_names"] = ["input_ids", "attention_mask"]
    if isinstance(values.get("extra_special_tokens"), list):  # 4.x wants a mapping there; both read this name
        values["additional_special_tokens"] = values.pop("extra_special_tokens")
    template = folder / "chat_template.jinja"
    if template.is_file():  # 4.51 reads the key, 5 reads the file
        values["chat_template"] = template.read_text("utf-8")
    place.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _why_unreadable(source: str, error: Exception) -> str:
    path = Path(source)
    if path.is_dir():
        missing = "" if (path / "config.json").is_file() else " (no config.json)"
        return f"{source}: not a readable model{missing}: {_first_line(error)}; remedy: give a directory with config and safetensors"
    return f"{source}: no directory, and no model from the hub: {_first_line(error)}; remedy: check name and network"
