"""Two responses and a label that says which is better."""

from __future__ import annotations

from guerdon.contracts import Comparison
from guerdon.data.importers.columns import Row, required, to_comparison
from guerdon.data.importers.pairs import prompt_and_responses
from guerdon.data.importers.reading import Reading
from guerdon.data.importers.trl import from_trl


def from_labeled(row: Row, reading: Reading) -> Comparison:
    """{prompt, first, second, label}: label is a, first or model_a; b, second or model_b; tie; or a number.

    What numbers mean is decided by those of the whole file. {prompt?, chosen, rejected} is read as from_trl does.
    """
    if row.get("label") is None and row.get("chosen") is not None:
        return from_trl(row, reading)
    prompt, first, second = prompt_and_responses(row, "first", "second", reading.note)
    return to_comparison(row, prompt, (first, second), reading.label(required(row, "label"), "label"))


def labels_of(row: Row) -> list[object]:
    """The label of a row."""
    return [row.get("label")]
