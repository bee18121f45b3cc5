"""Rows of public benchmarks, as their authors publish them, in; items out.

A benchmark is a reader, in one of the files here, a line in READERS, and its rules in benchmarks/rules.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from guerdon.benchmarks.items import Item
from guerdon.benchmarks.readers.fields import Row, file_name
from guerdon.benchmarks.readers.pairs import (
    IFBENCH,
    LLMBAR,
    read_evalbiasbench,
    read_hhh,
    read_ifbench,
    read_judgebench,
    read_llmbar,
    read_pair,
    read_rewardbench,
)
from guerdon.benchmarks.readers.several import (
    DOMAINS,
    REWARDBENCH2,
    domain_of_file,
    join_solutions,
    read_bestofn,
    read_rewardbench2,
    read_rewardmath,
    read_rmb,
    read_rmbench,
)
from guerdon.benchmarks.readers.steps import (
    PRMBENCH,
    PROCESSBENCH,
    first_of_each_id,
    read_prmbench,
    read_processbench,
)
from guerdon.benchmarks.readers.trajectories import PLANREWARDBENCH, read_planrewardbench
from guerdon.contracts import GuerdonError
from guerdon.errors import did_you_mean, field_error, show_value
from guerdon.formulas.benchmarks import WEIGHTS
from guerdon.io.schema import Rejected

__all__ = [
    "DOMAINS",
    "HUB_SPLITS",
    "IFBENCH",
    "LLMBAR",
    "PLANREWARDBENCH",
    "PRMBENCH",
    "PROCESSBENCH",
    "READERS",
    "REWARDBENCH2",
    "STEP_READERS",
    "Row",
    "detect",
    "domain_of_file",
    "read_items",
    "unpack",
]

HUB_SPLITS = {
    "allenai/reward-bench": "filtered",
    "allenai/reward-bench-2": "test",
    "ScalerLab/JudgeBench": "gpt",
    "HuggingFaceH4/hhh_alignment": "test",
}
"""Name of a data set on the hub -> the split that its published numbers are about."""


def read_items(rows: Iterable[tuple[str, Any]], name: str = "auto") -> tuple[str, list[Item]]:
    """(place, row) pairs in; the benchmark's name, detected from the first row if "auto", and items out.

    A bad row is a GuerdonError with its place, since a benchmark with rows left out is another benchmark.
    """
    known = {**READERS, **STEP_READERS}
    if name not in ("auto", *known):
        raise GuerdonError(f"name must be a benchmark's, got {name}. {did_you_mean(name, known)}")
    items: list[Item] = []
    for place, row in join_solutions(rows):
        if isinstance(row, Rejected):
            raise GuerdonError(f"{row.place}: {row.reason}")
        try:
            if not isinstance(row, Mapping):
                raise field_error("row", "an object with named fields", row)
            name = detect(row, place) if name == "auto" else name
            items.append(_at(place, known[name](row, place, len(items))))
        except GuerdonError as error:
            raise GuerdonError(f"{place}: {error}") from None
    if not items:
        raise GuerdonError("benchmark: rows must be at least one, got none. Give the benchmark's file.")
    return name, _with_unique_ids(first_of_each_id(items) if name == "prmbench" else items)


def _at(place: str, item: Item) -> Item:
    """The item, whose prompts have the location of its row: errors about its texts name it."""
    own_prompts = tuple(prompt.at(place) for prompt in item.own_prompts)
    return replace(item, prompt=item.prompt.at(place), own_prompts=own_prompts)


def unpack(value: object, place: str) -> Iterator[tuple[str, Any]]:
    """The content of a JSON file in; (place, row) pairs out.

    The content may be a list of rows, an object with `examples` (BIG-bench), lists of rows by name (EvalBiasBench), or
    columns of equal length (RewardBench's scores). Anything else is one row.
    """
    lists = {key: rows for key, rows in value.items() if isinstance(rows, list)} if isinstance(value, Mapping) else {}
    if isinstance(value, list):
        yield from ((f"{place}: item {i}", row) for i, row in enumerate(value, 1))
    elif isinstance(value, Mapping) and isinstance(value.get("examples"), list):
        yield from ((f"{place}: item {i}", row) for i, row in enumerate(value["examples"], 1))
    elif lists and all(isinstance(row, Mapping) for rows in lists.values() for row in rows):
        yield from ((f"{place}: {key} {i}", row) for key, rows in lists.items() for i, row in enumerate(rows, 1))
    elif {"scores_chosen", "scores", "results"} & set(lists):
        size = Counter(map(len, lists.values())).most_common(1)[0][0]
        columns = {key: values for key, values in lists.items() if len(values) == size}
        yield from ((f"{place}: item {i + 1}", {key: columns[key][i] for key in columns}) for i in range(size))
    else:
        yield place, value


def detect(row: Row, place: str = "") -> str:
    """The benchmark that a row belongs to, by its fields, its source, and the name of its file."""
    has = {key for key, value in row.items() if value is not None}
    if name := _detect_by_forms(row, has):
        return name
    if {"chosen", "rejected"} <= has:
        if _is_texts(row["chosen"]) or (isinstance(row["chosen"], str) and _is_texts(row["rejected"])):
            return _detect_lists(row, has, place)
        if row.get("subset") in WEIGHTS:
            return "rewardbench"
        return _PAIR_SOURCES.get(str(row.get("source")), "pairs") if "source" in has else _detect_by_file(place)
    names = ", ".join(show_value(str(key), 30) for key in list(row)[:12])
    raise GuerdonError(
        f"fields must fit a known benchmark, got {names}. Name the benchmark, one of "
        f"{', '.join((*READERS, *STEP_READERS))}."
    )


def _detect_by_forms(row: Row, has: set[str]) -> str:
    """The benchmark whose fields no other has, or ""."""
    forms = {
        "judgebench": {"response_A", "response_B", "label"},
        "rmb": {"conversation_input"},
        "rewardmath": {"problem", "solutions"},
        "planrewardbench": {"chosen", "reject"},
        "llmbar": {"input", "output_1", "output_2"},
        "evalbiasbench": {"instruction", "response1", "response2"},
        "processbench": {"problem", "steps", "label"},
        "prmbench": {"modified_process", "error_steps"},
    }
    fits = [name for name, needed in forms.items() if needed <= has]
    if not fits and "input" in has and {"target_scores", "targets"} & has:
        return "hhh"
    if not fits and {"text_chosen", "text_rejected"} <= has:
        return "ifbench" if row.get("domain") in IFBENCH else "pairs"
    if not fits and {"instruction", "rejected"} <= has and isinstance(row.get("chosen"), Mapping):
        return "ifbench"
    return fits[0] if fits else ""


def _detect_lists(row: Row, has: set[str], place: str) -> str:
    """The benchmark of a row whose wrong responses are a list of texts."""
    sizes = [len(row[key]) for key in ("chosen", "rejected") if _is_texts(row[key])]
    if "domain" in has or (sizes == [3, 3] and (domain_of_file(place) or "num_correct" not in has)):
        return "rmbench"
    return "rewardbench2" if "subset" in has and _is_texts(row["chosen"]) else "bestofn"


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


_PAIR_SOURCES = {"llmbar": "llmbar", "evalbiasbench": "evalbiasbench", "hhh_alignment": "hhh", "xstest": "xstest"}


def _detect_by_file(place: str) -> str:
    return next((name for word, name in _PAIR_SOURCES.items() if word in file_name(place)), "pairs")


def _with_unique_ids(items: list[Item]) -> list[Item]:
    """Ids that several subsets share get the subset's name in front."""
    counts = Counter(item.id for item in items)
    items = [replace(item, id=f"{item.subset}/{item.id}") if counts[item.id] > 1 else item for item in items]
    for name, count in Counter(item.id for item in items).items():
        if count > 1:
            raise GuerdonError(f"id must be unique, got {name} {count} times. Give each row an id of its own.")
    return items


READERS: Mapping[str, Callable[[Row, str, int], Item]] = {
    "rewardbench": read_rewardbench,
    "rewardbench2": read_rewardbench2,
    "rmbench": read_rmbench,
    "judgebench": read_judgebench,
    "rmb": read_rmb,
    "rewardmath": read_rewardmath,
    "planrewardbench": read_planrewardbench,
    "ifbench": read_ifbench,
    "llmbar": read_llmbar,
    "evalbiasbench": read_evalbiasbench,
    "hhh": read_hhh,
    "xstest": read_pair,
    "pairs": read_pair,
    "bestofn": read_bestofn,
}
"""Name of a benchmark -> its reader, from a row, its place and its number to an item."""

STEP_READERS: Mapping[str, Callable[[Row, str, int], Item]] = {
    "processbench": read_processbench,
    "prmbench": read_prmbench,
}
"""The same for benchmarks whose responses are a solution up to each of its steps."""
