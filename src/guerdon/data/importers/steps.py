"""Solutions whose steps are labeled right or wrong: TRL's stepwise supervision, Math-Shepherd, and the index of the first error.

A solution is one comparison of its beginnings: each ends after a labeled step and is rated `right`, 1.0 or 0.0. Those whose
last step is right rank above the others. `train.loss=cross_entropy model.attributes=[right]` learns the ratings themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from guerdon.contracts import Comparison, GuerdonError, Preference, Response
from guerdon.conversation import STEP_JOINT
from guerdon.data.importers.columns import Row, required, to_comparison, to_prompt
from guerdon.errors import field_error
from guerdon.io.fields import as_list, as_text, to_number

RIGHT = "right"  # the rating of a beginning whose last step is labeled
END_OF_STEP = "ки"  # Math-Shepherd's mark; in its label a plus or a minus is in that place
SIGNS = {"+": True, "-": False}
_FIRST_STEP = re.compile(r"\s*(?=Step 1:)")


def from_stepwise(row: Row) -> Comparison:
    """{prompt, completions: [text], labels: [true or false]}: one label per step, as TRL's PRMTrainer takes them."""
    steps = _texts(row, "completions")
    values = as_list(required(row, "labels"), "labels", "a list of true and false")
    if len(values) != len(steps):
        raise field_error("labels", f"a list of {len(steps)}, one for each of completions", list(values))
    labels = [_label(value, f"labels[{i}]") for i, value in enumerate(values)]
    return _comparison(row, required(row, "prompt"), steps, labels)


def from_math_shepherd(row: Row) -> Comparison:
    """{input, label, task?}: the question and steps that "ки" ends; in the label, "+" or "-" in that place."""
    text, marked = as_text(required(row, "input"), "input"), as_text(required(row, "label"), "label")
    *ended, rest = text.split(END_OF_STEP)
    labels: list[bool] = []
    at = 0
    for part in ended:
        at += len(part)
        sign = marked[at : at + 1]
        if marked[at - len(part) : at] != part or sign not in SIGNS:
            raise field_error("label", f"the input with + or - in place of each {END_OF_STEP}", marked)
        labels.append(SIGNS[sign])
        at += 1
    if rest.strip():
        raise field_error("input", f"a text that ends with {END_OF_STEP}", text)
    if marked[at:].strip():
        raise field_error("label", f"the input with + or - in place of each {END_OF_STEP}, and nothing else", marked)
    first = _FIRST_STEP.search(ended[0]) if ended else None
    if first is None or not first.start():
        raise field_error("input", 'a question, then "Step 1:"', text)
    question, steps = ended[0][: first.start()], [ended[0][first.end() :], *ended[1:]]
    return _comparison(row, question, [step.strip() for step in steps], labels)


def from_first_error(row: Row) -> Comparison:
    """{problem, steps: [text], label}: the index of the first wrong step, or -1; steps after it have no label."""
    steps = _texts(row, "steps")
    claim = f"the index of one of {len(steps)} steps, or -1 where all are right"
    label = to_number(required(row, "label"), "label", claim)
    if label not in range(-1, len(steps)):
        raise field_error("label", claim, row["label"])
    labels = [True] * len(steps) if label == -1 else [True] * int(label) + [False]
    return _comparison(row, required(row, "problem"), steps[: len(labels)], labels)


def is_stepwise(row: Row) -> bool:
    """Whether steps and their labels are lists, as the files have them."""
    return isinstance(row.get("completions"), list | tuple) and isinstance(row.get("labels"), list | tuple)


def is_math_shepherd(row: Row) -> bool:
    """Whether the input has Math-Shepherd's mark."""
    return isinstance(row.get("label"), str) and END_OF_STEP in str(row.get("input"))


def is_first_error(row: Row) -> bool:
    """Whether steps are a list and the label is one number."""
    label = row.get("label")
    return isinstance(row.get("steps"), list | tuple) and isinstance(label, int | float) and not isinstance(label, bool)


def _texts(row: Row, name: str) -> list[str]:
    steps = [
        as_text(step, f"{name}[{i}]") for i, step in enumerate(as_list(required(row, name), name, "a list of steps"))
    ]
    if empty := [i for i, step in enumerate(steps) if not step.strip()]:
        raise field_error(f"{name}[{empty[0]}]", "a step that is not empty", steps[empty[0]], "Drop the row.")
    return steps


def _label(value: object, place: str) -> bool:
    if value not in (0, 1):
        raise field_error(place, "true or false", value)
    return bool(value)


def _comparison(row: Row, prompt: object, steps: Sequence[str], labels: Sequence[bool]) -> Comparison:
    if len(steps) < 2:
        raise GuerdonError(f"a solution must have at least 2 labeled steps, got {len(steps)}. Drop the row.")
    responses = tuple(
        Response(STEP_JOINT.join(steps[: i + 1]), ratings={RIGHT: float(label)}) for i, label in enumerate(labels)
    )
    groups = (tuple(i for i, label in enumerate(labels) if label is kind) for kind in (True, False))
    return to_comparison(row, to_prompt(prompt), responses, Preference(groups=tuple(filter(None, groups))))
