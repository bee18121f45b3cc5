"""What all options have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from guerdon.errors import field_error, show_value

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


def first_problem(error: ValidationError, owner: Callable[[Sequence[str | int]], type[BaseModel]]) -> str:
    """What is wrong in a file that people write, as one line without its place.

    owner: the model whose field is at a path, for the names that are known there.
    """
    # A misspelled field is a missing one as well: the spelling is what to show
    first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    path = first["loc"]
    field = ".".join(f"[{part}]" if isinstance(part, int) else part for part in path).replace(".[", "[")
    if first["type"] == "extra_forbidden":
        known = ", ".join(owner(path).model_fields)
        return f"{field}: a field must be one of {known}, got {show_value(path[-1])}. Rename or remove it."
    if first["type"] == "missing":
        return f"{field} must be given, got nothing. Add it."
    claim = first["msg"].removeprefix("Input should be ")
    return f"{field}: it must be {claim[:1].lower()}{claim[1:]}, got {show_value(first['input'])}. Correct it."
