"""What a reward model carries besides its weights: how it reads text, what it was trained on, and the scale of its rewards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from guerdon.config.base import TemplateName, Truncation
from guerdon.contracts import GuerdonError
from guerdon.errors import field_error

AS_STORED = ConfigDict(
    extra="forbid", allow_inf_nan=False
)  # how a file's values are checked before they become one of these


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns raw rewards into nats, and into units of a reference policy's spread.

    temperature: raw units per nat. reference_mean, reference_spread: mean and standard deviation, in raw units, of the
    rewards of a reference policy's samples. provenance: which policy and prompts those were, empty if none were measured.
    note: why the temperature is 1 although one was fitted; empty otherwise.
    """

    __pydantic_config__: ClassVar[ConfigDict] = AS_STORED

    temperature: float = 1.0
    reference_mean: float = 0.0
    reference_spread: float = 1.0
    provenance: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse values that are not a scale."""
        for name in ("temperature", "reference_mean", "reference_spread"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise GuerdonError(f"calibration: {name} must be a finite number, got {value!r}. Calibrate again.")
            if name != "reference_mean" and value <= 0:
                raise GuerdonError(f"calibration: {name} must be above 0, got {value!r}. Calibrate again.")

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; the caller writes the format version next to them."""
        return {
            "temperature": self.temperature,
            "reference_mean": self.reference_mean,
            "reference_spread": self.reference_spread,
            "provenance": dict(self.provenance),
            **({"note": self.note} if self.note else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Calibration:
        """The inverse of as_dict. A missing or unknown key is an error: a guessed scale is worse than none."""
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise GuerdonError(f"calibration: unknown key {unknown[0]!r}. Use only {', '.join(known)}.")
        if missing := [name for name in known if name not in values and name != "note"]:
            raise GuerdonError(f"calibration: {missing[0]} is missing. Add it, or calibrate again.")
        if not isinstance(values["provenance"], Mapping):
            raise GuerdonError(
                f"calibration: provenance must be an object, got {values['provenance']!r:.80}. Calibrate again."
            )
        return cls(**values)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Card:
    """Everything a score depends on that is not a weight, and where the model came from.

    read_out: "last_token", or "family_pooling" for encoders. attributes, attribute_weights: the names of rated attributes,
    one head each, and their shares of the reward. tie_threshold: Rao-Kupper's, in nats. base: what training started from.
    uncertainty: provenance of the stored uncertainty. self_test: rows of prompt, response and raw score at saving.
    """

    __pydantic_config__: ClassVar[ConfigDict] = AS_STORED

    calibration: Calibration = field(default_factory=Calibration)
    max_length: Annotated[int, Field(ge=1, lt=2**31)] = 1024
    truncation: Truncation = "refuse"
    template: TemplateName = "model"
    template_hash: str = ""
    system: str | None = None
    read_out: Literal["last_token", "family_pooling"] = "last_token"
    attributes: tuple[str, ...] = ()
    attribute_weights: tuple[float, ...] = ()
    tie_threshold: float | None = None
    base: str = ""
    data_hash: str = ""
    uncertainty: Mapping[str, Any] = field(default_factory=dict)
    self_test: tuple[tuple[str, str, float], ...] = ()

    def __post_init__(self) -> None:
        """Refuse attribute weights that are not one per attribute."""
        if len(self.attributes) != len(self.attribute_weights):
            claim = f"one per attribute ({len(self.attributes)})"
            raise field_error("attribute_weights", claim, list(self.attribute_weights), "Restore the file.")
