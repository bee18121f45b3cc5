"""Markdown keeps hostile text as text."""

from __future__ import annotations

import re

from sample_reports import hostile_report

from guerdon.reporting import to_markdown


def test_markdown_keeps_hostile_text_as_text():
    lines = to_markdown(hostile_report())
    outside = re.sub(r"^(`{3,})text\n.*?\n\1$", "", lines, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside
    assert "````text" in lines  # longer than any fence within
    assert all(line.count(" | ") <= 4 for line in outside.splitlines() if line.startswith("| "))
