"""TeX formulas as MathML, which browsers draw without a script. Only elements and attributes of an allow-list pass."""

from __future__ import annotations

import re
from functools import cache
from html import escape, unescape
from typing import Final
from xml.etree.ElementTree import Element

from guerdon.errors import HIDDEN

__all__ = ["mathml"]

LONGEST: Final = 2000  # characters of a formula

_ELEMENTS: Final = {
    "math", "mrow", "mi", "mn", "mo", "mtext", "ms", "mspace", "mfrac", "msqrt", "mroot", "msub", "msup", "msubsup", "munder", "mover",
    "munderover", "mmultiscripts", "mprescripts", "mtable", "mtr", "mtd", "mstyle", "mpadded", "mphantom", "merror",
}  # fmt: skip
_ATTRIBUTES: Final = {
    "accent", "accentunder", "columnspan", "display", "displaystyle", "fence", "form", "largeop",
    "linethickness", "lspace", "mathvariant", "maxsize",
    "minsize", "movablelimits", "rowspan", "rspace", "scriptlevel", "separator", "stretchy", "symmetric", "width",
}  # fmt: skip
_VALUE: Final = re.compile(r"[\w.+%-]{1,24}")


def mathml(tex: str, block: bool) -> str | None:
    """The formula as a MathML element; None for one that cannot be read."""
    from latex2mathml.converter import convert_to_element

    if not tex or len(tex) > LONGEST or HIDDEN.search(tex):
        return None
    try:
        return _allowed(convert_to_element(tex, display="block" if block else "inline"))
    except _reading_errors():
        return None


@cache
def _reading_errors() -> tuple[type[Exception], ...]:
    """What the library raises about TeX that it cannot read: its own errors have no common base."""
    from latex2mathml import exceptions

    own = (error for error in vars(exceptions).values() if isinstance(error, type) and issubclass(error, Exception))
    return (*own, LookupError, ValueError, TypeError, AttributeError, RecursionError, StopIteration, RuntimeError)


def _allowed(element: Element) -> str:
    """The element with what it holds; an element that is not allowed is a row of its parts."""
    tag = element.tag if element.tag in _ELEMENTS else "mrow"
    attributes = "".join(
        f' {name}="{value}"'
        for name, value in element.attrib.items()
        if name in _ATTRIBUTES and _VALUE.fullmatch(value)
    )
    parts = "".join(_allowed(part) + _text(part.tail) for part in element)
    return f"<{tag}{attributes}>{_text(element.text)}{parts}</{tag}>"


def _text(text: str | None) -> str:
    """Text as HTML; the library writes characters as references, such as &#x0002B; for a plus."""
    return escape(unescape(text or ""))
