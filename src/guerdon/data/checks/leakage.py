"""Traces of a chat template, a transcript or a wrong decoding in the texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from guerdon.data.checks.contract import Fault, Row, RowCheck

__all__ = ["Leakage"]

MARKS: Final = Fault(
    "error",
    "Role marks inside responses",
    "have a role mark, such as a Human turn or ### Instruction:, in the text of a response",
    "Check whether responses were split in the wrong place.",
)
TOKENS: Final = Fault(
    "error",
    "Special tokens in texts",
    "have a special token of a chat template, such as <|im_end|>, in a turn or a response",
    "Strip them: the target model's template adds its own.",
)
MOJIBAKE: Final = Fault(
    "error",
    "Wrongly decoded texts",
    "have characters of a wrong decoding, such as â€™ for ’, a replacement character or a byte order mark",
    "Read the source again as UTF-8.",
)
_MARK = re.compile(
    r"\n\n(?:Human|Assistant):|(?:^|\n)### ?(?:Instruction|Response|Human|Assistant|User):|(?:^|\n)(?:USER|ASSISTANT): "
)
_TOKEN = re.compile(
    r"<\|[a-z][a-z0-9_]{1,30}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</s>|<(?:bos|eos|pad|unk|endoftext)>"
    r"|<｜[^｜<>]{1,30}｜>|\[gMASK\]"
)
_MOJIBAKE = re.compile(
    "[\u00c3\u00c2][\u0080-\u00bf]|\u00e2\u20ac[\u0080-\u00bf\u0153\u2013\u2014\u2018-\u2026\u02dc\u2122]|\ufffd|\ufeff"
)


class Leakage(RowCheck):
    """Template leakage: special tokens, role marks, BOM, mojibake."""

    def faults(self, row: Row) -> Iterator[Fault]:
        """Role marks count in responses only: a prompt may quote a transcript or show examples."""
        responses = [response.text for response in row.comparison.responses]
        texts = [*responses, *(message.content for message in row.comparison.prompt)]
        if any(("\n" in text and _MARK.search(text)) or _MARK.match(text) for text in responses):
            yield MARKS
        if any(("<" in text or "[" in text) and _TOKEN.search(text) for text in texts):
            yield TOKENS
        if any(not text.isascii() and _MOJIBAKE.search(text) for text in texts):
            yield MOJIBAKE
