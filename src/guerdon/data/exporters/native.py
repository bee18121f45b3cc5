"""Guerdon's own rows hold everything, so comparisons pass as they are; ties are left out only on demand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from guerdon.contracts import Comparison
from guerdon.data.exporters.columns import Job
from guerdon.io.schema import Rejected

__all__ = ["kept"]


def kept(rows: Iterable[Comparison | Rejected], job: Job) -> Iterator[Comparison | Rejected]:
    """The same rows; without comparisons in which all responses tie, if ties are to be dropped."""
    for row in rows:
        if isinstance(row, Rejected):
            yield row
            continue
        is_dropped = job.options.ties == "drop" and len(set(row.ranks)) == 1
        job.losses.end_comparison(not is_dropped)
        if is_dropped:
            job.losses.add_tie()
        else:
            yield row
