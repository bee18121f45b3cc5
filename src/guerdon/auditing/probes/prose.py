"""Where code, sentences, numbers and names are in a text, as spans (start, stop) in characters.

Made for English; safe on any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from guerdon.auditing.probes.lexicon import NAMES, NO_NAMES

Span = tuple[int, int]

FENCED = re.compile(r"^[ \t]*(`{3,}|~{3,})([^\n`]*)\n(.*?)(?:^[ \t]*\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
INLINE = re.compile(
    r"`[^`\n]+`|https?://\S+|www\.\S+|\$\$.{1,400}?\$\$|\\\(.{1,400}?\\\)|\\\[.{1,400}?\\\]|(?<![\w.+-])[\w.+-]+@[\w-]+\.\w+",
    re.DOTALL,
)
MARKER = re.compile(r"[ \t]*(?:(?:[-*+•–][ \t]*(?=[^\s*\-–])|[(]?\d{1,2}[.)][ \t]*(?=\D)|>[ \t]*)[ \t]*)*")
SKIPPED = re.compile(r"[ \t]*(?:#{1,6}[ \t]|\||[-*_=]{3,}[ \t]*$)")  # headings, tables, rules
END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]*_]*+(?=\s+[\"'“‘(\[*_]*[^\W_a-z]|\s*$)|[。！？]+", re.MULTILINE)
ABBREVIATIONS = set(
    "mr mrs ms dr prof sr jr st vs e.g eg i.e ie etc cf approx no vol fig inc ltd co u.s u.k u.n a.m p.m ph.d".split()
)
WORD = re.compile(r"[^\W\d_][\w’'-]*")
NUMBER = re.compile(r"(?<![\w./:#-])(?<!step )(?<!Step )(?<!\d,)\d+(?:,\d{3})*(?:\.\d+)?(?![\w/:-])(?!,\d|\.\d)")
NAME = re.compile(r"\b[^\W\d_a-z][\w-]*(?:[ ](?:of[ ]|de[ ]|von[ ]|van[ ])?[^\W\d_a-z][\w-]*){0,3}")
PLACED = re.compile(r"\b(?:in|from|near|at|to)\s+(?:the\s+)?$")
CAPITAL = re.compile(r"[A-ZÀ-ÖØ-Þ]")
KIND_OF = {name: kind for kind, names in NAMES.items() for name in names.split()}


class Fence(NamedTuple):
    """A fenced block of code: all of it, and its body."""

    start: int
    stop: int
    body: Span
    language: str


class Name(NamedTuple):
    """A name in a sentence. kind: a key of NAMES, "letters" (NASA), or "person of 2", "place of 1", "name of 3" (words)."""

    start: int
    stop: int
    kind: str


@lru_cache(maxsize=256)  # one answer is edited in dozens of ways in a row
def fences(text: str) -> tuple[Fence, ...]:
    """Fenced blocks of code, in order; one that is never closed extends to the end."""
    return tuple(Fence(m.start(), m.end(), m.span(3), m[2].strip().lower()) for m in FENCED.finditer(text))


@lru_cache(maxsize=256)
def protected(text: str) -> tuple[Span, ...]:
    """Spans that an edit of prose leaves alone: code, addresses, displayed formulas."""
    return (*((f.start, f.stop) for f in fences(text)), *(m.span() for m in INLINE.finditer(text)))


def is_free(spans: Sequence[Span], start: int, stop: int) -> bool:
    """Whether start..stop overlaps none of the spans."""
    return all(stop <= a or b <= start for a, b in spans)


def free_matches(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """Matches of a pattern outside code, addresses and formulas, in order."""
    spans = protected(text)
    return [m for m in pattern.finditer(text) if is_free(spans, *m.span())]


@lru_cache(maxsize=256)
def sentences(text: str) -> tuple[Span, ...]:
    """Sentences and list items, without their list markers. Headings, tables and code are not sentences."""
    blocks = [(f.start, f.stop) for f in fences(text)]
    inside = protected(text)
    spans = []
    for line in re.finditer(r"[^\n]+", text):
        if not is_free(blocks, *line.span()) or SKIPPED.match(line[0]):
            continue
        marker = MARKER.match(line[0])
        start = line.start() + (marker.end() if marker else 0)
        for end in END.finditer(text, start, line.end()):
            if is_free(inside, *end.span()) and not _is_abbreviation(text[start : end.start()], end[0]):
                spans.append(_trim(text, start, end.end()))
                start = end.end()
        spans.append(_trim(text, start, line.end()))
    return tuple((start, stop) for start, stop in spans if start < stop)


def is_full_sentence(sentence: str) -> bool:
    """Whether this is three words or more with a mark at the end, rather than a label or a list item."""
    return len(sentence.split()) >= 3 and sentence.rstrip("\"'”’)]*_ ").endswith((".", "!", "?", "…", "。", "！", "？"))


def full_sentences(text: str) -> list[Span]:
    """The sentences that are full sentences."""
    return [(start, stop) for start, stop in sentences(text) if is_full_sentence(text[start:stop])]


def numerals(text: str) -> list[re.Match[str]]:
    """Numerals in sentences, without list markers."""
    spans = sentences(text)
    return [m for m in free_matches(NUMBER, text) if any(a <= m.start() and m.end() <= b for a, b in spans)]


def word_pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Matches any of these words or phrases as a whole, in any case."""
    return re.compile(
        rf"(?<![\w-])(?:{'|'.join(sorted(map(re.escape, words), key=len, reverse=True))})(?![\w-])", re.IGNORECASE
    )


def names(text: str) -> Iterator[Name]:
    """Capitalized words, other than those capitalized only because they begin a sentence."""
    inside = protected(text)
    for start, stop in sentences(text):
        words = WORD.findall(text[start:stop])
        capitals = sum(bool(CAPITAL.match(word)) for word in words)
        if capitals > max(1, 0.6 * len(words)) and not is_full_sentence(text[start:stop]):
            continue  # a title
        for match in NAME.finditer(text, start, stop):
            yield from _name(text, match, start, inside)


def _name(text: str, match: re.Match[str], sentence: int, inside: Sequence[Span]) -> Iterator[Name]:
    begin, words = match.start(), match[0].split(" ")
    opens = not text[sentence:begin].strip() or text[max(sentence, begin - 2) : begin].strip()[-1:] in set(':"“(*_—-')
    if opens and words[0] not in KIND_OF:
        begin, words = begin + len(words[0]) + 1, words[1:]
    while words and (words[0] in NO_NAMES or words[0][:1].islower()):
        begin, words = begin + len(words[0]) + 1, words[1:]
    name = " ".join(words)
    plural = len(words) == 1 and name.endswith("s") and name not in KIND_OF
    mixed = len(words) > 1 and any(word.isupper() for word in words)
    if len(name) < 2 or plural or mixed or not is_free(inside, begin, begin + len(name)):
        return
    if name in KIND_OF:
        kind = KIND_OF[name]
    else:
        first = "person" if KIND_OF.get(words[0]) == "person" else "place" if PLACED.search(text, 0, begin) else "name"
        kind = "letters" if name.isupper() and len(words) == 1 else f"{first} of {len(words)}"
    yield Name(begin, begin + len(name), kind)


def match_case(new: str, like: str) -> str:
    """The word in the letter case of another."""
    if len(like) > 1 and like.isupper():
        return new.upper()
    return new[:1].upper() + new[1:] if like[:1].isupper() else new


def _is_abbreviation(before: str, mark: str) -> bool:
    """Whether a period belongs to "e.g." or "J." and does not end a sentence."""
    word = before.rsplit(None, 1)[-1].lstrip("(\"'“‘[*_") if before.strip() else ""
    return mark == "." and (word.lower() in ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word not in "Ia"))


def _trim(text: str, start: int, stop: int) -> Span:
    piece = text[start:stop]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
