"""HH-RLHF: two transcripts per row."""

from __future__ import annotations

from guerdon.contracts import Comparison, GuerdonError, Response
from guerdon.data.importers.columns import ASSISTANT, HUMAN, Row, required, transcript_turns
from guerdon.data.importers.pairs import shared_start, to_pair
from guerdon.errors import field_error
from guerdon.io.fields import as_text


def from_hh(row: Row) -> Comparison:
    """{chosen, rejected}: two transcripts of turns that begin with "\\n\\nHuman:" or "\\n\\nAssistant:".

    The prompt ends at the last "\\n\\nAssistant:" that both share; what follows is the response. A further assistant
    mark in a response is its text (models wrote such marks); a further human mark means that the transcripts diverged.
    """
    chosen, rejected = (_transcript(row, key) for key in ("chosen", "rejected"))
    if chosen == rejected:
        raise GuerdonError("chosen and rejected must differ, got identical transcripts. Drop the row.")
    end = shared_start(chosen, rejected).rfind(ASSISTANT)
    if end < 0:
        raise GuerdonError(
            "chosen and rejected must answer one prompt, got diverging transcripts: their first human turns differ. "
            "Drop the row."
        )
    better, worse = (text[end + len(ASSISTANT) :] for text in (chosen, rejected))
    for key, response in (("chosen", better), ("rejected", worse)):
        if HUMAN in response:
            raise GuerdonError(
                "chosen and rejected must answer one prompt, got diverging transcripts: "
                f"{key} has a human turn after character {end}, where the two differ. Drop the row."
            )
    return to_pair(row, transcript_turns(chosen[:end]), Response(better.strip()), Response(worse.strip()))


def is_hh(row: Row) -> bool:
    """Whether chosen and rejected are transcripts, and no other column holds the prompt."""
    return row.get("prompt") is None and is_transcript(row.get("chosen")) and is_transcript(row.get("rejected"))


def is_transcript(value: object) -> bool:
    """Whether a text has a human turn first and an assistant turn."""
    return isinstance(value, str) and value.lstrip("\n").startswith("Human:") and ASSISTANT in value


def _transcript(row: Row, key: str) -> str:
    text = as_text(required(row, key), key)
    text = f"\n\n{text}" if text.startswith(HUMAN.strip()) else text
    if not text.startswith(HUMAN):
        raise field_error(
            key, 'a transcript that starts with "\\n\\nHuman:"', text, "Drop the row, or give another format."
        )
    if ASSISTANT not in text:
        raise field_error(key, 'a transcript with an "\\n\\nAssistant:" turn', text)
    return text
