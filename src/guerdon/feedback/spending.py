"""What judging costs, as an estimate before it is done. A price that is not known is unknown, never 0."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from guerdon.config.judging import JudgeOptions
from guerdon.errors import counted
from guerdon.feedback.judging import Unjudged
from guerdon.io.judge_file import jury_members
from guerdon.io.price_table import priced

CHARACTERS_PER_TOKEN = 4.0  # of English; other scripts have fewer, and cost more than estimated
TEMPLATE_TOKENS = 200  # of the shipped templates


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """Calls, tokens and money that judging takes at most, if every answer can be read and none is kept already.

    cost: None where the prices are unknown.
    """

    pairs: int
    calls: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    currency: str

    def __str__(self) -> str:
        price = "price unknown" if self.cost is None else f"about {self.cost:,.2f} {self.currency}"
        return (
            f"{counted(self.pairs, 'pair')}: at most {self.calls:,} calls, about {self.tokens_in:,} tokens to read and "
            f"{self.tokens_out:,} to write, {price}"
        )


def costs(judge: JudgeOptions) -> bool:
    """Whether a server is asked, which may want money."""
    return bool(_endpoints(judge))


def estimate_cost(options: JudgeOptions, rows: Iterable[Unjudged]) -> CostEstimate:
    """What judging the rows costs on servers; a jury costs what its judges cost, unknown where the price of any is.

    Mode auto is taken for the dearer of its two, and answers for as long as they may be.
    """
    options = priced(options)
    pairs = characters = 0
    ranks = options.kind in ("endpoint", "local") and options.mode == "ranking" and options.rubric is None
    for row in rows:
        for pair in row.units(ranks):
            pairs += 1
            characters += sum(len(turn.content) for turn in pair.prompt) + sum(len(r.text) for r in pair.responses)
    each = [_estimate(endpoint, pairs, characters) for endpoint in _endpoints(options)]
    known = [estimate.cost for estimate in each if estimate.cost is not None]
    return CostEstimate(
        pairs,
        sum(estimate.calls for estimate in each),
        sum(estimate.tokens_in for estimate in each),
        sum(estimate.tokens_out for estimate in each),
        sum(known) if len(known) == len(each) else None,
        options.currency,
    )


def _endpoints(options: JudgeOptions) -> list[JudgeOptions]:
    """The judges behind servers: this one, or those of a jury."""
    if options.kind == "jury":
        return [endpoint for member in jury_members(options) for endpoint in _endpoints(member)]
    return [options] if options.kind == "endpoint" else []


def _estimate(options: JudgeOptions, pairs: int, characters: int) -> CostEstimate:
    orders = 2 if options.both_orders else 1
    samples = options.samples if options.mode in ("auto", "pair_samples", "pair_reasons") else 1
    steps = 2 if options.mode == "pair_reasons" else 1
    per_pair = {"score": 2, "ranking": options.permutations}.get(options.mode, orders * samples * steps)
    written = {"pair": 1, "score": 1}.get(options.mode, options.max_tokens)
    calls = pairs * per_pair
    tokens_in = int(per_pair * (characters / CHARACTERS_PER_TOKEN + pairs * TEMPLATE_TOKENS))
    tokens_out = calls * written
    cost = None
    if options.price_in is not None and options.price_out is not None:
        cost = (tokens_in * options.price_in + tokens_out * options.price_out) / 1e6
    return CostEstimate(pairs, calls, tokens_in, tokens_out, cost, options.currency)
