"""What every error of ours owes its reader."""

from __future__ import annotations

import re


def gives_advice(line: str) -> bool:
    """Whether an error ends with a sentence that says what to do."""
    return re.search(r"\. [A-Z][a-z]+\b[^\n]+[.?]$", line) is not None
