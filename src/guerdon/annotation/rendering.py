"""An assignment as the page shows it: turns as safe HTML beside their exact text, and the options of the screen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol

from guerdon.annotation.markup import code_html, markdown_html, plain_html, text_html
from guerdon.config.annotation import AnnotationOptions
from guerdon.conversation import Message, Prompt, Response, tool_name

__all__ = ["assignment_json", "guidelines_html", "message_html", "screen_json"]

CACHED: Final = 1024  # turns; a response is shown to several people, and to one again after a reload
LONGEST_CACHED: Final = 50_000  # characters of a turn


class Shown(Protocol):
    """What somebody judges, in the order shown; `claiming.Assignment` is one."""

    @property
    def presentation_id(self) -> int | str: ...
    @property
    def prompt(self) -> Prompt: ...
    @property
    def responses(self) -> Sequence[Response]: ...
    @property
    def handles(self) -> Sequence[str]: ...
    @property
    def expires(self) -> float: ...
    @property
    def answer(self) -> Mapping[str, Any] | None: ...


def assignment_json(assignment: Shown, options: AnnotationOptions) -> dict[str, Any]:
    """Everything that the page needs, and nothing that would tell who wrote a response or how long it is counted to be."""
    math = options.math
    return {
        "presentation": assignment.presentation_id,
        "expires": assignment.expires,
        "tools": [{"name": tool_name(tool), "html": _definition_html(tool)} for tool in assignment.prompt.tools],
        "prompt": [turn_json(message, math) for message in assignment.prompt],
        "responses": [
            {"handle": handle, "turns": [turn_json(message, math) for message in response.turns()]}
            for handle, response in zip(assignment.handles, assignment.responses, strict=True)
        ],
        "answer": assignment.answer,
        "screen": screen_json(options),
    }


def screen_json(options: AnnotationOptions) -> dict[str, Any]:
    """The options that decide what the page asks."""
    names = (
        "question", "verdict", "axes", "reasons", "flags", "skip_reasons", "rationale", "rationale_min", "auto_submit",
        "word_counts", "heartbeat_seconds",
    )  # fmt: skip
    return {
        **{name: getattr(options, name) for name in names},
        "rating": [options.rating_low, options.rating_high],
    }


def turn_json(message: Message, math: bool) -> dict[str, Any]:
    """A turn as HTML and as its exact text; the text of a call is NAME(ARGUMENTS) on a line of its own."""
    calls = [f"{call.name}({call.arguments})" for call in message.tool_calls]
    raw = "\n".join([*([message.content] if message.content or not calls else []), *calls])
    turn = {"role": message.role, "html": message_html(message, math), "raw": raw}
    return turn if message.name is None else {**turn, "name": message.name}


def message_html(message: Message, math: bool = False) -> str:
    """A turn as HTML: its Markdown, then its calls; the result of a tool as JSON if it is, else as it stands."""
    long = len(message.content) > LONGEST_CACHED or any(
        len(call.arguments) > LONGEST_CACHED for call in message.tool_calls
    )
    return _message_html(message, math) if long else _cached_message_html(message, math)


def guidelines_html(markdown: str, math: bool = False) -> str:
    """The project's guidelines as HTML, for a place below a heading of level 2."""
    return markdown_html(markdown, math, below=2)


def _message_html(message: Message, math: bool) -> str:
    if message.role == "tool":
        return _result_html(message.content)
    content = markdown_html(message.content, math) if message.content else ""
    calls = "".join(_call_html(call.name, call.arguments) for call in message.tool_calls)
    return content + calls or '<p class="nothing">(no text)</p>'


_cached_message_html = lru_cache(maxsize=CACHED)(_message_html)


def _call_html(name: str, arguments: str) -> str:
    return f'<div class="call"><p>Calls <strong>{text_html(name)}</strong></p>{code_html(_indented(arguments), "json")}</div>'


def _result_html(content: str) -> str:
    try:
        is_data = isinstance(json.loads(content), dict | list)
    except (ValueError, RecursionError):
        is_data = False
    return code_html(_indented(content), "json") if is_data else plain_html(content)


def _definition_html(tool: str) -> str:
    return code_html(_indented(tool), "json")


def _indented(text: str) -> str:
    """JSON with one value per line; another text as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
