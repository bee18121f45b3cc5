"""Errors put into an answer, which a good reward model must see: a wrong number, a wrong name, a negation, wrong code.

Most keep the length of the answer, so that a model that counts characters gains nothing by them.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from guerdon.auditing.probes import prose
from guerdon.auditing.probes.code_edits import break_code
from guerdon.auditing.probes.edit import Draft, Operator, is_name
from guerdon.auditing.probes.insertion import append, replace, swap_word
from guerdon.auditing.probes.lexicon import IDIOMS, NAMES, NUMBERS, OPPOSITES, REASONS, UNITS
from guerdon.auditing.probes.negation import negate
from guerdon.auditing.probes.prose import free_matches, full_sentences, match_case, sentences, word_pattern

NEAREST = 8  # candidates of about the right length among which the seed chooses
NUMBER_WORD = word_pattern(NUMBERS)


def _number(draft: Draft) -> Iterator[str]:
    """Another digit in the last numeral, or another number word; the last first, because results come at the end."""
    for match in reversed(prose.numerals(draft.text)):
        digits = [i for i, letter in enumerate(match[0]) if letter.isdigit()]
        place = draft.random.choice(digits[: 2 if len(digits) > 2 else 1])
        old = int(match[0][place])
        lowest = 1 if place == 0 else 0
        new = draft.random.choice([d for d in range(lowest, 10) if d != old])
        yield replace(draft.text, match.span(), match[0][:place] + str(new) + match[0][place + 1 :])
    for match in reversed(free_matches(NUMBER_WORD, draft.text)):
        yield replace(draft.text, match.span(), match_case(NUMBERS[match[0].lower()], match[0]))


UNIT = re.compile(
    rf"(?:\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|twenty|thirty))[ -]?({word_pattern(UNITS).pattern})",
    re.IGNORECASE,
)


def _unit(draft: Draft) -> Iterator[str]:
    for match in draft.shuffled(free_matches(UNIT, draft.text)):
        yield replace(draft.text, match.span(1), match_case(UNITS[match[1].lower()], match[1]))


def _negation(draft: Draft) -> Iterator[str]:
    inside = prose.protected(draft.text)
    for start, stop in draft.shuffled(sentences(draft.text)):
        if prose.is_free(inside, start, stop):
            for flipped in negate(draft.text[start:stop]):
                yield draft.text[:start] + flipped + draft.text[stop:]


def _contradiction(draft: Draft) -> Iterator[str]:
    inside = prose.protected(draft.text)
    for start, stop in draft.shuffled(full_sentences(draft.text)):
        flipped = next(negate(draft.text[start:stop]), None) if prose.is_free(inside, start, stop) else None
        if flipped:
            yield from append(draft.text, flipped)


def _entity(draft: Draft) -> Iterator[str]:
    """A name, everywhere, replaced by another of its kind and about its length that neither text nor prompt contains."""
    kinds = {draft.text[start:stop]: kind for start, stop, kind in prose.names(draft.text)}
    mixed = draft.shuffled([row for row in kinds.items() if is_name(*row, draft.corpus.words)])
    for name, kind in sorted(mixed, key=lambda row: row[1] not in NAMES):  # names of a known kind first
        known = {*draft.corpus.names.get(kind, ()), *NAMES.get(kind, "").split()}
        others = [o for o in sorted(known) if o not in draft.text and o not in draft.prompt and o not in name]
        others.sort(key=lambda other: (abs(len(other) - len(name)), other))
        for other in draft.shuffled(others[:NEAREST]):
            text = draft.text
            for match in reversed(free_matches(re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])"), text)):
                text = replace(text, match.span(), other)
            yield text


OPPOSITE = word_pattern(OPPOSITES)


def _opposite(draft: Draft) -> Iterator[str]:
    spans = [(a, b) for a, b in sentences(draft.text) if not draft.text[a:b].endswith("?")]
    idioms = [m.span() for m in IDIOMS.finditer(draft.text)]
    places = [
        m
        for m in free_matches(OPPOSITE, draft.text)
        if prose.is_free(idioms, *m.span()) and any(a <= m.start() < b for a, b in spans)
    ]
    for match in draft.shuffled(places):
        yield replace(draft.text, match.span(), match_case(OPPOSITES[match[0].lower()], match[0]))


REASON = word_pattern(REASONS)


def _reason(draft: Draft) -> Iterator[str]:
    yield from swap_word(draft, REASONS, REASON)


def _sentence_dropped(draft: Draft) -> Iterator[str]:
    """One sentence or step left out, never the first; a list item goes with its whole line."""
    spans = sentences(draft.text)
    if len(spans) < 3:
        return
    for start, stop in draft.shuffled(spans[1:]):
        line_start, line_stop = draft.text.rfind("\n", 0, start) + 1, draft.text.find("\n", stop)
        line_stop = len(draft.text) if line_stop < 0 else line_stop
        is_alone = not any(line_start <= a < line_stop for a, b in spans if (a, b) != (start, stop))
        if is_alone:
            yield (draft.text[:line_start].rstrip("\n") + "\n" + draft.text[line_stop:].lstrip("\n")).strip("\n")
        else:
            yield (
                draft.text[:start].rstrip(" ") + draft.text[stop:]
                if stop == line_stop
                else draft.text[:start] + draft.text[stop:].lstrip(" ")
            )


def _sentence_foreign(draft: Draft) -> Iterator[str]:
    for start, stop in draft.shuffled(full_sentences(draft.text)):
        for other in _near(draft, draft.corpus.sentences, stop - start):
            yield draft.text[:start] + other + draft.text[stop:]


def _answer_foreign(draft: Draft) -> Iterator[str]:
    yield from _near(draft, draft.corpus.answers, len(draft.text))


def _near(draft: Draft, bank: Sequence[tuple[int, str, str]], length: int) -> Iterator[str]:
    """Texts of other groups with about this length, in the seed's order; only the NEAREST on either side are candidates."""
    place = bisect_left(bank, (length,))
    candidates = [row for row in bank[max(0, place - NEAREST) : place + NEAREST] if row[1] != draft.group]
    candidates.sort(key=lambda row: (abs(row[0] - length), row))
    for _, _, text in draft.shuffled(candidates[:NEAREST]):
        yield text


def _words_shuffled(draft: Draft) -> Iterator[str]:
    """The words of each sentence in another order; the mark at its end stays in place."""
    text, inside = draft.text, prose.protected(draft.text)
    for start, stop in reversed(sentences(text)):
        body = text[start:stop].rstrip(".!?…\"'”’)*_。！？")
        words = body.split()
        if len(words) >= 4 and prose.is_free(inside, start, stop):
            draft.random.shuffle(words)
            text = text[:start] + " ".join(words) + text[start + len(body) : stop] + text[stop:]
    yield text


SUBSTANCE_EDITS = (
    Operator("number", "a wrong number", _number, "substance", lowers=True, keeps_length=True),
    Operator("unit", "a wrong unit", _unit, "substance", lowers=True, keeps_length=True),
    Operator("negation", "a flipped negation", _negation, "substance", lowers=True, keeps_length=True),
    Operator("opposite", "a word replaced by its opposite", _opposite, "substance", lowers=True, keeps_length=True),
    Operator("entity", "a wrong name", _entity, "substance", lowers=True, keeps_length=True),
    Operator("reason", "a reason turned into its opposite", _reason, "substance", lowers=True, keeps_length=True),
    Operator("code", "a wrong operator in code", break_code, "substance", lowers=True, keeps_length=True),
    Operator("words_shuffled", "shuffled words", _words_shuffled, "wreck", lowers=True, keeps_length=True),
    Operator(
        "sentence_foreign", "a sentence from another prompt's answer", _sentence_foreign, "substance", lowers=True, keeps_length=True
    ),
    Operator("answer_foreign", "the answer to another prompt", _answer_foreign, "wreck", lowers=True, keeps_length=True),
    Operator("sentence_dropped", "a missing sentence or step", _sentence_dropped, "wreck", lowers=True),
    Operator("contradiction", "a sentence that contradicts the answer", _contradiction, "wreck", lowers=True),
)  # fmt: skip
