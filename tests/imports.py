"""Rows in, what import makes of them out."""

from __future__ import annotations

from errors import gives_advice

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, Response
from guerdon.data.importers import Rejected, import_rows


def take(*rows, **options):
    return list(import_rows(((f"a:{i}", row) for i, row in enumerate(rows, start=1)), ImportOptions(**options)))


def one(row, **options) -> Comparison:
    (imported,) = take(row, **options)
    assert isinstance(imported, Comparison), imported
    return imported


def reason(row, **options) -> str:
    (imported,) = take(row, **options)
    assert isinstance(imported, Rejected), imported
    assert imported.row is row
    assert gives_advice(imported.reason)
    assert "\n" not in imported.reason
    return imported.reason


def preferred(comparison: Comparison) -> tuple[str, str]:
    first, second = (response.text for response in comparison.responses)
    return (first, second) if comparison.q == 1.0 else (second, first)


def turns(comparison: Comparison) -> list[str]:
    return [f"{m.role[0]}:{m.content}" for m in comparison.prompt]


def sides(comparison: Comparison) -> tuple[Response, Response]:
    """The chosen and the rejected response."""
    first, second = comparison.responses
    return (first, second) if comparison.q == 1.0 else (second, first)
