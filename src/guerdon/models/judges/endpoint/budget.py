"""What calls cost, and a budget that holds while many of them are in flight. An unknown price is unknown, never 0."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum

from guerdon.config.judging import JudgeOptions
from guerdon.errors import field_error
from guerdon.models.judges.calls import Usage

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a million tokens: read, written, and read from the provider's cache. None where unknown."""

    read: float | None = None
    written: float | None = None
    cached: float | None = None
    currency: str = "USD"
    date: str | None = None

    @classmethod
    def of(cls, options: JudgeOptions) -> Prices:
        """The prices that a judge's options give."""
        return cls(options.price_in, options.price_out, options.price_cached, options.currency, options.price_date)

    @property
    def name(self) -> str | None:
        """How records name these prices; None where they are unknown."""
        if self.read is None or self.written is None:
            return None
        cached = "" if self.cached is None else f", {self.cached:g} cached"
        date = "" if self.date is None else f", of {self.date}"
        return f"{self.currency} {self.read:g} read, {self.written:g} written{cached}, per million tokens{date}"

    def cost(self, tokens_in: int | None, tokens_out: int | None, tokens_cached: int | None = None) -> float | None:
        """The cost of tokens; None where a price or a number of tokens is unknown."""
        if self.read is None or self.written is None or tokens_in is None or tokens_out is None:
            return None
        cached = min(tokens_cached or 0, tokens_in) if self.cached is not None else 0
        total = (tokens_in - cached) * self.read + tokens_out * self.written + cached * (self.cached or 0.0)
        return total / MILLION

    def cost_of(self, usage: Usage) -> float | None:
        """The cost of a call; None where it is unknown."""
        return self.cost(usage.tokens_in, usage.tokens_out, usage.tokens_cached)


@dataclass(frozen=True, slots=True)
class Amount:
    """What a call may use at most, or has used. cost: None where unknown."""

    tokens: int = 0
    cost: float | None = 0.0


class Room(Enum):
    """Whether a budget has room for a call: it does, it may once calls in flight have ended, or it is used up."""

    YES = "yes"
    LATER = "later"
    NO = "no"


class Budget:
    """Limits on calls, tokens and cost. Each try counts as a call. May be shared by judges in several threads.

    A call reserves what it may use at most before it is sent, so what is spent stays within the limits whatever is in flight.
    A call whose use stays unknown, such as one without an answer in time, counts as it was reserved.
    """

    def __init__(
        self, max_calls: int | None = None, max_cost: float | None = None, max_tokens: int | None = None
    ) -> None:
        self.max_calls, self.max_cost, self.max_tokens = max_calls, max_cost, max_tokens
        self.calls, self.tokens, self.cost = 0, 0, 0.0
        self.has_unknown_cost, self.is_used_up = False, False
        self._in_flight, self._reserved_tokens, self._reserved_cost = 0, 0, 0.0
        self._lock = threading.Lock()

    @classmethod
    def of(cls, options: JudgeOptions) -> Budget:
        """The limits that a judge's options give."""
        return cls(options.max_calls, options.max_cost, options.max_total_tokens)

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return any(limit is not None for limit in (self.max_calls, self.max_cost, self.max_tokens))

    def reserve(self, most: Amount) -> Room:
        """Reserve what a call may use at most, if there is room for it."""
        if most.cost is None and self.max_cost is not None:
            raise field_error("max_cost", "left out where prices are unknown", self.max_cost, "Give the prices.")
        with self._lock:
            if self.max_calls is not None and self.calls >= self.max_calls:
                self.is_used_up = True
                return Room.NO
            if self._is_over(most, self._reserved_tokens, self._reserved_cost):
                if self._in_flight:
                    return Room.LATER
                self.is_used_up = True
                return Room.NO
            self.calls += 1
            self._in_flight += 1
            self._reserved_tokens += most.tokens
            self._reserved_cost += most.cost or 0.0
            return Room.YES

    def settle(self, most: Amount, used: Amount) -> None:
        """Replace a reservation by what was used."""
        with self._lock:
            self._in_flight -= 1
            self._reserved_tokens -= most.tokens
            self._reserved_cost = self._reserved_cost - (most.cost or 0.0) if self._in_flight else 0.0
            self.tokens += used.tokens
            self.cost += used.cost or 0.0
            self.has_unknown_cost |= used.cost is None

    @property
    def known_cost(self) -> float | None:
        """What was spent; None if the cost of any call is unknown."""
        return None if self.has_unknown_cost else self.cost

    def _is_over(self, most: Amount, reserved_tokens: int, reserved_cost: float) -> bool:
        tokens = self.tokens + reserved_tokens + most.tokens
        cost = self.cost + reserved_cost + (most.cost or 0.0)
        return (self.max_tokens is not None and tokens > self.max_tokens) or (
            self.max_cost is not None and cost > self.max_cost
        )
