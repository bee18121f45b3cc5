"""What a judge cost: calls, tokens and money, counted as the calls are logged."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from guerdon.models.judges.calls import CallLog, CallRecord
from guerdon.models.judges.comparing import Tally


class CountedLog:
    """A log of calls that counts what passes through it. Fulfills CallLog; any thread may use it.

    calls: that were kept, not those that the log held (`reused`); of them `failed`, in `tries` tries. tokens_in, tokens_out:
    where the model said how many. cost: of the calls with a known price; num_unpriced: calls whose price is unknown, which is not 0.
    """

    def __init__(self, log: CallLog) -> None:
        self.log, self._lock = log, threading.Lock()
        self.calls = self.failed = self.reused = self.tries = self.tokens_in = self.tokens_out = self.num_unpriced = 0
        self.cost = 0.0
        self.prices: set[str] = set()  # the prices that calls were counted by

    def answers(self, keys: Sequence[str]) -> Mapping[str, str]:
        """The raw answers that are kept, by key."""
        kept = self.log.answers(keys)
        with self._lock:
            self.reused += len(kept)
        return kept

    def add(self, records: Iterable[CallRecord]) -> None:
        """Keep calls, and count them once they are kept."""
        rows = list(records)
        self.log.add(rows)
        with self._lock:
            for row in rows:
                self.calls += 1
                self.failed += row.failure is not None
                self.tries += len(row.attempts) or 1
                self.tokens_in += row.usage.tokens_in or 0
                self.tokens_out += row.usage.tokens_out or 0
                self.cost += row.cost or 0.0
                self.num_unpriced += row.cost is None
                if row.cost is not None and row.prices is not None:
                    self.prices.add(row.prices)

    def spent(self, currency: str) -> dict[str, object]:
        """What was spent so far, for a progress bar: tokens, and money where all prices are known."""
        values: dict[str, object] = {}
        if tokens := self.tokens_in + self.tokens_out:
            values["tokens"] = f"{tokens:,}"
        if self.calls and not self.num_unpriced:
            values["cost"] = f"{self.cost:.2f} {currency}"
        return values

    def facts(self, currency: str, *, is_priced: bool = True) -> dict[str, str]:
        """What was spent, for a report. is_priced: whether calls cost money, known or not."""
        facts = {"calls": f"{self.calls:,}", "failed calls": f"{self.failed:,}", "answers reused": f"{self.reused:,}"}
        if self.tries > self.calls:
            facts["tries"] = f"{self.tries:,}"
        if self.tokens_in or self.tokens_out:
            facts["tokens"] = f"{self.tokens_in:,} read, {self.tokens_out:,} written"
        if is_priced and self.calls:
            facts["cost"] = self._cost(currency)
        if is_priced and self.prices:
            facts["prices"] = "; ".join(sorted(self.prices))
        return facts

    def _cost(self, currency: str) -> str:
        if self.num_unpriced == self.calls:
            return "unknown: give price_in and price_out, or a price table"
        unknown = f", and {self.num_unpriced:,} calls of unknown price" if self.num_unpriced else ""
        return f"{self.cost:,.4f} {currency}{unknown}"


def judge_facts(tally: Tally, log: CountedLog, *, is_priced: bool, currency: str = "USD") -> dict[str, str]:
    """What a judge did and cost, as facts of a report. is_priced: whether its calls cost money, known or not."""
    facts = {"pairs judged": f"{tally.pairs:,}"}
    if tally.unresolved:
        facts["pairs without a verdict"] = f"{tally.unresolved:,}"
    if tally.failures:
        facts["failures"] = ", ".join(f"{code} {num:,}" for code, num in tally.failures.most_common())
    if tally.both_orders:
        facts["orders that disagree"] = f"{tally.inconsistent:,} of {tally.both_orders:,} pairs"
        facts["being shown first adds"] = f"{tally.bias / tally.both_orders:+.2f} nats on average"
    return facts | (log.facts(currency, is_priced=is_priced) if log.calls or log.reused else {})
