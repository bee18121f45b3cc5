"""The labels of a round: pairs of replies, what people and the judge say of them, and whether a reward model agrees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from guerdon.config import LoopOptions
from guerdon.contracts import (
    Comparison,
    Estimate,
    GuerdonError,
    Prompt,
    Report,
    Response,
    Rollouts,
    digest,
    prompt_digest,
    response_digest,
)
from guerdon.conversation import message_dict
from guerdon.io import readers, writers

__all__ = ["LABELS", "ask_people", "by_key", "label", "measure_accuracy", "pair_key", "pairs_of", "require_project"]

PAIRS, LABELS, OF_JUDGE = "pairs.jsonl", "labels.jsonl", "judge.jsonl"


def pairs_of(rollouts: Rollouts) -> Iterator[dict[str, Any]]:
    """Rows of two replies to one prompt, each reply in one pair. Equal replies are no pair."""
    for prompt, replies in zip(rollouts.prompts_once, rollouts.responses_by_prompt, strict=True):
        turns = [message_dict(turn) for turn in prompt]
        for first, second in list(pairwise(replies))[::2]:
            if first.text.strip() and second.text.strip() and first.text != second.text:
                yield {"prompt": turns, "responses": [first.text, second.text]}


def require_project(store: str, name: str) -> None:
    """Raise GuerdonError unless the store has the project."""
    from guerdon.annotation.project import load_project
    from guerdon.api.annotation import existing_store
    from guerdon.store.database import open_database

    with open_database(existing_store(store)) as database:
        load_project(database, name)


def ask_people(options: LoopOptions, folder: Path) -> bool:
    """Put the round's pairs before people, once; whether too few have been labeled by them so far."""
    from guerdon.api.annotation import add_to_project

    add_to_project(options.store or "", options.project, [folder / PAIRS])
    pairs = _pairs(folder)
    return len(_by_people(options, pairs)) < options.labeled_share * len(pairs)


def label(options: LoopOptions, folder: Path) -> dict[str, Any]:
    """Labels of the round's pairs in labels.jsonl: people's where they gave one, else the judge's. Returns counts and cost."""
    pairs = _pairs(folder)
    people = {} if options.store is None else _by_people(options, pairs)
    left = {key: row for key, row in pairs.items() if key not in people}
    judged, facts = _by_judge(options, folder, left)
    by_both = {**judged, **people}
    labels = [by_both[key] for key in pairs if key in by_both]
    if not labels:
        raise GuerdonError(
            f"{folder / PAIRS}: at least one pair must get a label, got none of {len(pairs)}. Read the judge's failures."
        )
    writers.write_comparisons(folder / LABELS, labels)
    return {"by people": len(people), "by judge": len(judged), "without a label": len(pairs) - len(labels), **facts}


def pair_key(prompt: Prompt, responses: Sequence[Response]) -> str:
    """The same for the same responses to the same prompt, in any order."""
    return digest([prompt_digest(prompt), *sorted(response_digest(response) for response in responses)])


def by_key(comparisons: Iterable[Comparison]) -> dict[str, Comparison]:
    """Comparisons by the keys of their pairs."""
    return {pair_key(comparison.prompt, comparison.responses): comparison for comparison in comparisons}


def measure_accuracy(model: Any, comparisons: list[Comparison]) -> Report:
    """How often a reward model orders pairs as their labels do; n counts prompts."""
    from guerdon.formulas.agreement import pair_accuracy
    from guerdon.models.estimates import SHARED_QUANTITIES, estimate_share
    from guerdon.models.scored_pairs import score_comparisons

    pairs = score_comparisons(model, comparisons)
    accuracy: Estimate = estimate_share(pair_accuracy(pairs.margin, pairs.q), pairs.group, pairs.weight)
    return Report("Fresh replies", estimates={"accuracy": accuracy}, quantities=SHARED_QUANTITIES)


def _pairs(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of pairs.jsonl by their keys."""
    from guerdon.io.schema import conversation_from_row

    rows: dict[str, dict[str, Any]] = {}
    for location, row in readers.read_rows(folder / PAIRS):
        prompt, responses, _ = conversation_from_row(location, row)
        rows[pair_key(prompt, responses)] = row
    return rows


def _by_people(options: LoopOptions, pairs: dict[str, dict[str, Any]]) -> dict[str, Comparison]:
    """What people say of these pairs in the project, by key; what AI judges say there is left out."""
    from guerdon.annotation.exporting import exported
    from guerdon.annotation.project import load_project
    from guerdon.store.database import open_database
    from guerdon.store.location import locate

    with open_database(locate(options.store or "")) as database:
        answered = by_key(exported(load_project(database, options.project), by_people=True))
    return {key: comparison for key, comparison in answered.items() if key in pairs}


def _by_judge(
    options: LoopOptions, folder: Path, rows: dict[str, dict[str, Any]]
) -> tuple[dict[str, Comparison], dict[str, Any]]:
    """What the judge says of these rows, by key, and what that cost."""
    from guerdon.api.judging import judge_files
    from guerdon.io.judge_file import read_judge

    if options.judge is None or not rows:
        return {}, {}
    writers.write_jsonl(folder / "unjudged.jsonl", rows.values())
    about = judge_files([folder / "unjudged.jsonl"], read_judge(options.judge), out=folder / OF_JUDGE).report.about
    labels = by_key(readers.read_comparisons(folder / OF_JUDGE))
    return labels, {name: about[name] for name in ("judge", "calls", "failed calls", "cost") if name in about}
