"""Conversations: messages, tool calls, prompts and responses, their plain-dict forms, and the hashes that identify them.

Text-only use stays as simple as a string: `as_prompt("Hi")` is one user turn, `Response("Hello!")` one assistant turn.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self, SupportsIndex, overload

from guerdon.errors import GuerdonError, field_error, show_value

__all__ = [
    "STEP_JOINT",
    "FinishReason",
    "Message",
    "Prompt",
    "PromptLike",
    "Response",
    "ResponseLike",
    "Role",
    "ToolCall",
    "as_message",
    "as_prompt",
    "as_response",
    "check_tool_turns",
    "digest",
    "digest_all",
    "message_dict",
    "prompt_digest",
    "prompt_identity",
    "response_digest",
    "response_identity",
    "tool_name",
]

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length"]

STEP_JOINT: Final = "\n\n"  # between the steps of a solution, where data and benchmarks have them apart

_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str).encode
MAX_CHARACTERS = 4_000_000  # of one text: about a million tokens, more than any model reads


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function call in an assistant turn.

    arguments: a JSON object as text, in one spelling, so that calls which differ only in white space are equal.
    id: what the result names in its `tool_call_id`; None where the format has no ids.
    """

    name: str
    arguments: str = "{}"
    id: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise field_error("the name of a tool call", "text", self.name, "Name the function.")
        object.__setattr__(self, "arguments", _json_object(self.arguments, f"the arguments of tool call {self.name!r}"))


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. Content is plain text, untrusted until escaped; "" where a turn only calls tools.

    tool_calls: the calls of an assistant turn. tool_call_id: the call that a tool turn answers. name: of the tool or speaker.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        _refuse_long(self.content)
        if not isinstance(self.tool_calls, tuple):
            object.__setattr__(self, "tool_calls", tuple(self.tool_calls))
        if self.tool_calls:
            ids = [call.id for call in self.tool_calls if call.id is not None]
            if self.role != "assistant":
                raise GuerdonError(
                    f"tool_calls must be in assistant turns only, got them in a {self.role} turn. Drop the row."
                )
            if len(set(ids)) < len(ids):
                raise GuerdonError(
                    f"the ids of tool calls in one turn must differ, got {', '.join(ids)}. Give each call its own id."
                )
        if self.tool_call_id is not None and self.role != "tool":
            raise GuerdonError(
                f"tool_call_id must be in tool turns only, got it in a {self.role} turn. Correct the role or drop the row."
            )


class Prompt(tuple[Message, ...]):
    """The turns that a response answers, and the tools it may call: an immutable tuple of messages with `tools`.

    tools: each tool's definition as JSON text in one spelling, {"type": "function", "function": {"name", ...}} or
    {"name", ...}. A slice or a sum keeps the tools. A prompt without tools equals the plain tuple of its messages.
    location: the row that the prompt was read from, such as pairs.jsonl:12, for errors; "" where there is none. It makes no
    prompt differ from another.
    """

    tools: tuple[str, ...]
    location: str = ""

    def __new__(cls, messages: Iterable[Message] = (), tools: Iterable[str | Mapping[str, Any]] = ()) -> Self:
        """Messages, and the definition of each tool as an object or as JSON text; a Prompt without `tools` keeps its own."""
        prompt = super().__new__(cls, messages)
        given = tuple(_tool(tool, f"tools[{i}]") for i, tool in enumerate(tools)) if tools else ()
        prompt.__dict__["tools"] = given or getattr(messages, "tools", ())
        if location := getattr(messages, "location", ""):
            prompt.__dict__["location"] = location
        return prompt

    def at(self, location: str) -> Prompt:
        """The same prompt, with the location of its row."""
        return _derived(self, self.tools, location)

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """An error raised inside starts with the location of the prompt's row."""
        try:
            yield
        except GuerdonError as error:
            if not self.location or str(error).startswith(self.location):
                raise
            raise GuerdonError(f"{self.location}: {error}") from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Prompt cannot be changed: {name}")

    def __eq__(self, other: object) -> bool:
        return tuple.__eq__(self, other) is True and self.tools == getattr(other, "tools", ())

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((tuple(self), self.tools)) if self.tools else tuple.__hash__(self)

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> Message: ...

    @overload
    def __getitem__(self, index: slice, /) -> Prompt: ...

    def __getitem__(self, index: SupportsIndex | slice, /) -> Message | Prompt:
        if isinstance(index, slice):
            return _derived(tuple.__getitem__(self, index), self.tools, self.location)
        return tuple.__getitem__(self, index)

    def __add__(self, other: tuple[Any, ...], /) -> Prompt:
        tools = _shared_tools(self.tools, getattr(other, "tools", ()))
        return _derived(tuple(self) + tuple(other), tools, self.location or getattr(other, "location", ""))

    def __radd__(self, other: tuple[Message, ...], /) -> Prompt:
        return _derived(tuple(other) + tuple(self), self.tools, self.location)

    def __repr__(self) -> str:
        return f"Prompt({tuple.__repr__(self)}, tools={self.tools!r})" if self.tools else tuple.__repr__(self)

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (tuple(self), self.tools)


@dataclass(frozen=True, slots=True)
class Response:
    """One answer to a prompt.

    text: the answer. Of an answer in several messages it is always what the assistant wrote, joined by blank lines.
    finish: "length" for an answer that was cut, "stop" for one that ended, None where unknown (then taken as ended).
    author: the model or person that wrote it. ratings: attribute ratings, higher is better; an unrated attribute is absent.
    messages: the turns of an answer that is more than one plain assistant turn: assistant turns with their tool calls, and
        the tools' results between them. Empty for plain text.
    """

    text: str = ""
    finish: FinishReason | None = None
    author: str | None = None
    ratings: Mapping[str, float] = field(default_factory=dict, hash=False)
    messages: tuple[Message, ...] = ()

    def __post_init__(self) -> None:
        _refuse_long(self.text)
        if not self.messages:
            return
        messages = tuple(self.messages)
        _check_response_turns(messages)
        text = "\n\n".join(message.content for message in messages if message.role == "assistant" and message.content)
        if self.text not in ("", text):
            advice = "Change the messages, or set messages=() for a plain text."
            raise field_error("response: text", "the text of its messages", self.text, advice)
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "messages", () if messages == (Message("assistant", text),) else messages)

    @property
    def is_empty(self) -> bool:
        """Whether it holds neither a visible character nor a tool call."""
        return _is_invisible(self.text) and not any(message.tool_calls for message in self.messages)

    def turns(self) -> tuple[Message, ...]:
        """The answer as messages: its own, or one assistant turn of its text."""
        return self.messages or (Message("assistant", self.text),)


def _refuse_long(text: str) -> None:
    """Refuse a text that no model reads: an audit edits and tokenizes each text hundreds of times."""
    if isinstance(text, str) and len(text) > MAX_CHARACTERS:
        raise GuerdonError(
            f"a text must have at most {MAX_CHARACTERS:,} characters, got {len(text):,}. Shorten it or drop the row."
        )


PromptLike = str | Sequence[Message] | Sequence[Mapping[str, Any]]
ResponseLike = str | Response | Sequence[Message] | Sequence[Mapping[str, Any]]


# ---- From strings and plain dicts ----------------------------------------------------------------------------------


def as_prompt(prompt: PromptLike, tools: Iterable[str | Mapping[str, Any]] = ()) -> Prompt:
    """A prompt from a string (one user turn), messages, or mappings in OpenAI's shape, and the tools that may be called."""
    if isinstance(prompt, Prompt):
        return prompt + Prompt((), tools)
    if isinstance(prompt, str):
        return Prompt((Message("user", prompt),), tools)
    messages: Sequence[Any] = prompt
    turns = Prompt((as_message(turn, f"prompt[{i}]") for i, turn in enumerate(messages)), tools)
    check_tool_turns(turns)
    return turns


def as_response(response: ResponseLike) -> Response:
    """A response from a string, or from messages or mappings in OpenAI's shape; a Response comes back as it is."""
    if isinstance(response, Response):
        return response
    if isinstance(response, str):
        return Response(response)
    messages: Sequence[Any] = response
    return Response(messages=tuple(as_message(turn, f"response[{i}]") for i, turn in enumerate(messages)))


def as_message(turn: Message | Mapping[str, Any], field: str = "message") -> Message:
    """A message from a mapping in OpenAI's shape: {role, content, tool_calls?, tool_call_id?, name?}.

    content: text, a list of {"type": "text", "text"} parts (joined), or null next to tool calls. tool_calls: [{id?, type?,
    function: {name, arguments}}] or [{name, arguments}], the arguments as JSON text or as an object. A part of another type
    (an image, say), and a field whose text would be lost, is an error that names `field` and the type.
    """
    if isinstance(turn, Message):
        return turn
    if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
        raise field_error(field, "an object with role and content", turn)
    for name, advice in _UNREAD.items():
        if turn.get(name):
            raise field_error(f"{field}.{name}", "empty", turn[name], advice)
    calls = turn.get("tool_calls") or ()
    if not isinstance(calls, list | tuple):
        raise field_error(f"{field}.tool_calls", "a list of calls", calls)
    try:
        return Message(
            turn["role"],
            _content(turn.get("content"), f"{field}.content", optional=bool(calls)),
            tuple(_tool_call(call, f"{field}.tool_calls[{i}]") for i, call in enumerate(calls)),
            _optional_text(turn, "tool_call_id", field),
            _optional_text(turn, "name", field),
        )
    except GuerdonError as error:
        raise error if str(error).startswith(field) else GuerdonError(f"{field}: {error}") from None


def message_dict(message: Message) -> dict[str, Any]:
    """The message in the shape that chat templates take: OpenAI's, absent fields left out, arguments as objects."""
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        row["tool_calls"] = [
            {
                **({} if call.id is None else {"id": call.id}),
                "type": "function",
                "function": {"name": call.name, "arguments": json.loads(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        row["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        row["name"] = message.name
    return row


def tool_name(tool: str) -> str:
    """The name in a tool's definition; "" where it has none."""
    body = json.loads(tool)
    name = body["function"].get("name") if isinstance(body.get("function"), dict) else body.get("name")
    return name if isinstance(name, str) else ""


def check_tool_turns(messages: Sequence[Message]) -> None:
    """Raise where a tool turn names a call that no earlier assistant turn makes."""
    known: set[str] = set()
    for i, message in enumerate(messages):
        known.update(call.id for call in message.tool_calls if call.id is not None)
        if message.tool_call_id is not None and message.tool_call_id not in known:
            raise GuerdonError(
                f"message {i}: tool_call_id must name an earlier tool call, got {show_value(message.tool_call_id, 40)} where there "
                f"{'are only ' + ', '.join(sorted(known)) if known else 'are none'}. Add the call or drop the row."
            )


# ---- Identity ------------------------------------------------------------------------------------------------------


def prompt_identity(prompt: Sequence[Message]) -> tuple[Any, ...]:
    """What identifies a prompt, hashable and plain: its turns, and its tools where it has any."""
    turns = tuple(_message_identity(message) for message in prompt)
    tools = getattr(prompt, "tools", ())
    return (turns, tools) if tools else turns


def response_identity(response: Response) -> str | tuple[Any, ...]:
    """What identifies a response, hashable and plain: its text, or its turns."""
    return tuple(_message_identity(message) for message in response.messages) if response.messages else response.text


def prompt_digest(prompt: Sequence[Message]) -> str:
    """A short stable hash of `prompt_identity`."""
    return digest(prompt_identity(prompt))


def response_digest(response: Response) -> str:
    """A short stable hash of `response_identity`."""
    return digest(response_identity(response))


def digest(value: object, size: int = 16) -> str:
    """A short stable hash (hex) of anything JSON can hold."""
    return hashlib.sha256(_canonical(value).encode("utf-8", "surrogatepass")).hexdigest()[:size]


def digest_all(values: Iterable[str], size: int = 16) -> str:
    """One hash over many strings, in order, without holding them together."""
    total = hashlib.sha256()
    for value in values:
        total.update(value.encode("utf-8", "surrogatepass") + b"\0")
    return total.hexdigest()[:size]


def _message_identity(message: Message) -> tuple[Any, ...]:
    """Role and content alone for a plain turn, so that hashes of text-only data never change."""
    if not message.tool_calls and message.tool_call_id is None and message.name is None:
        return (message.role, message.content)
    calls = tuple((call.name, call.arguments, call.id) for call in message.tool_calls)
    return (message.role, message.content, calls, message.tool_call_id, message.name)


def _is_invisible(text: str) -> bool:
    """Whether a text holds white space, controls and characters without width only."""
    return all(c.isspace() or c in _BLANK_LETTERS or unicodedata.category(c) in ("Cc", "Cf") for c in text)


# ---- Helpers -------------------------------------------------------------------------------------------------------

_BLANK_LETTERS: Final = (
    "\u115f\u1160\u2800\u3164\uffa0"  # fillers of Hangul and Braille, which Unicode takes for letters
)
_REASONING: Final = (
    "Move the text into content, between the marks that the model's chat template reads, or drop the row."
)
_TEXT_ONLY: Final = "Only text is scored: drop the row."
_UNREAD: Mapping[str, str] = {
    "reasoning_content": _REASONING,
    "reasoning": _REASONING,
    "thinking": _REASONING,
    "function_call": "Write the call as tool_calls.",
    "images": _TEXT_ONLY,
    "audio": _TEXT_ONLY,
}


def _content(value: object, field: str, optional: bool) -> str:
    if value is None and optional:
        return ""
    if isinstance(value, list | tuple):
        return "".join(_text_part(part, f"{field}[{i}]") for i, part in enumerate(value))
    if not isinstance(value, str):
        raise field_error(field, "text", value)
    return value


def _text_part(part: object, field: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or kind is None:
        raise field_error(field, 'a part such as {"type": "text"}', part)
    if kind != "text":
        raise GuerdonError(f"{field} must be a part of type text, got type {kind}. {_TEXT_ONLY}")
    return _content(part.get("text"), f"{field}.text", optional=False)


def _tool_call(call: object, field: str) -> ToolCall:
    body = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(body, Mapping) or call.get("type") not in (None, "function"):
        raise field_error(field, "a function call with name and arguments", call)
    name, arguments = body.get("name"), body.get("arguments")
    text = _json_object(
        "{}" if arguments in (None, "") else arguments, f"{field}: the arguments of {show_value(name, 40)}"
    )
    return ToolCall(name, text, _optional_text(call, "id", field))  # type: ignore[arg-type]


def _optional_text(values: Mapping[str, Any], key: str, field: str) -> str | None:
    """The text of a field; None where it is absent, null or empty, as tables fill it in."""
    value = values.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise field_error(f"{field}.{key}", "text", value)
    return value


def _tool(tool: str | Mapping[str, Any], field: str) -> str:
    text = _json_object(tool, field)
    if not tool_name(text):
        raise field_error(field, "a function with a name", text, 'Write {"name": ..., "parameters": ...}.')
    return text


def _json_object(value: object, field: str) -> str:
    """A JSON object as text in one spelling: keys in their order, one space after each comma and colon."""
    try:
        body = json.loads(value) if isinstance(value, str) else value
        if not isinstance(body, Mapping):
            raise TypeError
        return json.dumps(body, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError, RecursionError):  # not JSON; not an object; nested too deep
        raise field_error(field, "a JSON object", value) from None


def _check_response_turns(messages: Sequence[Message]) -> None:
    for message in messages:
        if message.role not in ("assistant", "tool"):
            raise GuerdonError(
                f"response: messages must be assistant and tool turns, got a {message.role} turn. Move it to the prompt."
            )
    for which, message in (("first", messages[0]), ("last", messages[-1])):
        if message.role != "assistant":
            advice = (
                "Move earlier turns to the prompt." if which == "first" else "Add the assistant's turn or drop the row."
            )
            raise GuerdonError(f"response: the {which} message must be an assistant turn, got {message.role}. {advice}")
    calls: tuple[ToolCall, ...] = ()
    for message in messages:
        if message.role == "assistant":
            calls = message.tool_calls
            continue
        ids = {call.id for call in calls if call.id is not None}
        if not calls or (ids and message.tool_call_id is not None and message.tool_call_id not in ids):
            raise GuerdonError(
                "response: a tool turn must answer a call of the assistant turn before it, got "
                f"{'no call' if not calls else repr(message.tool_call_id)}. Add the call or drop the row."
            )


def _derived(messages: tuple[Message, ...], tools: tuple[str, ...], location: str) -> Prompt:
    """A prompt of tools that were checked before."""
    prompt = Prompt(messages)
    prompt.__dict__["tools"] = tools
    if location:
        prompt.__dict__["location"] = location
    return prompt


def _shared_tools(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    if first and second and first != second:
        names = [", ".join(map(tool_name, tools)) for tools in (first, second)]
        raise GuerdonError(
            f"prompts must have the same tools to be joined, got {names[0]} and {names[1]}. Give both the same tools."
        )
    return first or second
