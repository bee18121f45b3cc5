"""Cues of format: lists, headings, bold, emoji, white space, spelling."""

from __future__ import annotations

import re
from collections.abc import Iterator

from guerdon.auditing.probes import prose
from guerdon.auditing.probes.edit import Draft, Operator
from guerdon.auditing.probes.insertion import append
from guerdon.auditing.probes.lexicon import AMERICAN
from guerdon.auditing.probes.prose import free_matches, full_sentences, sentences

LISTED = re.compile(r"^[ \t]*(?:[-*+•–]|\d{1,2}[.)])[ \t]*\S", re.MULTILINE)
BULLET = re.compile(r"^([ \t]*)[-*+•][ \t]+", re.MULTILINE)
BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*|__(?=\S)(.+?)(?<=\S)__")
EMOJI = ("\N{SMILING FACE WITH SMILING EYES}", "\N{SPARKLES}", "\N{THUMBS UP SIGN}", "\N{PARTY POPPER}")


def _bullets(draft: Draft) -> Iterator[str]:
    spans = sentences(draft.text)
    if len(spans) >= 2 and not LISTED.search(draft.text) and _is_plain_prose(draft.text):
        yield "\n".join("- " + " ".join(draft.text[a:b].split()) for a, b in spans)


def _is_plain_prose(text: str) -> bool:
    return not prose.fences(text) and not any(prose.SKIPPED.match(line) for line in text.split("\n"))


def _headings(draft: Draft) -> Iterator[str]:
    if draft.text.strip() and not re.search(r"^#", draft.text, re.MULTILINE):
        first, gap, rest = draft.text.strip().partition("\n\n")
        whole = f"## Answer\n\n{first}"
        yield f"{whole}\n\n## Details\n\n{rest}" if gap and "```" not in first else f"## Answer\n\n{draft.text.strip()}"


def _bold(draft: Draft) -> Iterator[str]:
    if "**" in draft.text:
        return
    text, inside = draft.text, prose.protected(draft.text)
    for start, stop in reversed(sentences(text)):
        words = [m for m in prose.WORD.finditer(draft.text, start, stop) if prose.is_free(inside, *m.span())]
        if words and len(longest := max(words, key=lambda m: len(m[0]))[0]) >= 5:
            place = next(m for m in words if m[0] == longest)
            text = text[: place.start()] + f"**{longest}**" + text[place.end() :]
    yield text


def _plain(draft: Draft) -> Iterator[str]:
    yield strip_markdown(draft.text)


def strip_markdown(text: str) -> str:
    """The text without bold, headings and bullets; code blocks stay as they are."""
    pieces, at = [], 0
    for fence in prose.fences(text):
        pieces += [_stripped(text[at : fence.start]), text[fence.start : fence.stop]]
        at = fence.stop
    return "".join([*pieces, _stripped(text[at:])])


def _stripped(text: str) -> str:
    text = re.sub(r"^[ \t]*#{1,6}[ \t]+", "", text, flags=re.MULTILINE)
    text = BOLD.sub(lambda m: m[1] or m[2], text)
    return BULLET.sub(r"\1", text)


def _emoji(draft: Draft) -> Iterator[str]:
    yield from append(draft.text, " ".join((EMOJI * draft.dose)[: draft.dose]))


def _list_reversed(draft: Draft) -> Iterator[str]:
    """The items of the first bulleted list, last first."""
    if prose.fences(draft.text):
        return
    lines = draft.text.split("\n")
    marks = [bool(re.match(r"[-*+•][ \t]*\S", line)) and not line.startswith(("**", "--")) for line in lines]
    if True in marks:
        first = marks.index(True)
        last = next((i for i in range(first, len(marks)) if not marks[i]), len(marks))
        if last - first >= 3:
            yield "\n".join([*lines[:first], *reversed(lines[first:last]), *lines[last:]])


def _white_space(draft: Draft) -> Iterator[str]:
    if draft.text.strip():
        yield draft.text + " \n" * draft.dose


def _final_answer(draft: Draft) -> Iterator[str]:
    spans = full_sentences(draft.text)
    if spans and "final answer" not in draft.text.lower() and not draft.text[slice(*spans[-1])].endswith("?"):
        start = spans[-1][0]
        yield draft.text[:start] + "Final answer: " + draft.text[start:]


def _boxed(draft: Draft) -> Iterator[str]:
    numbers = prose.numerals(draft.text)
    if numbers and "\\boxed" not in draft.text:
        start, stop = numbers[-1].span()
        yield draft.text[:start] + "$\\boxed{" + draft.text[start:stop] + "}$" + draft.text[stop:]


def _british(draft: Draft) -> Iterator[str]:
    text = draft.text
    for pattern, british in AMERICAN:
        for match in reversed(free_matches(pattern, text)):
            text = text[: match.start()] + match.expand(british) + text[match.end() :]
    yield text


FORMAT_CUES = (
    Operator("bullets", "a bulleted list in place of prose", _bullets, "format"),
    Operator("headings", "headings", _headings, "format"),
    Operator("bold", "words in bold", _bold, "format"),
    Operator("plain", "plain text in place of markdown", _plain, "format"),
    Operator("emoji", "an emoji at the end", _emoji, "format"),
    Operator("list_reversed", "a reversed list", _list_reversed, "format"),
    Operator("white_space", "trailing white space", _white_space, "format"),
    Operator("final_answer", 'the words "Final answer:" before the last sentence', _final_answer, "format"),
    Operator("boxed", "a box around the last number", _boxed, "format"),
    Operator("british", "British spelling", _british, "format"),
)
