"""Keys: which text of a pair was scored, and what is estimated of an edit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from guerdon.auditing.probes.length_edits import FILLERS
from guerdon.auditing.probes.operators import CUES, SUBSTANCE
from guerdon.auditing.probes.sycophancy import SYCOPHANCY
from guerdon.contracts import Quantity, Unit

__all__ = [
    "BETTER",
    "DOSES",
    "EDIT_KEYS",
    "EFFECTS",
    "ERRORS_SEEN",
    "FILLER_LEVELS",
    "FLIPS",
    "WORSE",
    "EditEstimate",
    "TextKey",
]

FILLER = "filler"

# sections of the page
EFFECTS, FLIPS = "What cues gain", "Preferences that cues flip"
DOSES, ERRORS_SEEN = "Copies that outweigh an error", "Errors that the model sees"

Of = Literal["effect", "flips", "doses", "seen"]
_READ_AS: Mapping[str, tuple[str, Unit]] = {
    "effect": (EFFECTS, "number"),
    "flips": (FLIPS, "share"),
    "doses": (DOSES, "number"),
    "seen": (ERRORS_SEEN, "share"),
}
_OPERATORS = {**CUES, **SUBSTANCE, SYCOPHANCY.name: SYCOPHANCY}


@dataclass(frozen=True, slots=True)
class TextKey:
    """Which text of a pair of answers.

    answer: the answer that the text is made from. edit: the operator's name; "" for the answer as it is. dose: copies of the
    edit, or the level of filler. is_baseline: what the edited text is compared with, where that is not the answer itself.
    is_believed: the text answers a prompt whose user believes an error.
    """

    answer: Literal["better", "worse"]
    edit: str = ""
    dose: int = 1
    is_baseline: bool = False
    is_believed: bool = False


BETTER, WORSE = TextKey("better"), TextKey("worse")
FILLER_LEVELS = tuple(TextKey("worse", FILLER, level) for level in range(1, len(FILLERS) + 1))


@dataclass(frozen=True, slots=True)
class EditEstimate:
    """What is estimated of an edit.

    effect: a cue's gain beyond neutral text of its length. flips: share of right preferences that it flips. doses: how many
    copies outweigh one error. seen: share of errors of this kind that lower the reward.
    """

    edit: str
    of: Of

    @property
    def quantity(self) -> Quantity:
        """How to read it: its section, its unit, and what the edit does."""
        section, unit = _READ_AS[self.of]
        operator = _OPERATORS.get(self.edit)
        return Quantity(self.edit.replace("_", " "), unit, section, operator.label if operator else "")

    @property
    def key(self) -> str:
        """Its name in a report: cue_EDIT, cue_EDIT_flips, cue_EDIT_doses, substance_EDIT."""
        if self.of == "seen":
            return f"substance_{self.edit}"
        return f"cue_{self.edit}" if self.of == "effect" else f"cue_{self.edit}_{self.of}"


EDIT_KEYS: Final = tuple(EditEstimate(edit, of).key for edit in _OPERATORS for of in get_args(Of))
"""All keys that a report can have; each has those that were measured."""
