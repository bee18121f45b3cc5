"""Public benchmarks: a model, or a table of scores, in; what it is worth by each benchmark's own rule, with anchors, out.

Axes: n items, k responses of an item in its own order, g games (1, or 2 where a judge saw a pair both ways round).
A new benchmark is a reader in benchmark_rows.py, a function from scores to points, and a line in BENCHMARKS.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from guerdon.benchmarks.readers import (
    DOMAINS,
    LLMBAR,
    REWARDBENCH2,
    Item,
    ScoreTable,
    match_scores,
    named,
    read_items,
)
from guerdon.config import AuditOptions, BenchmarkOptions
from guerdon.contracts import (
    Curve,
    Estimate,
    Finding,
    GuerdonError,
    Prompt,
    Quantity,
    Report,
    Response,
    RewardModel,
    digest_all,
)
from guerdon.formulas import benchmarks as rule
from guerdon.formulas.estimation import clopper_pearson
from guerdon.formulas.resampling import bootstrap, bootstrap_mean
from guerdon.models.estimates import SHARED_QUANTITIES, estimate_share
from guerdon.models.hygiene import hygiene_gate

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.contracts import Judge
    from guerdon.models.scored_pairs import Progress

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Item",
    "Rule",
    "ScoreTable",
    "benchmark",
    "hygiene_rows",
    "match_scores",
    "read_items",
    "score_items",
]

CHUNK = 256  # items scored in one call: their prompts are shared within it
FEW_GROUPS = 15  # with fewer a bootstrap interval is too narrow
MANY_TIES = 0.01

Points = dict[str, float]  # part of the benchmark -> points of one item in it

RULE, ANCHORS, GRID = "By the benchmark's own rule", "The anchors by the same rule", "Substance and style"
QUANTITIES: Mapping[str, Quantity] = {
    "score": Quantity("official score", "share", RULE, "computed as the benchmark's authors do"),
    "score_longer": Quantity("anchor: longer wins", "share", RULE, "what the longest response gets by the same rule"),
    "score_constant": Quantity("anchor: a constant", "share", RULE, "what equal scores get by the same rule"),
    "score_above_longer": Quantity("above longer-wins", "share", RULE, "the difference, on the same items"),
    "score_single": Quantity("first order shown only", "share", RULE, "strict accuracy in the order published"),
    "length_contrast": Quantity(
        "longer-biased less shorter-biased", "share", RULE, "subsets whose better answer is longer, less the opposite"
    ),
    "substance": Quantity("right less wrong", "nats", GRID, "at equal style, in units of the score"),
    "style_length": Quantity("detailed less concise", "nats", GRID, "averaged over right and wrong answers"),
    "style_markdown": Quantity("markdown less plain", "nats", GRID, "averaged over right and wrong answers"),
    "substance_by_length": Quantity(
        "substance, detailed less concise", "nats", GRID, "how length changes right less wrong"
    ),
    "substance_by_markdown": Quantity(
        "substance, markdown less plain", "nats", GRID, "how markdown changes right less wrong"
    ),
    "style_per_substance": Quantity(
        "style per substance", "number", GRID, "above 1 a wrong answer in rich style beats a right one in plain style"
    ),
    **SHARED_QUANTITIES,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """An official number: a function of the mean points of its parts. A part that is absent is not in the mapping."""

    parts: tuple[str, ...]
    of: Callable[[Mapping[str, float]], float]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What an item earns, and how points become the numbers that are published.

    `points` takes items and their scores [g, k]. `rules` takes the parts that have points, "score" comes first. `sizes`:
    items a subset has when published. `extra`: estimates beside the official ones. `whole`: without one of its parts
    there is no official score. `ties`: what an exact tie counts as. `scale`: what others reach.
    """

    title: str
    points: Callable[[Sequence[Item], Sequence[np.ndarray]], list[Points]]
    rules: Callable[[Sequence[str]], dict[str, Rule]]
    sizes: Mapping[str, int] = field(default_factory=dict)
    extra: Callable[[Sequence[Item], ScoreTable, AuditOptions], Report] | None = None
    whole: bool = False
    ties: str = "lost"
    scale: str = ""


# ---- Measuring ---------------------------------------------------------------------------------------------------


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
    """A model, or scores that are known already, on a benchmark's items: official numbers, anchors, a section a subset.

    Every response is scored once. `hygiene` holds the findings of a gate already passed; None runs it here on a reward
    model. An error of the gate leaves a report without numbers. Estimates: `score` and `score_...` follow the benchmark's
    rule, `..._longer` is what the longer response gets by it, `..._constant` what equal scores get; accuracy, its
    anchors and model_ties count pairs of a right and a wrong response, an item's pairs together as one.
    """
    if not items:
        raise GuerdonError("benchmark: no items; remedy: give at least one row")
    known = BENCHMARKS[name]
    settings = AuditOptions(draws=options.draws, seed=options.seed, hygiene_rows=options.hygiene_rows)
    facts = {**(about or {}), "benchmark": known.title, "items": f"{len(items):,}"}
    if hygiene is None:
        hygiene = hygiene_gate(model, *hygiene_rows(items, options), settings) if isinstance(model, RewardModel) else ()
    if any(finding.severity == "error" for finding in hygiene):
        return Report(known.title, facts, findings=hygiene)
    table = model if isinstance(model, ScoreTable) else score_items(model, items, progress=progress)
    found = _measure(known, items, table, settings)
    facts |= {
        "prompts": f"{len({item.group for item in items}):,}",
        "items hash": digest_all(item.id for item in items),
        "intervals": f"95 %, {options.draws} bootstrap draws by prompt, seed {options.seed}",
        **({"published": known.scale} if known.scale else {}),
    }
    return replace(
        found,
        about={**facts, **found.about},
        findings=(*hygiene, *table.notes, *found.findings),
        summary=_summary(known, found.estimates),
    )


def hygiene_rows(items: Sequence[Item], options: BenchmarkOptions) -> tuple[list[Prompt], list[Response]]:
    """Prompts and responses for the gate: a right and a wrong one of items spread evenly over the benchmark."""
    chosen = items[:: max(1, 2 * len(items) // options.hygiene_rows)]
    every = [(item.prompt, item.responses[i]) for item in chosen for i in (item.correct[0], item.wrong[0])]
    return [prompt for prompt, _ in every], [response for _, response in every]


def score_items(
    model: RewardModel | Judge, items: Sequence[Item], *, chunk: int = CHUNK, progress: Progress | None = None
) -> ScoreTable:
    """Every response once, those of an item in one call, and one that stands in several items of a call only once.

    A judge is asked each pair both ways round, and refuses items with more than two responses.
    """
    scores: list[np.ndarray] = []
    truncated: list[bool] = []
    for start in range(0, len(items), chunk):
        part = items[start : start + chunk]
        found, cut = _reward_games(model, part) if isinstance(model, RewardModel) else _judge_games(model, part)
        scores += found
        truncated += cut
        for item, games in zip(part, found, strict=True):
            if not np.isfinite(games).all():
                raise GuerdonError(f"item {item.id}: a score is not finite; remedy: score it alone with the model")
        if progress is not None:
            progress(start + len(part), len(items))
    return ScoreTable(tuple(scores), np.array(truncated, dtype=bool))


def _reward_games(model: RewardModel, items: Sequence[Item]) -> tuple[list[np.ndarray], list[bool]]:
    row: dict[tuple[Prompt, Response], int] = {}
    places = [[row.setdefault((item.prompt, _bare(r)), len(row)) for r in item.responses] for item in items]
    scores = model.score([prompt for prompt, _ in row], [response for _, response in row])
    value, cut = np.asarray(scores.value, dtype=np.float64), np.asarray(scores.truncated, dtype=bool)
    return [value[None, rows] for rows in places], [bool(cut[rows].any()) for rows in places]


def _bare(response: Response) -> Response:
    """What a reward may depend on: the response without its author, its ratings and how it ended."""
    return Response(response.text, messages=response.messages)


def _judge_games(judge: Judge, items: Sequence[Item]) -> tuple[list[np.ndarray], list[bool]]:
    for item in items:
        if len(item.responses) != 2:
            raise GuerdonError(
                f"item {item.id}: a judge compares 2 responses, got {len(item.responses)}; remedy: give a reward model"
            )
    prompts = [item.prompt for item in items]
    first, second = ([item.responses[i] for item in items] for i in (0, 1))
    forth = np.asarray(judge.log_odds(prompts, first, second), dtype=np.float64)
    back = -np.asarray(judge.log_odds(prompts, second, first), dtype=np.float64)
    return [np.array([[a, 0.0], [b, 0.0]]) for a, b in zip(forth, back, strict=True)], [False] * len(items)


def _measure(known: Benchmark, items: Sequence[Item], table: ScoreTable, options: AuditOptions) -> Report:
    """All that follows from items and scores, without a model."""
    lengths = [np.array([[float(len(r.text)) for r in item.responses]]) for item in items]
    zeros = [np.zeros((1, len(item.responses))) for item in items]
    groups = np.array([item.group for item in items], dtype=np.str_)
    subsets = np.array([item.subset for item in items], dtype=np.str_)
    points, longer, constant = (known.points(items, scores) for scores in (table.scores, lengths, zeros))
    official = _official(known, points, longer, constant, groups, options)
    pairs, longer_pairs = (_pair_shares(items, scores) for scores in (table.scores, lengths))

    def shares(rows: np.ndarray) -> dict[str, Estimate]:
        one = np.ones(int(rows.sum()))

        def mean(values: np.ndarray) -> Estimate:
            return estimate_share(values[rows], groups[rows], one, options)

        less = (pairs - longer_pairs)[rows, 1]
        difference = Estimate(*bootstrap_mean(less, groups[rows], draws=options.draws, seed=options.seed))
        return {
            "accuracy": mean(pairs[:, 1]),
            "longer_wins": mean(longer_pairs[:, 1]),
            "accuracy_above_longer": difference,
            "accuracy_strict": mean(pairs[:, 0]),
            "model_ties": mean(pairs[:, 2]),
        }

    everything = np.ones(len(items), dtype=bool)
    estimates = official | shares(everything)
    estimates["truncated"] = estimate_share(table.truncated.astype(float), groups, np.ones(len(items)), options)
    extra = known.extra(items, table, options) if known.extra else Report("")
    sections = []
    for subset in dict.fromkeys(subsets.tolist()):
        rows = subsets == subset
        own = _subset_score(subset, official, (points, longer, constant), rows, groups, options)
        facts = {"items": f"{int(rows.sum()):,}"}
        sections.append(Report(subset, facts, own | shares(rows), quantities=QUANTITIES))
    parts = {part for each in points for part in each}
    findings = (*_findings(known, estimates), *_part_findings(known, parts, subsets, groups), *extra.findings)
    return Report(
        known.title,
        extra.about,
        estimates | dict(extra.estimates),
        (*findings, *_text_findings(items)),
        {"score_by_subset": _by_subset(sections)} if len(sections) > 1 else {},
        sections=tuple(sections) if len(sections) > 1 else (),
        quantities=_quantities({*estimates, *extra.estimates}),
    )


def _quantities(keys: Iterable[str]) -> dict[str, Quantity]:
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
            quantities[key] = Quantity(name.replace("_", " "), "share", RULE)
    return quantities


def _official(
    known: Benchmark,
    points: Sequence[Points],
    longer: Sequence[Points],
    constant: Sequence[Points],
    groups: np.ndarray,
    options: AuditOptions,
) -> dict[str, Estimate]:
    """The benchmark's own numbers with their intervals; the two anchors by the same rule; score_above_longer."""
    parts = tuple(dict.fromkeys(part for each in points for part in each))
    number: dict[str, int] = {}  # in order of first appearance, as in every other interval
    code = np.array([number.setdefault(group, len(number)) for group in groups.tolist()], dtype=np.int64)
    model, length, level = (_PartMeans(each, parts, code) for each in (points, longer, constant))
    found: dict[str, Estimate] = {}
    for key, each in known.rules(parts).items():
        found[key] = model.estimate(each, options)
        if key != "score" and not key.startswith("score_"):
            continue
        found[f"{key}_longer"] = length.estimate(each, options)
        value = level.value(each)
        found[f"{key}_constant"] = Estimate(value, value, value, found[key].n)
        if key == "score":
            found["score_above_longer"] = model.estimate(each, options, length)
    first = ("score", "score_longer", "score_constant", "score_above_longer")
    return {key: found[key] for key in (*first, *(key for key in found if key not in first))}


class _PartMeans:
    """Sums and counts of points by group and part: what a mean over parts needs of any resample of groups."""

    def __init__(self, points: Sequence[Points], parts: Sequence[str], code: np.ndarray) -> None:
        self.column = {part: i for i, part in enumerate(parts)}
        self.sums = np.zeros((int(code.max()) + 1, len(parts)))
        self.counts = np.zeros_like(self.sums)
        for group, each in zip(code.tolist(), points, strict=True):
            for part, value in each.items():
                self.sums[group, self.column[part]] += value
                self.counts[group, self.column[part]] += 1

    def value(self, each: Rule) -> float:
        """The number on all groups."""
        return self._number(each, self._rows(each))(np.ones(len(self._rows(each))))

    def estimate(self, each: Rule, options: AuditOptions, less: _PartMeans | None = None) -> Estimate:
        """The number, or that of `less` taken off, with its interval; no interval where a part has a single group."""
        rows = self._rows(each)
        if not len(rows):
            return Estimate(math.nan, math.nan, math.nan, 0)
        numbers = [self._number(each, rows), *([less._number(each, rows)] if less else [])]

        def on(chosen: np.ndarray) -> float:
            weight = np.bincount(chosen, minlength=len(rows)).astype(np.float64)
            first, *second = (number(weight) for number in numbers)
            return first - sum(second)

        value = on(np.arange(len(rows)))
        groups_of_part = (self.counts[rows][:, self._columns(each)] > 0).sum(axis=0)
        if math.isnan(value) or groups_of_part.min() < 2:
            return Estimate(value, math.nan, math.nan, len(rows))
        drawn = Estimate(*bootstrap(on, np.arange(len(rows)), options.draws, options.seed))
        if drawn.low == drawn.high and value in (0.0, 1.0) and less is None:  # nothing to resample
            return Estimate(*clopper_pearson(int(value) * len(rows), len(rows)))
        return drawn

    def _columns(self, each: Rule) -> np.ndarray:
        return np.array([self.column[part] for part in each.parts], dtype=np.int64)

    def _rows(self, each: Rule) -> np.ndarray:
        """Groups that have a say in the number."""
        return np.flatnonzero(self.counts[:, self._columns(each)].any(axis=1))

    def _number(self, each: Rule, rows: np.ndarray) -> Callable[[np.ndarray], float]:
        """The number as a function of how often each of these groups counts."""
        columns = self._columns(each)
        sums, counts = self.sums[np.ix_(rows, columns)], self.counts[np.ix_(rows, columns)]

        def number(weight: np.ndarray) -> float:
            with np.errstate(invalid="ignore"):
                means = (weight @ sums) / (weight @ counts)
            return each.of(dict(zip(each.parts, means.tolist(), strict=True)))

        return number


def _pair_shares(items: Sequence[Item], scores: Sequence[np.ndarray]) -> Float[np.ndarray, "n 3"]:
    """Strict, half and tied shares of each item's pairs, averaged over its games."""
    return np.array(
        [
            np.mean([rule.pair_shares(game[list(item.correct)], game[list(item.wrong)]) for game in games], axis=0)
            for item, games in zip(items, scores, strict=True)
        ]
    )


def _subset_score(
    subset: str,
    official: Mapping[str, Estimate],
    points: tuple[Sequence[Points], Sequence[Points], Sequence[Points]],
    rows: np.ndarray,
    groups: np.ndarray,
    options: AuditOptions,
) -> dict[str, Estimate]:
    """score, score_longer and score_constant of a subset: the official ones where it has its own, else mean points."""
    key = f"score_{_slug(subset)}"
    if key in official:
        return {f"score{end}": official[f"{key}{end}"] for end in ("", "_longer", "_constant")}
    one, chosen = np.ones(int(rows.sum())), np.flatnonzero(rows).tolist()
    return {
        f"score{end}": estimate_share(
            np.array([np.mean(list(each[i].values())) for i in chosen]), groups[rows], one, options
        )
        for end, each in zip(("", "_longer", "_constant"), points, strict=True)
    }


def _by_subset(sections: Sequence[Report]) -> Curve:
    return Curve(
        tuple(float(i) for i in range(len(sections))),
        tuple(section.estimates["score"] for section in sections),
        "subset",
        "share of points",
        kind="points",
        x_names=tuple(section.title for section in sections),
        caption="By the benchmark's rule. Each subset's anchors stand in its own table.",
    )


def _summary(known: Benchmark, found: Mapping[str, Estimate]) -> str:
    if math.isnan(found["score"].value):
        return f"{known.title} has no official score here, because parts of it are missing"
    low, high = (f"{100 * limit:.1f}" for limit in (found["score"].low, found["score"].high))
    by_length = f"always the longer answer {100 * found['score_longer'].value:.1f} %"
    return f"{known.title} gives {100 * found['score'].value:.1f} % [{low}, {high}] by its own rule, {by_length}"


# ---- Findings ----------------------------------------------------------------------------------------------------


def _findings(known: Benchmark, found: Mapping[str, Estimate]) -> Iterator[Finding]:
    score, above, ties = found["score"], found["score_above_longer"], found["model_ties"]
    if not math.isnan(score.value) and not above.low > 0:
        evidence = f"score {score}, longer-wins {found['score_longer']}, difference {above}"
        remedy = "See which subsets tell the two apart; compare on pairs of equal length."
        yield Finding("warning", "Not shown to be better than preferring the longer answer", evidence, remedy)
    if found["accuracy"].high < 0.5:
        remedy = "Check that the scores are not costs, and that right and wrong are not swapped."
        yield Finding("warning", "The model prefers the worse answer", f"accuracy {found['accuracy']}", remedy)
    if ties.value > MANY_TIES and ties.low > 0:
        evidence = f"{ties} of pairs get exactly equal scores; this benchmark counts a tie as {known.ties}"
        yield Finding("warning", "Many exact ties", evidence, "Compute the head and the scores in float32.")
    if found["truncated"].value > 0:
        remedy = "Raise the model's max_length: published numbers differ by what was cut."
        yield Finding("warning", "The model did not see all the text", f"truncated in {found['truncated']}", remedy)


def _part_findings(known: Benchmark, parts: set[str], subsets: np.ndarray, groups: np.ndarray) -> Iterator[Finding]:
    counts = Counter(subsets.tolist())
    if missing := [subset for subset in known.sizes if subset not in counts]:
        effect = "the official score needs all parts" if known.whole else "the score is about the rest"
        evidence = f"no items of {named(missing)}; {effect}"
        yield Finding("warning", "Part of the benchmark is missing", evidence, "Give the whole benchmark.")
    used = {part for each in known.rules(tuple(parts)).values() for part in each.parts}
    if known.sizes and (foreign := [s for s in counts if s not in known.sizes and s not in used]):
        evidence = f"{named(foreign)}; the official score leaves them out"
        yield Finding("warning", "Subsets that the benchmark does not have", evidence, "Check their names.")
    differs = [f"{s} {counts[s]} of {size}" for s, size in known.sizes.items() if s in counts and counts[s] != size]
    if differs:
        evidence = f"items here of items published: {named(differs)}"
        yield Finding("note", "Not the published set", evidence, "Do not set the score beside published ones.")
    few = [s for s in counts if len(set(groups[subsets == s].tolist())) < FEW_GROUPS]
    if few:
        evidence = f"fewer than {FEW_GROUPS} prompts in {named(few)}: their intervals are too narrow"
        yield Finding("note", "Too few prompts for an interval", evidence)


def _text_findings(items: Sequence[Item]) -> Iterator[Finding]:
    same = [
        item.id for item in items
        if {_bare(item.responses[i]) for i in item.correct} & {_bare(item.responses[i]) for i in item.wrong}
    ]  # fmt: skip
    if same:
        evidence = f"{len(same)} of {len(items)} items, such as {named(same)}: no model can tell them apart"
        yield Finding("note", "A right and a wrong response are the same text", evidence, "Drop these rows and say so.")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


# ---- Points and rules ----------------------------------------------------------------------------------------------


def _won(item: Item, games: np.ndarray) -> float:
    """Share of games in which the right response is strictly above every other."""
    return float(np.mean([rule.beats_every(game[item.correct[0]], game[list(item.wrong)]) for game in games]))


def _points_by(
    part: Callable[[Item], Sequence[str]], items: Sequence[Item], scores: Sequence[np.ndarray]
) -> list[Points]:
    return [dict.fromkeys(part(item), _won(item, games)) for item, games in zip(items, scores, strict=True)]


def _mean_of(parts: Sequence[str], expected: Sequence[str] = ()) -> Rule:
    """The unweighted mean of parts; NaN where one that is expected is missing."""

    def of(means: Mapping[str, float]) -> float:
        return rule.unweighted({part: means.get(part, math.nan) for part in expected or parts})

    return Rule(tuple(parts), of)


def _micro(parts: Sequence[str]) -> dict[str, Rule]:
    """One mean over all items, and one a further part."""
    return {"score" if part == "all" else f"score_{_slug(part)}": _mean_of([part], [part]) for part in parts}


def _macro(parts: Sequence[str]) -> dict[str, Rule]:
    """The unweighted mean over subsets: their authors report each and no total."""
    return {"score": _mean_of(parts)}


def _rewardbench_rules(parts: Sequence[str]) -> dict[str, Rule]:
    known = [part for part in parts if part in rule.WEIGHTS]
    rules = {"score": Rule(tuple(known), lambda means: rule.unweighted(rule.section_scores(means)))}
    for section, subsets in rule.SECTIONS.items():
        own = tuple(part for part in known if part in subsets)
        rules[f"score_{_slug(section)}"] = Rule(own, partial(_section, section))
    tagged = [subset for subsets in rule.LENGTH_BIAS.values() for subset in subsets]
    rules["length_contrast"] = Rule(tuple(part for part in known if part in tagged), rule.length_contrast)
    return rules


def _section(name: str, means: Mapping[str, float]) -> float:
    return rule.section_scores(means)[name]


def _rewardbench2_points(items: Sequence[Item], scores: Sequence[np.ndarray]) -> list[Points]:
    """One of four outside Ties; there the terms of a prompt and its twin, on the one of the two that they are about."""
    margins = {
        item.id.split(":")[0] + item.group: rule.tie_margins(games[0], len(item.correct))
        for item, games in zip(items, scores, strict=True)
        if item.subset == "Ties"
    }
    points = []
    for item, games in zip(items, scores, strict=True):
        if item.subset != "Ties":
            points.append({item.subset: rule.best_of(games[0])})
            continue
        found = rule.ties_points(margins.get(f"ref{item.group}"), margins.get(f"tied{item.group}"))
        terms = {f"Ties {term}": value for term, value in zip(rule.TIES_TERMS, found.tolist(), strict=True)}
        is_ref = item.id.startswith("ref:")
        points.append({t: v for t, v in terms.items() if (t == "Ties ref_accurate") == is_ref and not math.isnan(v)})
    return points


def _rewardbench2_rules(parts: Sequence[str]) -> dict[str, Rule]:
    terms = {f"Ties {term}": weight for term, weight in rule.TIES_TERMS.items()}

    def ties(means: Mapping[str, float]) -> float:
        return sum(weight * means.get(term, math.nan) for term, weight in terms.items())

    def overall(means: Mapping[str, float]) -> float:
        return rule.unweighted(
            {name: ties(means) if name == "Ties" else means.get(name, math.nan) for name in REWARDBENCH2}
        )

    own = {name: [name] if name != "Ties" else list(terms) for name in REWARDBENCH2}
    rules = {"score": Rule(tuple(part for name in own for part in own[name] if part in parts), overall)}
    for name in REWARDBENCH2:
        present = tuple(part for part in own[name] if part in parts)
        rules[f"score_{_slug(name)}"] = Rule(present, ties) if name == "Ties" else _mean_of(present, [name])
    return rules


_DIFFICULTIES = ("hard", "normal", "easy")


def _rmbench_points(items: Sequence[Item], scores: Sequence[np.ndarray]) -> list[Points]:
    grid = np.array([games[0] for games in scores])
    found = rule.style_grid(grid[:, :3], grid[:, 3:])
    return [
        {f"{item.subset.partition('-')[0]} {level}": value for level, value in zip(_DIFFICULTIES, row, strict=True)}
        for item, row in zip(items, found.tolist(), strict=True)
    ]


def _rmbench_rules(parts: Sequence[str]) -> dict[str, Rule]:
    domains = dict.fromkeys(domain.partition("-")[0] for domain in DOMAINS)  # refuse and response are one domain
    every = [f"{domain} {level}" for domain in domains for level in _DIFFICULTIES]
    rules = {"score": _mean_of([part for part in every if part in parts], every)}
    groups = {level: [f"{domain} {level}" for domain in domains] for level in _DIFFICULTIES}
    groups |= {domain: [f"{domain} {level}" for level in _DIFFICULTIES] for domain in domains}
    for name, own in groups.items():
        rules[f"score_{name}"] = _mean_of([part for part in own if part in parts], own)
    return rules


def _substance(items: Sequence[Item], table: ScoreTable, options: AuditOptions) -> Report:
    """What substance and style are worth in the model's own units, and how much substance a full change of style buys."""
    grid = np.array([games[0] for games in table.scores])
    effects = rule.substance_and_style(grid[:, :3], grid[:, 3:])
    groups = [item.group for item in items]
    names = ("substance", "style_length", "style_markdown", "substance_by_length", "substance_by_markdown")
    found = {
        name: Estimate(*bootstrap_mean(values, groups, draws=options.draws, seed=options.seed))
        for name, values in zip(names, effects, strict=True)
    }
    style = effects.length + effects.markdown
    if found["substance"].low > 0:

        def ratio(rows: np.ndarray) -> float:
            return float(style[rows].mean() / effects.substance[rows].mean())

        found["style_per_substance"] = Estimate(*bootstrap(ratio, groups, options.draws, options.seed))
        outweighs = found["style_per_substance"].low > 1
    else:
        outweighs = bool(found["style_length"].low > 0 or found["style_markdown"].low > 0)
    if not outweighs:
        return Report("", {}, found)
    evidence = f"substance {found['substance']}, length {found['style_length']}, markdown {found['style_markdown']}"
    remedy = "Train on pairs whose right answer is the plainer one as often as not."
    return Report("", {}, found, (Finding("warning", "Style outweighs substance", evidence, remedy),))


_CATEGORIES = {"mmlu-pro": "knowledge", "livebench-reasoning": "reasoning", "livebench-math": "math",
               "livecodebench": "coding"}  # fmt: skip


def _judgebench_points(items: Sequence[Item], scores: Sequence[np.ndarray]) -> list[Points]:
    """The double game where there are two; scores of a single one are the same both ways round, a tie is not won."""
    points = []
    for item, games in zip(items, scores, strict=True):
        decisions = np.sign(games[:, 0] - games[:, 1]).astype(np.int64)
        won = float(rule.games_won(decisions[None], np.array([1 if item.correct == (0,) else -1]))[0])
        category = next((name for start, name in _CATEGORIES.items() if item.subset.startswith(start)), None)
        points.append(dict.fromkeys(("all", *([category] if category else [])), won))
    return points


def _games(items: Sequence[Item], table: ScoreTable, options: AuditOptions) -> Report:
    """Where a pair was judged both ways round: the first game alone, and how often the two agree."""
    twice = [(item, games) for item, games in zip(items, table.scores, strict=True) if len(games) == 2]
    if not twice:
        return Report("")
    groups, one = np.array([item.group for item, _ in twice], dtype=np.str_), np.ones(len(twice))
    first = np.array([_won(item, games[:1]) for item, games in twice])
    winner = np.array([np.sign(games[:, 0] - games[:, 1]) for _, games in twice])
    same = (winner[:, 0] == winner[:, 1]).astype(np.float64)
    found = {
        "score_single": estimate_share(first, groups, one, options),
        "position_consistency": estimate_share(same, groups, one, options),
    }
    return Report("", {}, found)


def _rmb_cell(item: Item) -> tuple[str]:
    kind, goal, *_ = item.subset.split("/")
    return (f"{goal.lower()} {'pairwise' if kind == 'Pairwise_set' else 'best of n'}",)


_CELLS = ("helpfulness pairwise", "helpfulness best of n", "harmlessness pairwise", "harmlessness best of n")


def _rmb_rules(parts: Sequence[str]) -> dict[str, Rule]:
    cells = {f"score_{_slug(cell)}": _mean_of([cell] if cell in parts else [], [cell]) for cell in _CELLS}
    return {"score": _mean_of([cell for cell in _CELLS if cell in parts], _CELLS), **cells}


def _llmbar_rules(parts: Sequence[str]) -> dict[str, Rule]:
    adversarial = [part for part in parts if part.startswith("Adversarial")]
    return _macro(parts) | ({"score_adversarial": _mean_of(adversarial)} if adversarial else {})


def _subset(item: Item) -> tuple[str]:
    return (item.subset,)


def _only_all(item: Item) -> tuple[str]:
    return ("all",)


# ---- The benchmarks --------------------------------------------------------------------------------------------------

_SKYWORK = "Skywork-Reward-V2 of 0.6, 1.7, 4 and 8 billion parameters (their README): {}"

BENCHMARKS: Mapping[str, Benchmark] = {
    "rewardbench": Benchmark(
        "RewardBench 1",
        partial(_points_by, _subset),
        _rewardbench_rules,
        {**rule.WEIGHTS, "math-prm": 447},
        whole=True,
        scale=_SKYWORK.format("85.2, 90.3, 93.4, 96.4 %"),
    ),
    "rewardbench2": Benchmark(
        "RewardBench 2",
        _rewardbench2_points,
        _rewardbench2_rules,
        REWARDBENCH2,
        whole=True,
        ties="a share of the point at the top of four, and as lost in Ties",
        scale=_SKYWORK.format("61.3, 68.3, 75.5, 84.1 %"),
    ),
    "rmbench": Benchmark(
        "RM-Bench",
        _rmbench_points,
        _rmbench_rules,
        DOMAINS,
        _substance,
        whole=True,
        scale=_SKYWORK.format("74.4, 78.7, 81.6, 92.8 %"),
    ),
    "judgebench": Benchmark(
        "JudgeBench",
        _judgebench_points,
        _micro,
        extra=_games,
        scale=_SKYWORK.format("67.6, 72.9, 69.3, 80.0 %, averaged over categories"),
    ),
    "rmb": Benchmark(
        "RMB",
        partial(_points_by, _rmb_cell),
        _rmb_rules,
        whole=True,
        scale=_SKYWORK.format("74.5, 78.1, 80.6, 86.4 %"),
    ),
    "llmbar": Benchmark("LLMBar", partial(_points_by, _subset), _llmbar_rules, LLMBAR, _games),
    "evalbiasbench": Benchmark("EvalBiasBench", partial(_points_by, _subset), _macro, extra=_games),
    "hhh": Benchmark("HHH alignment", partial(_points_by, _subset), _macro, extra=_games),
    "xstest": Benchmark("XSTest pairs", partial(_points_by, _only_all), _micro, extra=_games),
    "pairs": Benchmark("Preference pairs", partial(_points_by, _only_all), _micro, extra=_games),
}
"""Name -> benchmark. The headline of LLMBar, EvalBiasBench and HHH, which publish none, is the mean of their subsets."""
