"""What a reader must know about a benchmark's score: anchors that it does not beat, ties, missing parts, too few prompts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from guerdon.benchmarks.items import Item, first_few
from guerdon.benchmarks.scoring import plain_response
from guerdon.contracts import Estimate, Finding
from guerdon.models.estimates import percent

if TYPE_CHECKING:
    from guerdon.benchmarks.rules import Benchmark

__all__ = ["item_findings", "part_findings", "score_findings"]

MIN_GROUPS = 15  # with fewer no interval is known to hold
MAX_TIES = 0.01  # share of pairs


def score_findings(benchmark: Benchmark, estimates: Mapping[str, Estimate]) -> Iterator[Finding]:
    """Of the numbers: not above the length anchor, wrong more often than right, ties, truncated texts."""
    score, above, ties = estimates["score"], estimates["score_above_longer"], estimates["model_ties"]
    if not math.isnan(score.value) and not above.low > 0:
        evidence = (
            f"score {percent(score)}, longer-wins {percent(estimates['score_longer'])}, difference {percent(above)}"
        )
        remedy = "See which subsets tell the two apart; compare on pairs of equal length."
        yield Finding("warning", "Not shown to be better than preferring the longer answer", evidence, remedy)
    if estimates["accuracy"].high < 0.5:
        remedy = "Check that the scores are not costs, and that right and wrong are not swapped."
        yield Finding(
            "warning", "The model prefers the worse answer", f"accuracy {percent(estimates['accuracy'])}", remedy
        )
    if ties.value > MAX_TIES and ties.low > 0:
        evidence = f"{percent(ties)} of pairs get exactly equal scores; this benchmark counts a tie as {benchmark.tie_counts_as}"
        yield Finding("warning", "Many exact ties", evidence, "Compute the head and the scores in float32.")
    if estimates["truncated"].value > 0:
        remedy = "Raise the model's max_length: published numbers were not truncated alike."
        yield Finding(
            "warning",
            "The model did not see all the text",
            f"truncated in {percent(estimates['truncated'])} of pairs",
            remedy,
        )


def part_findings(benchmark: Benchmark, parts: set[str], items: Sequence[Item]) -> Iterator[Finding]:
    """Of the subsets: missing, unknown, of another size than published, or of too few prompts."""
    sizes, counts = benchmark.subset_sizes, Counter(item.subset for item in items)
    missing = [subset for subset in sizes if subset not in counts]
    missing += [part for part in benchmark.needed_parts if part not in parts]
    if missing:
        effect = "the official score needs all parts" if benchmark.needs_all_parts else "the score is about the rest"
        evidence = f"no items of {first_few(missing)}; {effect}"
        yield Finding("warning", "Part of the benchmark is missing", evidence, "Give the whole benchmark.")
    used = {part for rule in benchmark.rules(tuple(parts)).values() for part in rule.parts}
    if sizes and (unknown := [subset for subset in counts if subset not in sizes and subset not in used]):
        evidence = f"{first_few(unknown)}; the official score leaves them out"
        yield Finding("warning", "Subsets that the benchmark does not have", evidence, "Check their names.")
    differing = [f"{name} {counts[name]} of {size}" for name, size in sizes.items() if counts[name] not in (0, size)]
    if differing:
        evidence = f"items here of items published: {first_few(differing)}"
        yield Finding("note", "Not the published set", evidence, "Do not compare the score with published ones.")
    groups: dict[str, set[str]] = {}
    for item in items:
        groups.setdefault(item.subset, set()).add(item.group)
    if few := [subset for subset, own in groups.items() if len(own) < MIN_GROUPS]:
        evidence = f"fewer than {MIN_GROUPS} prompts in {first_few(few)}: their intervals may be too narrow"
        yield Finding("note", "Too few prompts for an interval", evidence)


def item_findings(items: Sequence[Item]) -> Iterator[Finding]:
    """Of the items themselves: those whose right and wrong responses are the same text."""
    same = [item.id for item in items if _texts(item, item.correct) & _texts(item, item.wrong)]
    if same:
        evidence = f"{len(same)} of {len(items)} items, such as {first_few(same)}: no model can tell them apart"
        yield Finding("note", "A right and a wrong response are the same text", evidence, "Drop these rows and say so.")


def _texts(item: Item, indices: Sequence[int]) -> set[object]:
    return {(item.prompts[i], plain_response(item.responses[i])) for i in indices}
