"""Progress that suits where it is shown: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
QUIET = {"on": os.environ.get("RANK", "0") != "0"}  # of a launcher's processes only the first shows anything


class Bar:
    """Counts work done. On a terminal it is a tqdm bar; elsewhere it prints a line at most every `every` seconds.

    `total` is None where nobody knows it before the end.
    """

    def __init__(self, total: int | None, label: str, unit: str = "it", initial: int = 0, every: float = 20.0) -> None:
        self.total, self.label, self.unit, self.done, self.every = total, label, unit, initial, every
        self.started = self.printed = time.monotonic()
        self.initial = initial
        self.bar: Any = None
        if not QUIET["on"] and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=total, desc=label, unit=unit, initial=initial, dynamic_ncols=True, smoothing=0.1, leave=False
            )

    def expect(self, total: int) -> None:
        """How many there are, where that was not known at first."""
        self.total = total
        if self.bar is not None:
            self.bar.total = total

    def advance(self, amount: int = 1, **shown: object) -> None:
        """Move forward and show the given values beside the bar."""
        self.done += amount
        if self.bar is not None:
            self.bar.set_postfix({k: _short(v) for k, v in shown.items()}, refresh=False)
            self.bar.update(amount)
            return
        now = time.monotonic()
        if not QUIET["on"] and now - self.printed >= self.every:
            self.printed = now
            rate = (self.done - self.initial) / (now - self.started)
            values = " ".join(f"{k}={_short(v)}" for k, v in shown.items())
            if self.total is None:
                note(f"{self.label}: {self.done} {self.unit}, {rate:.3g}/s {values}".rstrip())
                return
            left = (self.total - self.done) / rate if rate > 0 else float("nan")
            note(
                f"{self.label}: {self.done}/{self.total} {self.unit}, {rate:.3g}/s, {left:.0f} s left {values}".rstrip()
            )

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()


def note(line: str) -> None:
    """Print a line on stderr, unless progress is off."""
    if not QUIET["on"]:
        print(line, file=sys.stderr)


def track(items: Iterable[T], total: int, label: str, unit: str = "it") -> Iterator[T]:
    """Yield the items while a bar counts them."""
    bar = Bar(total, label, unit)
    try:
        for item in items:
            yield item
            bar.advance()
    finally:
        bar.close()


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class bar:
    """A progress callback (done, total) with a bar behind it."""

    def __init__(self, label: str, total: int) -> None:
        self.bar = Bar(total, label, "comparisons")

    def __enter__(self) -> Any:
        def tell(done: int, total: int) -> None:
            self.bar.expect(total)  # a stage may count more than the comparisons that it was given
            self.bar.advance(done - self.bar.done)

        return tell

    def __exit__(self, *_: object) -> None:
        self.bar.close()
