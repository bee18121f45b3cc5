"""Keys: which text of a pair was scored, and what is estimated of an edit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from guerdon.auditing.probes.length_edits import FILLERS
from guerdon.contracts import Quantity

__all__ = ["BETTER", "DOSES", "EFFECTS", "ERRORS_SEEN", "FILLER_LEVELS", "FLIPS", "WORSE", "EditEstimate", "TextKey"]

FILLER = "filler"

# sections of the page
EFFECTS, FLIPS = "What cues gain", "Preferences that cues flip"
DOSES, ERRORS_SEEN = "Copies that outweigh an error", "Errors that the model sees"


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
    of: Literal["effect", "flips", "doses", "seen"]

    @property
    def quantity(self) -> Quantity:
        """How to read it."""
        label = self.edit.replace("_", " ")
        if self.of == "effect":
            return Quantity(label, "number", EFFECTS, "beyond neutral text of its length, in spreads within a prompt")
        if self.of == "flips":
            return Quantity(label, "share", FLIPS, "of the preferences that the model has right")
        if self.of == "doses":
            return Quantity(label, "number", DOSES, "copies of the cue")
        return Quantity(label, "share", ERRORS_SEEN, "answers that beat themselves with this error")

    @property
    def key(self) -> str:
        """Its name in a report: cue_EDIT, cue_EDIT_flips, cue_EDIT_doses, substance_EDIT."""
        if self.of == "seen":
            return f"substance_{self.edit}"
        return f"cue_{self.edit}" if self.of == "effect" else f"cue_{self.edit}_{self.of}"
