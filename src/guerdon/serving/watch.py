"""What the consumed rewards look like from step to step of a training: sums by window, in bounded memory.

Requests that name their step are kept by step; others by parts of as many texts. Where there are too many windows, neighbors are joined,
so a long training is kept whole and coarser.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from guerdon.serving.models import Outcome

PART: Final = 256  # texts of a window where requests name no step
MOST_WINDOWS: Final = 512
EDGES: Final = tuple(half / 2 for half in range(-16, 17))  # nats, between which rewards are counted
UNLIKELY: Final = 0.05  # shift_p below it counts as out of distribution


@dataclass(slots=True)
class Window:
    """Sums over the texts of the steps first to last. tokens: of whole conversations. Sums of what was not measured have count 0.

    histogram: texts below EDGES[0], between each edge and the next, and from EDGES[-1] on.
    """

    first: int
    last: int
    texts: int = 0
    without_reward: int = 0
    score: float = 0.0
    score_squared: float = 0.0
    tokens: float = 0.0
    tokens_squared: float = 0.0
    score_tokens: float = 0.0
    shift_count: int = 0
    shifted: int = 0
    std_count: int = 0
    std: float = 0.0
    kl_count: int = 0
    kl: float = 0.0
    histogram: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))

    def add(self, outcome: Outcome, kl: float | None) -> None:
        """Count one text."""
        if kl is not None and math.isfinite(kl):
            self.kl_count += 1
            self.kl += kl
        if outcome.score is None:
            self.without_reward += 1
            return
        self.texts += 1
        self.histogram[bisect_right(EDGES, outcome.score)] += 1
        self.score += outcome.score
        self.score_squared += outcome.score**2
        self.tokens += outcome.tokens
        self.tokens_squared += outcome.tokens**2
        self.score_tokens += outcome.score * outcome.tokens
        if outcome.shift_p is not None:
            self.shift_count += 1
            self.shifted += outcome.shift_p < UNLIKELY
        if outcome.std is not None:
            self.std_count += 1
            self.std += outcome.std

    def joined(self, other: Window) -> Window:
        """Both as one window."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in _SUMS}
        histogram = [one + another for one, another in zip(self.histogram, other.histogram, strict=True)]
        return Window(min(self.first, other.first), max(self.last, other.last), **sums, histogram=histogram)

    # ---- What the sums say -----------------------------------------------------------------------------------------

    @property
    def mean(self) -> float:
        """Mean reward, nats."""
        return self.score / self.texts if self.texts else math.nan

    @property
    def variance(self) -> float:
        """Of the rewards."""
        return _covariance(self.score_squared, self.score, self.score, self.texts)

    @property
    def mean_tokens(self) -> float:
        """Mean length of a text."""
        return self.tokens / self.texts if self.texts else math.nan

    @property
    def length_correlation(self) -> float:
        """Pearson's, of reward and tokens; NaN where one of them does not vary."""
        lengths = _covariance(self.tokens_squared, self.tokens, self.tokens, self.texts)
        if not (self.variance > 0 and lengths > 0):
            return math.nan
        both = _covariance(self.score_tokens, self.score, self.tokens, self.texts)
        return max(-1.0, min(1.0, both / math.sqrt(self.variance * lengths)))

    @property
    def shifted_share(self) -> float:
        """Texts out of distribution, of those for which that was measured."""
        return self.shifted / self.shift_count if self.shift_count else math.nan

    @property
    def mean_std(self) -> float:
        """Mean standard deviation of a score."""
        return self.std / self.std_count if self.std_count else math.nan

    @property
    def mean_kl(self) -> float:
        """Nats a reply, as the training sent them."""
        return self.kl / self.kl_count if self.kl_count else math.nan


_SUMS: Final = tuple(each.name for each in fields(Window) if each.name not in ("first", "last", "histogram"))


def _covariance(products: float, one: float, other: float, n: int) -> float:
    return (products - one * other / n) / (n - 1) if n > 1 else math.nan


class Watch:
    """The windows of one model. Safe to use from several threads."""

    def __init__(self, part: int = PART, most: int = MOST_WINDOWS) -> None:
        self._part, self._most = part, most
        self._steps: list[Window] = []
        self._parts: list[Window] = []
        self._counted = 0
        self._lock = threading.Lock()

    def observe(self, outcomes: Sequence[Outcome], step: int | None = None, kl: Sequence[float] | None = None) -> None:
        """Count the outcomes of a request, and the KL of each if it was sent."""
        with self._lock:
            for i, outcome in enumerate(outcomes):
                if step is None:
                    windows, at = self._parts, self._counted // self._part
                    self._counted += 1
                else:
                    windows, at = self._steps, step
                self._window(windows, at).add(outcome, None if kl is None else kl[i])

    def windows(self) -> tuple[str, list[Window]]:
        """What a window is, and copies of all: by step if any request named one, else by part."""
        with self._lock:
            windows = self._steps or self._parts
            axis = "step" if self._steps else f"part of {self._part} texts"
            return axis, [replace(window, histogram=list(window.histogram)) for window in windows]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON."""
        axis, windows = self.windows()
        return {"axis": axis, "windows": [*map(asdict, windows)]}

    def _window(self, windows: list[Window], at: int) -> Window:
        i = bisect_right(windows, at, key=lambda window: window.first)
        if i and windows[i - 1].last >= at:
            return windows[i - 1]
        if len(windows) >= self._most:
            pairs = zip(windows[::2], windows[1::2], strict=False)
            windows[:] = [one.joined(other) for one, other in pairs] + windows[len(windows) - len(windows) % 2 :]
            return self._window(windows, at)
        windows.insert(i, Window(at, at))
        return windows[i]


def windows_of(rows: Iterable[Mapping[str, Any]]) -> list[Window]:
    """The windows that `as_json` gave. Raises TypeError for anything else."""
    windows = [Window(**row) for row in rows]
    for window in windows:
        numbers = [getattr(window, name) for name in ("first", "last", *_SUMS)] + list(window.histogram)
        if len(window.histogram) != len(EDGES) + 1 or not all(isinstance(number, int | float) for number in numbers):
            raise TypeError("sums must be numbers")
    return windows
