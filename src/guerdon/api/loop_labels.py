"""The labels of a round: pairs of replies, what people and the judge say of them, and whether a reward model agrees."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from guerdon.config import LoopOptions
from guerdon.contracts import (
    Comparison,
    Estimate,
    GuerdonError,
    Quantity,
    Report,
    Rollouts,
    digest,
    prompt_digest,
    response_digest,
)
from guerdon.conversation import message_dict
from guerdon.io import readers, writers

__all__ = ["LABELS", "ask_people", "label", "measure_accuracy", "pair_key", "pairs_of"]

PAIRS, LABELS, OF_JUDGE = "pairs.jsonl", "labels.jsonl", "judge.jsonl"


def pairs_of(rollouts: Rollouts) -> Iterator[dict[str, Any]]:
    """Rows of two replies to one prompt, each reply in one pair. Equal replies are no pair."""
    for prompt, replies in zip(rollouts.prompts_once, rollouts.responses_by_prompt, strict=True):
        turns = [message_dict(turn) for turn in prompt]
        for first, second in list(pairwise(replies))[::2]:
            if first.text.strip() and second.text.strip() and first.text != second.text:
                yield {"prompt": turns, "responses": [first.text, second.text]}


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
    labels = [{**judged, **people}[key] for key in pairs if key in people or key in judged]
    if not labels:
        raise GuerdonError(
            f"{folder / PAIRS}: at least one pair must get a label, got none of {len(pairs)}. Read the judge's failures."
        )
    writers.write_comparisons(folder / LABELS, labels)
    return {"by people": len(people), "by judge": len(judged), "without a label": len(pairs) - len(labels), **facts}


def pair_key(comparison: Comparison) -> str:
    """The same for the same responses to the same prompt, in any order."""
    return digest([prompt_digest(comparison.prompt), *sorted(response_digest(r) for r in comparison.responses)])


def measure_accuracy(model: Any, comparisons: list[Comparison]) -> Report:
    """How often a reward model orders pairs as their labels do; n counts prompts."""
    from guerdon.formulas.agreement import pair_accuracy
    from guerdon.models.estimates import SHARED_QUANTITIES, estimate_share
    from guerdon.models.scored_pairs import score_comparisons

    pairs = score_comparisons(model, comparisons)
    accuracy: Estimate = estimate_share(pair_accuracy(pairs.margin, pairs.q), pairs.group, pairs.weight)
    quantities: dict[str, Quantity] = {"accuracy": SHARED_QUANTITIES["accuracy"]}
    return Report("Fresh replies", estimates={"accuracy": accuracy}, quantities=quantities)


def _pairs(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of pairs.jsonl by their keys."""
    from guerdon.io.schema import conversation_from_row

    rows: dict[str, dict[str, Any]] = {}
    for location, row in readers.read_rows(folder / PAIRS):
        prompt, responses, _ = conversation_from_row(location, row)
        rows[digest([prompt_digest(prompt), *sorted(response_digest(r) for r in responses)])] = row
    return rows


def _by_people(options: LoopOptions, pairs: dict[str, dict[str, Any]]) -> dict[str, Comparison]:
    """What people say of these pairs, by key."""
    from guerdon.store.comparisons import read_store
    from guerdon.store.location import as_source

    known = ((pair_key(comparison), comparison) for comparison in read_store(as_source(options.store or "")))
    return {key: comparison for key, comparison in known if key in pairs}


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
    labels = {pair_key(comparison): comparison for comparison in readers.read_comparisons(folder / OF_JUDGE)}
    return labels, {name: about[name] for name in ("judge", "calls", "failed calls", "cost") if name in about}
