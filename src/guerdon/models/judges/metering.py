"""What a judge cost: calls, tokens and money, counted as the calls are logged."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from guerdon.models.judges.calls import CallLog, CallRecord
from guerdon.models.judges.comparing import Tally


@dataclass(slots=True)
class Spending:
    """calls: that were made, not those that the log held. tokens_in, tokens_out: where the model said how many.

    cost: of the calls with a known price; num_unpriced: calls whose price is unknown, which is not 0.
    """

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    num_unpriced: int = 0

    def add(self, record: CallRecord) -> None:
        """Count a call."""
        self.calls += 1
        self.tokens_in += record.usage.tokens_in or 0
        self.tokens_out += record.usage.tokens_out or 0
        self.cost += record.cost or 0.0
        self.num_unpriced += record.cost is None


class MeteredLog:
    """A log that counts what is added to it. Fulfills CallLog."""

    def __init__(self, log: CallLog) -> None:
        self.log, self.spending = log, Spending()
        self._lock = threading.Lock()

    def answers(self, keys: Sequence[str]) -> Mapping[str, str]:
        """The raw answers that the log keeps, by key."""
        return self.log.answers(keys)

    def add(self, records: Iterable[CallRecord]) -> None:
        """Keep and count calls."""
        rows = list(records)
        self.log.add(rows)
        with self._lock:
            for row in rows:
                self.spending.add(row)


def judge_facts(tally: Tally, spending: Spending, *, is_priced: bool, currency: str = "USD") -> dict[str, str]:
    """What a judge did and cost, as facts of a report. is_priced: whether its calls cost money, known or not."""
    facts = {"pairs judged": f"{tally.pairs:,}"}
    if tally.unresolved:
        facts["pairs without a verdict"] = f"{tally.unresolved:,}"
    if tally.failures:
        facts["failed calls"] = ", ".join(f"{code} {num:,}" for code, num in tally.failures.most_common())
    if tally.both_orders:
        facts["orders that disagree"] = f"{tally.inconsistent:,} of {tally.both_orders:,} pairs"
        facts["being shown first adds"] = f"{tally.bias / tally.both_orders:+.2f} nats on average"
    if spending.calls:
        facts["calls"] = f"{spending.calls:,}"
        facts["tokens"] = f"{spending.tokens_in:,} read, {spending.tokens_out:,} written"
    if is_priced and spending.calls:
        known = f"{spending.cost:.4f} {currency}"
        unknown = f", and {spending.num_unpriced:,} calls of unknown price" if spending.num_unpriced else ""
        facts["cost"] = (
            known + unknown if spending.num_unpriced < spending.calls else "unknown: give price_in, price_out"
        )
    return facts
