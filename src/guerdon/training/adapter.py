"""The LoRA adapters of a run, which its saved model has merged, as a folder that PEFT loads on the base model.

They are taken from the run's checkpoint, so that no run writes its weights twice. The checkpoint is that of the model only if its
reward head is the model's, bit by bit: a run that kept its best weights has another one of its last step.
"""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from guerdon.config import ModelOptions, build
from guerdon.contracts import GuerdonError
from guerdon.io import readers
from guerdon.io.directories import write_directory
from guerdon.models.directory.loading import load_text, resolve
from guerdon.models.engine.checkpoint_files import one_line, shards_of
from guerdon.models.engine.pretrained import read_config
from guerdon.models.engine.stored_head import read_head
from guerdon.runtime import checkpoint

if TYPE_CHECKING:
    from peft import LoraConfig

MODEL: Final = "model"  # the saved model in the folder of its run
KEPT: Final = "weight.classifier."  # what a checkpoint's trained weights begin with
HEAD: Final = "base_model.model.score.weight"
COPIED: Final = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "reward.json")


@dataclass(frozen=True, slots=True)
class Adapter:
    """What was written. base: the model that the adapter belongs to. dtype: the one to which that must be rounded before it gives the
    scores of the merged model. labels: of the head."""

    base: str
    dtype: str
    labels: int


def write_adapter(folder: Path, out: Path) -> Adapter:
    """Write the adapters of a model that was trained with model.lora_rank as a PEFT folder, whole or not at all.

    folder: the saved model, in the folder of its run; or that folder. The tokenizer and the calibration are copied next to the
    adapter. Raises GuerdonError for a model that was trained without adapters, or whose run has no checkpoint of it.
    """
    model = folder if (folder / "config.json").is_file() else folder / MODEL
    run = Path(os.path.abspath(model)).parent
    if not (run / "config.yaml").is_file() or not (model / "config.json").is_file():
        raise GuerdonError(
            f"{folder}: must be a model in the folder of its run, which holds config.yaml, got another folder. "
            "Pass what `guerdon train --out` wrote."
        )
    options = build(readers.read_config(run / "config.yaml")).model
    if not options.lora_rank:
        raise GuerdonError(
            f"{folder}: model.lora_rank must be above 0 for a model to have adapters, got 0: every weight was trained. "
            "Export the model itself, which every reader loads."
        )
    load_text(
        ModelOptions(base=str(model))
    )  # what is copied must be readable: the tokenizer, its template and the card
    tensors = _adapter_tensors(model, run)
    settings = _peft_settings(options, tensors)

    def fill(scratch: Path) -> None:
        settings.save_pretrained(str(scratch))
        save_file(tensors, str(scratch / "adapter_model.safetensors"), metadata={"format": "pt"})
        for name in COPIED:
            if (model / name).is_file():
                shutil.copyfile(model / name, scratch / name)

    write_directory(out, fill)
    return Adapter(str(settings.base_model_name_or_path), _dtype_of_base(model, tensors), len(tensors[HEAD]))


def _adapter_tensors(model: Path, run: Path) -> dict[str, Tensor]:
    """The adapters and the head of the checkpoint that the model was saved from, under PEFT's names."""
    head = read_head(model, read_config(str(model), ModelOptions()))
    if head is None:
        raise GuerdonError(
            f"{model}: must hold a linear head in safetensors, got none. Restore it from where it was saved."
        )
    for path in filter(None, (checkpoint.find(run, "best"), checkpoint.find(run))):
        tensors = _trained_weights(path)
        others = [name for name in tensors if ".lora_" not in name and name != HEAD]
        if others or HEAD not in tensors:
            raise GuerdonError(
                f"{model}: besides adapters only a linear head must have been trained, got {(others or ['no head'])[0]}. "
                "Export the model itself."
            )
        if torch.equal(tensors[HEAD].float(), head.weight):
            return tensors
    raise GuerdonError(
        f"{run}: must hold the checkpoint that the model was saved from, got none: its adapters are merged and cannot be taken out. "
        "Train again with train.save_every above 0, and keep the run's folder."
    )


def _trained_weights(path: Path) -> dict[str, Float[Tensor, "*s"]]:
    """What a checkpoint holds of the classifier, without the optimizer's moments."""
    file = path / checkpoint.TENSORS
    with one_line(f"{file}: not readable ({{reason}}). Restore it."), safe_open(str(file), framework="pt") as stored:
        names = [name for name in stored.keys() if name.startswith(KEPT)]
        return {name.removeprefix(KEPT).replace(".default.", "."): stored.get_tensor(name) for name in names}


def _dtype_of_base(model: Path, tensors: dict[str, Tensor]) -> str:
    """bfloat16 if a weight that was not trained, the largest, holds nothing finer; else float32. The option may have been auto."""
    trained = {name.removeprefix("base_model.model.").split(".lora_")[0].removesuffix(".weight") for name in tensors}
    largest = torch.zeros(0)
    for shard in shards_of(model):
        with safe_open(str(shard), framework="pt") as stored:
            for name in stored.keys():
                if (
                    name.rpartition(".")[0] in trained
                    or math.prod(stored.get_slice(name).get_shape()) <= largest.numel()
                ):
                    continue
                largest = stored.get_tensor(name)
    return "bfloat16" if torch.equal(largest, largest.bfloat16().to(largest.dtype)) else "float32"


def _peft_settings(options: ModelOptions, tensors: dict[str, Tensor]) -> LoraConfig:
    """adapter_config.json. PEFT itself names both heads, and vLLM takes no other list."""
    from peft import LoraConfig, TaskType

    base = resolve(options.base)
    names = {name.split(".lora_")[0].rpartition(".")[2] for name in tensors if ".lora_" in name}
    return LoraConfig(
        task_type=TaskType.SEQ_CLS,
        base_model_name_or_path=os.path.abspath(base) if Path(base).is_dir() else base,
        revision=options.revision,
        r=options.lora_rank,
        lora_alpha=options.lora_alpha,
        target_modules=sorted(names),
        modules_to_save=["classifier", "score"],
        inference_mode=True,
    )
