"""Messages as other programs write them: with other names of roles, or as text in a cell, JSON or the way Python prints a list."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from guerdon.contracts import Message, Prompt, Role, as_message
from guerdon.errors import field_error

__all__ = ["ROLES", "messages_in", "to_messages"]

ROLES = {
    "human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system",
    "observation": "tool", "tool_response": "tool",
}  # fmt: skip
CALLS = ("function_call", "tool_call")  # roles of turns whose content is a call, or a list of calls, as JSON text
LONGEST_LITERAL = 2**20  # characters of Python's notation that are parsed: the parser takes about 100 bytes for each
SEARCHED = 4096  # characters in which the first role must be
_ROLE_NAMES = "|".join((*get_args(Role), *ROLES, *CALLS))
_ROLES, _PLAIN = get_args(Role), {"role", "content"}
_FIRST_ROLE = re.compile(rf"""["'](?:role|from)["']\s*:\s*["'](?:{_ROLE_NAMES})["']""")


def messages_in(value: object, field: str) -> Any:
    """The list of messages that a text or {"messages": [...]} holds; any other value as it is.

    A text that starts as messages do and cannot be parsed is an error: as a plain text it would be read with its braces.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text.startswith(("[", "{")) or not _FIRST_ROLE.search(text, 0, SEARCHED):
            return value
        parsed = _unwrap(_parse(text, field))
        return parsed if _are_messages(parsed) else value
    return _unwrap(value)


def _parse(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        if len(text) > LONGEST_LITERAL:
            raise ValueError
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a backslash in a text that Python would spell otherwise
            return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        advice = "Write the messages as JSON, or drop the row."
        raise field_error(field, "messages as JSON or as Python prints them", text, advice) from None


def _unwrap(value: Any) -> Any:
    return value["messages"] if isinstance(value, Mapping) and isinstance(value.get("messages"), list) else value


def _are_messages(value: object) -> bool:
    turns = value if isinstance(value, list | tuple) else [value]
    return bool(turns) and all(
        isinstance(turn, Mapping) and {"role", "from"} & set(turn) and {"content", "value", "tool_calls"} & set(turn)
        for turn in turns
    )


def to_messages(value: object, field: str) -> Prompt:
    """Messages from [{role, content}] or [{from, value}], or from one such message alone.

    Turns that are calls, one behind the other, become one turn of the assistant.
    """
    turns = [value] if isinstance(value, Mapping) else value
    if not isinstance(turns, list | tuple) or not turns:
        raise field_error(field, "text or a list of messages", value)
    messages: list[Message] = []
    follows_call = False
    for i, turn in enumerate(turns):
        message = _to_message(turn, f"{field}[{i}]")
        is_call = _role_of(turn) in CALLS
        if is_call and follows_call:
            messages[-1] = replace(messages[-1], tool_calls=messages[-1].tool_calls + message.tool_calls)
        else:
            messages.append(message)
        follows_call = is_call
    return Prompt(messages)


def _role_of(turn: Any) -> Any:
    return turn.get("role", turn.get("from"))


def _to_message(turn: object, field: str) -> Message:
    if not isinstance(turn, Mapping):
        raise field_error(field, "a message with role and content", turn)
    if turn.keys() == _PLAIN and isinstance(turn["content"], str) and turn["role"] in _ROLES:  # most messages, fast
        return Message(turn["role"], turn["content"])
    role, content = _role_of(turn), turn.get("content", turn.get("value"))
    if role in CALLS:
        return as_message({"role": "assistant", "content": None, "tool_calls": _calls(content, field)}, field)
    role = ROLES.get(role, role) if isinstance(role, str) else role
    if role not in _ROLES:
        raise field_error(f"{field}.role", "system, user, assistant or tool", role)
    return as_message({**turn, "role": role, "content": content}, field)


def _calls(content: object, field: str) -> list[Any]:
    """The calls in the content of a turn: one or several {name, arguments}, as JSON text or as they are."""
    try:
        calls = json.loads(content) if isinstance(content, str) else content
    except (ValueError, RecursionError):
        calls = None
    if not isinstance(calls, Mapping | list) or not calls:
        raise field_error(f"{field}.content", "a call as JSON text: {name, arguments}", content)
    return calls if isinstance(calls, list) else [calls]
