"""LLaMA-Factory's preference rows in its Alpaca and ShareGPT forms, and the entry of dataset_info.json that describes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guerdon.contracts import GuerdonError, Message, Prompt
from guerdon.data.exporters.columns import Job, Row, answerable, plain_response, response_turns, tools_text
from guerdon.data.exporters.pairs import Pair
from guerdon.errors import field_error

__all__ = ["alpaca", "alpaca_entry", "sharegpt", "sharegpt_entry"]

# A column that the entry names must be in every row, or its reader stops: absent values are empty texts and lists.


def alpaca(pair: Pair, job: Job) -> Row:
    """{instruction, input: "", system, history: [[question, answer]], tools, chosen, rejected}: texts only."""
    system, turns = _without_system(answerable(pair.prompt))
    if not _alternates([turn.role == "user" for turn in turns], [turn.role == "assistant" for turn in turns]):
        raise _not_alternating(turns, "user and assistant", job)
    _refuse_calls(turns, "Write --to llamafactory-sharegpt, which holds tool calls.")
    texts = [turn.content for turn in turns]
    _count_names(turns, job)
    return {
        "instruction": texts[-1],
        "input": "",
        "system": system,
        "history": [texts[i : i + 2] for i in range(0, len(texts) - 1, 2)],
        "tools": tools_text(pair.prompt),
        "chosen": plain_response(pair.chosen, job, "llamafactory-sharegpt"),
        "rejected": plain_response(pair.rejected, job, "llamafactory-sharegpt"),
    }


def sharegpt(pair: Pair, job: Job) -> Row:
    """{conversations: [{from, value}], system, tools, chosen: {from, value}, rejected: {from, value}}.

    Turns alternate between human or observation and gpt or function_call, which holds the calls of a turn as a JSON list.
    """
    system, turns = _without_system(answerable(pair.prompt))
    conversation = [_turn(turn, job) for turn in turns]
    names = [turn["from"] for turn in conversation]
    if not _alternates(
        [name in ("human", "observation") for name in names], [name in ("gpt", "function_call") for name in names]
    ):
        raise _not_alternating(turns, "user or tool, and assistant", job)
    _count_names((*turns, *response_turns(pair.chosen), *response_turns(pair.rejected)), job)
    return {
        "conversations": conversation,
        "system": system,
        "tools": tools_text(pair.prompt),
        "chosen": _turn(_only_turn(pair.chosen.messages, pair.chosen.text), job),
        "rejected": _turn(_only_turn(pair.rejected.messages, pair.rejected.text), job),
    }


def alpaca_entry(path: Path) -> Row:
    """The entry of dataset_info.json for a file of `alpaca` rows."""
    columns = ("system", "history", "tools", "chosen", "rejected")
    named = {"prompt": "instruction", "query": "input", **{name: name for name in columns}}
    return _entry(path, "alpaca", named)


def sharegpt_entry(path: Path) -> Row:
    """The entry of dataset_info.json for a file of `sharegpt` rows."""
    columns = ("system", "tools", "chosen", "rejected")
    return _entry(path, "sharegpt", {"messages": "conversations", **{name: name for name in columns}})


def _entry(path: Path, formatting: str, columns: dict[str, str]) -> Row:
    body: dict[str, Any] = {"file_name": path.name, "formatting": formatting, "ranking": True, "columns": columns}
    return {path.name.partition(".")[0]: body}


def _without_system(prompt: Prompt) -> tuple[str, Prompt]:
    if prompt[0].role != "system":
        return "", prompt
    if not prompt[0].content:
        raise field_error("the system message", "text that is not empty", "", "Leave it out, or write --to trl.")
    return prompt[0].content, prompt[1:]


def _turn(turn: Message, job: Job) -> Row:
    """A turn under ShareGPT's names."""
    if turn.role == "system":
        raise GuerdonError(
            f"{job.options.format} must have its system message first, got one behind other turns. Write --to trl."
        )
    if not turn.tool_calls:
        return {"from": {"user": "human", "assistant": "gpt", "tool": "observation"}[turn.role], "value": turn.content}
    if turn.content:
        raise GuerdonError(
            f"a turn must hold text or tool calls for {job.options.format}, got both. Write --to trl, which holds both."
        )
    if turn.tool_calls and any(call.id is not None for call in turn.tool_calls):
        job.losses.add("ids of tool calls")
    calls = [{"name": call.name, "arguments": json.loads(call.arguments)} for call in turn.tool_calls]
    return {"from": "function_call", "value": json.dumps(calls, ensure_ascii=False)}


def _only_turn(messages: tuple[Message, ...], text: str) -> Message:
    if len(messages) > 1:
        got = ", ".join(message.role for message in messages[:6])
        raise GuerdonError(
            f"responses must be one turn for LLaMA-Factory, got {got}. Write --to trl, which holds several."
        )
    return messages[0] if messages else Message("assistant", text)


def _refuse_calls(turns: Sequence[Message], advice: str) -> None:
    if any(turn.tool_calls for turn in turns):
        raise GuerdonError(f"turns must be plain texts for LLaMA-Factory's Alpaca form, got tool calls. {advice}")


def _count_names(turns: Sequence[Message], job: Job) -> None:
    if any(turn.name is not None for turn in turns):
        job.losses.add("names of speakers")


def _alternates(odd: Sequence[bool], even: Sequence[bool]) -> bool:
    """Whether every other turn is of one kind and those between them of the other, and the last is of the first kind."""
    return len(odd) % 2 == 1 and all(odd[::2]) and all(even[1::2])


def _not_alternating(turns: Sequence[Message], claim: str, job: Job) -> GuerdonError:
    got = ", ".join(turn.role for turn in turns[:6]) or "none"
    return GuerdonError(
        f"prompt must be turns of {claim} in alternation for {job.options.format}, got {got}. "
        "Write --to trl, which holds any turns."
    )
