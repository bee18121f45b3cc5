"""NeMo RL: a context and its completions with their ranks, in the order shown."""

from __future__ import annotations

from collections.abc import Iterator

from guerdon.contracts import Comparison
from guerdon.data.exporters.columns import Job, Row, answerable, extras, messages, response_turns, tools_column
from guerdon.data.exporters.pairs import Pair, levels_of
from guerdon.data.importers.columns import refuse_empty
from guerdon.io.fields import complement

__all__ = ["ranked", "ranked_pair"]


def ranked(comparison: Comparison, job: Job) -> Iterator[Row]:
    """{context: [message], completions: [{rank, completion: [message]}]}: rank 0 is best, equal ranks tie.

    Responses that were not ranked share the last rank. NeMo RL itself trains on two completions of different ranks.
    """
    levels = levels_of(comparison)
    rank = {i: level for level, group in enumerate(levels) for i in group}
    if -1 in comparison.ranks:
        job.losses.add("which responses were not ranked")
    if len(levels) < 2 and job.options.ties == "drop":
        job.losses.add_tie()
        return
    refuse_empty({f"responses[{i}]": response for i, response in enumerate(comparison.responses)})
    q = comparison.preference.q
    yield {
        "context": messages(answerable(comparison.prompt), job),
        "completions": [
            {"rank": rank[i], "completion": messages(response_turns(response), job)}
            for i, response in enumerate(comparison.responses)
        ],
        **tools_column(comparison.prompt),
        **extras(comparison, job),
        **({} if q is None or not job.options.extras else {"p_chosen": max(q, complement(q))}),
    }


def ranked_pair(pair: Pair, job: Job) -> Row:
    """The same row for two responses, the chosen one first; a tie has two equal ranks."""
    ranks = (0, 0) if pair.is_tie else (0, 1)
    return {
        "context": messages(answerable(pair.prompt), job),
        "completions": [
            {"rank": rank, "completion": messages(response_turns(response), job)}
            for rank, response in zip(ranks, (pair.chosen, pair.rejected), strict=True)
        ],
        **tools_column(pair.prompt),
    }
