"""What all options have in common."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from guerdon.errors import field_error

Truncation = Literal["refuse", "drop", "left"]
TemplateName = Literal["model", "plain"]
Beta = Annotated[float, Field(ge=0, lt=1)]  # AdamW's: the share of a running mean that is kept
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what every generator takes


def _as_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", name):
        raise PydanticCustomError("device", "Input should be auto, cpu, mps, cuda or cuda:N")
    return name


Device = Annotated[str, AfterValidator(_as_device)]


class Options(BaseModel):
    """One stage's options: frozen, and strict about names and types."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    def refuse_conflicts(self) -> None:
        """Raise GuerdonError for an option that the stage could not follow or would ignore, given the others.

        Called by whatever runs the stage, not by validation: a config holds the options of stages that a command never runs.
        """


def refuse_idle_adapters(stage: str, rank: int, targets: Sequence[str]) -> None:
    """Raise GuerdonError for layers that were named for adapters that are not trained."""
    if targets and not rank:
        claim = f"empty with {stage}.lora_rank=0, which trains no adapters"
        raise field_error(f"{stage}.lora_targets", claim, list(targets), f"Set {stage}.lora_rank=16, or leave it out.")
