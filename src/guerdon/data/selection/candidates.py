"""Unlabeled rows in, the pairs of responses that could be labeled out. Axis: n pairs.

A row has a prompt and two or more responses, or is a comparison in a known format, whose label is not read. Of a million rows
only numbers are held in memory: where each pair is, and hashes of its texts.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError, Prompt, Response, prompt_digest, response_identity
from guerdon.conversation import Message, prompt_identity
from guerdon.data.files import Rejects, import_files
from guerdon.data.hashes import hash_parts, normalize
from guerdon.data.importers import DETECTION_ROWS, Rejected
from guerdon.data.importers.layout import LABELS, PAIRS
from guerdon.io.fields import as_name, is_absent
from guerdon.io.readers import read_rows
from guerdon.io.schema import conversation_from_row, parse_row
from guerdon.store.items import Item
from guerdon.store.lines import from_cells, is_header, item_from_row
from guerdon.store.location import is_store
from guerdon.store.prefs_file import WholeRows, has_header

if TYPE_CHECKING:
    from jaxtyping import Int, Shaped

__all__ = ["CandidateRow", "Pool", "candidate_rows", "labeled_row", "read_pool"]

Say = Callable[[str], None]
PAIR_COLUMNS = (("first", "second"), *PAIRS)


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """A prompt, its responses, and the group and source that the row names; None where it names none."""

    prompt: Prompt
    responses: tuple[Response, ...]
    group: str | None = None
    source: str | None = None

    @property
    def group_key(self) -> int:
        """Equal for rows of one group; without a group, for prompts that differ in case, width and spacing only."""
        return hash_parts(self.group) if self.group is not None else hash_parts(*_normalized_turns(self.prompt))

    def pairs(self) -> Iterator[tuple[int, int, int, int]]:
        """(i, j, key, exact key) of each pair of different responses, i < j. Keys do not depend on the order of the two.

        The key is equal for near-duplicates: texts that differ in case, width and spacing only.
        """
        turns = [prompt_identity(self.prompt), _normalized_turns(self.prompt)]
        exact = [response_identity(response) for response in self.responses]
        normalized = [_normalized_turns(response.turns()) for response in self.responses]
        for i, j in combinations(range(len(exact)), 2):
            if exact[i] != exact[j]:
                pair, exact_pair = (
                    sorted((str(normalized[i]), str(normalized[j]))),
                    sorted((str(exact[i]), str(exact[j]))),
                )
                yield i, j, hash_parts(turns[1], *pair), hash_parts(turns[0], *exact_pair)


@dataclass(frozen=True, slots=True)
class Pool:
    """The pairs that may be picked, each once, in the order of their keys, which no order of the rows changes.

    row: number of the pair's row, of all rows of the sources. first, second: its responses. group: index of its prompt group,
    from 0. group_key: of each group. num_rows, num_duplicates, num_labeled: rows read, and pairs left out.
    """

    row: Int[np.ndarray, " n"]
    first: Int[np.ndarray, " n"]
    second: Int[np.ndarray, " n"]
    exact_key: Shaped[np.ndarray, " n"]
    group: Int[np.ndarray, " n"]
    group_key: Shaped[np.ndarray, " g"]
    num_rows: int = 0
    num_duplicates: int = 0
    num_labeled: int = 0

    def __len__(self) -> int:
        return len(self.row)


def read_pool(rows: Iterable[tuple[str, CandidateRow | None]], labeled: Collection[int] = ()) -> Pool:
    """The pairs of the rows without those whose key is among `labeled`; of near-duplicates one stays."""
    places, hashes = array("q"), array("Q")  # row, first, second; key, exact key, group key
    number = -1
    for number, (_, row) in enumerate(rows):
        if row is None:
            continue
        group = row.group_key
        for i, j, key, exact in row.pairs():
            places.extend((number, i, j))
            hashes.extend((key, exact, group))
    place = np.array(places, dtype=np.int64).reshape(-1, 3)
    keys = np.array(hashes, dtype=np.uint64).reshape(-1, 3)
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    key = keys[order, 0]
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = key[1:] != key[:-1]
    is_labeled = is_new & np.isin(key, np.fromiter(labeled, dtype=np.uint64, count=len(labeled)))
    kept = order[is_new & ~is_labeled]
    group_key, group_index = np.unique(keys[kept, 2], return_inverse=True)
    row_of, first, second = place[kept].T
    return Pool(
        row_of,
        first,
        second,
        exact_key=keys[kept, 1],
        group=group_index,
        group_key=group_key,
        num_rows=number + 1,
        num_duplicates=int((~is_new).sum()),
        num_labeled=int(is_labeled.sum()),
    )


def labeled_row(comparison: Comparison) -> CandidateRow:
    """The row of a labeled comparison, whose keys are those of its unlabeled row."""
    group = None if comparison.group == prompt_digest(comparison.prompt) else comparison.group
    return CandidateRow(comparison.prompt, comparison.responses, group, comparison.source)


# ---- Rows --------------------------------------------------------------------------------------------------------


def candidate_rows(
    sources: Sequence[str | Path], options: ImportOptions, rejects: Rejects, say: Say = lambda line: None
) -> Iterator[tuple[str, CandidateRow | None]]:
    """(location, row) for each row of the files, in order and in constant memory; None for a row that is rejected.

    `say` is called with a line about each file whose labels are not read.
    """
    for source in sources:
        if is_store(source):
            yield from _stored_rows(source)
            continue
        pairs: Iterable[tuple[str, Any]]
        if has_header(source):
            pairs = ((place, row) for place, row in WholeRows(source, read_rows(source)) if not is_header(row))
            yield from _usable(pairs, _candidate_of_item, options.strict, rejects)
            continue
        head = [row for _, row in islice(read_rows(source, options), DETECTION_ROWS) if isinstance(row, Mapping)]
        names = {str(name) for row in head for name, value in row.items() if value is not None}
        pair = _unlabeled_pair(names, options)
        if "responses" in names | options.columns.keys() or pair:
            pairs = read_rows(source, options)
            ours = {theirs: name for name, theirs in options.columns.items()}
        else:
            say(f"{source}: comparisons, whose labels are not read")
            pairs, ours = ((_location(row), row) for row in import_files([source], options, say)), {}
        yield from _usable(pairs, functools.partial(_candidate, pair=pair, ours=ours), options.strict, rejects)


def _usable(
    rows: Iterable[tuple[str, Any]], parse: Callable[[str, Any], CandidateRow], strict: bool, rejects: Rejects
) -> Iterator[tuple[str, CandidateRow | None]]:
    """Each row with its location, None for one that cannot be used, which is counted; with strict it is an error."""
    for location, row in rows:
        try:
            yield location, parse(location, row)
        except GuerdonError as error:
            if strict:
                raise
            rejects.add(Rejected(location, str(error).removeprefix(f"{location}: "), row))
            yield location, None


def _stored_rows(source: str | Path) -> Iterator[tuple[str, CandidateRow]]:
    """Every item of a store, whether it is judged or not."""
    from guerdon.store.database import open_database
    from guerdon.store.location import locate
    from guerdon.store.reader import read_items

    location = locate(source)
    with open_database(location) as database:
        for item_id, item in read_items(database):
            yield f"{location}: item {item_id}", _row_of(item)


def _candidate_of_item(location: str, row: Any) -> CandidateRow:
    """Of an item of the single-file form of a store."""
    return _row_of(parse_row(location, row, lambda row: item_from_row(from_cells(row))))


def _row_of(item: Item) -> CandidateRow:
    group = min((judgment.group for judgment in item.judgments if judgment.group), default=None)
    return CandidateRow(item.prompt, item.responses, group)


def _candidate(location: str, row: Any, pair: tuple[str, str] | None, ours: Mapping[str, str]) -> CandidateRow:
    if isinstance(row, Rejected):
        raise GuerdonError(f"{location}: {row.reason}")
    if isinstance(row, Comparison):
        return labeled_row(row)
    if isinstance(row, Mapping):
        row = {ours.get(key, key): value for key, value in row.items()}
        if pair and "responses" not in row and all(name in row for name in pair):
            row["responses"] = [row.pop(name) for name in pair]
    prompt, responses, is_single = conversation_from_row(location, row)
    if is_single or len(responses) < 2:
        raise GuerdonError(f"{location}: a row must have at least 2 responses, got {len(responses)}. Add one.")
    if len({response_identity(response) for response in responses}) < 2:
        raise GuerdonError(f"{location}: the responses must differ, got {len(responses)} equal ones. Drop the row.")
    group, source = (
        None if is_absent(row.get(name)) else as_name(row[name], f"{location}: {name}") for name in ("group", "source")
    )
    return CandidateRow(prompt, tuple(responses), group, source)


def _unlabeled_pair(names: Collection[str], options: ImportOptions) -> tuple[str, str] | None:
    """The columns of two responses in a file without labels."""
    present = {*names, *options.columns} - set(options.columns.values())
    if options.format not in ("auto", "native") or present & {"chosen", "votes", "preference", *LABELS}:
        return None
    return next((pair for pair in PAIR_COLUMNS if present.issuperset(pair)), None)


def _location(row: Comparison | Rejected) -> str:
    return row.place if isinstance(row, Rejected) else row.prompt.location


# ---- Keys --------------------------------------------------------------------------------------------------------


def _normalized_turns(turns: Iterable[Message]) -> tuple[str, ...]:
    """Role, content and calls of each message, without differences of case, width and spacing."""
    texts = chain.from_iterable(
        (turn.role, turn.content, *chain.from_iterable((call.name, call.arguments) for call in turn.tool_calls))
        for turn in turns
    )
    return tuple(map(normalize, texts))
