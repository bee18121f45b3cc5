"""Benchmarks of trajectories: conversations with tool calls, of which the user's later turns may be a part."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from guerdon.benchmarks.items import Item
from guerdon.benchmarks.readers.fields import Row, field, file_name, has_value, row_id
from guerdon.contracts import GuerdonError, Message, Prompt, Response, ToolCall, digest, prompt_digest
from guerdon.errors import field_error
from guerdon.io.fields import as_text

__all__ = ["PLANREWARDBENCH", "read_planrewardbench"]

PLANREWARDBENCH = {
    "planning_multi_easy": 109,
    "planning_multi_hard": 73,
    "planning_single_easy": 144,
    "planning_single_hard": 158,
    "robust_recovery": 361,
    "safety_refusal": 51,
    "tool_irrelevance": 275,
}


def read_planrewardbench(row: Row, place: str, number: int) -> Item:
    """{query, tools, uuid, chosen: {messages}, reject: {messages}}, the subset from the file; wyy-1112/Plan-RewardBench.

    A call is a tool call of the assistant's turn, a result a tool turn; the authors write both as text. The prompt is what
    both trajectories share; where a later turn of the user follows, each response has the turns before it as its own
    prompt. uuid names the query of several pairs, which are one group.
    """
    tools = row.get("tools") or ()
    wrong = "reject" if "reject" in row else "rejected"
    sides = [_trajectory(row, key, tools) for key in ("chosen", wrong)]
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*sides, strict=False)))
    start = next((i for i in range(shared, 0, -1) if all(len(s) > i and s[i].role == "assistant" for s in sides)), None)
    if start is None:
        raise GuerdonError("chosen and reject must begin with the same turns of the user. Drop the row.")
    splits = [
        max((i + 1 for i, turn in enumerate(side) if turn.role == "user" and i >= start), default=start)
        for side in sides
    ]
    responses = tuple(Response(messages=side[at:]) for side, at in zip(sides, splits, strict=True))
    subset = next((name for name in PLANREWARDBENCH if name in file_name(place)), "all")
    uuid = row_id(row, "uuid") if has_value(row, "uuid") else prompt_digest(sides[0][:1])
    return Item(
        id=f"{uuid}:{digest([prompt_digest(side) for side in sides], 8)}",
        prompt=sides[0][:start],
        responses=responses,
        correct=(0,),
        subset=subset,
        group=uuid,
        own_prompts=tuple(side[:at] for side, at in zip(sides, splits, strict=True)) if max(splits) > start else (),
    )


def _trajectory(row: Row, key: str, tools: Sequence[Any]) -> Prompt:
    side = field(row, key)
    messages = side.get("messages") if isinstance(side, Mapping) else side
    if not isinstance(messages, list | tuple) or len(messages) < 2:
        raise field_error(key, "an object with two or more messages", side)
    turns: list[Message] = []
    for i, message in enumerate(messages):
        _append(turns, message, f"{key}.messages[{i}]")
    if turns[0].role not in ("user", "system") or turns[-1].role != "assistant":
        roles = f"{turns[0].role} and {turns[-1].role}"
        raise field_error(key, "a trajectory from the user's turn to one of the assistant", roles, "Drop the row.")
    return Prompt(turns, tools)


def _append(turns: list[Message], message: object, where: str) -> None:
    """Add a message to the turns; calls join the assistant's turn before them."""
    if not isinstance(message, Mapping):
        raise field_error(where, "an object with role and content", message)
    role, content = message.get("role"), as_text(message.get("content"), f"{where}.content")
    last = turns[-1] if turns else Message("user", "")
    if role == "tool_call":
        call = _tool_call(content)
        if call is None:  # as the authors write every call
            _append_text(turns, f"[TOOL_CALL] {content}")
        elif last.role == "assistant":
            turns[-1] = Message("assistant", last.content, (*last.tool_calls, call))
        else:
            turns.append(Message("assistant", "", (call,)))
    elif role == "tool_response":
        calling = next((turn for turn in reversed(turns) if turn.role != "tool"), last)
        if calling.tool_calls:
            turns.append(Message("tool", content, name=message.get("name") or None))
        else:
            _append_text(turns, f"[TOOL_RESPONSE] {content}")
    elif role == "assistant" and last.role == "assistant" and not last.tool_calls:
        _append_text(turns, content)
    elif role in ("system", "user", "assistant"):
        turns.append(Message(role, content))
    else:
        raise field_error(f"{where}.role", "user, assistant, tool_call or tool_response", role)


def _append_text(turns: list[Message], content: str) -> None:
    """Go on with the assistant's turn, or begin one."""
    if turns and turns[-1].role == "assistant" and not turns[-1].tool_calls:
        turns[-1] = Message("assistant", f"{turns[-1].content}\n\n{content}".strip())
    else:
        turns.append(Message("assistant", content))


def _tool_call(content: str) -> ToolCall | None:
    """The call in "{'name': ..., 'arguments': 'JSON text'}", a Python or a JSON object; None where it is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            body = parse(content)
            arguments = body.get("arguments") or {}
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            return ToolCall(body["name"], text)
        except (
            ValueError,
            SyntaxError,
            RecursionError,
            MemoryError,
            AttributeError,
            KeyError,
            TypeError,
            GuerdonError,
        ):
            continue
    return None
