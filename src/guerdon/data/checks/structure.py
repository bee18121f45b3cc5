"""Prompts whose turns no chat template renders as they were meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from guerdon.contracts import Message
from guerdon.data.checks.contract import Fault, Row, RowCheck

__all__ = ["Structure"]

LAST: Final = Fault(
    "error",
    "Prompts that end with an assistant turn",
    "have a prompt that does not end with a turn to answer",
    "Move the last turn into the responses, or drop them.",
)
ORDER: Final = Fault(
    "error",
    "Turns out of order",
    "have two user or two assistant turns in a row, a system turn after the first, or no user turn",
    "Join or drop the turns: many chat templates refuse them.",
)
EMPTY: Final = Fault(
    "error",
    "Empty turns in prompts",
    "have a turn without text in the prompt",
    "Drop them, or find out where the text went.",
)
CALLS: Final = Fault(
    "error",
    "Tool calls without a result",
    "have a tool call in the prompt that no tool turn answers, or a tool turn without a call",
    "Add the missing turn, or drop them.",
)


class Structure(RowCheck):
    """The order of a prompt's turns."""

    def faults(self, row: Row) -> Iterator[Fault]:
        """What is wrong with the prompt."""
        prompt = row.comparison.prompt
        roles = [message.role for message in prompt]
        if not roles or roles[-1] not in ("user", "tool"):
            yield LAST
        if _is_out_of_order(roles):
            yield ORDER
        if any(not message.content.strip() and not message.tool_calls for message in prompt):
            yield EMPTY
        if _has_open_calls(prompt):
            yield CALLS


def _is_out_of_order(roles: Sequence[str]) -> bool:
    if "system" in roles[1:] or "user" not in roles:
        return True
    return any(first == second and first in ("user", "assistant") for first, second in pairwise(roles))


def _has_open_calls(prompt: Sequence[Message]) -> bool:
    """Whether a call is followed by a turn that is no result, or a result follows no call."""
    for message, following in pairwise([Message("user", ""), *prompt]):
        if message.tool_calls and following.role != "tool":
            return True
        if following.role == "tool" and not (message.tool_calls or message.role == "tool"):
            return True
    return False
