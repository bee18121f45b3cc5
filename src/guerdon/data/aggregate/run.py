"""Judgments in, one comparison per pair out, with a report. Reads the judgments twice: once for the votes, once for the texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import compress
from typing import Literal

import numpy as np
from jaxtyping import Float

from guerdon.config import AggregateOptions
from guerdon.contracts import WEIGHTS, Comparison, GuerdonError, Preference, Report
from guerdon.data.aggregate.annotators import Annotator, annotators_of
from guerdon.data.aggregate.judgments import Judgments, collect, common_id, shown_pairs
from guerdon.data.aggregate.report import make_report
from guerdon.formulas.annotators import Abilities, dawid_skene, effective_votes, fit_abilities, majority
from guerdon.progress import ProgressBar

__all__ = ["Aggregation", "aggregate"]

Method = Literal["majority", "dawid_skene", "ability"]


@dataclass(frozen=True, slots=True)
class Aggregation:
    """What the judgments say.

    labels(): one comparison per pair, in order of first appearance, read again from the judgments as they are needed.
    annotators: the named ones, most judgments first; empty where no pair was judged by two of them.
    """

    labels: Callable[[], Iterator[Comparison]]
    annotators: tuple[Annotator, ...]
    report: Report


def aggregate(read: Callable[[], Iterable[Comparison]], options: AggregateOptions) -> Aggregation:
    """Turn many judgments of each pair into one label. `read` gives the judgments; it is called twice and must give the same.

    A judgment is a comparison of two responses by one annotator, a soft label, or counts of votes of people without names; a ranking
    is a judgment of each of its pairs. GuerdonError without judgments, or for a method that needs names where there are none.
    """
    judgments = collect(read())
    method, reason = _method(options, judgments)
    fit = _fit(options, judgments) if judgments.names else None
    q = _probabilities(method, judgments, fit, options.left_bias)
    ability = np.ones(judgments.table.num_annotators)
    if fit is not None and method != "majority":
        ability = fit.ability
    weight = judgments.weight
    if options.weight == "n_eff":
        weight = weight * effective_votes(judgments.table, ability)
    annotators = tuple(annotators_of(judgments, fit)) if fit is not None else ()
    report = make_report(judgments, annotators, fit, q, (method, reason), options)
    return Aggregation(lambda: _labels(read(), judgments, q, np.clip(weight, *WEIGHTS)), annotators, report)


def _method(options: AggregateOptions, judgments: Judgments) -> tuple[Method, str]:
    """The method, and why it was chosen where the options leave it open."""
    if options.method == "auto":
        if judgments.has_overlap:
            return "ability", "some pairs were judged by several named annotators"
        if judgments.names:
            return "majority", "no pair was judged by two named annotators, so nothing shows how able they are"
        return "majority", "no annotator has a name"
    if options.method != "majority" and not judgments.names:
        raise GuerdonError(
            f"aggregate: method must be majority where no annotator has a name, got {options.method}. "
            "Give each judgment its annotator, or pass --method majority."
        )
    return options.method, "chosen"


def _fit(options: AggregateOptions, judgments: Judgments) -> Abilities:
    return fit_abilities(judgments.table, has_left_bias=options.left_bias)


def _probabilities(
    method: Method, judgments: Judgments, fit: Abilities | None, has_left_bias: bool
) -> Float[np.ndarray, " n"]:
    """P(first is better) of each pair."""
    if method == "majority" or fit is None:
        return majority(judgments.table)
    if method == "ability":
        return fit.q
    posterior = dawid_skene(judgments.table, has_left_bias=has_left_bias)
    q: np.ndarray = posterior[:, 0] + posterior[:, 1] / 2
    return q


def _labels(
    comparisons: Iterable[Comparison], judgments: Judgments, q: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"]
) -> Iterator[Comparison]:
    """Each pair once, where its first judgment stands."""
    is_written = np.zeros(judgments.num_pairs, dtype=bool)
    has_new_pair = np.zeros(judgments.first_seen.max() + 1, dtype=bool)  # others need no hash
    has_new_pair[judgments.first_seen] = True
    sole_annotator = _sole_annotators(judgments)
    with ProgressBar(judgments.num_pairs, "writing labels", "pairs") as bar:
        for comparison in compress(comparisons, has_new_pair.tolist()):
            for shown in shown_pairs(comparison):
                pair = judgments.number_of.get(shown.key)
                if pair is None:
                    raise _changed()
                if is_written[pair]:
                    continue
                is_written[pair] = True
                bar.advance()
                order = (shown.right, shown.left) if shown.is_swapped else (shown.left, shown.right)
                first, tie, second = judgments.counts[pair].tolist()
                yield Comparison(
                    comparison.prompt,
                    tuple(comparison.responses[i] for i in order),
                    Preference(q=float(q[pair]), votes=(first, tie, second)),
                    annotator=comparison.annotator if sole_annotator[pair] else None,
                    source=comparison.source,
                    weight=float(weight[pair]),
                    group=comparison.group,
                    id=common_id(comparison, int(judgments.id_kind[pair]), shown.key),
                )
    if not is_written.all():
        raise _changed()


def _sole_annotators(judgments: Judgments) -> np.ndarray:
    """True where one named annotator gave all of a pair's votes."""
    named = np.bincount(judgments.ratings.pair, minlength=judgments.num_pairs)
    is_sole: np.ndarray = (named == 1) & (judgments.counts.sum(axis=1) == 1)
    return is_sole


def _changed() -> GuerdonError:
    return GuerdonError(
        "aggregate: the data must be the same on both readings, got other pairs. Run the command again."
    )
