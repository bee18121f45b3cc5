"""What every judge of ours has in common: it compares pairs one after another, counts what it did, and gives log-odds.

Log-odds are nats, NaN where a pair has no verdict.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from guerdon.contracts import Prompt, PromptLike, Response, ResponseLike, as_prompt, as_response
from guerdon.models.judges.verdicts import PairVerdict, RankingVerdict

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to compare. item: a name to keep with the calls."""

    prompt: Prompt
    first: Response
    second: Response
    item: str = ""


@dataclass(slots=True)
class Tally:
    """What a judge did so far: pairs, those without a verdict by code, those whose two orders disagree, and first picks.

    first_picks of order_picks single orders preferred the response shown first. bias: sum of nats that being first added, over
    both_orders pairs.
    """

    pairs: int = 0
    unresolved: int = 0
    inconsistent: int = 0
    both_orders: int = 0
    first_picks: float = 0.0
    order_picks: int = 0
    bias: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: PairVerdict | RankingVerdict) -> None:
        """Count a verdict. Of a ranking, no more is counted than whether it is there."""
        self.pairs += 1
        self.failures.update(failure.code for failure in verdict.failures)
        if not verdict.is_resolved:
            self.unresolved += 1
            return
        if isinstance(verdict, RankingVerdict):
            return
        for order in verdict.orders:
            self.first_picks += 0.5 if order.q == 0.5 else float(order.q > 0.5)
            self.order_picks += 1
        if verdict.is_consistent is not None and verdict.bias is not None:
            self.both_orders += 1
            self.inconsistent += not verdict.is_consistent
            self.bias += verdict.bias

    @property
    def unresolved_share(self) -> float:
        """Share of pairs without a verdict."""
        return self.unresolved / self.pairs if self.pairs else 0.0


@runtime_checkable
class VerdictJudge(Protocol):
    """A Judge that says why: verdicts with what each order gave, failures with their codes, and a tally."""

    tally: Tally

    @property
    def name(self) -> str:
        """The name under which its judgments are kept."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of what changes its verdicts."""
        ...

    def compare(self, pairs: Iterable[Pair]) -> Iterator[tuple[int, PairVerdict]]:
        """Judge pairs; yields the position and the verdict of each, in any order."""
        ...

    def log_odds(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Log-odds, in nats, that the first response is the better one; NaN where there is no verdict."""
        ...


class ComparesByVerdict:
    """What makes a Judge of whatever compares pairs."""

    def log_odds(
        self: VerdictJudge,
        prompts: Sequence[PromptLike],
        first: Sequence[ResponseLike],
        second: Sequence[ResponseLike],
    ) -> Float[np.ndarray, " n"]:
        """Log-odds, in nats, that the first response is the better one; NaN where there is no verdict."""
        log_odds = np.full(len(prompts), math.nan)
        for position, verdict in self.compare(as_pairs(prompts, first, second)):
            log_odds[position] = verdict.log_odds
        return log_odds


def as_pairs(
    prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
) -> Iterator[Pair]:
    """Pairs to compare, from columns of equal length."""
    for prompt, a, b in zip(prompts, first, second, strict=True):
        yield Pair(as_prompt(prompt), as_response(a), as_response(b))
