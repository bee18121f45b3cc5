"""How many calls a server gets at once, how many per minute, and when a run must stop. Times are seconds of one clock."""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from guerdon.models.judges.failures import Failure

CLEAN_RESPONSES: Final = 10  # before one more call may be in flight
WINDOW: Final = 50  # responses whose 95th percentile is compared with that of the window before
NOISE: Final = 0.25  # seconds; a percentile below this says nothing about the server's load
BURST: Final = 5.0  # seconds whose share of a limit per minute may be used at once


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits before another try: full jitter, that is, uniform between 0 and a limit that doubles up to `most` seconds."""

    base: float = 1.0
    most: float = 60.0

    def seconds(self, tried: int) -> float:
        """A wait after so many tries."""
        return random.uniform(0.0, min(self.most, self.base * 2.0 ** min(tried, 30)))


class AdaptiveLimit:
    """Additive increase, multiplicative decrease: one more call after 10 clean responses, half after a 429.

    Half as well where the 95th percentile of the latency doubles from one window of responses to the next. Calls that were
    sent before the last decrease do not decrease it again.
    """

    def __init__(self, start: int, most: int) -> None:
        self.limit, self.most = float(min(start, most)), most
        self._clean, self._decreased_at = 0, float("-inf")
        self._latencies: list[float] = []
        self._last_p95: float | None = None

    def add_response(self, sent: float, now: float) -> None:
        """Count an answer."""
        self._latencies.append(now - sent)
        self._clean += 1
        if self._clean >= CLEAN_RESPONSES:
            self._clean, self.limit = 0, min(self.limit + 1.0, float(self.most))
        if len(self._latencies) >= WINDOW:
            p95 = sorted(self._latencies)[int(0.95 * len(self._latencies))]
            self._latencies.clear()
            if self._last_p95 is not None and p95 > max(NOISE, 2.0 * self._last_p95):
                self.decrease(sent, now)
            self._last_p95 = p95

    def decrease(self, sent: float, now: float) -> None:
        """Halve the limit, but not below one call, for a call that was sent at this time."""
        self._clean = 0
        if sent >= self._decreased_at:
            self.limit, self._decreased_at = max(1.0, self.limit / 2), now


class TokenBucket:
    """A limit per minute. A use larger than the bucket needs a full one, and the next uses wait until it is paid back."""

    def __init__(self, per_minute: float | None, now: float) -> None:
        self.rate = None if per_minute is None else per_minute / 60.0
        self.size = max(1.0, BURST * (self.rate or 0.0))
        self._level, self._at = self.size, now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until so much may be used; 0.0 if it may now."""
        if self.rate is None:
            return 0.0
        self._level = min(self.size, self._level + (now - self._at) * self.rate)
        self._at = now
        return max(0.0, (min(amount, self.size) - self._level) / self.rate)

    def use(self, amount: float) -> None:
        """Take it, whether or not it is there."""
        if self.rate is not None:
            self._level -= amount


@dataclass(slots=True)
class Breaker:
    """Stops a run whose calls fail: any failure that would repeat itself, or more than half of the last 100 calls."""

    window: int = 100
    most: float = 0.5
    recent: deque[str | None] = field(default_factory=deque)

    def add(self, failure: Failure | None) -> str | None:
        """Count a call that has ended; returns why the run must stop, None if it may go on."""
        self.recent.append(failure.code if failure else None)
        if len(self.recent) > self.window:
            self.recent.popleft()
        codes = Counter(code for code in self.recent if code is not None)
        if len(self.recent) < self.window or codes.total() <= self.most * self.window:
            return None
        counts = ", ".join(f"{code} {count}" for code, count in codes.most_common(4))
        return f"{codes.total()} of the last {self.window} calls failed ({counts})"
