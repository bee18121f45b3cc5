"""What all options have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Beta = Annotated[float, Field(ge=0, lt=1)]  # AdamW's: the share of a running mean that is kept
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what every generator takes


class Options(BaseModel):
    """One stage's options: frozen, and strict about names. Conflicts between options are validators of the class."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
