"""Read, write, check and split comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from guerdon.io import writers
from guerdon.progress import note

if TYPE_CHECKING:
    from guerdon.data.files import Rejects

PARTS = ("train", "calibrate", "audit")


def read(source: str | Path | Sequence[str | Path], **options: Any) -> list[Comparison]:
    """Comparisons from a file in any known format, from several, or from a hub data set.

    A bad row raises GuerdonError with its place. Keywords are ImportOptions: format, columns, label_means, hub_split,
    source.
    """
    chosen = make(ImportOptions, {"strict": True, **options})
    return list(stream_comparisons([source] if isinstance(source, str | Path) else source, chosen))


def stream_comparisons(
    sources: Sequence[str | Path], options: ImportOptions, rejects: Rejects | None = None
) -> Iterator[Comparison]:
    """The comparisons of files in any known format, in constant memory: what commands read.

    Bad rows are set aside and counted in `rejects`, or else in a note on stderr; with options.strict, and if no row is
    usable, the first one raises GuerdonError with its place.
    """
    from guerdon.data.files import Rejects, count_rejects, import_files, require_usable

    def say(line: str) -> None:
        if "format: native" not in line:  # the usual case, which needs no line
            note(line)

    is_reported = rejects is None
    rejects = rejects or Rejects()
    rows = count_rejects(import_files(sources, options, say), rejects)
    yield from require_usable((row for row in rows if isinstance(row, Comparison)), rejects)
    if rejects.count and is_reported:
        note(f"{', '.join(map(str, sources))}: {rejects.number} set aside; the first is {rejects.first_reason}")


def write(path: str | Path, comparisons: Iterable[Comparison]) -> int:
    """Write comparisons as JSONL or Parquet, by the path's extension; returns their number."""
    return writers.write_comparisons(path, comparisons)


def check(
    comparisons: Iterable[Comparison],
    *,
    against: Mapping[str, Iterable[Comparison]] | None = None,
    tokens: Any = None,
    rejects: Rejects | None = None,
    **options: Any,
) -> Report:
    """What is wrong with these comparisons, and which of them are in `against` too. Keywords are CheckOptions.

    tokens: a function from prompt and response to what a model would read, from `token_counter`. rejects: rows that could
    not be read, from `stream_comparisons`.
    """
    from guerdon.data.checks import check as run_check

    return run_check(comparisons, make(CheckOptions, options), against=against or {}, tokens=tokens, rejects=rejects)


def token_counter(options: ModelOptions) -> Any:
    """A function from a prompt and a response to the token ids [t] that a model reads, and whether they were truncated.

    It loads the tokenizer only.
    """
    from guerdon.models.directory.loading import load_text

    text = load_text(options.model_copy(update={"truncation": "left"}))
    return lambda prompt, response: text.encode([prompt], [response])[0]


def split(comparisons: Iterable[Comparison], **options: Any) -> dict[str, list[Comparison]]:
    """Train, calibrate and audit parts, split by prompt group and the same on any machine. Keywords are SplitOptions."""
    from guerdon.data.split import part_of

    chosen = make(SplitOptions, options)
    parts: dict[str, list[Comparison]] = {name: [] for name in PARTS}
    for comparison in comparisons:
        parts[part_of(comparison.group, chosen)].append(comparison)
    return parts
