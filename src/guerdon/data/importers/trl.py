"""TRL's preference rows and their relatives: chosen and rejected, as text or as messages."""

from __future__ import annotations

from collections.abc import Mapping

from guerdon.contracts import Comparison, GuerdonError, Message, Response
from guerdon.data.importers.columns import COLUMNS, Row, required, whole_prompt
from guerdon.data.importers.pairs import prompt_and_responses, to_pair
from guerdon.data.importers.plain_text import shared_prompt
from guerdon.data.importers.reading import Reading
from guerdon.data.importers.transcript import from_hh, hold_transcripts
from guerdon.errors import field_error, show_value

NO_PROMPT = (  # columns of text that never hold a prompt
    "split", "dataset", "dataset_name", "subset", "origin", "language", "lang", "category", "domain", "topic", "task", "type", "tag",
    "license", "url", "model", "chosen_model", "rejected_model", "chosen_source", "rejected_source", "uuid", "row_id", "prompt_id",
    "conversation_id", "question_id", "timestamp", "date", "created_at",
)  # fmt: skip


def from_trl(row: Row, reading: Reading) -> Comparison:
    """{prompt?, chosen, rejected, margin?, tools?}: text or messages, the prompt in its own column or in front of both.

    Also read: a prompt of messages with plain text responses, responses that repeat the prompt, and a prompt that ends with
    the beginning of the answer. Without a prompt column the prompt is what both share: messages up to where they differ, or
    text up to the last whole word before they differ (responses that begin alike lose that to it), if it is more than a
    word and no other column of text could be the prompt; with a column that holds the prompts of other rows, a text without
    one is refused. The responses follow it: one assistant message each, or several
    with tool calls and results between them. margin becomes the strength.
    """
    chosen, rejected = required(row, "chosen"), required(row, "rejected")
    for key, value in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(value, str | list | tuple | Mapping):
            raise field_error(key, "text or messages", value)
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise field_error("rejected", "of the same form as chosen, both text or both messages", rejected)
    if hold_transcripts(row):
        return from_hh(row)
    if cuts_prompt(row):
        return _from_shared_text(row, chosen, rejected)
    prompt, better, worse = prompt_and_responses(row, "chosen", "rejected", reading.note)
    return to_pair(row, prompt, better, worse)


def cuts_prompt(row: Row) -> bool:
    """Whether the prompt of the row is what two texts share, up to a place that no mark names."""
    return isinstance(row.get("chosen"), str) and row.get("prompt") is None and not hold_transcripts(row)


def _from_shared_text(row: Row, chosen: str, rejected: str) -> Comparison:
    if "prompt" in row:
        raise GuerdonError("prompt is missing, and other rows have one. Add it or drop the row.")
    if chosen == rejected:
        raise GuerdonError("chosen and rejected must differ, got identical texts. Drop the row.")
    others = [name for name, value in row.items() if _may_hold_prompt(name, value)]
    if others:
        names = ", ".join(show_value(str(name), 30).strip("'") for name in others[:4])
        raise GuerdonError(f"prompt is missing, and {names} may hold it. Say which: --column prompt=NAME.")
    prompt = shared_prompt(chosen, rejected)
    better, worse = (Response(text[len(prompt) :]) for text in (chosen, rejected))
    return to_pair(row, whole_prompt(row, (Message("user", prompt),)), better, worse)


def _may_hold_prompt(name: object, value: object) -> bool:
    return (
        name not in COLUMNS and str(name).casefold() not in NO_PROMPT and isinstance(value, str) and bool(value.strip())
    )
