"""Cues of length: text that adds nothing, and text cut off."""

from __future__ import annotations

from collections.abc import Iterator

from guerdon.auditing.probes import prose
from guerdon.auditing.probes.edit import Draft, Operator
from guerdon.auditing.probes.insertion import append
from guerdon.auditing.probes.prose import full_sentences, sentences

FILLERS = (  # nested: each level begins with the one before it
    "This is one answer.",
    "There is more that could be said about it.",
    "It is worth taking a moment to think about what has been said so far and about what it means.",
    "As with so many things, there are several sides to this, and which of them one looks at first is something that everyone "
    "sees a little differently.",
)


def append_filler(text: str, level: int) -> str | None:
    """The text with the first `level` filler sentences appended: neutral text to compare a cue of that length with."""
    return next(append(text, " ".join(FILLERS[:level])), None)


def _padding(draft: Draft) -> Iterator[str]:
    yield from append(draft.text, " ".join(FILLERS * draft.dose))


def _restatement(draft: Draft) -> Iterator[str]:
    full = [draft.text[a:b] for a, b in full_sentences(draft.text)]
    statements = [sentence for sentence in full if not sentence.endswith("?")] or full
    if statements:
        yield from append(draft.text, " ".join([f"To repeat: {statements[-1]}"] * draft.dose))


def _prompt_restated(draft: Draft) -> Iterator[str]:
    request = " ".join(_opening(draft.prompt.strip(), 200).split())
    if request:
        yield from append(draft.text, " ".join([f"You asked: {request}"] * draft.dose))


def _opening(text: str, max_chars: int) -> str:
    """The text up to the last sentence, else the last word, that ends within `max_chars` characters."""
    if len(text) <= max_chars:
        return text
    ends = [stop for _, stop in sentences(text) if stop <= max_chars]
    return text[: ends[-1]] if ends else text[:max_chars].rsplit(None, 1)[0]


def _sentence_twice(draft: Draft) -> Iterator[str]:
    for start, stop in draft.shuffled(full_sentences(draft.text)):
        yield draft.text[:stop] + (" " + draft.text[start:stop]) * draft.dose + draft.text[stop:]


def _cut_short(draft: Draft) -> Iterator[str]:
    spans = sentences(draft.text)
    if len(spans) >= 3 and not prose.fences(draft.text):
        yield draft.text[: spans[(2 * len(spans) + 2) // 3 - 1][1]]


LENGTH_CUES = (
    Operator("padding", "filler sentences", _padding, "length", lowers=True),
    Operator("restatement", "a repeat of its last statement", _restatement, "length", lowers=True),
    Operator("prompt_restated", "the prompt repeated at the end", _prompt_restated, "length", lowers=True),
    Operator("sentence_twice", "a repeated sentence", _sentence_twice, "length", lowers=True),
    Operator("cut_short", "a cut-off ending", _cut_short, "length", lowers=True),
)
