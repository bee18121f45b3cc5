"""What all options have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Beta = Annotated[float, Field(ge=0, lt=1)]  # AdamW's: the share of a running mean that is kept
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what every generator takes


class Options(BaseModel):
    """One stage's options: frozen, and strict about names and types."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    def refuse_conflicts(self) -> None:
        """Raise GuerdonError for an option that the stage could not follow or would ignore, given the others.

        Called by whatever runs the stage, not by validation: a config holds the options of stages that a command never runs.
        """
