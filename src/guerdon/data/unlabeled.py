"""Pairs that nobody has judged yet, in a table: a column of prompts and two of responses, under the names that labeled ones have."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from guerdon.data.importers.layout import LABELS, PAIRS, PROMPTS
from guerdon.errors import GuerdonError, visible
from guerdon.io.messages import messages_in
from guerdon.io.schema import Rejected

OURS: Final = ("prompt", "first", "second")
MOST_NAMES: Final = 8  # column names in a message
Columns = tuple[str, str, str]

_PAIRS: Final = (("first", "second"), *PAIRS)
_LISTED: Final = {"responses", "chosen", "rejected"}  # columns of other layouts, which have errors of their own
_JUDGED: Final = {*LABELS, "chosen", "rejected", "votes", "scores"}


def unlabeled_columns(names: Sequence[str], columns: Mapping[str, str]) -> Columns | None:
    """The columns of prompts and of both responses, where there is none that says which is better.

    columns: our name -> the file's, as the user gave them.
    """
    present = {*names, *columns}
    if present & _JUDGED:
        return None
    pair = next((pair for pair in _PAIRS if present.issuperset(pair)), None)
    prompt = next((name for name in ("prompt", *PROMPTS) if name in present), None)
    if pair is None or prompt is None:
        return None
    first, second = (columns.get(name, name) for name in pair)
    return columns.get(prompt, prompt), first, second


def require_two_responses(location: str, names: Sequence[str], columns: Mapping[str, str]) -> None:
    """Raise GuerdonError for columns that hold no two responses, with the options that name them."""
    present = {*names, *columns}
    if present & _LISTED or any(present.issuperset(pair) for pair in _PAIRS):
        return
    theirs = names if len(names) == len(OURS) and not present & {*OURS} else ["NAME"] * len(OURS)
    missing = [(ours, name) for ours, name in zip(OURS, theirs, strict=True) if ours not in present]
    flags = " ".join(f"--column {shlex.quote(f'{ours}={name}')}" for ours, name in missing)
    shown = ", ".join(visible(name[:30]) for name in names[:MOST_NAMES])
    raise GuerdonError(
        f"{location}: columns must hold a prompt and two responses, got {shown}. Say which columns they are: {flags}."
    )


def unlabeled_rows(rows: Iterator[tuple[str, Any]], columns: Columns) -> Iterator[tuple[str, Any]]:
    """The rows with a prompt and a list of two responses; other columns stay."""
    prompt, *pair = columns
    for location, row in rows:
        if not isinstance(row, Mapping):
            yield location, row
            continue
        others = {key: value for key, value in row.items() if key not in columns}
        try:
            responses = [messages_in(row.get(name), name) for name in pair]
        except GuerdonError as error:
            yield location, Rejected(location, str(error), row)
            continue
        yield location, {**others, "prompt": row.get(prompt), "responses": responses}
