"""Progress on stderr: a bar on a terminal, a line every 20 seconds elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Self

from guerdon.errors import visible

Progress = Callable[[int, int], None]
"""A callback of a stage: how much is done, and of how much."""

_STATE = {"is_quiet": os.environ.get("RANK", "0") != "0"}  # of a launcher's processes, only the first shows progress


class ProgressBar:
    """Counts work: a tqdm bar on a terminal, elsewhere a line at most every `interval` seconds. A context manager.

    `total` is None if it is not known in advance; `initial` is what an earlier run did already.
    """

    def __init__(
        self, total: int | None, label: str, unit: str = "it", *, initial: int = 0, interval: float = 20.0
    ) -> None:
        self.total, self.label, self.unit, self.interval = total, label, unit, interval
        self.done = self.initial = initial
        self.start_time = self.last_line_time = time.monotonic()
        self.bar: Any = None
        if not is_quiet() and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=total, desc=label, unit=unit, initial=initial, dynamic_ncols=True, smoothing=0.1, leave=False
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_on_terminal(self) -> bool:
        """Whether there is a bar to look at."""
        return self.bar is not None

    def advance(self, amount: int = 1, **values: object) -> None:
        """Count more work as done, and show the values next to it."""
        self.done += amount
        if self.bar is not None:
            self.bar.set_postfix({name: _short(value) for name, value in values.items()}, refresh=False)
            self.bar.update(amount)
            return
        now = time.monotonic()
        if not is_quiet() and now - self.last_line_time >= self.interval:
            self.last_line_time = now
            note(self._line(now - self.start_time, values))

    def update(self, done: int, total: int) -> None:
        """The same as a `Progress` callback; a stage may count more than it was given, so the total may change."""
        self.total = total
        if self.bar is not None:
            self.bar.total = total
        self.advance(done - self.done)

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()

    def _line(self, seconds: float, values: dict[str, object]) -> str:
        rate = (self.done - self.initial) / seconds
        text = " ".join(f"{name}={_short(value)}" for name, value in values.items())
        if self.total is None:
            return f"{self.label}: {self.done} {self.unit}, {rate:.3g}/s {text}".rstrip()
        left = f", {(self.total - self.done) / rate:.0f} s left" if rate > 0 else ""
        return f"{self.label}: {self.done}/{self.total} {self.unit}, {rate:.3g}/s{left} {text}".rstrip()


def note(line: str) -> None:
    """Print a line on stderr, unless progress is off."""
    if not is_quiet():
        print(visible(line), file=sys.stderr)


def is_quiet() -> bool:
    """Whether progress is off."""
    return _STATE["is_quiet"]


def set_quiet(quiet: bool = True) -> bool:
    """Turn progress off, or on again; returns whether it was off before."""
    before = is_quiet()
    _STATE["is_quiet"] = quiet
    return before


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
