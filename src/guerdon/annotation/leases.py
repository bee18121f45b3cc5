"""How long an item is held: the project's setting, or five times the median of the time that people take, if that is longer."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

from guerdon.config import AnnotationOptions

FACTOR: Final = 5.0
REMEMBERED: Final = 301  # times, of the newest judgments
FEWEST: Final = 20  # times that a median needs


class Pace:
    """The seconds that people took for their newest judgments in a project, as far as this process has seen them."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._typical = 0.0

    def add(self, seconds: float) -> None:
        """Take note of one more judgment."""
        self._seconds.append(seconds)
        if len(self._seconds) >= FEWEST and len(self._seconds) % 10 == 0:
            self._typical = median(self._seconds)

    def lease_seconds(self, options: AnnotationOptions) -> float:
        """The lease of an item that is claimed now."""
        return max(options.lease_seconds, FACTOR * self._typical)
