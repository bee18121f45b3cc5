"""Rows of other formats in, comparisons out; a row that cannot be used comes out with its reason.

One file per format. A new format is a file with a function from a row to its Comparison (or several), and one line in IMPORTERS.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.importers.answers import labels_of_answers
from guerdon.data.importers.arena import from_arena, from_arena_lists, labels_of_arena
from guerdon.data.importers.argilla import from_argilla, is_argilla, unfold_argilla
from guerdon.data.importers.columns import Row
from guerdon.data.importers.evaluation import refuse_benchmarks
from guerdon.data.importers.helpsteer import (
    ATTRIBUTES,
    from_attributes,
    from_helpsteer2_preference,
    from_helpsteer3,
    labels_of_helpsteer2,
    labels_of_helpsteer3,
    prompt_of_attributes,
)
from guerdon.data.importers.joining import Unit, units_of
from guerdon.data.importers.judged_columns import JUDGED
from guerdon.data.importers.label_studio import from_label_studio, is_label_studio, unfold_label_studio
from guerdon.data.importers.labeled import from_labeled, labels_of
from guerdon.data.importers.labels import LabelReader, label_reader
from guerdon.data.importers.layout import KNOWN_COLUMNS, Importer, Join, Layout, Remarks, find_layout
from guerdon.data.importers.native import from_native, is_native
from guerdon.data.importers.potato import from_potato, is_potato, unfold_potato
from guerdon.data.importers.prefs import from_prefs, is_prefs
from guerdon.data.importers.prm800k import from_prm800k, is_prm800k
from guerdon.data.importers.prodigy import from_prodigy, from_prodigy_compare, is_compared, is_prodigy
from guerdon.data.importers.ranked_lists import are_ranked, from_nectar, from_nemo_rl, have_ranks
from guerdon.data.importers.reading import Reading
from guerdon.data.importers.scores import from_scores
from guerdon.data.importers.shp import from_shp, labels_of_shp
from guerdon.data.importers.steps import (
    from_first_error,
    from_math_shepherd,
    from_stepwise,
    is_first_error,
    is_math_shepherd,
    is_stepwise,
)
from guerdon.data.importers.summaries import from_summaries, labels_of_summaries
from guerdon.data.importers.swift import (
    SWIFT_COLUMNS,
    from_llama_factory,
    from_llama_factory_list,
    from_swift,
    holds_two_outputs,
    is_swift,
)
from guerdon.data.importers.transcript import from_hh, is_hh
from guerdon.data.importers.trl import cuts_prompt, from_trl
from guerdon.data.importers.ultrafeedback import are_dialogs, from_binarized, from_ultrafeedback, have_responses
from guerdon.data.importers.unpaired import UNPAIRED_COLUMNS, from_unpaired, is_unpaired, prompt_of_unpaired
from guerdon.data.importers.votes import from_votes, labels_of_votes
from guerdon.errors import LabelError, did_you_mean, field_error
from guerdon.io.schema import Rejected, at_location

__all__ = ["IMPORTERS", "Importer", "Join", "Reading", "Rejected", "import_rows"]

DETECTION_ROWS = 20  # the first rows, which decide the format
FORMER_NAMES = {"csv": "labeled"}

Report = Callable[[str], None]
Judged = Comparison | Sequence[Comparison]


def _unlabeled(read: Callable[[Row], Judged]) -> Callable[[Row, Reading], Judged]:
    """The reader of a format that needs nothing but the row."""

    @functools.wraps(read)
    def read_row(row: Row, reading: Reading) -> Judged:
        return read(row)

    return read_row


def _own(
    read: Callable[[Row, Reading], Judged],
    columns: tuple[str, ...],
    optional: tuple[str, ...] = (),
    **more: Any,
) -> Importer:
    """A format whose columns have the data set's own names."""
    return Importer(read, columns, optional, own_names=True, **more)


def _of_tool(
    read: Callable[[Row, Reading], Judged],
    unfold: Callable[[Row], dict[str, Any]],
    matches: Callable[[Row], bool],
    sign: str,
) -> Importer:
    """The format of an annotation tool, in which texts and questions have names of the user's own."""
    return _own(
        read,
        (),
        matches=matches,
        sign=sign,
        unfold=unfold,
        labels=labels_of_answers,
        has_soft_labels=False,
        label_name="the answer to the question",
        refuses_others=True,
    )


_ARENA = ("model_a", "model_b")
_ARENA_LISTS = ("prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie")

# Of the formats that a row fits, the first is taken; those with own names of columns come before all others.
IMPORTERS: Mapping[str, Importer] = {
    "prefs": _own(from_prefs, (), matches=is_prefs, sign="the file of a store", refuses_others=True),
    "ultrafeedback": _own(from_ultrafeedback, ("instruction", "completions"), matches=have_responses),
    "ultrafeedback_binarized": _own(
        from_binarized,
        ("prompt", "chosen", "rejected", "score_chosen", "score_rejected"),
        ("messages",),
        matches=are_dialogs,
    ),
    "ultrafeedback_cleaned": _own(
        from_binarized,
        ("prompt", "chosen", "rejected", "chosen-rating", "rejected-rating"),
        ("chosen-model", "rejected-model"),
        matches=are_dialogs,
    ),
    "shp": _own(
        from_shp,
        ("history", "human_ref_A", "human_ref_B", "labels"),
        ("score_A", "score_B", "score_ratio", "post_id", "domain"),
        labels=labels_of_shp,
        label_name="labels",
        scale="first",
        has_soft_labels=False,
    ),
    "helpsteer2": _own(from_attributes, ("prompt", "response", *ATTRIBUTES), join=Join(prompt_of_attributes)),
    "helpsteer2_preference": _own(
        from_helpsteer2_preference,
        ("prompt", "response_1", "response_2", "preference_strength"),
        (
            "all_preferences_unprocessed",
            "three_most_similar_preferences",
            "preference_statement",
            "preference_elaboration",
        ),
        labels=labels_of_helpsteer2,
        label_name="preference_strength",
        scale="negative",
    ),
    "helpsteer3": _own(
        from_helpsteer3,
        ("context", "response1", "response2", "overall_preference"),
        ("individual_preference",),
        labels=labels_of_helpsteer3,
        label_name="overall_preference",
        scale="negative",
    ),
    "nectar": _own(from_nectar, ("prompt", "answers"), ("num_responses",), matches=have_ranks),
    "nemo_rl": _own(_unlabeled(from_nemo_rl), ("context", "completions"), JUDGED, matches=are_ranked),
    "arena": _own(
        from_arena,
        (*_ARENA, "conversation_a", "conversation_b", "winner"),
        ("judge", "turn"),
        labels=labels_of_arena,
        label_name="winner",
        has_soft_labels=False,
    ),
    "arena_lists": _own(_unlabeled(from_arena_lists), (*_ARENA, *_ARENA_LISTS)),
    "summaries": _own(
        from_summaries,
        ("info", "summaries", "choice"),
        ("worker", "extra"),
        labels=labels_of_summaries,
        label_name="extra.confidence",
        scale="negative",
    ),
    "prm800k": _own(
        _unlabeled(from_prm800k),
        ("question", "label"),
        ("labeler", "timestamp", "generation", "is_quality_control_question", "is_initial_screening_question"),
        matches=is_prm800k,
    ),
    "stepwise": _own(_unlabeled(from_stepwise), ("prompt", "completions", "labels"), matches=is_stepwise),
    "math_shepherd": _own(_unlabeled(from_math_shepherd), ("input", "label"), ("task",), matches=is_math_shepherd),
    "first_error": _own(_unlabeled(from_first_error), ("problem", "steps", "label"), matches=is_first_error),
    "argilla": _of_tool(from_argilla, unfold_argilla, is_argilla, "fields and responses of users"),
    "label_studio": _of_tool(from_label_studio, unfold_label_studio, is_label_studio, "annotations of Label Studio"),
    "potato": _of_tool(from_potato, unfold_potato, is_potato, "instance_id and labels of Potato"),
    "prodigy": _own(_unlabeled(from_prodigy), ("options", "answer"), matches=is_prodigy, refuses_others=True),
    "prodigy_compare": _own(
        _unlabeled(from_prodigy_compare),
        ("input", "accept", "reject", "answer"),
        ("mapping",),
        matches=is_compared,
        refuses_others=True,
    ),
    "swift": _own(
        _unlabeled(from_swift), (), SWIFT_COLUMNS, matches=is_swift, sign="rejected_response or rejected_messages"
    ),
    "llama_factory": _own(_unlabeled(from_llama_factory), ("chosen_messages", "rejected_messages")),
    "llama_factory_list": _own(
        _unlabeled(from_llama_factory_list),
        ("instruction", "output"),
        ("input",),
        matches=holds_two_outputs,
        sign="two texts as output",
    ),
    "unpaired": _own(
        _unlabeled(from_unpaired),
        (),
        UNPAIRED_COLUMNS,
        matches=is_unpaired,
        sign="one response and a label per row",
        join=Join(prompt_of_unpaired, scattered=True),
    ),
    "hh": Importer(_unlabeled(from_hh), ("chosen", "rejected"), JUDGED, is_hh, "transcripts"),
    "native": Importer(
        _unlabeled(from_native), ("responses",), matches=is_native, sign="with a preference", refuses_others=True
    ),
    "scores": Importer(from_scores, ("responses", "scores")),
    "votes": Importer(
        from_votes,
        ("response_a", "response_b", "votes"),
        labels=labels_of_votes,
        label_name="the label of votes",
        has_soft_labels=False,
    ),
    "labeled": Importer(from_labeled, ("first", "second", "label"), ("chosen", "rejected", "margin"), labels=labels_of),
    "trl": Importer(from_trl, ("chosen", "rejected"), JUDGED, cuts_prompt=cuts_prompt),
}

# Columns that some format reads, whatever their type.
COLUMNS_READ = KNOWN_COLUMNS.union(*((*importer.columns, *importer.optional) for importer in IMPORTERS.values()))


def import_rows(
    rows: Iterable[tuple[str, Any]],
    options: ImportOptions,
    report: Report = lambda line: None,
    *,
    for_evaluation: bool = False,
) -> Iterator[Comparison | Rejected]:
    """(place, row) pairs of one file in; for each row its Comparison, or several, or a Rejected out, in order.

    The rows of a public benchmark are refused unless they are `for_evaluation`.

    `report` is called with a line about the format, about numbers as labels, about prompts that are cut from texts, about
    what is not used, and with the notes of the format. With
    options.strict the first bad row raises GuerdonError with its place; a label that cannot be read always does, for all
    labels of a file are read before its first row. Rows that can be iterated only once are then held in memory.
    """
    options = options.model_copy(update={"format": FORMER_NAMES.get(options.format, options.format)})
    if options.format not in ("auto", *IMPORTERS):
        formats = ("auto", *IMPORTERS)
        raise field_error("format", "a known format", options.format, did_you_mean(options.format, formats))
    options.refuse_conflicts()
    iterator = iter(rows)
    head = list(islice(iterator, DETECTION_ROWS))
    if not for_evaluation:
        refuse_benchmarks(head)
    layout = find_layout(head, IMPORTERS, options)
    importer = IMPORTERS[layout.name]
    _refuse_unused_options(layout.name, options, importer)
    if any(isinstance(row, Mapping) for _, row in head):
        report(
            f"format: {layout.name}{layout.describe()}" + (layout.reason(importer) if options.format == "auto" else "")
        )
    remaining: Iterable[tuple[str, Any]] = chain(head, iterator)
    reading = Reading(options=options)
    if importer.labels is not None:
        remaining = list(remaining) if iterator is rows else remaining
        reading = Reading(_reader_of(importer.labels, remaining, layout, options), options)
        if reading.label.scale is not None and importer.scale is None:
            report(f"labels: {reading.label.scale.meaning}")
        remaining = remaining if iterator is rows else rows
    remarks = Remarks.of(importer)
    for unit in units_of(remaining, lambda row: _with_source(layout.rename(row), options.source), importer.join):
        for result in _read(unit, importer, reading, remarks) if isinstance(unit, Unit) else [unit]:
            if isinstance(result, Rejected) and options.strict:
                raise GuerdonError(f"{result.place}: {result.reason}")
            yield result
    for line in remarks.lines(reading):
        report(line)


def _refuse_unused_options(name: str, options: ImportOptions, importer: Importer) -> None:
    """Refuse options about something that rows of this format do not have. Our own rows need none, and a run's config has them all."""
    if name == "native":
        return
    options.model_copy(update={"format": name}).refuse_conflicts()
    if options.label_means is not None and importer.labels is None:
        raise GuerdonError(
            f"--label-means must be about labels that are numbers, got a file of format {name}, which has no labels. Leave it out."
        )


def _with_source(row: dict[str, Any], source: str | None) -> dict[str, Any]:
    return row if source is None or row.get("source") is not None else {**row, "source": source}


def _reader_of(
    labels: Callable[[Row], list[object]], rows: Iterable[tuple[str, Any]], layout: Layout, options: ImportOptions
) -> LabelReader:
    """The reader of the labels of a file, from all of its rows."""

    def places_and_labels() -> Iterator[tuple[str, object]]:
        for place, row in rows:
            try:
                given = labels(layout.rename(row)) if isinstance(row, Mapping) else []
            except GuerdonError:  # the row is rejected with this reason when it is read
                continue
            yield from ((place, label) for label in given)

    return label_reader(
        places_and_labels(),
        IMPORTERS[layout.name].label_name or layout.columns.get("label", "label"),
        means=options.label_means,
        known=layout.scale,
        soft=IMPORTERS[layout.name].has_soft_labels,
    )


def _read(unit: Unit, importer: Importer, reading: Reading, remarks: Remarks) -> Iterable[Comparison | Rejected]:
    place = unit.members[0][0]
    try:
        given = importer.read(unit.row, reading)
        comparisons = [at_location(place, each) for each in ([given] if isinstance(given, Comparison) else given)]
    except LabelError as error:
        raise GuerdonError(f"{place}: {error}") from None
    except GuerdonError as error:
        return unit.rejected(str(error))
    if not remarks.cut_prompt and importer.cuts_prompt(unit.row):
        remarks.cut_prompt = comparisons[0].prompt[-1].content
    if not importer.refuses_others:
        for member in unit.rows:
            remarks.add_unused(member)
    return comparisons
