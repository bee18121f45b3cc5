"""Ctrl-C and SIGTERM: a command ends with one sentence, and leaves no worker and no half-written file behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

INTERRUPTED: Final = 130  # exit code that typer gives Ctrl-C
TERMINATED: Final = 143  # 128 + SIGTERM, as a shell reports it

RESUMES: Final = "stopped; the same command resumes from here"
STARTS_OVER: Final = "stopped; the same command starts over"

_state = {"is_resumable": False, "is_terminated": False}


def set_resumable(is_resumable: bool) -> None:
    """Whether the command that runs now resumes what was stopped."""
    _state["is_resumable"] = is_resumable


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Within the block, SIGTERM interrupts as Ctrl-C does; a second one ends the process at once."""
    _state.update(is_resumable=False, is_terminated=False)
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        _state["is_terminated"] = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def report_stop() -> int:
    """Print the sentence, from the first process of a launcher only; returns the exit code."""
    if os.environ.get("RANK", "0") == "0":
        print(RESUMES if _state["is_resumable"] else STARTS_OVER, file=sys.stderr)
    return TERMINATED if _state["is_terminated"] else INTERRUPTED
