"""Text that strangers and models wrote, in; HTML that is safe to show, out.

Markdown is parsed without raw HTML, so that every tag comes from this file's own rules. What they wrote then passes an
allow-list: no script, style, image or address but https, http and mailto. Pictures become links, since loading one would tell
its host who reads, and often which model wrote. A character that has no shape, or that reorders a line, is written out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from html import escape
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from guerdon.annotation.formulas import mathml
from guerdon.errors import HIDDEN

if TYPE_CHECKING:
    import nh3
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token
    from pygments.lexer import Lexer

__all__ = ["code_html", "markdown_html", "plain_html", "text_html"]

LONGEST_MARKDOWN: Final = 50_000  # characters; Markdown of a longer text takes seconds, so it is shown as it is
LONGEST_CODE: Final = 20_000  # characters that are colored
MOST_FORMULAS: Final = 200  # in a text; one takes about 2 ms, and others are shown as they are written

_BLOCKS: Final = {
    "p",
    "h3",
    "h4",
    "h5",
    "h6",
    "blockquote",
    "ul",
    "ol",
    "li",
    "pre",
    "hr",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "div",
}
_INLINE: Final = {"a", "br", "code", "em", "s", "span", "strong"}
_SCHEMES: Final = {"http", "https", "mailto"}
_HEADING_CLASSES: Final = {f"h{level}" for level in range(1, 7)}
# NUL and halves of characters, which no sanitizer takes, are kept apart as characters of private use. One of these ends a mark
# that stands for a formula, and so may not be in a text.
_HALVES: Final = {code: 0x100000 + code for code in range(0xD800, 0xE000)} | {0: 0x100000, 0x10FFFD: 0xFFFD}
_WRITTEN_OUT: Final = re.compile(f"{HIDDEN.pattern}|[\U00100000\U0010d800-\U0010dfff]")
_TAG: Final = re.compile(r"(<[^>]*>)")


def markdown_html(text: str, math: bool = False, below: int = 3) -> str:
    """The text's Markdown as HTML; a text of more than 50,000 characters as it is. below: level of the heading above it."""
    if len(text) > LONGEST_MARKDOWN:
        return plain_html(text)
    state: dict[str, Any] = {"formulas": [], "below": below}
    html = _cleaner().clean(_parser(math).render(text.translate(_HALVES), state))
    html = _written_out(html)
    for mark, formula in state["formulas"]:
        html = html.replace(mark, formula, 1)
    return html


def plain_html(text: str) -> str:
    """The text with its own line breaks and spaces."""
    return f'<pre class="plain" dir="auto">{text_html(text)}</pre>'


def text_html(text: str) -> str:
    """The text as a part of a line."""
    return _written_out(escape(text.translate(_HALVES), quote=False))


def code_html(code: str, language: str) -> str:
    """Code in colors, with the name of its language if that is known."""
    return _written_out(_cleaner().clean(_code(code.translate(_HALVES), language)))


# ---- Hidden characters -----------------------------------------------------------------------------------------------


def _written_out(html: str) -> str:
    """HTML in which each hidden character of the text, not of the tags, is a mark such as U+202E."""
    if not _WRITTEN_OUT.search(html):
        return html
    parts = _TAG.split(html)
    parts[::2] = [_WRITTEN_OUT.sub(_mark, part) for part in parts[::2]]
    return "".join(parts)


def _mark(match: re.Match[str]) -> str:
    code = ord(match[0])
    code -= 0x100000 if code >= 0x100000 else 0
    name = unicodedata.name(chr(code), "control character" if code < 0xD800 else "half of a character").lower()
    return f'<span class="hidden" title="{name}">U+{code:04X}</span>'


# ---- Markdown --------------------------------------------------------------------------------------------------------


@cache
def _parser(math: bool) -> MarkdownIt:
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML

    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    rules: dict[str, Any] = cast(RendererHTML, parser.renderer).rules  # which takes functions, whatever its type says
    if math:
        from mdit_py_plugins.dollarmath import dollarmath_plugin

        dollarmath_plugin(parser, allow_labels=False, allow_space=False, allow_digits=False, double_inline=True)
        parser.inline.ruler.before("escape", "math_brackets", _bracketed_formula)
        rules |= dict.fromkeys(("math_inline", "math_inline_double", "math_block"), _formula)
    parser.core.ruler.push("page", lambda state: _fit_into_page(state.tokens, state.env["below"]))
    rules |= {"fence": _fence, "code_block": _fence, "image": _image}
    rules |= {"table_open": _table_open, "table_close": lambda *_: "</table></div>\n"}
    return parser


def _fit_into_page(tokens: Sequence[Token], below: int) -> None:
    """Tags for their place: levels of headings without a gap, a direction per block, classes instead of styles."""
    depth = below
    for token in tokens:
        if token.type == "heading_open":
            level = int(token.tag[1])
            depth = min(depth + 1, level + below, 6)
            token.attrSet("class", f"h{level}")
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{depth}"
        if token.nesting == 1 and token.level == 0:
            token.attrSet("dir", "auto")
        if align := str(token.attrs.pop("style", "")):
            token.attrSet("class", align.removeprefix("text-align:"))
        for child in token.children or ():
            if child.type == "link_open":
                _aim(child)


def _aim(link: Token) -> None:
    """A link opens another tab, and only if it leads to another site: one of this site would be followed with its cookie."""
    address = link.attrs.pop("href", "")
    link.attrs.clear()
    if _is_foreign(str(address)):
        link.attrs |= {"href": address, "target": "_blank"}


def _is_foreign(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:  # such as https://[
        return False
    return parts.scheme in _SCHEMES and bool(parts.netloc or parts.scheme == "mailto")


def _image(tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """A picture as a link: nothing is loaded before somebody decides to."""
    address = str(tokens[index].attrs.get("src", ""))
    label = f"picture: {tokens[index].content.strip() or 'no description'}"
    if not _is_foreign(address):
        return f'<span class="picture">[{escape(label)}]</span>'
    host = urlsplit(address).netloc
    return f'<a class="picture" href="{escape(address)}" target="_blank">[{escape(label)}, {escape(host)}]</a>'


def _fence(tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    words = tokens[index].info.split(maxsplit=1)
    return _code(tokens[index].content.removesuffix("\n"), words[0].lower() if words else "") + "\n"


def _table_open(*_: Any) -> str:
    """A wide table scrolls, with the keyboard too."""
    return '<div class="table" dir="auto" tabindex="0" role="group" aria-label="Table"><table>'


def _bracketed_formula(state: StateInline, silent: bool) -> bool:
    r"""A formula between \( and \), or \[ and \], which a backslash in Markdown would otherwise escape."""
    closing = {"\\(": "\\)", "\\[": "\\]"}.get(state.src[state.pos : state.pos + 2])
    if closing is None or closing in state.env.setdefault("unclosed", set()):
        return False
    end = state.src.find(closing, state.pos + 2)
    if end < 0:
        state.env["unclosed"].add(closing)
        return False
    if not silent:
        token = state.push("math_inline" if closing == "\\)" else "math_inline_double", "math", 0)
        token.content = state.src[state.pos + 2 : end]
    state.pos = end + 2
    return True


def _formula(tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """A mark in the place of the formula, which is put there when the rest has been cleaned."""
    token = tokens[index]
    is_one_too_many = len(env["formulas"]) >= MOST_FORMULAS
    formula = None if is_one_too_many else mathml(token.content.strip(), block=token.type != "math_inline")
    if formula is None:
        return f"<code>{escape(token.content)}</code>"
    env["formulas"].append((mark := f"\U0010fffd{len(env['formulas'])}\U0010fffd", formula))
    return mark


def _code(code: str, language: str) -> str:
    lines = _colored(code, language)
    if lines is None:
        return f'<div class="code"><pre dir="ltr"><code>{escape(code, quote=False)}</code></pre></div>'
    label = f'<div class="language">{escape(language)}</div>' if language != "text" else ""
    return f'<div class="code">{label}<pre dir="ltr"><code>{lines}</code></pre></div>'


def _colored(code: str, language: str) -> str | None:
    """HTML of code in which each token has a class; None for a language that is not known, and for long code."""
    from pygments import highlight
    from pygments.formatters.html import HtmlFormatter

    lexer = _lexer(language) if language and len(code) <= LONGEST_CODE else None
    return None if lexer is None else str(highlight(code, lexer, HtmlFormatter(nowrap=True)))


@lru_cache(maxsize=64)
def _lexer(language: str) -> Lexer | None:
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


@cache
def _cleaner() -> nh3.Cleaner:
    import nh3
    from pygments.token import STANDARD_TYPES

    return nh3.Cleaner(
        tags={*_BLOCKS, *_INLINE},
        clean_content_tags=set(),
        attributes={"*": set(), "a": {"href", "target"}, "ol": {"start"}},
        tag_attribute_values={
            **{tag: {"dir": {"auto", "ltr"}} for tag in _BLOCKS - {"div"}},
            "div": {"dir": {"auto"}, "tabindex": {"0"}, "role": {"group"}, "aria-label": {"Table"}},
        },
        allowed_classes={
            "span": {*STANDARD_TYPES.values(), "picture"} - {""},
            "div": {"code", "language", "table"},
            "a": {"picture"},
            **{tag: _HEADING_CLASSES for tag in ("h3", "h4", "h5", "h6")},
            **{tag: {"left", "center", "right"} for tag in ("th", "td")},
        },
        url_schemes=_SCHEMES,
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
    )
