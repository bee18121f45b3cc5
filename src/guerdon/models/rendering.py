"""A conversation rendered by a chat template, which is a program from elsewhere: within a limit on time and output."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from guerdon.contracts import GuerdonError

SECONDS = 5.0  # of processor time; a long conversation takes milliseconds
CHARACTERS, PER_CHARACTER = 1_000_000, 10  # of output: in any case, and per character of input


class _OutOfTimeError(Exception):
    """The template has run for too long."""


def apply_template(tokenizer: Any, turns: Sequence[Mapping[str, Any]], **options: Any) -> str:
    """The text of turns in OpenAI's shape; options are those of transformers' apply_chat_template.

    Raises GuerdonError, which names the template's file, for a template that runs for too long or writes too much. What
    else the template raises is left as it is. The time is limited in the main thread, where the system has timers.
    """
    try:
        with _limited_time():
            text = str(tokenizer.apply_chat_template(list(turns), tokenize=False, **options))
    except _OutOfTimeError:
        raise GuerdonError(
            f"{template_file(tokenizer)}: the chat template must render a conversation within {SECONDS:g} s, got no end. "
            "Correct its loops, or use another template."
        ) from None
    if len(text) > CHARACTERS and len(text) > (most := CHARACTERS + PER_CHARACTER * len(str([turns, options]))):
        raise GuerdonError(
            f"{template_file(tokenizer)}: the chat template must write at most {most:,} characters for this conversation, "
            f"got {len(text):,}. Correct its loops, or use another template."
        )
    return text


def template_file(tokenizer: Any) -> str:
    """Where the tokenizer's chat template is stored, as far as is known."""
    folder = Path(tokenizer.name_or_path or "tokenizer")
    file = folder / "chat_template.jinja"
    return str(file if file.is_file() else folder)


# ---- Time ----------------------------------------------------------------------------------------------------------------


@contextmanager
def _limited_time() -> Iterator[None]:
    """Raise _OutOfTimeError in the body once this thread has computed for SECONDS.

    The handler is installed once: signal.signal takes longer than a short conversation's template.
    """
    if threading.current_thread() is not threading.main_thread() or not _handler_is_installed():
        yield
        return
    _started_at.append(time.thread_time())
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        _started_at.clear()


_started_at: list[float] = []  # this thread's processor time at the start of the rendering; empty between renderings


@cache
def _handler_is_installed() -> bool:
    """Handle the timer's signal here, unless somebody else does; whether it is handled here."""
    if not hasattr(signal, "setitimer") or signal.getsignal(signal.SIGVTALRM) is not signal.SIG_DFL:
        return False
    signal.signal(signal.SIGVTALRM, _stop_if_out_of_time)
    return True


def _stop_if_out_of_time(number: int, frame: FrameType | None) -> None:
    if not _started_at:
        return
    left = SECONDS - (time.thread_time() - _started_at[0])
    if left <= 0:
        raise _OutOfTimeError
    signal.setitimer(signal.ITIMER_VIRTUAL, left)  # the timer counts the time of all threads
