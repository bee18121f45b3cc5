"""Read, write, check and split comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from guerdon.config import (
    CheckOptions,
    ImportOptions,
    ModelOptions,
    SplitOptions,
    make,
)
from guerdon.contracts import (
    Comparison,
    Report,
)
from guerdon.io import (
    readers,
    writers,
)

PARTS = ("train", "calibrate", "audit")


def read(source: str | Path, **options: Any) -> list[Comparison]:
    """Comparisons from a file in any known format, or from a hub data set. A bad row raises GuerdonError with its place.

    Keywords are ImportOptions: format, columns, hub_split, source.
    """
    from guerdon.data.importers import import_rows

    chosen = make(ImportOptions, {"strict": True, **options})
    return [row for row in import_rows(readers.read_rows(source, chosen), chosen) if isinstance(row, Comparison)]


def write(path: str | Path, comparisons: Iterable[Comparison]) -> int:
    """Write comparisons as JSONL or Parquet, by the path's extension; returns their number."""
    return writers.write_comparisons(path, comparisons)


def check(
    comparisons: Iterable[Comparison],
    *,
    against: Mapping[str, Iterable[Comparison]] | None = None,
    tokens: Any = None,
    **options: Any,
) -> Report:
    """What is wrong with these comparisons, and which of them are in `against` too. Keywords are CheckOptions.

    tokens: a function from prompt and response to the ids that a model would read, from `token_counter`.
    """
    from guerdon.data.checks import check as run_check

    return run_check(comparisons, make(CheckOptions, options), against=against or {}, tokens=tokens)


def token_counter(options: ModelOptions) -> Any:
    """A function from a prompt and a response to the token ids [t] that a model reads, truncated as it truncates.

    It loads the tokenizer only.
    """
    from guerdon.models.directory.loading import load_text

    text = load_text(options.model_copy(update={"truncation": "left"}))
    return lambda prompt, response: text.encode([prompt], [response])[0].ids.tolist()


def split(comparisons: Iterable[Comparison], **options: Any) -> dict[str, list[Comparison]]:
    """Train, calibrate and audit parts, split by prompt group and the same on any machine. Keywords are SplitOptions."""
    from guerdon.data.split import part_of

    chosen = make(SplitOptions, options)
    parts: dict[str, list[Comparison]] = {name: [] for name in PARTS}
    for comparison in comparisons:
        parts[part_of(comparison.group, chosen)].append(comparison)
    return parts
