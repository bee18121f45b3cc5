"""Comparisons in, rows of other tools out; what a format cannot hold is counted, and what it must not hold is set aside.

One file per tool. A new format is a function from a Pair or a Comparison to rows, and one line in EXPORTERS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from guerdon.config import ExportOptions
from guerdon.config.data import Ties
from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.exporters import kto, llama_factory, nemo_rl, trl
from guerdon.data.exporters.columns import Job, MixedMargins, Row, margin_column, pair_extras, to_line
from guerdon.data.exporters.losses import Losses
from guerdon.data.exporters.pairs import Pair, pairs_of
from guerdon.data.importers.columns import are_identical, refuse_empty
from guerdon.errors import did_you_mean, field_error
from guerdon.io.schema import Rejected, comparison_to_row

__all__ = ["EXPORTERS", "Exporter", "Job", "Losses", "exported_lines", "prepare"]

BY_DATASETS = (".jsonl", ".jsonl.gz", ".parquet")
BY_ENDING = (".jsonl", ".parquet")  # these tools look at the last ending alone, and refuse .gz


@dataclass(frozen=True, slots=True)
class Exporter:
    """A format.

    pair: the row of a pair, for a format of pairs. whole: the rows of a comparison, for a format of any number of responses; with
    both, the option `pairs` chooses. endings: of the files that its tool reads. ties: what may be done with them, the default
    first. has_margin: whether a row may have a margin. needs_margins: whether it must then be in all rows. usage: how its tool
    reads a file. entry: what LLaMA-Factory's dataset_info.json says of a file.
    """

    pair: Callable[[Pair, Job], Row] | None = None
    whole: Callable[[Comparison, Job], Iterator[Row]] | None = None
    endings: tuple[str, ...] = BY_DATASETS
    ties: tuple[Ties, ...] = ("drop", "soft")
    has_margin: bool = False
    needs_margins: bool = False
    usage: str = ""
    entry: Callable[[Path], Row] | None = None


def _trl(pair: Callable[[Pair, Job], Row]) -> Exporter:
    return Exporter(pair, ties=("drop", "soft", "margin0"), has_margin=True, needs_margins=True)


EXPORTERS: Mapping[str, Exporter] = {
    "native": Exporter(ties=("soft", "drop")),  # comparisons as they are
    "trl": _trl(trl.explicit_messages),
    "trl-implicit": _trl(trl.implicit_messages),
    "trl-text": _trl(trl.explicit_text),
    "trl-implicit-text": _trl(trl.implicit_text),
    "openrlhf": Exporter(
        trl.explicit_messages,
        endings=BY_ENDING,
        ties=("drop", "soft", "margin0"),
        has_margin=True,
        usage="--data.prompt_key prompt --data.chosen_key chosen --data.rejected_key rejected --data.apply_chat_template",
    ),
    "nemo-rl": Exporter(nemo_rl.ranked_pair, nemo_rl.ranked, endings=BY_ENDING),
    "llamafactory": Exporter(llama_factory.alpaca, endings=BY_ENDING, entry=llama_factory.alpaca_entry),
    "llamafactory-sharegpt": Exporter(llama_factory.sharegpt, endings=BY_ENDING, entry=llama_factory.sharegpt_entry),
    "kto": Exporter(whole=kto.unpaired_messages, ties=("drop",)),
    "kto-text": Exporter(whole=kto.unpaired_text, ties=("drop",)),
}


def prepare(options: ExportOptions, out: str | Path) -> Job:
    """A Job for a file; GuerdonError where the format is unknown, or cannot follow an option, or its tool would not read the file."""
    name = options.format
    if name not in EXPORTERS:
        raise field_error("--to", "a known format", name, did_you_mean(name, EXPORTERS))
    exporter = EXPORTERS[name]
    if not str(out).endswith(exporter.endings):
        claim = f"{', '.join(exporter.endings[:-1])} or {exporter.endings[-1]} for {name}"
        raise field_error(f"{out}: the ending", claim, "".join(Path(out).suffixes[-2:]), "Change the ending.")
    ties = options.ties or exporter.ties[0]
    if ties not in exporter.ties:
        raise field_error("--ties", f"{' or '.join(exporter.ties)} for {name}", ties, "Leave it out.")
    if options.pairs and exporter.pair is None:
        raise field_error("--pairs", f"absent for {name}", options.pairs, "Leave it out.")
    if options.margin_scale != 1.0 and not exporter.has_margin:
        raise field_error(
            "--margin-scale", f"absent for {name}, which has no margin", options.margin_scale, "Leave it out."
        )
    if ties == "margin0" and options.margin_scale == 0:
        raise GuerdonError(
            "--ties margin0 must come with margins, got --margin-scale 0, which leaves them out. Leave one out."
        )
    if not options.extras and name == "native":
        raise field_error("--no-extras", "absent for native, whose columns are all its own", False, "Leave it out.")
    if not options.extras and ties == "soft" and exporter.pair is not None and name != "nemo-rl":
        raise GuerdonError(
            "--ties soft must come with extra columns, which hold p_chosen, got --no-extras. Leave one out."
        )
    return Job(options.model_copy(update={"ties": ties}), arguments_as_text=str(out).endswith(".parquet"))


def exported_lines(comparisons: Iterable[Comparison | Rejected], job: Job) -> Iterator[bytes | Rejected]:
    """For each comparison its rows as lines of JSON, or a Rejected with the reason where the format cannot hold it.

    Rows that are rejected already stay so. What is lost is counted in `job.losses`, which are complete once all is read.
    """
    exporter = EXPORTERS[job.options.format]
    for comparison in comparisons:
        if isinstance(comparison, Rejected):
            yield comparison
            continue
        rows = _whole_rows if exporter.pair is None or (exporter.whole and not job.options.pairs) else _pair_rows
        is_written = False
        for row in rows(exporter, comparison, job):
            is_written = is_written or isinstance(row, bytes)
            yield row
        job.losses.add_fields(comparison, job.options.extras)
        job.losses.end_comparison(is_written)


def _whole_rows(exporter: Exporter, comparison: Comparison, job: Job) -> Iterator[bytes | Rejected]:
    assert exporter.whole is not None, "a format of comparisons"
    try:
        lines = [to_line(row) for row in exporter.whole(comparison, job)]
    except GuerdonError as error:
        yield _rejected(comparison, error)
    else:
        yield from lines


def _pair_rows(exporter: Exporter, comparison: Comparison, job: Job) -> Iterator[bytes | Rejected]:
    reasons = set()
    for pair in pairs_of(comparison, job.options):
        if pair.is_tie and job.options.ties == "drop":
            job.losses.add_tie()
            continue
        try:
            line = to_line(_pair_row(exporter, pair, job))
        except MixedMargins:
            raise
        except GuerdonError as error:
            if str(error) not in reasons:  # one is enough for what is wrong with all pairs of a ranking
                yield _rejected(comparison, error)
            reasons.add(str(error))
        else:
            yield line
    _add_lost_by_pairs(exporter, comparison, job)


def _pair_row(exporter: Exporter, pair: Pair, job: Job) -> Row:
    """The row of a pair; GuerdonError where the format cannot hold it, or nothing can be learned from it."""
    assert exporter.pair is not None, "a format of pairs"
    refuse_empty({"chosen": pair.chosen, "rejected": pair.rejected})
    if are_identical(pair.chosen, pair.rejected):
        raise GuerdonError("chosen and rejected must differ, got identical responses. Drop the row.")
    row = {**exporter.pair(pair, job), **pair_extras(pair, job)}
    return row | (margin_column(pair, job, exporter.needs_margins) if exporter.has_margin else {})


def _add_lost_by_pairs(exporter: Exporter, comparison: Comparison, job: Job) -> None:
    job.losses.add("order shown")
    if len(comparison.responses) > 2:
        job.losses.add("the ranking as a whole")
    has_margin = exporter.has_margin and job.options.margin_scale > 0
    if job.options.ties == "margin0" and len(set(comparison.ranks)) < len(comparison.responses):
        job.losses.add("ties, now margin 0,")
    if comparison.preference.strength is not None and not job.options.extras and not has_margin:
        job.losses.add("strength")


def _rejected(comparison: Comparison, error: GuerdonError) -> Rejected:
    return Rejected(
        comparison.prompt.location or f"comparison {comparison.id}", str(error), comparison_to_row(comparison)
    )
