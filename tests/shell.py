"""The command line as a user sees it, in this process: a new one would take seconds to import torch."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from dataclasses import dataclass
from unittest.mock import patch


@dataclass(frozen=True)
class Ran:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


def guerdon(*words: object) -> Ran:
    """Run `guerdon WORDS`."""
    from guerdon import progress
    from guerdon.cli.app import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with patch.object(sys, "argv", ["guerdon", *map(str, words)]), contextlib.redirect_stdout(out):
        with contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            finally:
                progress.set_quiet(False)  # --quiet is for the whole process, which here goes on
                logging.getLogger("guerdon").setLevel(logging.INFO)
    return Ran(code, out.getvalue(), err.getvalue())
