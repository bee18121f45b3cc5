"""The one error that users see."""

from __future__ import annotations


class GuerdonError(ValueError):
    """A user's mistake, in one line: what must be true, what was found, and what to do. The command line exits with 2."""
