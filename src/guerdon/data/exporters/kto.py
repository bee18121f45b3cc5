"""Unpaired rows, as KTO trains on them: a prompt, one completion, and whether it is wanted."""

from __future__ import annotations

from collections.abc import Iterator

from guerdon.contracts import Comparison, Response
from guerdon.data.exporters.columns import (
    Job,
    Row,
    answerable,
    extras,
    messages,
    plain_prompt,
    plain_response,
    response_turns,
    tools_column,
)
from guerdon.data.exporters.pairs import levels_of
from guerdon.data.importers.columns import refuse_empty

__all__ = ["unpaired_messages", "unpaired_text"]


def unpaired_messages(comparison: Comparison, job: Job) -> Iterator[Row]:
    """{prompt: [message], completion: [message], label, tools?} for the best and for the worst responses of a comparison."""
    prompt = messages(answerable(comparison.prompt), job)
    for response, label in _labeled(comparison, job):
        yield {
            "prompt": prompt,
            "completion": messages(response_turns(response), job),
            "label": label,
            **tools_column(comparison.prompt),
            **_extras(comparison, job),
        }


def unpaired_text(comparison: Comparison, job: Job) -> Iterator[Row]:
    """{prompt: text, completion: text, label}."""
    prompt = plain_prompt(comparison.prompt, job, "kto")
    for response, label in _labeled(comparison, job):
        completion = plain_response(response, job, "kto")
        yield {"prompt": prompt, "completion": completion, "label": label, **_extras(comparison, job)}


def _labeled(comparison: Comparison, job: Job) -> Iterator[tuple[Response, bool]]:
    """The best responses, which are wanted, and the worst ones. What lies between them has no label, nor has a tie."""
    levels = levels_of(comparison)
    if len(levels) < 2:
        job.losses.add_tie()
        return
    job.losses.add("order shown")
    if len(levels) > 2:
        job.losses.add("responses between the best and the worst")
    if comparison.preference.strength is not None:
        job.losses.add("strength")
    if comparison.preference.q not in (None, 0.0, 1.0):
        job.losses.add("soft label")
    for level, label in ((levels[0], True), (levels[-1], False)):
        for i in level:
            refuse_empty({"completion": comparison.responses[i]})
            yield comparison.responses[i], label


def _extras(comparison: Comparison, job: Job) -> Row:
    """Our own columns, without the strength: it belongs to two responses, and a row has one."""
    return {key: value for key, value in extras(comparison, job).items() if key != "strength"}
