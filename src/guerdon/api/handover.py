"""Hand a reward model over: to a trainer, as files that ask a guerdon server for rewards; to llama.cpp; to PEFT."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from guerdon.errors import GuerdonError, show_value

if TYPE_CHECKING:
    from guerdon.serving.client import RewardClient
    from guerdon.training.adapter import Adapter

DEFAULT_URL = "http://127.0.0.1:8050"


def export_for_trainer(
    trainer: str, directory: str | Path, out: str | Path, *, url: str = DEFAULT_URL, model: str | None = None
) -> Sequence[str]:
    """Write a trainer's reward function and options, and the client that they use, into a folder; returns the files' names.

    trainer: trl, openrlhf, verl, nemo-rl, nemo-gym or skyrl. directory: of the reward model that the server serves. url: of the server.
    model: its name there, where it serves several.
    """
    from guerdon.serving.handover.writing import write_handover

    if not re.fullmatch(r"https?://[A-Za-z0-9._:\[\]-]+/?", url):
        raise GuerdonError(f"--url must be http://HOST:PORT, got {show_value(url)}. Leave the path out.")
    if not str(directory).strip():
        raise GuerdonError("DIR must be the reward model that is served, got nothing. Name its directory.")
    return write_handover(trainer, url, Path(out), str(directory), model)


def export_gguf(directory: str | Path, out: str | Path, *, dtype: str = "float32") -> str:
    """Write a reward model for llama.cpp into a folder, whole or not at all; returns the options with which llama-server reads it.

    backbone.gguf holds the backbone, head.json the head with its calibration and the chat template, and reward.py asks llama-server.
    dtype: float32 or float16. Raises GuerdonError for an ensemble, and for a family or a tokenizer that llama.cpp does not compute alike.
    """
    from guerdon.io.directories import refuse_other_kind
    from guerdon.io.writers import refuse_to_replace
    from guerdon.models.directory.gguf_file import GgufType
    from guerdon.serving.handover.llama_cpp import write_llama_cpp

    if dtype not in get_args(GgufType):
        raise GuerdonError(
            f"--dtype must be float32 or float16, got {show_value(dtype)}. llama-quantize makes smaller files."
        )
    refuse_to_replace([directory], [out])
    refuse_other_kind(Path(out), "head.json")
    return write_llama_cpp(Path(directory), Path(out), cast(GgufType, dtype))


def export_adapter(directory: str | Path, out: str | Path) -> Adapter:
    """Write the LoRA adapters of a model that `train` saved as a folder that PEFT loads on the base model, with its reward head.

    directory: the model, inside the folder of its run, whose checkpoint still has the adapters. Raises GuerdonError where they are gone.
    """
    from guerdon.io.directories import refuse_other_kind
    from guerdon.io.writers import refuse_to_replace
    from guerdon.training.adapter import write_adapter

    refuse_to_replace([directory], [out])
    refuse_other_kind(Path(out), "adapter_config.json")
    return write_adapter(Path(directory), Path(out))


def reward_client(url: str = DEFAULT_URL, model: str | None = None, token: str | None = None) -> RewardClient:
    """A client of a guerdon server, for any trainer that takes a Python function."""
    from guerdon.serving.client import RewardClient

    return RewardClient(url, model, token)
