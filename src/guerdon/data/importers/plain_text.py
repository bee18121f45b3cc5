"""Plain texts that hold more than one turn: transcripts with marks, and two texts with a shared beginning."""

from __future__ import annotations

import re

from guerdon.contracts import GuerdonError, Message, Prompt

__all__ = [
    "ASSISTANT",
    "HUMAN",
    "as_transcript",
    "has_several_words",
    "shared_prompt",
    "shared_start",
    "transcript_prompt",
    "transcript_turns",
]

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
# Scripts that write no spaces between words, with their punctuation: a text may be cut behind each of their characters.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_WORD_AT_END = re.compile(rf"[^\s{_UNSPACED}]*\Z")
_WORD = re.compile(rf"[{_UNSPACED}]{{4}}|[^\s{_UNSPACED}]+")  # four such characters count as a word
_TEMPLATE_MARKS = re.compile(
    r"\[/?INST\]|<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|<\|(?:user|assistant)\|>"
)


# ---- Transcripts ---------------------------------------------------------------------------------------------------


def as_transcript(text: str) -> str | None:
    """The transcript with a blank line before each mark and none after its last turn; None where the text is none.

    A transcript starts with "Human:" and has an "Assistant:" mark behind a blank line. Marks with carriage returns, with
    one newline, or in lower case are read too, if none is written as Anthropic's.
    """
    start = text.lstrip()
    if start.startswith("Human:") and ASSISTANT in start:
        return _without_open_turn(f"\n\n{start}")
    start = start.replace("\r\n", "\n")
    marked = re.sub(r"(?:\A|\n\s*)(human|assistant):", lambda m: f"\n\n{m[1].title()}:", start, flags=re.IGNORECASE)
    return _without_open_turn(marked) if marked.startswith(HUMAN) and ASSISTANT in marked else None


def _without_open_turn(transcript: str) -> str:
    """Without a mark of the user's at the end, at which a model was stopped."""
    return re.sub(r"\n\nHuman:\s*\Z", "", transcript)


def transcript_turns(transcript: str) -> Prompt:
    """The messages of a transcript that starts with a "\\n\\nHuman:" or "\\n\\nAssistant:" mark."""
    _, *parts = re.split(r"\n\n(Human|Assistant):", transcript)
    roles = ("user" if mark == "Human" else "assistant" for mark in parts[::2])
    return Prompt(Message(role, content.strip()) for role, content in zip(roles, parts[1::2], strict=True))


def transcript_prompt(text: str) -> Prompt | None:
    """The turns of a prompt that is a transcript; None where it is not one.

    It ends with an assistant's mark, or it has the marks of HH-RLHF, where the assistant's turn may have begun.
    """
    transcript = as_transcript(text) or (text if text.startswith(HUMAN) else None)
    if transcript is None:
        return None
    if transcript.rstrip().endswith(ASSISTANT):
        return transcript_turns(transcript.rstrip().removesuffix(ASSISTANT))
    return transcript_turns(transcript) if text.startswith(HUMAN) else None


# ---- A shared beginning ----------------------------------------------------------------------------------------------


def shared_start(a: str, b: str) -> str:
    """The text with which both begin."""
    differences = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return a[: next(differences, min(len(a), len(b)))]


def has_several_words(text: str) -> bool:
    """Whether a text is more than a word."""
    words = _WORD.finditer(text)
    return next(words, None) is not None and next(words, None) is not None


def shared_prompt(chosen: str, rejected: str) -> str:
    """The prompt of two texts that hold it and nothing that separates it: their shared beginning, up to a whole word.

    An error where it is no more than a word, where one text goes on from the other, and where they hold a chat template's
    marks: what the prompt is would be a guess.
    """
    shared = shared_start(chosen, rejected)
    if mark := _TEMPLATE_MARKS.search(shared):
        raise GuerdonError(
            f"prompt is missing, and chosen and rejected are texts with a chat template's marks, such as {mark[0]}. "
            "Give the turns as messages."
        )
    if len(shared) == min(len(chosen), len(rejected)):
        raise GuerdonError(
            "prompt is missing, and one of chosen and rejected goes on from the other, so where the prompt ends is unknown. "
            "Give a prompt."
        )
    prompt = _WORD_AT_END.sub("", shared).rstrip()  # never cut inside a word
    if not has_several_words(prompt):
        raise GuerdonError(
            "prompt is missing, and chosen and rejected share no beginning of more than a word. Give a prompt."
        )
    return prompt
