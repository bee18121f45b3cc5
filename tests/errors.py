"""What every error of ours owes its reader."""

from __future__ import annotations

import re


def gives_advice(line: str) -> bool:
    """Whether an error ends with a sentence in the imperative, or names what would have been right."""
    advice = re.search(r"\. [A-Z][a-z]+\b[^\n]+[.?]$", line)
    return bool(advice) or any(words in line for words in ("the nearest is", "known are", "write", "give"))
