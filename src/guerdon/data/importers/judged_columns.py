"""How sure and how strong a preference is: columns beside the texts, in the names under which our exports write them."""

from __future__ import annotations

from guerdon.contracts import Preference
from guerdon.data.importers.columns import Row
from guerdon.errors import LabelError, field_error
from guerdon.io.fields import complement, is_absent, to_number

__all__ = ["JUDGED", "preference_of", "strength_of"]

JUDGED = ("margin", "strength", "p_chosen", "n_votes", "rank_gap")


def preference_of(row: Row, chosen_is_first: bool) -> Preference:
    """The preference for the chosen one of two responses, soft where the row has `p_chosen`, with the strength of the row."""
    strength = strength_of(row)
    if is_absent(row.get("p_chosen")):
        return Preference(groups=((0,), (1,)) if chosen_is_first else ((1,), (0,)), strength=strength)
    p_chosen = to_number(row["p_chosen"], "p_chosen", "a probability in [0, 1]", low=0, high=1)
    return Preference(q=p_chosen if chosen_is_first else complement(p_chosen), strength=strength)


def strength_of(row: Row) -> float | None:
    """The column `strength`, or else `margin`; a negative one is an error of the whole file."""
    key = "margin" if is_absent(row.get("strength")) else "strength"
    if is_absent(row.get(key)):
        return None
    strength = to_number(row[key], key, "a number >= 0")
    if strength < 0:
        advice = f"Swap chosen and rejected in such rows: if only they were left out, what is left would always agree with {key}."
        raise LabelError(str(field_error(key, "a number >= 0", row[key], advice)))
    return strength
