"""What commands print: names and texts of files and servers never steer the terminal."""

import json
import logging
import unicodedata
from contextlib import suppress

import pytest
from rich.table import Table

from guerdon import progress
from guerdon.cli import output
from guerdon.cli.app import _exit_with_error, _set_up_output
from guerdon.errors import visible

HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\x08\x7f\x9b31m\u202eevil\u2066x\u2028y"


def steering(text: str) -> set[str]:
    """Characters other than tab and line feed that a terminal obeys or that reorder a line."""
    directions = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return {
        c
        for c in text
        if (unicodedata.category(c) in ("Cc", "Zl", "Zp") and c not in "\t\n")
        or unicodedata.bidirectional(c) in directions
    }


def test_the_hostile_text_steers():
    assert len(steering(HOSTILE)) == 9


def test_visible_text_has_the_same_length_and_keeps_what_does_not_steer():
    assert visible(HOSTILE) == "a␛[2J␛]0;title␇␍␈␡\ufffd31m\ufffdevil\ufffdx\ufffdy"
    harmless = "tab\tline\nשלום \u200f العربية 👩\u200d🔬 é"
    assert visible(harmless) == harmless


def print_table() -> None:
    table = Table(title=HOSTILE)
    table.add_row(HOSTILE)
    output.show(table, HOSTILE)


@pytest.mark.parametrize(
    "write",
    [
        print_table,
        lambda: output.note(HOSTILE),
        lambda: output.print_rows([(HOSTILE, HOSTILE)]),
        lambda: output.print_facts({HOSTILE: HOSTILE, "n": 3}, False),
        lambda: output.print_facts({HOSTILE: HOSTILE}, True),
        lambda: progress.note(HOSTILE),
        lambda: progress.ProgressBar(3, HOSTILE, interval=0).advance(1, **{HOSTILE: HOSTILE}),
        lambda: logging.getLogger("guerdon").warning("%s", HOSTILE),
        lambda: _exit_with_error(HOSTILE),
    ],
)
def test_nothing_printed_steers_the_terminal(write, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger("guerdon"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("guerdon"), "propagate", False)
    _set_up_output()
    with suppress(SystemExit):
        write()
    printed = "".join(capsys.readouterr())
    assert "evil" in printed
    assert not steering(printed)


def test_printed_json_holds_the_same_value(capsys):
    output.print_json({"id": HOSTILE, "é": "ü\n\t"})
    line = capsys.readouterr().out
    assert "\\u202e" in line
    assert "é" in line
    assert json.loads(line) == {"id": HOSTILE, "é": "ü\n\t"}
