"""A model, or scores that are already known, on a public benchmark: its official numbers with intervals, and anchors.

Axes: n items, k responses per item in its own order, g games (1, or 2 where a judge saw a pair in both orders).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from guerdon.benchmarks.findings import item_findings, part_findings, score_findings
from guerdon.benchmarks.items import Item, ScoreTable
from guerdon.benchmarks.official import PointTables, official_scores
from guerdon.benchmarks.rules import BENCHMARKS, OFFICIAL, Benchmark, Points, slug
from guerdon.benchmarks.scoring import drop_undecided, hygiene_rows, score_items
from guerdon.benchmarks.step_rules import STEP_BENCHMARKS
from guerdon.benchmarks.steps import measure_steps
from guerdon.config import AuditOptions
from guerdon.contracts import Curve, Estimate, Finding, GuerdonError, Quantity, Report, RewardModel, digest_all
from guerdon.errors import field_error
from guerdon.formulas.benchmarks import pair_shares
from guerdon.models.estimates import (
    SHARED_QUANTITIES,
    Resampling,
    describe_intervals,
    estimate_difference,
    estimate_share,
    percent,
    points_by_name,
)
from guerdon.models.hygiene import hygiene_gate

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped

    from guerdon.config import BenchmarkOptions
    from guerdon.contracts import Judge
    from guerdon.progress import Progress

__all__ = ["benchmark"]

ANCHORS = "The anchors by the same rule"  # a section of the page
QUANTITIES: Mapping[str, Quantity] = {
    "score": Quantity("official score", "share", OFFICIAL, "computed as the benchmark's authors do"),
    "score_longer": Quantity(
        "anchor: longer wins", "share", OFFICIAL, "what the longest response gets by the same rule"
    ),
    "score_constant": Quantity("anchor: a constant", "share", OFFICIAL, "what equal scores get by the same rule"),
    "score_above_longer": Quantity("above longer-wins", "share", OFFICIAL, "the difference, on the same items"),
    "length_contrast": Quantity(
        "longer-biased less shorter-biased",
        "share",
        OFFICIAL,
        "subsets whose better answer is longer, less the opposite",
    ),
    **SHARED_QUANTITIES,
}


def benchmark(
    model: RewardModel | Judge | ScoreTable,
    items: Sequence[Item],
    name: str,
    options: BenchmarkOptions,
    progress: Progress | None = None,
    *,
    hygiene: tuple[Finding, ...] | None = None,
    about: Mapping[str, str] | None = None,
) -> Report:
    """Official numbers, anchors, and one section per subset. Every response is scored once.

    Estimates: `score` and `score_...` follow the benchmark's rule; `..._longer` is what preferring the longer response
    gets by it, `..._constant` what equal scores get. accuracy, its anchors and model_ties are over pairs of a right and a
    wrong response, where the pairs of an item count together as one. `hygiene` holds the findings of a hygiene gate that
    already ran; None runs it here on a reward model. A finding of severity "error" leaves a report without numbers.
    """
    if not items:
        raise GuerdonError("benchmark: items must be at least one, got none. Give the benchmark's rows.")
    known = BENCHMARKS.get(name) or STEP_BENCHMARKS[name]
    _refuse_unfit(model, name, options)
    resampling = AuditOptions(draws=options.draws, seed=options.seed, hygiene_rows=options.hygiene_rows)
    facts = {**(about or {}), "benchmark": known.title, "items": f"{len(items):,}"}
    if hygiene is None:
        is_checked = isinstance(model, RewardModel)
        hygiene = hygiene_gate(model, *hygiene_rows(items, options), resampling) if is_checked else ()  # type: ignore[arg-type]
    if any(finding.severity == "error" for finding in hygiene):
        return Report(known.title, facts, findings=hygiene)
    table = model if isinstance(model, ScoreTable) else score_items(model, items, progress=progress)
    undecided: tuple[Finding, ...] = ()
    if not isinstance(model, ScoreTable | RewardModel):
        items, table, undecided = _decided(items, table)
    if name in STEP_BENCHMARKS:
        default = 0.5 if isinstance(model, ScoreTable) else 0.0
        threshold = default if options.step_threshold is None else options.step_threshold
        report = measure_steps(known, items, table, threshold)
    else:
        report = _measure(known, items, table, resampling)
    facts |= {
        "prompts": f"{len({item.group for item in items}):,}",
        "items hash": digest_all(item.id for item in items),
        "intervals": describe_intervals(options.draws, options.seed, "prompt"),
        **({"published": known.published} if known.published else {}),
    }
    return replace(
        report,
        about={**facts, **report.about},
        findings=(*hygiene, *undecided, *table.notes, *report.findings),
        summary=_summary(known, report.estimates),
    )


def _refuse_unfit(model: object, name: str, options: BenchmarkOptions) -> None:
    """Raise GuerdonError for a judge of steps, and for a threshold of steps where there are none."""
    if name in STEP_BENCHMARKS and not isinstance(model, ScoreTable | RewardModel):
        raise GuerdonError(
            f"benchmark: {STEP_BENCHMARKS[name].title} needs a score for each step, got a judge, which compares. Give a reward "
            "model, or scores."
        )
    if name not in STEP_BENCHMARKS and options.step_threshold is not None:
        claim = f"left out with {BENCHMARKS[name].title}, which has no steps"
        raise field_error("benchmark.step_threshold", claim, options.step_threshold, "Leave it out.")


def _decided(items: Sequence[Item], table: ScoreTable) -> tuple[Sequence[Item], ScoreTable, tuple[Finding, ...]]:
    """The items that a judge has verdicts on, and a finding about the others."""
    kept, scores = drop_undecided(items, table)
    if not kept:
        raise GuerdonError(
            f"benchmark: the judge must have a verdict on some item, got none on {len(items)}. Read its failures by code."
        )
    if len(kept) == len(items):
        return items, table, ()
    missing = f"{len(items) - len(kept):,} of {len(items):,} items, which are left out of every number"
    remedy = "The score is that of the rest: not comparable with published ones until the judge answers all."
    return kept, scores, (Finding("warning", "The judge has no verdict on some items", missing, remedy),)


@dataclass(frozen=True, slots=True, eq=False)
class _Points:
    """What the model and the anchors earn on each item.

    tables: points by the benchmark's parts. pairs, longer_pairs: strict, half and tied shares of an item's pairs, by the
    model's scores and by length.
    """

    tables: PointTables
    pairs: Float[np.ndarray, "n 3"]
    longer_pairs: Float[np.ndarray, "n 3"]
    groups: Shaped[np.ndarray, " n"]
    subsets: Shaped[np.ndarray, " n"]

    @classmethod
    def of(cls, known: Benchmark, items: Sequence[Item], table: ScoreTable) -> _Points:
        """Of the model's scores, of lengths in characters, and of equal scores, each in as many games as the model's."""
        games = [(len(own), 1) for own in table.scores]
        lengths = [np.tile(np.array(item.lengths, dtype=np.float64), g) for item, g in zip(items, games, strict=True)]
        zeros = [np.zeros_like(own) for own in table.scores]
        return cls(
            PointTables(*(known.points(items, scores) for scores in (table.scores, lengths, zeros))),
            _pair_shares(items, table.scores),
            _pair_shares(items, lengths),
            np.array([item.group for item in items], dtype=np.str_),
            np.array([item.subset for item in items], dtype=np.str_),
        )


def _measure(known: Benchmark, items: Sequence[Item], table: ScoreTable, options: Resampling) -> Report:
    """Everything that follows from items and scores alone."""
    points = _Points.of(known, items, table)
    official = official_scores(known, points.tables, points.groups)
    estimates = official | _pair_estimates(points, np.ones(len(items), dtype=bool))
    estimates["truncated"] = estimate_share(table.truncated.astype(np.float64), points.groups, None)
    extra = known.extra(items, table, options) if known.extra else Report("")
    sections = [_subset_report(subset, official, points) for subset in dict.fromkeys(points.subsets.tolist())]
    if len(sections) == 1:
        sections = []
    parts = {part for own in points.tables.model for part in own}
    return Report(
        known.title,
        extra.about,
        estimates | dict(extra.estimates),
        (
            *score_findings(known, estimates),
            *part_findings(known, parts, items),
            *extra.findings,
            *item_findings(items),
        ),
        {"score_by_subset": _by_subset(sections)} if sections else {},
        sections=tuple(sections),
        quantities={**_part_quantities(estimates), **extra.quantities},
    )


def _pair_shares(items: Sequence[Item], scores: Sequence[np.ndarray]) -> Float[np.ndarray, "n 3"]:
    """Strict, half and tied shares of each item's pairs of a right and a wrong response, averaged over its games.

    A game without a decision, which is NaN, is a tie.
    """
    return np.array(
        [
            np.mean(
                [pair_shares(game[list(item.correct)], game[list(item.wrong)]) for game in np.nan_to_num(games)], axis=0
            )
            for item, games in zip(items, scores, strict=True)
        ]
    )


def _pair_estimates(points: _Points, rows: Bool[np.ndarray, " n"]) -> dict[str, Estimate]:
    """accuracy, longer_wins, accuracy_above_longer, accuracy_strict and model_ties on some of the items."""
    groups = points.groups[rows]
    strict, half, tied = points.pairs[rows].T
    _, longer, _ = points.longer_pairs[rows].T
    share = partial(estimate_share, groups=groups, weight=None)
    return {
        "accuracy": share(half),
        "longer_wins": share(longer),
        "accuracy_above_longer": estimate_difference(half, longer, groups, None),
        "accuracy_strict": share(strict),
        "model_ties": share(tied),
    }


def _subset_report(subset: str, official: Mapping[str, Estimate], points: _Points) -> Report:
    rows = points.subsets == subset
    estimates = _subset_score(subset, official, points) | _pair_estimates(points, rows)
    return Report(subset, {"items": f"{int(rows.sum()):,}"}, estimates, quantities=QUANTITIES)


def _subset_score(subset: str, official: Mapping[str, Estimate], points: _Points) -> dict[str, Estimate]:
    """score, score_longer and score_constant of a subset: the official ones if it has its own, else mean points."""
    key = f"score_{slug(subset)}"
    endings = ("", "_longer", "_constant")
    if key in official:
        return {f"score{ending}": official[f"{key}{ending}"] for ending in endings}
    rows = points.subsets == subset
    return {
        f"score{ending}": estimate_share(
            np.array([_points_of_item(table[i]) for i in np.flatnonzero(rows).tolist()]),
            points.groups[rows],
            None,
        )
        for ending, table in zip(endings, points.tables, strict=True)
    }


def _points_of_item(points: Points) -> float:
    """An item's points in the whole benchmark, or averaged over the parts that it belongs to."""
    return points["all"] if "all" in points else float(np.mean(list(points.values())))


def _by_subset(sections: Sequence[Report]) -> Curve:
    return points_by_name(
        (section.title for section in sections),
        (section.estimates["score"] for section in sections),
        "subset",
        "share of points",
        caption="By the benchmark's rule. Each subset's anchors are in its own table.",
    )


def _part_quantities(keys: Iterable[str]) -> dict[str, Quantity]:
    """QUANTITIES, and those of the benchmark's parts: score_PART, score_PART_longer, score_PART_constant."""
    quantities = dict(QUANTITIES)
    for key in keys:
        if key in QUANTITIES or not key.startswith("score_"):
            continue
        name = key.removeprefix("score_")
        part, _, anchor = name.rpartition("_")
        if part and anchor in ("longer", "constant"):
            label = f"{part.replace('_', ' ')}, {QUANTITIES[f'score_{anchor}'].label}"
            quantities[key] = Quantity(label, "share", ANCHORS)
        else:
            quantities[key] = Quantity(name.replace("_", " "), "share", OFFICIAL)
    return quantities


def _summary(known: Benchmark, estimates: Mapping[str, Estimate]) -> str:
    score = estimates["score"]
    if math.isnan(score.value):
        return f"{known.title} has no official score here, because parts of it are missing"
    anchor, key = (
        ("always the longer answer", "score_longer")
        if "score_longer" in estimates
        else ("every step right", "score_all_right")
    )
    return f"{known.title} gives {percent(score)} by its own rule, {anchor} {100 * estimates[key].value:.1f} %"
