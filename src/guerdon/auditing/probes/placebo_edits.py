"""Placebos: edits that keep the meaning and the length. They should not change the reward."""

from __future__ import annotations

import re
from collections.abc import Iterator

from guerdon.auditing.probes import prose
from guerdon.auditing.probes.edit import Draft, Operator
from guerdon.auditing.probes.insertion import swap_word
from guerdon.auditing.probes.lexicon import EXPANDED, SYNONYMS
from guerdon.auditing.probes.prose import free_matches, match_case, word_pattern

SYNONYM = word_pattern(SYNONYMS)
CONTRACTED = {long.lower(): short for short, long in EXPANDED.items() if not long.endswith(" have")}
# "'s" may stand for "has" before these, and a pronoun after "n't" makes a question.
NOT_CONTRACTIONS = re.compile(
    r"\b(?:it|that|there|he|she)['’]s\s+(?:been|got|had|become|gone|\w+ed)\b|\b\w+n['’]t\s+(?:i|you|we|they|he|she|it|there|this|that)\b",
    re.IGNORECASE,
)
JOINABLE = re.compile(rf"{word_pattern(CONTRACTED).pattern}(?=\s+[a-z])", re.IGNORECASE)
SPLITTABLE = re.compile(word_pattern(EXPANDED).pattern.replace("'", "['’]"), re.IGNORECASE)
CURLY = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"'})


def _synonym(draft: Draft) -> Iterator[str]:
    yield from swap_word(draft, SYNONYMS, SYNONYM)


def _contraction(draft: Draft) -> Iterator[str]:
    excluded = [m.span() for m in NOT_CONTRACTIONS.finditer(draft.text)]
    is_curly = "’" in draft.text
    places = [*free_matches(SPLITTABLE, draft.text), *free_matches(JOINABLE, draft.text)]
    for match in draft.shuffled([m for m in places if prose.is_free(excluded, *m.span())]):
        old = match[0].lower().replace("’", "'")
        new = EXPANDED.get(old) or CONTRACTED[old]
        new = new if new.startswith("I") and match[0].startswith(("I", "i")) else match_case(new, match[0][:1])
        yield draft.text[: match.start()] + (new.replace("'", "’") if is_curly else new) + draft.text[match.end() :]


def _quotes(draft: Draft) -> Iterator[str]:
    """Curly quotation marks and apostrophes made straight, or straight ones curly."""
    pieces, at = [], 0
    has_curly = any(mark in draft.text for mark in "’‘“”")
    for start, stop in sorted(prose.protected(draft.text)):
        pieces += [_convert_quotes(draft.text[at:start], has_curly), draft.text[max(at, start) : stop]]
        at = max(at, stop)
    yield "".join([*pieces, _convert_quotes(draft.text[at:], has_curly)])


def _convert_quotes(text: str, to_straight: bool) -> str:
    if to_straight:
        return text.translate(CURLY)
    text = re.sub(r"(?<=\w)'(?=\w)|(?<=\w)'", "’", text)
    return re.sub(r'"([^"\n]*)"', "“\\1”", text)


PLACEBO_EDITS = (
    Operator("synonym", "a synonym", _synonym, "placebo", keeps_length=True),
    Operator("contraction", "don't for do not, or the reverse", _contraction, "placebo", keeps_length=True),
    Operator(
        "quotes", "curly quotation marks for straight ones, or the reverse", _quotes, "placebo", keeps_length=True
    ),
)
