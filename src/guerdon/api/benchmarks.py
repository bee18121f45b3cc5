"""Score a model on public benchmarks by their own rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from guerdon.api.auditing import tokenization_of
from guerdon.config import AuditOptions, BenchmarkOptions, ImportOptions, make
from guerdon.contracts import GuerdonError, Report
from guerdon.io import readers
from guerdon.progress import ProgressBar


def benchmark(
    model: Any,
    source: str | Path | Sequence[str | Path],
    name: str = "auto",
    scores: str | Path | Sequence[str | Path] | None = None,
    **options: Any,
) -> Report:
    """A model on a public benchmark, by the benchmark's own rule, with intervals and anchors. Keywords are BenchmarkOptions.

    `source`: the benchmark's published file or files, or its name on the hub. `name`: rewardbench, rewardbench2, rmbench,
    judgebench, rmb, rewardmath, planrewardbench, ifbench, llmbar, evalbiasbench, hhh, xstest, pairs, bestofn, processbench
    or prmbench; auto detects it from the rows. `scores`: a file or files of scores from elsewhere, with None for the model.
    """
    from guerdon.benchmarks.readers import STEP_READERS, read_items
    from guerdon.benchmarks.run import benchmark as run_benchmark
    from guerdon.benchmarks.score_files import match_scores
    from guerdon.benchmarks.scoring import hygiene_rows
    from guerdon.benchmarks.steps import step_score_rows
    from guerdon.models.hygiene import hygiene_gate

    chosen = make(BenchmarkOptions, options)
    if (model is None) == (not scores):
        both = "neither" if model is None else "both"
        raise GuerdonError(
            f"benchmark: exactly one of a model and scores must be given, got {both}. Give a model, or None and scores."
        )
    sources = _as_list(source)
    name, items = read_items((row for path in sources for row in _read_rows(path, chosen.hub_split)), name)
    about = {"data": ", ".join(map(str, sources))}
    if scores:
        files = _as_list(scores)
        score_rows = (row for path in files for row in _read_rows(path))
        table = match_scores(step_score_rows(score_rows, items) if name in STEP_READERS else score_rows, items)
        return run_benchmark(table, items, name, chosen, about={**about, "scores": ", ".join(map(str, files))})
    hygiene = None
    if tokenization := tokenization_of(model):
        gate = AuditOptions(hygiene_rows=chosen.hygiene_rows, seed=chosen.seed)
        hygiene = hygiene_gate(model, *hygiene_rows(items, chosen), gate, **tokenization)
    with ProgressBar(len(items), "benchmark", "comparisons") as bar:
        return run_benchmark(model, items, name, chosen, bar.update, hygiene=hygiene, about=about)


def _as_list(source: str | Path | Sequence[str | Path]) -> list[str | Path]:
    return [source] if isinstance(source, str | Path) else list(source)


def _read_rows(source: str | Path, split: str | None = None) -> Iterable[tuple[str, Any]]:
    """Rows of a benchmark or of its scores: of a JSON file in any form, of a hub data set from its published split."""
    from guerdon.benchmarks.readers import HUB_SPLITS, unpack

    path = Path(source)
    if path.is_file() and path.name.lower().removesuffix(".gz").endswith(".json"):
        try:
            return unpack(readers.read_json(path), str(path))
        except GuerdonError:  # perhaps one object per line: read_rows can tell, and has the better error
            pass
    return readers.read_rows(source, ImportOptions(hub_split=split or HUB_SPLITS.get(str(source), "train")))
