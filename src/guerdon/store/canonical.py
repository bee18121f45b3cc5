"""The one spelling of a value as JSON text, and the ids that are hashes of it.

The text holds neither NUL nor half a character (a lone surrogate): JSON escapes them, so that each database can hold it as
text and gives the same characters back.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from guerdon.contracts import GuerdonError

_dumped = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode
ID_LENGTH = 32  # hex digits, 128 bits of a SHA-256: no two contents share an id by chance


@dataclass(frozen=True, slots=True)
class Content:
    """A prompt or a response as the store holds it: its canonical text, and the id, which hashes that text."""

    id: str
    text: str


def canonical(value: object) -> str:
    """The value as JSON: keys sorted, no space, every character as itself but for those that a database cannot hold."""
    try:
        text = _dumped(value)
    except ValueError:
        raise GuerdonError("a stored number must be finite, got NaN or an infinity. Correct or drop the row.") from None
    if text.isascii() or _is_utf8(text):
        return text
    whole = json.loads(json.dumps(value))  # two halves of one character, side by side, become the character
    return _dumped(whole).encode("utf-8", "backslashreplace").decode("utf-8")


def content_id(*parts: object) -> str:
    """The id of what these parts describe."""
    return _hash_of(canonical(parts))


def content_of(*parts: object, value: object) -> Content:
    """The value with the id of (*parts, value). A long text is spelled once, which is most of the time of an import."""
    text = canonical(value)
    return Content(_hash_of(f"{canonical(parts)[:-1]},{text}]"), text)


def _hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
