"""Benchmarks of pairs: a right and a wrong response to one prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from guerdon.benchmarks.items import Item
from guerdon.benchmarks.readers.fields import (
    Row,
    field,
    file_name,
    has_value,
    new_item,
    one_of,
    prompt,
    row_id,
    text,
    texts,
    with_tools,
)
from guerdon.contracts import Message, Prompt, Response
from guerdon.errors import field_error
from guerdon.io.fields import as_text
from guerdon.io.messages import messages_in, to_messages
from guerdon.io.shared_prompt import join_prompt, response_start

__all__ = [
    "IFBENCH",
    "LLMBAR",
    "read_evalbiasbench",
    "read_hhh",
    "read_ifbench",
    "read_judgebench",
    "read_llmbar",
    "read_pair",
    "read_rewardbench",
]

IFBENCH = {"level-1": 47, "level-2": 133, "level-3": 264}
LLMBAR = {
    "Natural": 100,
    "Adversarial/Neighbor": 134,
    "Adversarial/GPTInst": 92,
    "Adversarial/GPTOut": 47,
    "Adversarial/Manual": 46,
}


def read_pair(row: Row, place: str, number: int) -> Item:
    """{prompt, chosen, rejected, id?, source?, subset?, tools?, meta?: {subset | bias | prompt_is_unsafe}}.

    chosen and rejected (or text_chosen and text_rejected) are both texts, or both messages, which may be text in a cell: the
    response alone, or the conversation that ends with it. What both conversations share is the prompt, which a prompt column
    must agree with.
    """
    better, worse = ("text_chosen", "text_rejected") if "text_chosen" in row else ("chosen", "rejected")
    chosen, rejected = (messages_in(field(row, key), key) for key in (better, worse))
    if isinstance(chosen, str) and isinstance(rejected, str):
        return new_item(row, number, prompt(row, "prompt"), (chosen, rejected), (0,), _pair_subset(row))
    for key, value, other in ((better, chosen, rejected), (worse, rejected, chosen)):
        if not isinstance(value, list | tuple) or not value:
            like = "messages, as the other is" if isinstance(other, list | tuple) else "text or a list of messages"
            raise field_error(key, like, value)
    question, *answers = _from_messages(row, to_messages(chosen, better), to_messages(rejected, worse))
    return new_item(row, number, question, [Response(messages=turns) for turns in answers], (0,), _pair_subset(row))


def _from_messages(row: Row, chosen: Prompt, rejected: Prompt) -> tuple[Prompt, Prompt, Prompt]:
    """The prompt, and the messages that answer it rightly and wrongly."""
    start = response_start(chosen, rejected)
    column = prompt(row, "prompt") if has_value(row, "prompt") else Prompt()
    question = join_prompt(column, with_tools(row, chosen[:start]))
    return question, chosen[start:], rejected[start:]


def _pair_subset(row: Row) -> str:
    meta = row.get("meta") if isinstance(row.get("meta"), Mapping) else {}
    assert isinstance(meta, Mapping)
    if isinstance(meta.get("prompt_is_unsafe"), bool):
        return "should-refuse" if meta["prompt_is_unsafe"] else "should-respond"
    names = (row.get("subset"), meta.get("subset"), meta.get("bias"), row.get("domain"), row.get("source"))
    return next((name for name in names if isinstance(name, str) and name), "all")


def read_rewardbench(row: Row, place: str, number: int) -> Item:
    """{prompt, chosen, rejected, subset, id, chosen_model, rejected_model}; allenai/reward-bench, split filtered."""
    text(row, "subset")
    return read_pair(row, place, number)


def read_judgebench(row: Row, place: str, number: int) -> Item:
    """{pair_id, original_id, source, question, response_A, response_B, label: "A>B" or "B>A"}; ScalerLab/JudgeBench."""
    correct = one_of(row, "label", {"A>B": 0, "B>A": 1})
    source = text(row, "source")
    responses = (text(row, "response_A"), text(row, "response_B"))
    item = new_item(row, number, prompt(row, "question"), responses, (correct,), source)
    return replace(
        item,
        id=row_id(row, "pair_id") if has_value(row, "pair_id") else item.id,
        group=f"{source}:{row['original_id']}" if has_value(row, "original_id") else item.group,
    )


def read_llmbar(row: Row, place: str, number: int) -> Item:
    """{input, output_1, output_2, label: 1 or 2}, the subset from the file's folder or split; princeton-nlp/LLMBar."""
    if "chosen" in row:
        return read_pair(row, place, number)
    correct = one_of(row, "label", {1: 0, 2: 1})
    subset = next((name for name in LLMBAR if name.split("/")[-1].lower() in file_name(place)), "all")
    responses = (text(row, "output_1"), text(row, "output_2"))
    return new_item(row, number, prompt(row, "input"), responses, (correct,), subset)


def read_evalbiasbench(row: Row, place: str, number: int) -> Item:
    """{bias, instruction, response1, response2, label: 1 or 2}; ncsoft/offsetbias, biasbench.json."""
    if "chosen" in row:
        return read_pair(row, place, number)
    correct = one_of(row, "label", {1: 0, 2: 1})
    responses = (text(row, "response1"), text(row, "response2"))
    return new_item(row, number, prompt(row, "instruction"), responses, (correct,), text(row, "bias"))


def read_ifbench(row: Row, place: str, number: int) -> Item:
    """{text_chosen, text_rejected, id, domain: level-1 to level-3}, or {instruction, chosen: {content}, rejected: {content,
    unsatisfied_constraints}, id}; THU-KEG/Agentic-Reward-Modeling, data/IFBench.

    The level follows from how many constraints the wrong response breaks: level-3 one, level-2 two, level-1 more or none.
    """
    if "text_chosen" in row:
        return read_pair(row, place, number)
    sides = [field(row, key) for key in ("chosen", "rejected")]
    for key, side in zip(("chosen", "rejected"), sides, strict=True):
        if not isinstance(side, Mapping):
            raise field_error(key, "an object with content", side)
    broken = field(sides[1], "unsatisfied_constraints")
    if not isinstance(broken, list | tuple):
        raise field_error("rejected.unsatisfied_constraints", "a list of constraints", broken)
    level = {1: "level-3", 2: "level-2"}.get(len(broken), "level-1")
    responses = [as_text(side.get("content"), "content") for side in sides]
    return new_item(row, number, prompt(row, "instruction"), responses, (0,), level)


_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def read_hhh(row: Row, place: str, number: int) -> Item:
    """{input, target_scores: {text: 1 or 0}} (BIG-bench), or {input, targets: {choices, labels}} (the hub)."""
    if "chosen" in row:
        return read_pair(row, place, number)
    if isinstance(row.get("target_scores"), Mapping):
        choices, labels = list(row["target_scores"]), list(row["target_scores"].values())
    else:
        targets = field(row, "targets")
        if not isinstance(targets, Mapping):
            raise field_error("targets", "an object with choices and labels", targets)
        choices, labels = texts(targets, "choices"), field(targets, "labels")
    if len(choices) < 2 or len(labels) != len(choices) or sorted(labels) != [0] * (len(choices) - 1) + [1]:
        raise field_error("target_scores", "two or more choices, one of them marked as right", labels)
    subset = next((name for name in ("helpful", "honest", "harmless", "other") if name in file_name(place)), "all")
    return new_item(row, number, _turns(text(row, "input")), choices, (labels.index(1),), subset)


def _turns(transcript: str) -> Prompt:
    """A transcript as messages. Text before the first speaker is the user's; empty turns are left out."""
    before, *parts = _TURN.split(transcript)
    turns = [("Human", before), *zip(parts[::2], parts[1::2], strict=True)]
    messages = Prompt(
        Message("user" if speaker == "Human" else "assistant", content.strip())
        for speaker, content in turns
        if content.strip()
    )
    if not messages:
        raise field_error("input", "a transcript with a question", transcript)
    return messages
