"""The one error that users see, and its one form: what must be true, what was found, what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

# Characters that steer a terminal or reorder a line: C0 and C1 controls except tab and line feed, line and paragraph
# separators, and those that override or embed a direction. The first 32 become pictures of themselves.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
_STEERING = (*range(0x80, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_PICTURES |= dict.fromkeys(_STEERING, 0xFFFD)


def visible(text: str) -> str:
    """The text, of the same length, without characters that steer a terminal or reorder what is read."""
    return text.translate(_PICTURES)


# Controls but tab and line feed, characters of no width, directions, fillers, tags, and halves of characters. Joiners are
# hidden next to Latin letters only: emoji and the scripts of Persia and India need them.
HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e01ef]|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)


def revealed(text: str) -> str:
    """The text with each character that has no shape, or that reorders a line, written as ⟨U+202E⟩."""
    return HIDDEN.sub(lambda character: f"⟨U+{ord(character[0]):04X}⟩", text.replace("\r\n", "\n"))


class GuerdonError(ValueError):
    """A user's mistake, in one line: what must be true, what was found, and what to do. The command line exits with 2."""

    exit_code = 2


class OutputError(GuerdonError):
    """A `path` that cannot be written, or must not be. The text advises "another path", for which `naming` puts an option."""

    def __init__(self, text: str, path: object = "") -> None:
        super().__init__(text)
        self.path = str(path)

    def naming(self, option: str) -> GuerdonError:
        """The same error for who gave the path as this option, such as --out."""
        before, _, after = str(self).rpartition("another path")
        return GuerdonError(f"{before}another {option}{after}" if before else str(self))


class LabelError(GuerdonError):
    """A label or strength that a file cannot hold: an error of the file, since leaving its rows out would bias the rest."""


def field_error(field: str, claim: str, value: object, advice: str = "Correct or drop the row.") -> GuerdonError:
    """The error `FIELD must be CLAIM, got VALUE. ADVICE`; the claim is a noun phrase, such as "a number > 0"."""
    return GuerdonError(f"{field} must be {claim}, got {show_value(value)}. {advice}")


def claim_and_advice(error: str) -> tuple[str, str]:
    """The two parts of an error: what must be true and was found, and the sentences that say what to do."""
    claim, *advice = re.split(r"\. (?=[A-Z])", error, maxsplit=1)
    return claim, "".join(advice)


def show_value(value: object, width: int = 60) -> str:
    """The value on one line, cut at `width` characters; "nothing" for None."""
    if value is None:
        return "nothing"
    line = repr(value[: width + 1] if isinstance(value, str | bytes) else value)
    return line if len(line) <= width + 2 else f"{line[:width]}…"


def counted(number: int, noun: str) -> str:
    """Such as "1 row" or "2,000 rows"."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def verb(number: int, plural: str) -> str:
    """The verb that goes with so many subjects: "is" or "are", "prefers" or "prefer"."""
    if number != 1:
        return plural
    return {"are": "is", "were": "was", "have": "has", "do": "does"}.get(plural, f"{plural}s")


def short_path(path: object, width: int = 200) -> str:
    """The path, or its beginning and its end if it is longer than `width`."""
    text = str(path)
    return text if len(text) <= width else f"{text[: width // 2]}…{text[-width // 2 :]}"


def cause_of(error: Exception) -> str:
    """Why a JSON text cannot be read, in words for its author; Python speaks of its own recursion."""
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).partition(";")[0]


def did_you_mean(name: object, known: Iterable[str], most: int = 20) -> str:
    """A sentence that names the closest known name, or lists the first `most` of them if none is close."""
    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]}?"
    return f"Choose from {', '.join(names[:most])}{', ...' if len(names) > most else '.'}"
