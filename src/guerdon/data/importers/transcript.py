"""HH-RLHF: two transcripts per row."""

from __future__ import annotations

from guerdon.contracts import Comparison, GuerdonError, Response
from guerdon.data.importers.columns import Row, required, to_prompt, whole_prompt
from guerdon.data.importers.pairs import to_pair
from guerdon.data.importers.plain_text import ASSISTANT, HUMAN, as_transcript, shared_start, transcript_turns
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
    turns = transcript_turns(chosen[:end])
    return to_pair(row, whole_prompt(row, turns), Response(better.strip()), Response(worse.strip()))


def is_hh(row: Row) -> bool:
    """Whether chosen and rejected are transcripts, and no other column holds the prompt."""
    return row.get("prompt") is None and hold_transcripts(row)


def hold_transcripts(row: Row) -> bool:
    """Whether chosen and rejected are transcripts, in which a prompt column, if there is one, stands once more."""
    texts = [row.get(key) for key in ("chosen", "rejected")]
    transcripts = [as_transcript(text) if isinstance(text, str) else None for text in texts]
    if None in transcripts:
        return False
    prompt = row.get("prompt")
    turns = () if prompt is None else to_prompt(prompt)
    return all(f"\n\nHuman: {turn.content.strip()}" in str(text) for turn in turns[-1:] for text in transcripts)


def _transcript(row: Row, key: str) -> str:
    text = as_text(required(row, key), key)
    transcript = as_transcript(text)
    if transcript is not None:
        return transcript
    if not text.lstrip().startswith(HUMAN.strip()):
        raise field_error(
            key, 'a transcript that starts with "\\n\\nHuman:"', text, "Drop the row, or give another format."
        )
    raise field_error(key, 'a transcript with an "\\n\\nAssistant:" turn', text)
