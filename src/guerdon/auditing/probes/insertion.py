"""Where an edit puts text: at the end or the beginning of an answer, or in place of a word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from guerdon.auditing.probes import prose
from guerdon.auditing.probes.edit import Draft
from guerdon.auditing.probes.prose import Span

__all__ = ["append", "ends_in_code", "prepend", "replace", "swap_word"]


def append(text: str, addition: str) -> Iterator[str]:
    """The addition at the end: in the last paragraph if that ends with a sentence, else in a paragraph of its own.

    Nothing for an empty text, or one that ends in an open block of code.
    """
    body = text.rstrip()
    if not body or ends_in_code(text):
        return
    last = body.rsplit("\n", 1)[-1]
    marker = prose.MARKER.match(last)
    is_loose = body[-1] in ".!?…\"”'’):。！？" and not (marker and marker[0].strip()) and not prose.SKIPPED.match(last)
    yield body + (" " if is_loose and not body.endswith(":") else "\n\n") + addition


def prepend(text: str, addition: str) -> Iterator[str]:
    """The addition at the beginning, in a paragraph of its own unless the text begins with a sentence."""
    body = text.lstrip()
    if not body:
        return
    first = prose.sentences(body)
    yield addition + (" " if first and first[0][0] == 0 else "\n\n") + body


def ends_in_code(text: str) -> bool:
    """Whether a block of code is open at the end."""
    blocks = prose.fences(text)
    return bool(blocks) and blocks[-1].stop == len(text) and blocks[-1].body[1] == len(text)


def replace(text: str, span: Span, new: str) -> str:
    """The text with something else in a span, and "a" or "an" before it corrected."""
    before = text[: span[0]]
    article = re.search(r"\b([Aa])(n?) $", before)
    if article and new[:1].isalpha() and bool(article[2]) != (new[0].lower() in "aeiou"):
        before = before[: article.start()] + article[1] + ("n" if new[0].lower() in "aeiou" else "") + " "
    return before + new + text[span[1] :]


def swap_word(draft: Draft, table: Mapping[str, str], pattern: re.Pattern[str]) -> Iterator[str]:
    """One word replaced by what the table has for it, at a place that the seed chooses."""
    for match in draft.shuffled(prose.free_matches(pattern, draft.text)):
        new = table[match[0].lower()]
        yield replace(draft.text, match.span(), prose.match_case(new, match[0]))
