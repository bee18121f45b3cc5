"""Whether a revision can be used: what it must not be, as pure functions of two texts."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from difflib import SequenceMatcher
from typing import Final, Literal

from guerdon.config.feedback import ConstitutionOptions
from guerdon.models.judges.readers import REFUSAL

StepState = Literal["revised", "no_change", "meta_talk", "refusal", "too_short", "too_long", "other_language", "failed"]

MEANINGS: Final[dict[StepState, str]] = {
    "revised": "revised",
    "no_change": "no change was needed, or none was made",
    "meta_talk": "it talks about the revision",
    "refusal": "it does nothing but refuse",
    "too_short": "it is much shorter than the text before",
    "too_long": "it is much longer than the text before",
    "other_language": "it is in another script",
    "failed": "a call failed",
}

NO_CHANGE: Final = re.compile(r"^\W*no changes? (is |are )?(needed|necessary|required)\W*$", re.IGNORECASE)
_INTRODUCTION: Final = re.compile(
    r"^\W*(sure|certainly|of course|okay)?[,.!]?\s*"
    r"(here('|’)?s|here is|below is|this is)\s+(the|a|my|an)\s+(\w+\s+){0,3}(revis|rewrit|rewritten|updated|improved|new)\w*"
    r"[^\n]{0,80}?[:.]\s*\n*",
    re.IGNORECASE,
)
_LABEL: Final = re.compile(r"^\W*(revised response|revision|revised answer|rewritten response)\s*:\s*", re.IGNORECASE)
_META: Final = re.compile(
    r"\b(revised|rewritten|original|previous) (response|answer|version|text)\b|\bI('| ha)ve (revised|rewritten|removed)\b",
    re.IGNORECASE,
)
_BARE_REFUSAL_CHARACTERS: Final = 240
_COMPARED_CHARACTERS: Final = 4_000  # SequenceMatcher is quadratic


def strip_introduction(text: str) -> str:
    """The revision without the line that announces it, and without quotes around all of it."""
    stripped = _LABEL.sub("", _INTRODUCTION.sub("", text.strip(), count=1), count=1).strip()
    if len(stripped) > 1 and stripped[0] == stripped[-1] == '"' and stripped.count('"') == 2:
        stripped = stripped[1:-1].strip()
    return stripped


def check_revision(before: str, after: str, options: ConstitutionOptions) -> StepState:
    """The first reason why a revision cannot be used; "revised" for one that can."""
    if not after or similarity(before, after) >= options.same_text:
        return "no_change"
    if _META.search(after) and not _META.search(before):
        return "meta_talk"
    if is_bare_refusal(after) and not options.allow_refusals and not is_bare_refusal(before):
        return "refusal"
    if len(after) < options.min_length_ratio * len(before):
        return "too_short"
    if len(after) > options.max_length_ratio * max(len(before), 1):
        return "too_long"
    if main_script(before) and main_script(after) and main_script(before) != main_script(after):
        return "other_language"
    return "revised"


def similarity(before: str, after: str) -> float:
    """How alike two texts are, from 0 to 1, without regard to white space; long ones by their words."""
    one, other = before.split(), after.split()
    if one == other:
        return 1.0
    if max(len(before), len(after)) > _COMPARED_CHARACTERS:
        return SequenceMatcher(None, one, other, autojunk=False).ratio()
    return SequenceMatcher(None, " ".join(one), " ".join(other), autojunk=False).ratio()


def is_bare_refusal(text: str) -> bool:
    """Whether a text refuses and offers little else."""
    return bool(REFUSAL.match(text)) and len(text) < _BARE_REFUSAL_CHARACTERS


def main_script(text: str) -> str:
    """The script of most letters, such as LATIN or CYRILLIC; "" for a text with few letters."""
    letters = [c for c in text[:2_000] if c.isalpha()]
    if len(letters) < 20:
        return ""
    scripts = Counter(unicodedata.name(c, "?").partition(" ")[0] for c in letters)
    return scripts.most_common(1)[0][0]
