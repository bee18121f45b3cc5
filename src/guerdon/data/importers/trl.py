"""TRL's preference rows and their relatives: chosen and rejected, as text or as messages."""

from __future__ import annotations

import re
from collections.abc import Mapping

from guerdon.contracts import Comparison, GuerdonError, Message, Prompt, Response
from guerdon.data.importers.columns import Row, required, to_messages, to_prompt, with_tools
from guerdon.data.importers.pairs import shared_start, to_pair
from guerdon.data.importers.transcript import from_hh, is_transcript
from guerdon.errors import field_error
from guerdon.io.shared_prompt import join_prompt, response_start


def from_trl(row: Row) -> Comparison:
    """{prompt?, chosen, rejected, margin?, tools?}: text or messages, the prompt in its own column or in front of both.

    Also read: a prompt of messages with plain text responses, responses that repeat the prompt, a prompt column named
    conversations. Without a prompt column the prompt is what both share: messages up to where they differ, or text up to
    the last space before they differ (responses that begin alike lose that to it). The responses follow it: one assistant
    message each, or several with tool calls and results between them. margin becomes the strength.
    """
    chosen, rejected = required(row, "chosen"), required(row, "rejected")
    for key, value in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(value, str | list | tuple | Mapping):
            raise field_error(key, "text or messages", value)
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise field_error("rejected", "of the same form as chosen, both text or both messages", rejected)
    prompt = row.get("prompt", row.get("conversations"))
    if not isinstance(chosen, str):
        return _from_messages(row, prompt, chosen, rejected)
    if prompt is not None:
        return to_pair(row, with_tools(row, to_prompt(prompt)), Response(chosen), Response(rejected))
    if is_transcript(chosen) and is_transcript(rejected):
        return from_hh(row)
    return _from_shared_text(row, chosen, rejected)


def _from_shared_text(row: Row, chosen: str, rejected: str) -> Comparison:
    if chosen == rejected:
        raise GuerdonError("chosen and rejected must differ, got identical texts. Drop the row.")
    shared = shared_start(chosen, rejected)
    if len(shared) < min(len(chosen), len(rejected)):
        shared = re.sub(r"\S*$", "", shared).rstrip()  # never cut inside a word
    if not shared:
        raise GuerdonError("prompt is missing, and chosen and rejected share no beginning. Give a prompt.")
    prompt = with_tools(row, (Message("user", shared),))
    return to_pair(row, prompt, Response(chosen[len(shared) :]), Response(rejected[len(shared) :]))


def _from_messages(row: Row, prompt: object, chosen: object, rejected: object) -> Comparison:
    better, worse = to_messages(chosen, "chosen"), to_messages(rejected, "rejected")
    start = response_start(better, worse)
    column = Prompt() if prompt is None else to_prompt(prompt)
    turns = with_tools(row, join_prompt(column, better[:start]))
    return to_pair(row, turns, Response(messages=better[start:]), Response(messages=worse[start:]))
