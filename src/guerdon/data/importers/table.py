"""Tables of two responses and a label."""

from __future__ import annotations

from guerdon.contracts import Comparison, Preference
from guerdon.data.importers.columns import Row, required, required_prompt, to_comparison, two_responses
from guerdon.data.importers.trl import from_trl
from guerdon.io.fields import to_number

FIRST, SECOND, TIE = ("a", "first", "1"), ("b", "second", "2"), ("tie", "equal", "draw")


def from_csv(row: Row) -> Comparison:
    """{prompt, first, second, label}: label is a, first or 1; b, second or 2; tie; or P(first is better), such as 0.7.

    So 0 means that the second is better. {prompt?, chosen, rejected} is read as from_trl does.
    """
    if row.get("label") is None and row.get("chosen") is not None:
        return from_trl(row)
    responses = two_responses(row, "first", "second")
    return to_comparison(row, required_prompt(row), responses, _preference(required(row, "label")))


def _preference(label: object) -> Preference:
    word = str(label).strip().casefold()
    if word in TIE:
        return Preference(groups=((0, 1),))
    if word in FIRST + SECOND:
        return Preference(groups=((0,), (1,)) if word in FIRST else ((1,), (0,)))
    return Preference(q=to_number(label, "label", "a, b, tie, first, second, 1, 2, or a probability", low=0, high=1))
