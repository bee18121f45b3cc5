"""The files of one saved model: what plain transformers 5 and 4.51, vLLM, SGLang and OpenRLHF load with equal scores.

Architecture `<Family>ForSequenceClassification`, one label, `problem_type: regression` (raw scores, no sigmoid), a pad token that
never ends a text, and the keys that older readers look for next to the new ones.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from guerdon.contracts import GuerdonError
from guerdon.errors import field_error
from guerdon.models.directory.formats import is_ensemble
from guerdon.models.engine.classifier import head_name
from guerdon.models.engine.loaded_weights import refuse_adapter
from guerdon.models.engine.pretrained import quiet, read_config
from guerdon.models.engine.stored_head import find_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from guerdon.config import ModelOptions
    from guerdon.models.chat import ChatTokenizer


# ---- Writing -----------------------------------------------------------------------------------------------------


def write_model_files(classifier: PreTrainedModel, text: ChatTokenizer, folder: Path) -> None:
    """Write weights, tokenizer and config.json into a directory that exists."""
    with quiet():
        classifier.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    write_tokenizer(text, folder)
    (folder / "config.json").write_text(json.dumps(portable_config(classifier, text), indent=2) + "\n", "utf-8")


def write_tokenizer(text: ChatTokenizer, folder: Path) -> None:
    """Write the tokenizer with its chat template, with the keys of transformers 4 next to those of 5."""
    tokenizer = copy.deepcopy(text.tokenizer)
    tokenizer.chat_template = text.saved_template
    tokenizer.model_max_length = text.max_length
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    values = json.loads(file.read_text("utf-8"))
    values["tokenizer_class"] = "PreTrainedTokenizerFast"
    if not text.encoder:  # 4.x would pass token_type_ids to models that take none
        values["model_input_names"] = ["input_ids", "attention_mask"]
    if isinstance(values.get("extra_special_tokens"), list):  # 4.x expects a mapping there; both read this name
        values["additional_special_tokens"] = values.pop("extra_special_tokens")
    template = folder / "chat_template.jinja"
    if template.is_file():  # 4.51 reads the key, 5 reads the file
        values["chat_template"] = template.read_text("utf-8")
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")


def portable_config(classifier: PreTrainedModel, text: ChatTokenizer) -> dict[str, Any]:
    """config.json for new and old readers: raw scores, a pad token, and the legacy rope and dtype keys next to the new ones."""
    config = copy.deepcopy(classifier.config)
    config.architectures = [type(classifier).__name__]
    config.pad_token_id = text.tokenizer.pad_token_id
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    name = head_name(classifier)
    backbone_dtype = next(weight for key, weight in classifier.named_parameters() if name not in key).dtype
    values.update(
        id2label={str(i): label for i, label in (config.id2label or {}).items()},
        label2id=config.label2id,
        problem_type="regression",
        value_head_prefix=name,
        torch_dtype=str(backbone_dtype).removeprefix("torch."),
    )
    values.update(legacy_rope(getattr(config, "rope_parameters", None)))
    return values


def legacy_rope(parameters: Any) -> dict[str, Any]:
    """transformers 4's rope keys; without them a 4.x reader takes theta 10000 and silently computes other scores."""
    if not isinstance(parameters, dict) or not parameters:
        return {}
    if "rope_theta" in parameters:
        rest = {k: v for k, v in parameters.items() if k != "rope_theta" and v is not None}
        scaling = {"rope_scaling": rest} if rest.get("rope_type", "default") != "default" else {}
        return {"rope_theta": parameters["rope_theta"], **scaling}
    full, sliding = parameters.get("full_attention") or {}, parameters.get("sliding_attention") or {}
    keys = {"rope_theta": full.get("rope_theta"), "rope_local_base_freq": sliding.get("rope_theta")}
    return {k: v for k, v in keys.items() if v is not None}


# ---- Reading -----------------------------------------------------------------------------------------------------


def stored_dtype(folder: str, options: ModelOptions) -> str:
    """The dtype of a saved model's backbone, as the value of an option."""
    dtype = getattr(read_config(folder, options), "dtype", None)
    return "bfloat16" if dtype == torch.bfloat16 else "float32"  # bfloat16 would round a float16 model's weights


def refuse_headless(folder: str, options: ModelOptions) -> None:
    """Raise, before any weights are read, if the directory does not hold a single reward model."""
    path = Path(folder)
    refuse_adapter(path)
    if path.exists() and not path.is_dir():
        raise GuerdonError(
            f"{folder}: a reward model must be a directory, this is a file. Pass the folder of config.json."
        )
    if "/" not in folder and not path.exists():
        raise GuerdonError(
            f"{folder}: no such directory. Pass the folder that `guerdon train --out` wrote, or a hub name such as org/model."
        )
    if is_ensemble(path):
        raise GuerdonError(
            f"{folder}: is an ensemble, a directory of models. Use `guerdon.load`, or pass one of its members ({folder}/member-1)."
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise GuerdonError(
            f"{folder}: holds no config.json, so it is not a model. Pass the folder that `guerdon train` wrote (RUN/model)."
        )
    config = read_config(folder, options)
    names = getattr(config, "architectures", None) or []
    if not names:
        claim = "a list with the class of the model, such as LlamaForSequenceClassification"
        raise field_error(f"{folder}: architectures in config.json", claim, None, "Add it, or train from this model.")
    if not any("SequenceClassification" in name or "Reward" in name for name in names):
        if path.is_dir() and (head := find_head(path, config)) and head[0] != "score":
            raise GuerdonError(
                f"{folder}: its reward head {head[0]} is not where readers look for it. "
                f"Move it with `guerdon doctor {folder} --repair OUT`, and pass OUT."
            )
        raise GuerdonError(
            f"{folder}: architecture {names[0]} has no reward head. "
            f"Train one with `guerdon train`, or see `guerdon doctor {folder}`."
        )
