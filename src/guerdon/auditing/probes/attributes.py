"""Attributes that an edit can both give to an answer and take away: what RATE rewrites when no language model does."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guerdon.auditing.probes import prose
from guerdon.auditing.probes.operators import CUES

if TYPE_CHECKING:
    from guerdon.contracts import Prompt

__all__ = ["ATTRIBUTES", "Attribute"]


@dataclass(frozen=True, slots=True)
class Attribute:
    """A property that an answer has or does not have, with the edits that give it and take it away."""

    name: str
    label: str
    has: Callable[[str], bool]
    give: Callable[[str], str]
    take: Callable[[str], str]

    def rewrite(self, prompt: Prompt, text: str, attribute: str, value: bool) -> str:
        """The text with or without the attribute; unchanged if it already has that value."""
        if self.has(text) == value:
            return text
        return self.give(text) if value else self.take(text)


PICTURE = re.compile(r"\s*[\U0001F300-\U0001FAFF\u2600-\u27BF\uFE0F\u200D]+")
BOLD = re.compile(r"\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*")
BULLET = re.compile(r"^[ \t]*[-*+•][ \t]+", re.MULTILINE)
CLOSING = re.compile(
    r"\s*(?:I hope (?:this|that) helps|Please let me know|Let me know if|Feel free to ask|Have a (?:great|nice) day)[^.!?\n]*[.!?]*",
    re.IGNORECASE,
)
OPENING = re.compile(
    r"^\s*(?:What a|That['’]s a|That is a)?\s*(?:wonderful|great|good|excellent) question[.!]*\s*", re.IGNORECASE
)


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: bool(prose.free_matches(pattern, text))


def _apply(cue: str) -> Callable[[str], str]:
    return lambda text: CUES[cue](text) or text


def _replace_in_prose(pattern: re.Pattern[str], new: str) -> Callable[[str], str]:
    """Replaces a pattern outside code."""

    def edit(text: str) -> str:
        for match in reversed(prose.free_matches(pattern, text)):
            text = text[: match.start()] + match.expand(new) + text[match.end() :]
        return text

    return edit


def _join_bullets(text: str) -> str:
    """Bulleted lines as sentences of one paragraph."""
    return re.sub(r"\n(?=\S)", " ", _replace_in_prose(BULLET, "")(text)) if not prose.fences(text) else text


ATTRIBUTES: Mapping[str, Attribute] = {
    attribute.name: attribute
    for attribute in (
        Attribute("emoji", "emoji", _matches(PICTURE), _apply("emoji"), _replace_in_prose(PICTURE, "")),
        Attribute("bold", "bold words", _matches(BOLD), _apply("bold"), _replace_in_prose(BOLD, r"\1")),
        Attribute("bullets", "a list", _matches(BULLET), _apply("bullets"), _join_bullets),
        Attribute(
            "politeness", "a polite closing", _matches(CLOSING), _apply("politeness"), _replace_in_prose(CLOSING, "")
        ),
        Attribute(
            "flattery", "praise of the question", _matches(OPENING), _apply("flattery"), _replace_in_prose(OPENING, "")
        ),
    )
}
