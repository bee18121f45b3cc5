"""Benchmarks of step-by-step solutions. An item's responses are the solution up to each of its steps.

A step's score is thus what a model says of the solution if it ended there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from guerdon.benchmarks.items import Item
from guerdon.benchmarks.readers.fields import Row, field, file_name, has_value, row_id, text, texts
from guerdon.contracts import as_prompt, as_response, prompt_digest
from guerdon.conversation import STEP_JOINT
from guerdon.errors import field_error
from guerdon.io.fields import to_number

__all__ = ["PRMBENCH", "PROCESSBENCH", "first_of_each_id", "read_prmbench", "read_processbench"]

PROCESSBENCH = {"gsm8k": 400, "math": 1000, "olympiadbench": 1000, "omnimath": 1000}
PRMBENCH = {
    "redundency": 758, "circular": 758, "counterfactual": 757, "step_contradiction": 758, "domain_inconsistency": 757,
    "confidence": 757, "missing_condition": 756, "deception": 750, "multi_solutions": 160,
}  # fmt: skip


def read_processbench(row: Row, place: str, number: int) -> Item:
    """{id, problem, steps: [text], label}, label being the index of the first wrong step, or -1; Qwen/ProcessBench.

    Steps after the first wrong one have no label; they are not among the right ones.
    """
    steps = texts(row, "steps")
    label = to_number(field(row, "label"), "label", "the index of a step, or -1")
    if label not in range(-1, len(steps)):
        raise field_error("label", f"the index of one of {len(steps)} steps, or -1 where all are right", row["label"])
    name = row_id(row, "id") if has_value(row, "id") else f"{number}"
    known = [subset for subset in PROCESSBENCH if name.startswith(f"{subset}-") or subset in file_name(place)]
    right = range(len(steps) if label == -1 else int(label))
    return _step_item(name, text(row, "problem"), steps, right, known[0] if known else "all")


def read_prmbench(row: Row, place: str, number: int) -> Item:
    """{idx, modified_question, modified_process: [text], error_steps: [from 1], classification}; ssmisya/PRMBench.

    An error step that the solution does not have is ignored, as the authors' code does.
    """
    steps = texts(row, "modified_process")
    errors = field(row, "error_steps")
    if not isinstance(errors, list | tuple):
        raise field_error("error_steps", "a list of steps, counted from 1", errors)
    wrong = {to_number(error, f"error_steps[{i}]", "a number of a step") for i, error in enumerate(errors)}
    kind, name = text(row, "classification"), row_id(row, "idx")
    item = _step_item(
        name if name.startswith(f"{kind}_") else f"{kind}_{name}",
        text(row, "modified_question"),
        steps,
        [i for i in range(len(steps)) if i + 1 not in wrong],
        kind,
    )
    return replace(item, group=name.removeprefix(f"{kind}_"))


def first_of_each_id(items: Sequence[Item]) -> list[Item]:
    """PRMBench publishes five items twice, and its code uses the first of each id."""
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(item.id, item)
    return list(first.values())


def _step_item(name: str, question: str, steps: Sequence[str], right: Collection[int], subset: str) -> Item:
    prompt = as_prompt(question)
    replies = [STEP_JOINT.join(steps[: i + 1]) for i in range(len(steps))]
    return Item(name, prompt, tuple(map(as_response, replies)), tuple(right), subset, prompt_digest(prompt))
