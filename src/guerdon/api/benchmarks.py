"""Score a model on public benchmarks by their own rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from guerdon.api.auditing import _tokens_seen
from guerdon.config import (
    AuditOptions,
    BenchmarkOptions,
    ImportOptions,
    make,
)
from guerdon.contracts import (
    GuerdonError,
    Report,
)
from guerdon.io import (
    readers,
)
from guerdon.progress import bar


def benchmark(
    model: Any,
    source: str | Path | Sequence[str | Path],
    name: str = "auto",
    scores: str | Path | None = None,
    **options: Any,
) -> Report:
    """A model on a public benchmark, by the benchmark's own rule, with intervals and anchors. Keywords are BenchmarkOptions.

    `source`: the benchmark's files as published, one or several, or its name on the hub. `name`: rewardbench,
    rewardbench2, rmbench, judgebench, rmb, llmbar, evalbiasbench, hhh, xstest or pairs; auto sees it from the rows.
    `scores`: a file of scores that were made elsewhere, with None for the model.
    """
    from guerdon.benchmarks.readers import read_items
    from guerdon.benchmarks.run import benchmark as measure
    from guerdon.benchmarks.score_files import match_scores
    from guerdon.benchmarks.scoring import hygiene_rows
    from guerdon.models.hygiene import hygiene_gate

    chosen = make(BenchmarkOptions, options)
    if (model is None) == (scores is None):
        raise GuerdonError("benchmark: give a model, or a file of scores and None for the model")
    sources = [source] if isinstance(source, str | Path) else list(source)
    name, items = read_items((row for each in sources for row in _rows_of(each, chosen.hub_split)), name)
    about = {"data": ", ".join(str(each) for each in sources)}
    if scores is not None:
        table = match_scores(_rows_of(scores), items)
        return measure(table, items, name, chosen, about={**about, "scores": str(scores)})
    hygiene = None
    if seen := _tokens_seen(model):
        gate = AuditOptions(hygiene_rows=chosen.hygiene_rows, seed=chosen.seed)
        hygiene = hygiene_gate(model, *hygiene_rows(items, chosen), gate, **seen)
    with bar("benchmark", len(items)) as progress:
        return measure(model, items, name, chosen, progress, hygiene=hygiene, about=about)


def _rows_of(source: str | Path, split: str | None = None) -> Iterable[tuple[str, Any]]:
    """Rows of a benchmark or of its scores: of a JSON file whatever its form, of a hub data set its published split."""
    from guerdon.benchmarks.readers import HUB_SPLITS, unpack

    path = Path(source)
    if path.is_file() and path.name.lower().removesuffix(".gz").endswith(".json"):
        try:
            return unpack(readers.read_json(path), str(path))
        except GuerdonError:  # one object a line, perhaps: read_rows knows, and says what is wrong if not
            pass
    return readers.read_rows(source, ImportOptions(hub_split=split or HUB_SPLITS.get(str(source), "train")))
