"""What the target model's max_length does to the comparisons."""

from __future__ import annotations

from collections.abc import Iterator

from guerdon.contracts import Finding
from guerdon.data.checks.contract import Fault, Row, RowCheck
from guerdon.data.checks.texts import contradict_ranks

__all__ = ["Truncation"]

IDENTICAL = Fault(
    "error",
    "Identical after truncation",
    "have responses that the model cannot tell apart after truncation: the difference starts after the cut",
    "Raise max_length, or drop them: they add noise.",
)
TOO_LONG = Fault(
    "warning",
    "Longer than the model reads",
    "have a response that is longer, with its prompt, than the model's max_length",
    "Training and scoring refuse them: raise model.max_length, or set model.truncation=drop or left.",
)


class Truncation(RowCheck):
    """Responses that are too long for the model, or the same as far as it reads."""

    def faults(self, row: Row) -> Iterator[Fault]:
        """Encode each response after its prompt."""
        if not self.data.tokens:
            return
        comparison = row.comparison
        encoded = [
            self.data.tokens(comparison.prompt, response if response.messages else response.text)
            for response in comparison.responses
        ]
        if any(one.truncated for one in encoded):
            yield TOO_LONG
        ids = [tuple(one.ids) for one in encoded]
        if contradict_ranks(ids, comparison.ranks) and not contradict_ranks(row.identities, comparison.ranks):
            yield IDENTICAL

    def findings(self) -> Iterator[Finding]:
        """What was counted, or that nothing could be."""
        yield from super().findings()
        if not self.data.tokens and self.data.rows:
            title = "Not checked: length, and what truncation does"
            yield Finding("note", title, "no tokenizer was given", "Check with a model.")
