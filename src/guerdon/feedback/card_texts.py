"""What a judge may like beside quality, measured of texts: length, markup, lists, hedges, and whose model wrote them."""

from __future__ import annotations

import math
import re
from typing import Final

from guerdon.contracts import Response

_MARKUP: Final = re.compile(r"\*\*[^*\n]+\*\*|^#{1,6} |`[^`\n]+`|^```", re.MULTILINE)
_LIST_ITEM: Final = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+\S", re.MULTILINE)
_HEDGE: Final = re.compile(
    r"\b(?:perhaps|maybe|might|possibly|it seems|it appears|I think|I believe|I'm not sure|generally|likely|could be|in my opinion)\b",
    re.IGNORECASE,
)


def log_length(response: Response) -> float:
    """log(1 + characters)."""
    return math.log1p(len(response.text))


def markup(response: Response) -> float:
    """log(1 + bold spans, headings and code)."""
    return math.log1p(len(_MARKUP.findall(response.text)))


def list_items(response: Response) -> float:
    """log(1 + items of lists)."""
    return math.log1p(len(_LIST_ITEM.findall(response.text)))


def hedges(response: Response) -> float:
    """log(1 + words such as perhaps and might)."""
    return math.log1p(len(_HEDGE.findall(response.text)))


def family(model: str | None) -> str | None:
    """The family of a model by its name: qwen for Qwen/Qwen2.5-7B-Instruct; None without a name."""
    if not model:
        return None
    match = re.match(r"[a-z]+", model.rstrip("/").rpartition("/")[2].lower())
    return match[0] if match else None
