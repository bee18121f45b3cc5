"""The columns of a file: which format they are, which of them hold what, and which are not used."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.importers.columns import COLUMNS, MEDIA, SHARED, Row, list_in
from guerdon.data.importers.plain_text import as_transcript
from guerdon.data.importers.reading import Reading
from guerdon.errors import did_you_mean, show_value
from guerdon.io.fields import is_nan
from guerdon.io.messages import messages_in

__all__ = [
    "KNOWN_COLUMNS",
    "Importer",
    "Join",
    "Layout",
    "Remarks",
    "find_layout",
    "own_format",
    "refuse_wrong_columns",
]

MOST_NAMES = 12  # column names in a message
PROMPTS = ("instruction", "question", "query", "context", "conversations")
PAIRS = (
    ("response_a", "response_b"), ("response_0", "response_1"), ("response_1", "response_2"), ("response1", "response2"),
    ("output_1", "output_2"), ("answer_a", "answer_b"), ("conversation_a", "conversation_b"), ("human_ref_A", "human_ref_B"),
)  # fmt: skip
LABELS = ("label", "better_response_id", "overall_preference", "winner", "preference", "labels")
# What numbers mean where the columns tell the data set: PKU-SafeRLHF, HelpSteer3, SHP, AlpacaEval.
KNOWN_SCALES = {
    ("response_0", "better_response_id"): "index",
    ("response1", "overall_preference"): "negative",
    ("human_ref_A", "labels"): "first",
    ("output_1", "preference"): "one_or_two",
}
# Columns of these names may hold what a format uses, whatever their type.
KNOWN_COLUMNS = frozenset((*COLUMNS, *MEDIA, *PROMPTS, "input", *(name for pair in PAIRS for name in pair), *LABELS))
_TEXT_OR_MESSAGES = ("prompt", "chosen", "rejected", "first", "second", "response_a", "response_b", "history")
_LISTS = ("responses", "scores", "votes", "history")  # a table holds them as JSON or as Python prints them
_MESSAGE_KEYS = {"role", "from", "content", "value", "tool_calls", "tool_call_id", "name", "text"}
_NESTED_KEYS = dict.fromkeys((*_TEXT_OR_MESSAGES, "responses"), _MESSAGE_KEYS) | {
    "votes": {"annotator", "label", "strength", "rationale"}
}


@dataclass(frozen=True, slots=True)
class Join:
    """How rows of a file are put together before they are read, because a comparison spans several.

    key: what the rows of a comparison share, such as their prompt; raises GuerdonError for a row that cannot be used.
    scattered: whether such rows may stand anywhere in the file, which is then held in memory; else they are neighbors.
    """

    key: Callable[[Row], Hashable]
    scattered: bool = False


@dataclass(frozen=True, slots=True)
class Importer:
    """A format.

    read: a row and what its file's rows share in, its Comparison or several out; raises GuerdonError with the reason where
    there is none. columns: what each row of the format has. optional: what it may have beside the columns of all formats.
    matches: what else tells the format of a row that has them; `sign` says it. own_names: whether the columns have the data set's
    own names, so that none is looked for under another name and `read` gets the values as they are in the file. unfold: what is
    nested in a row, as columns; None where nothing is. join: how rows
    are put together; `read` then gets {"rows": [row, ...]}. labels: the labels of a row. label_name: what errors call them, if
    not by their column. scale: what numbers as labels mean; None where the file decides. has_soft_labels: whether they may be
    probabilities. refuses_others: whether `read` refuses columns that it does not know. cuts_prompt: whether `read` takes the
    prompt of a row from what its texts share, where no mark says where it ends.
    """

    read: Callable[[Row, Reading], Comparison | Sequence[Comparison]]
    columns: tuple[str, ...]
    optional: tuple[str, ...] = ()
    matches: Callable[[Row], bool] = lambda row: True
    sign: str = ""
    own_names: bool = False
    unfold: Callable[[Row], dict[str, Any]] | None = None
    join: Join | None = None
    labels: Callable[[Row], list[object]] | None = None
    label_name: str = ""
    scale: str | None = None
    has_soft_labels: bool = True
    refuses_others: bool = False
    cuts_prompt: Callable[[Row], bool] = lambda row: False


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a file are read.

    name: of the format. columns: our name of a column -> the file's, as the user gave them and as they were detected; `given`
    are the user's. scale: what numbers as labels mean in this data set; None where it is open. has_prompts: whether the file has
    a column of prompts; a row without a prompt then has None for it, and else no such key. own_names: whether the columns have the
    data set's own names and the values stay as they are.
    """

    name: str
    columns: Mapping[str, str]
    given: Mapping[str, str]
    scale: str | None = None
    has_prompts: bool = False
    own_names: bool = False
    unfold: Callable[[Row], dict[str, Any]] | None = None

    def rename(self, row: Row) -> dict[str, Any]:
        """The row with our names of the columns and with messages in place of their texts; the user's columns are required."""
        row = row if self.unfold is None else self.unfold(row)
        missing = [theirs for theirs in self.given.values() if theirs not in row]
        if missing:
            raise GuerdonError(f"{missing[0]} is missing. Add it or drop the row.")
        renamed = _rename(row, self.columns)
        if self.own_names:
            return renamed
        if self.columns.get("prompt") == "instruction" and isinstance(renamed.get("input", ""), str):
            parts = (renamed.get("prompt"), renamed.pop("input", ""))
            renamed["prompt"] = "\n".join(part for part in parts if isinstance(part, str) and part.strip()) or parts[0]
        if not _has_prompt(renamed):
            renamed.pop("prompt", None)
            renamed |= {"prompt": None} if self.has_prompts else {}
        for key in _TEXT_OR_MESSAGES:
            if key in renamed:
                renamed[key] = messages_in(renamed[key], key)
        for key in _LISTS:
            if key in renamed:
                renamed[key] = list_in(renamed[key])
        if isinstance(renamed.get("responses"), list):
            renamed["responses"] = [messages_in(v, f"responses[{i}]") for i, v in enumerate(renamed["responses"])]
        return renamed

    def describe(self) -> str:
        """The columns that were found under other names, for people."""
        detected = (f"{ours}={theirs}" for ours, theirs in self.columns.items() if ours not in self.given)
        return "".join(f", {pair}" for pair in detected)

    def reason(self, importer: Importer) -> str:
        """By what the format was detected, for people."""
        names = ", ".join(self.columns.get(column, column) for column in importer.columns)
        return f" (detected from {': '.join(filter(None, (names, importer.sign)))})"


def find_layout(head: list[tuple[str, Any]], importers: Mapping[str, Importer], options: ImportOptions) -> Layout:
    """The layout of a file whose first rows are `head`: the format that most of them fit, and the columns under other names."""
    rows = [(place, row) for place, row in head if isinstance(row, Mapping)]
    names = {str(name): None for _, row in rows for name, value in row.items() if value is not None}
    own = own_format(rows, importers, options)
    unfold = importers[own].unfold if own else None
    refuse_wrong_columns(options.columns, _column_names([row for _, row in rows], unfold))
    if own:
        return Layout(own, options.columns, options.columns, importers[own].scale, own_names=True, unfold=unfold)
    columns = dict(options.columns)
    columns |= _detected_pair(names, columns)
    columns |= _detected_prompt(names, columns, rows)
    scale = KNOWN_SCALES.get((columns.get("first", ""), columns.get("label", "")))
    has_prompts = "prompt" in options.columns or any(_has_prompt(_rename(row, columns)) for _, row in rows)
    if options.format != "auto":
        return Layout(options.format, columns, options.columns, scale, has_prompts)
    counts = _count_formats(rows, columns, {n: importer for n, importer in importers.items() if not importer.own_names})
    if counts:
        return Layout(counts.most_common(1)[0][0], columns, options.columns, scale, has_prompts)
    if not rows:
        return Layout("native", columns, options.columns)  # nothing could be read: each row has its reason
    raise _no_format(rows[0], columns, importers)


def own_format(
    rows: Sequence[tuple[str, Row]], importers: Mapping[str, Importer], options: ImportOptions
) -> str | None:
    """The format with own names of columns that the user names or most rows fit; None where there is none."""
    own = {name: importer for name, importer in importers.items() if importer.own_names}
    if options.format != "auto":
        return options.format if options.format in own else None
    counts = _count_formats(rows, options.columns, own)
    return counts.most_common(1)[0][0] if counts.total() * 2 > len(rows) else None


def _count_formats(
    rows: Iterable[tuple[str, Row]], columns: Mapping[str, str], importers: Mapping[str, Importer]
) -> Counter[str]:
    """The number of rows whose first fitting format is this one."""
    counts: Counter[str] = Counter()
    for _, row in rows:
        counts.update(islice(_fitting_formats(_rename(row, columns), importers), 1))
    return counts


def _detected_prompt(names: Iterable[str], given: Mapping[str, str], rows: list[tuple[str, Any]]) -> dict[str, str]:
    """The column of the prompt, if it is called as such columns often are; two of them are an error."""
    if "prompt" in given or "prompt" in names or any(_has_whole_conversations(_rename(row, given)) for _, row in rows):
        return {}
    if given.get("first") == "human_ref_A" or {"human_ref_A", "history"} <= set(names):
        return {"prompt": "history"}
    candidates = [name for name in PROMPTS if name in names and name not in given.values()]
    if len(candidates) > 1:
        raise GuerdonError(
            f"{rows[0][0]}: one column must be the prompt, got {', '.join(candidates)}. "
            f"Say which: --column prompt={candidates[0]}."
        )
    if not candidates and "input" in names and "input" not in given.values():
        candidates = ["input"]
    return {"prompt": candidates[0]} if candidates else {}


def _has_whole_conversations(row: Row) -> bool:
    """Whether the responses of a row hold the prompt themselves: transcripts, or messages with a turn of the user."""
    try:
        value = messages_in(row.get("chosen", row.get("first")), "chosen")
    except GuerdonError:  # the row is rejected with this reason when it is read
        return False
    if isinstance(value, str):
        return as_transcript(value) is not None
    turns = value if isinstance(value, list | tuple) else ()
    return any(isinstance(turn, Mapping) and turn.get("role", turn.get("from")) in ("user", "human") for turn in turns)


def _detected_pair(names: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """The columns of two responses and their label, if they are called as in the data sets that we know."""
    present = {*names, *given} - set(given.values())
    if {"chosen", "rejected"} <= present or present & {"responses", "votes"}:
        return {}
    pair = next((pair for pair in PAIRS if present.issuperset(pair)), None)
    label = next((name for name in LABELS if name in present), None)
    detected = (
        {} if pair is None or {"first", "second"} & present else dict(zip(("first", "second"), pair, strict=True))
    )
    if label not in (None, "label") and (detected or {"first", "second"} <= present):
        detected["label"] = str(label)
    return detected


def _has_prompt(row: Row) -> bool:
    prompt = row.get("prompt")
    return prompt is not None and not is_nan(prompt)


def _fitting_formats(row: Row, importers: Mapping[str, Importer]) -> Iterator[str]:
    present = {key for key, value in row.items() if value is not None}
    for name, importer in importers.items():
        if present.issuperset(importer.columns) and importer.matches(row):
            yield name


def _rename(row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
    others = {key: value for key, value in row.items() if key not in columns.values()}
    return others | {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}


def _column_names(rows: Iterable[Row], unfold: Callable[[Row], dict[str, Any]] | None) -> dict[str, None]:
    """The names of all columns, those that are nested in a row too."""
    names: dict[str, None] = {}
    for row in rows:
        try:
            names |= dict.fromkeys(map(str, row if unfold is None else unfold(row)))
        except GuerdonError:  # the row is rejected with this reason when it is read
            continue
    return names


# ---- Errors --------------------------------------------------------------------------------------------------------


def refuse_wrong_columns(given: Mapping[str, str], names: Mapping[str, None]) -> None:
    """Raise GuerdonError for a column that the user gave and that no row has, or that is none of ours. names: those of the file."""
    for ours, theirs in given.items():
        flag = f"--column {ours}={theirs}"
        if ours not in COLUMNS:
            if theirs in COLUMNS and ours in names:
                advice = f"Our name comes first: --column {shlex.quote(f'{theirs}={ours}')}."
                raise GuerdonError(f"{flag}: {ours} is not one of our columns. {advice}")
            raise GuerdonError(f"{flag}: {ours} is not one of our columns. {did_you_mean(ours, COLUMNS[:MOST_NAMES])}")
        if names and theirs not in names:
            raise GuerdonError(f"{flag}: no row has {theirs}. {did_you_mean(theirs, list(names)[:MOST_NAMES])}")


def _no_format(first: tuple[str, Row], columns: Mapping[str, str], importers: Mapping[str, Importer]) -> GuerdonError:
    """What is missing for the format that comes closest."""
    place, row = first
    present = {key for key, value in _rename(row, columns).items() if value is not None}
    missing = {
        name: [column for column in importer.columns if column not in present]
        for name, importer in reversed(list(importers.items()))  # trl before hh, which has the same columns
        if not importer.own_names  # no column could be mapped to theirs
        and present & set(importer.columns)
        and not present.issuperset(importer.columns)
    }
    names = ", ".join(show_value(str(name), 30).strip("'") for name in islice(row, MOST_NAMES))
    if "selection" in present and "responses" in present:
        advice = 'Picks must be labeled first: add a preference, such as {"q": 1} where the first response is better.'
    elif missing:
        name = min(missing, key=lambda name: len(missing[name]))
        flags = " ".join(f"--column {column}=NAME" for column in missing[name])
        advice = f"For format {name}, say which columns are missing: {flags}."
    else:
        advice = (
            "Say which is which, such as --column prompt=question with --column chosen=good --column rejected=bad, or with "
            "--column first=left --column second=right --column label=winner."
        )
    return GuerdonError(f"{place}: columns must fit a known format, got {names}. {advice}")


# ---- What people should know -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Remarks:
    """What the rows of a file have shown, for people.

    used: the columns of the format. unused: the columns and message keys with a value that it does not use. cut_prompt: the first
    prompt that was taken from what two texts share; "" where none was.
    """

    used: frozenset[str]
    unused: dict[str, None] = field(default_factory=dict)
    cut_prompt: str = ""

    @classmethod
    def of(cls, importer: Importer) -> Remarks:
        """For rows of a format, with our names of the columns."""
        return cls(frozenset({*SHARED, *MEDIA, *importer.columns, *importer.optional}))

    def add_unused(self, row: Row) -> None:
        """Note what a row has that is not used."""
        if len(self.unused) >= MOST_NAMES:
            return
        for key, value in row.items():
            if key not in self.used:
                self._note(str(key), value)
            elif key in _NESTED_KEYS:
                self._add_nested(key, value if isinstance(value, list | tuple) else [value])

    def _add_nested(self, key: str, values: Iterable[object]) -> None:
        for value in values:
            if isinstance(value, Mapping):
                for name, cell in value.items():
                    if name not in _NESTED_KEYS[key]:
                        self._note(f"{key}.{name}", cell)

    def _note(self, name: str, value: object) -> None:
        is_absent = value is None or (isinstance(value, str | list | dict) and not value)
        if not is_absent:
            self.unused.setdefault(name)

    def lines(self, reading: Reading) -> Iterator[str]:
        """What people should know after the last row."""
        if self.cut_prompt:
            yield f"prompts: taken from what both answers begin with, such as {show_value(self.cut_prompt)}"
        if self.unused:
            names = ", ".join(show_value(name, 30).strip("'") for name in islice(self.unused, MOST_NAMES))
            yield f"columns not used: {names}{', …' if len(self.unused) >= MOST_NAMES else ''}"
        yield from (f"{line}: {count:,}" for line, count in reading.notes.items())
