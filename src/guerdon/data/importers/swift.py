"""ms-swift: a whole conversation, and what was rejected in place of its end. LLaMA-Factory's own forms of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guerdon.contracts import Comparison, Message, Response
from guerdon.data.importers.columns import Row, list_in, required, to_prompt, to_response, whole_prompt
from guerdon.data.importers.pairs import prompt_and_responses, to_pair
from guerdon.errors import field_error
from guerdon.io.messages import messages_in, to_messages

QUERIES = ("query", "prompt", "instruction", "question", "problem")  # what ms-swift takes for the prompt

SWIFT_COLUMNS = (*QUERIES, "messages", "response", "rejected_response", "rejected_messages", "margin")


def from_swift(row: Row) -> Comparison:
    """{messages, rejected_response: text or messages}, {messages, rejected_messages}, or {query, response, rejected_response}.

    The chosen response is what follows the last turn of the user; the rejected one stands in its place. margin becomes the strength.
    """
    if row.get("rejected_messages"):
        pair = {
            "chosen": messages_in(required(row, "messages"), "messages"),
            "rejected": _messages(row, "rejected_messages"),
        }
        prompt, better, worse = prompt_and_responses({**row, "prompt": None, **pair}, "chosen", "rejected")
        return to_pair(row, prompt, better, worse)
    rejected = to_response(messages_in(required(row, "rejected_response"), "rejected_response"), "rejected_response")
    if not row.get("messages"):
        name = next((name for name in QUERIES if row.get(name)), "messages")
        prompt = whole_prompt(row, to_prompt(messages_in(required(row, name), name)))
        return to_pair(row, prompt, to_response(required(row, "response"), "response"), rejected)
    turns = to_messages(_messages(row, "messages"), "messages")
    start = _answer_start(turns)
    if not 0 < start < len(turns):
        raise field_error("messages", "a conversation that ends with the assistant's turn", row["messages"])
    return to_pair(row, whole_prompt(row, turns[:start]), Response(messages=tuple(turns[start:])), rejected)


def is_swift(row: Row) -> bool:
    """Whether a row has a whole conversation, or a query and a response, and what was rejected."""
    has_rejected = any(row.get(key) for key in ("rejected_response", "rejected_messages"))
    return has_rejected and any(row.get(key) for key in ("messages", "response"))


def _messages(row: Row, key: str) -> Any:
    return messages_in(required(row, key), key)


def _answer_start(turns: Sequence[Message]) -> int:
    """The number of the turn behind the user's last one."""
    return max((i + 1 for i, turn in enumerate(turns) if turn.role == "user"), default=0)


# ---- LLaMA-Factory ---------------------------------------------------------------------------------------------------


def from_llama_factory_list(row: Row) -> Comparison:
    """{instruction, input?, output: [better, worse], system?, history?}: the form before chosen and rejected."""
    outputs = list_in(required(row, "output"))
    if not isinstance(outputs, list | tuple) or len(outputs) != 2:
        raise field_error("output", "a list of two texts, the better one first", outputs)
    better, worse = (to_response(value, f"output[{i}]") for i, value in enumerate(outputs))
    parts = [row.get(name) for name in ("instruction", "input")]
    text = "\n".join(part for part in parts if isinstance(part, str) and part.strip())
    return to_pair(row, whole_prompt(row, to_prompt(text)), better, worse)


def holds_two_outputs(row: Row) -> bool:
    """Whether the output of a row is a list of two texts."""
    outputs = list_in(row["output"])
    return isinstance(outputs, list | tuple) and len(outputs) == 2 and all(isinstance(text, str) for text in outputs)


def from_llama_factory(row: Row) -> Comparison:
    """{chosen_messages, rejected_messages}: whole conversations whose content is a list of {type: "text", value}."""
    pair = {key: _with_texts(row, f"{key}_messages") for key in ("chosen", "rejected")}
    prompt, better, worse = prompt_and_responses({**row, "prompt": None, **pair}, "chosen", "rejected")
    return to_pair(row, prompt, better, worse)


def _with_texts(row: Row, key: str) -> Any:
    """The messages with the name of OpenAI for the text of a part."""
    turns = _messages(row, key)
    if not isinstance(turns, list | tuple):
        raise field_error(key, "a list of messages", turns)
    return [{**turn, "content": _parts(turn.get("content"))} if isinstance(turn, Mapping) else turn for turn in turns]


def _parts(content: Any) -> Any:
    if not isinstance(content, list | tuple):
        return content
    return [
        {"type": "text", "text": part.get("value", part.get("text"))}
        if isinstance(part, Mapping) and part.get("type") == "text"
        else part
        for part in content
    ]
