"""Secrets and personal data, which a model that learns from them may repeat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from guerdon.contracts import Comparison
from guerdon.data.checks.contract import Fault, Row, RowCheck
from guerdon.data.private import Kind, private_values

__all__ = ["Privacy", "texts_of"]

FAULTS: Final[Mapping[Kind, Fault]] = {
    "secret": Fault(
        "warning",
        "Secrets in texts",
        "have an access key, a private key or a password in an address",
        "Revoke them if they are real, and drop the rows or mask the texts.",
    ),
    "card": Fault(
        "warning",
        "Card numbers in texts",
        "have the number of a payment card, with its check digit",
        "Drop the rows or mask the texts, unless the numbers are invented.",
    ),
    "email": Fault(
        "warning",
        "Email addresses in texts",
        "have an email address",
        "Drop the rows or mask the texts, unless the addresses are public or invented.",
    ),
    "phone": Fault(
        "warning",
        "Phone numbers in texts",
        "have a phone number",
        "Drop the rows or mask the texts, unless the numbers are public or invented.",
    ),
}


class Privacy(RowCheck):
    """Keys, card numbers, email addresses and phone numbers in any text of a comparison."""

    def faults(self, row: Row) -> Iterator[Fault]:
        """One for each kind."""
        kinds = {kind for text in texts_of(row.comparison) for kind in private_values(text).values()}
        yield from (fault for kind, fault in FAULTS.items() if kind in kinds)


def texts_of(comparison: Comparison) -> Iterator[str]:
    """Each text of the prompt, of the responses and their calls, and the reason of the annotator."""
    for turn in (*comparison.prompt, *(turn for response in comparison.responses for turn in response.turns())):
        yield turn.content
        yield from (call.arguments for call in turn.tool_calls)
    yield comparison.rationale or ""
