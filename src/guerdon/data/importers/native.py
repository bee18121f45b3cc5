"""Guerdon's own rows."""

from __future__ import annotations

from guerdon.contracts import Comparison
from guerdon.data.importers.columns import Row
from guerdon.io.schema import comparison_from_row


def from_native(row: Row) -> Comparison:
    """{prompt, tools?, responses, preference, ...}: what `guerdon.write` writes; see io/schema.py.

    A pick of `select` becomes such a row once it has a preference; how it was picked stays with the picks.
    """
    return comparison_from_row({key: value for key, value in row.items() if key != "selection"})


def is_native(row: Row) -> bool:
    """Whether a row of responses has a preference, which 0.1 called a verdict."""
    return row.get("preference") is not None or row.get("verdict") is not None
