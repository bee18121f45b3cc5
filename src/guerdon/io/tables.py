"""The rows of CSV and TSV files, as spreadsheets and programs write them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guerdon.errors import field_error
from guerdon.io import text_lines
from guerdon.io.schema import Rejected

Rows = Iterator[tuple[str, Any]]

DELIMITERS = (",", ";", "\t", "|")


def table_rows(path: Path, delimiter: str) -> Rows:
    """The (location, row) pairs of a table whose first line names the columns.

    The location is path:LINE, with the row of a spreadsheet behind it where that has another number. A row that cannot be
    read is a Rejected. Without the expected delimiter in the first line, another one there is taken; columns without a
    name are left out.
    """
    pending: list[str] = []  # the physical lines of the row that is being read
    csv.field_size_limit(text_lines.LONGEST_LINE)
    lines = _text_lines(path, pending)
    first = next(lines, None)
    if first is None:
        return
    delimiter = _delimiter(first, delimiter)
    style: dict[str, Any] = {"delimiter": delimiter, "skipinitialspace": f"{delimiter} " in first, "strict": True}
    rows = _csv_rows(csv.reader(_put_back(first, lines), **style), path, pending)
    header = next(rows, None)
    if header is None:
        return
    names = header[1]
    names = names if isinstance(names, Rejected) else [name.strip() for name in names]
    if isinstance(names, Rejected) or len(set(filter(None, names))) != sum(map(bool, names)) or not any(names):
        raise field_error(f"{path}:1: the first line", "a header that names each column once", names, "Add a header.")
    for location, cells in rows:
        if isinstance(cells, Rejected):
            yield location, cells
        elif len(cells) != len(names):
            reason = f"has {len(cells)} cells for {len(names)} columns. Quote cells that hold {delimiter!r}."
            yield location, Rejected(location, reason, cells)
        else:
            yield location, {name: cell for name, cell in zip(names, cells, strict=True) if name}


def _delimiter(header: str, expected: str) -> str:
    return next((mark for mark in (expected, *DELIMITERS) if mark in header), expected)


def _put_back(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _csv_rows(reader: Any, path: Path, pending: list[str]) -> Rows:
    """(location, cells) of each row, without blank ones."""
    number = 0  # of the row, as a spreadsheet counts: blank rows too, and a row of several lines once
    while True:
        number += 1
        line = reader.line_num + 1
        location = f"{path}:{line}" if line == number else f"{path}:{line} (row {number})"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            advice = 'Close its quotes, and write a quote within a cell as "".'
            yield location, Rejected(location, f"is not valid CSV ({error}). {advice}", _visible("".join(pending)))
        else:
            text = "".join(pending)
            if any("\udc80" <= char <= "\udcff" for char in text):
                reason = text_lines.not_utf8(text.encode("utf-8", "surrogateescape"))
                yield location, Rejected(location, reason, _visible(text))
            elif cells:
                yield location, cells
        pending.clear()


def _text_lines(path: Path, pending: list[str]) -> Iterator[str]:
    """The lines, a byte that is not UTF-8 as half a character."""
    for _, line in text_lines.text_lines(path):
        pending.append(line.decode("utf-8", "surrogateescape"))
        yield pending[-1]


def _visible(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
