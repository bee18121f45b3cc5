"""A comparison as pairs of a better and a worse response: what to do with ties, soft labels and rankings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise, product

from guerdon.config import ExportOptions
from guerdon.contracts import Comparison, Prompt, Response, response_digest
from guerdon.io.fields import complement

__all__ = ["Pair", "levels_of", "pairs_of"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses of a comparison, the better one as `chosen`.

    p_chosen: P(chosen is better), where the comparison has a soft label, and 0.5 for a tie; None for a plain preference.
    strength: of this pair, where the comparison has one. rank_gap: how many ranks lie between the two, in a ranking
    of three or more responses; else None. id: of the comparison, with the two positions where it gives several pairs.
    """

    comparison: Comparison
    chosen: Response
    rejected: Response
    id: str
    p_chosen: float | None = None
    strength: float | None = None
    rank_gap: int | None = None

    @property
    def prompt(self) -> Prompt:
        """The prompt of the comparison."""
        return self.comparison.prompt

    @property
    def is_tie(self) -> bool:
        """Whether neither response is better."""
        return self.p_chosen == 0.5


def pairs_of(comparison: Comparison, options: ExportOptions) -> Iterator[Pair]:
    """The pairs of a comparison, ties among them; the caller drops those if it must.

    A ranking gives those pairs that `options.pairs` names; its strength is that of the best response over the worst, and
    so belongs to pairs of these two alone. The chosen response of a tie is drawn by a hash of the texts.
    """
    if len(comparison.responses) == 2:
        yield _single(comparison)
        return
    levels, last = levels_of(comparison), len(levels_of(comparison)) - 1
    for better, worse in _gaps(len(levels), options.pairs or "all"):
        is_extreme = (better, worse) == (0, last)
        for i, j in product(levels[better], levels[worse]):
            strength = comparison.preference.strength if is_extreme else None
            yield _pair(comparison, i, j, strength=strength, rank_gap=worse - better)
    if options.pairs in (None, "all", "adjacent") or last == 0:
        for group in comparison.preference.groups or ():
            for i, j in combinations(group, 2):
                yield _tie(comparison, i, j, rank_gap=0)


def levels_of(comparison: Comparison) -> list[tuple[int, ...]]:
    """The positions of the responses by rank, best first; those in no group come last, below every group."""
    ranks = comparison.ranks
    ranked = [tuple(i for i, rank in enumerate(ranks) if rank == level) for level in range(max(ranks) + 1)]
    unranked = tuple(i for i, rank in enumerate(ranks) if rank < 0)
    return [*ranked, unranked] if unranked else ranked


def _single(comparison: Comparison) -> Pair:
    preference, q = comparison.preference, comparison.q
    assert q is not None, "two responses have a q"
    if q == 0.5:
        return _tie(comparison, 0, 1, strength=preference.strength)
    p_chosen = None if preference.q is None else max(q, complement(q))
    i, j = (0, 1) if q > 0.5 else (1, 0)
    return _pair(comparison, i, j, p_chosen=p_chosen, strength=preference.strength)


def _gaps(levels: int, pairs: str) -> Iterator[tuple[int, int]]:
    """The (better, worse) ranks that are compared."""
    if levels < 2:
        return iter(())
    if pairs == "best_vs_worst":
        return iter([(0, levels - 1)])
    if pairs == "best_vs_rest":
        return ((0, worse) for worse in range(1, levels))
    return pairwise(range(levels)) if pairs == "adjacent" else combinations(range(levels), 2)


def _pair(
    comparison: Comparison,
    i: int,
    j: int,
    *,
    p_chosen: float | None = None,
    strength: float | None = None,
    rank_gap: int | None = None,
) -> Pair:
    chosen, rejected = comparison.responses[i], comparison.responses[j]
    name = comparison.id if rank_gap is None else f"{comparison.id}-{i}-{j}"
    return Pair(comparison, chosen, rejected, name, p_chosen, strength, rank_gap)


def _tie(comparison: Comparison, i: int, j: int, *, strength: float | None = None, rank_gap: int | None = None) -> Pair:
    first, second = (response_digest(comparison.responses[k]) for k in (i, j))
    i, j = (i, j) if first <= second else (j, i)
    return _pair(comparison, i, j, p_chosen=0.5, strength=strength, rank_gap=rank_gap)
