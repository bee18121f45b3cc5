"""What strangers and models write is shown without being run, followed or hidden."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("nh3", reason="needs the extra: pip install 'guerdon[annotation]'")

from guerdon.annotation.formulas import mathml
from guerdon.annotation.markup import LONGEST_MARKDOWN, code_html, markdown_html, plain_html
from guerdon.errors import HIDDEN

# Elements that neither run, load nor submit anything. MathML's are those of the MathML Core specification without maction.
HARMLESS = {
    "p", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "li", "pre", "hr", "table", "thead", "tbody", "tr", "th", "td", "div", "a", "br",
    "code", "em", "s", "span", "strong", "math", "mrow", "mi", "mn", "mo", "mtext", "ms", "mspace", "mfrac", "msqrt", "mroot", "msub",
    "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts", "mprescripts", "mtable", "mtr", "mtd", "mstyle", "mpadded",
    "mphantom", "merror",
}  # fmt: skip
ATTACKS = json.loads((Path(__file__).parents[1] / "cases/html_attacks.json").read_text("utf-8"))["attacks"]


class Elements(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    handle_decl = unknown_decl = handle_pi = handle_comment


def assert_harmless(html: str) -> Elements:
    """No element but harmless ones, no address but of links to other sites, no style, no handler, nothing that is loaded."""
    page = Elements(html)
    for tag, attributes in page.elements:
        assert tag in HARMLESS
        assert not [
            name
            for name in attributes
            if name.startswith("on") or name in ("style", "src", "srcset", "id", "name", "action")
        ]
        if "href" in attributes:
            assert tag == "a"
            assert re.match(r"(https?://[^/]|mailto:)", attributes["href"] or "")
            assert attributes["rel"] == "noopener noreferrer nofollow"
    assert not HIDDEN.search(html)
    html.encode()  # no half of a character is left
    return page


HOSTILE = ["\x00", "\u202e", "\u200b", "\ud800", "\u05d0", "\U0010fffd", "\U00100000"]
MARKDOWN = st.text(st.sampled_from([*"<>/\"'`*_[]()!#|-:$\\&;= \n\ta1x", *HOSTILE]), max_size=60)
PARTS = st.lists(st.one_of(st.sampled_from(ATTACKS), MARKDOWN), max_size=4).map("".join)


@given(st.one_of(st.text(), MARKDOWN, PARTS), st.booleans())
@settings(max_examples=400, deadline=None)
def test_no_text_becomes_anything_but_harmless_elements(text, math):
    assert_harmless(markdown_html(text, math))
    assert_harmless(plain_html(text))
    assert_harmless(code_html(text, "python"))


@pytest.mark.parametrize("math", [False, True])
@pytest.mark.parametrize("attack", ATTACKS)
def test_published_attacks_are_inert(attack, math):
    for text in (
        attack,
        f"a {attack} b",
        f"> {attack}",
        f"- {attack}",
        f"| {attack} |\n|---|\n| {attack} |",
        f"**{attack}**",
    ):
        assert_harmless(markdown_html(text, math))
    assert_harmless(code_html(attack, attack))


def test_markdown_keeps_its_structure():
    html = markdown_html(
        "# Title\n\n- *one*\n- **two**\n\n| a | b |\n|--:|---|\n| 1 | `2` |\n\n```python\nreturn None\n```\n\nx\ny ~~z~~"
    )
    tags = [tag for tag, _ in Elements(html).elements]
    assert {"h4", "ul", "li", "em", "strong", "table", "th", "td", "code", "pre", "br", "s"} <= set(tags)
    assert '<span class="k">return</span>' in html
    assert '<td class="right">1</td>' in html


def test_headings_leave_no_level_out():
    """WCAG's technique G141: a reader who jumps from heading to heading misses no level."""
    html = markdown_html("### a\n# b\n### c\n###### d\n## e")
    levels = [int(tag[1]) for tag, _ in Elements(html).elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 4
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_a_picture_is_a_link_that_names_its_host():
    page = assert_harmless(markdown_html("![a chart](https://pictures.test/a.png?u=1)"))
    assert ("a", "https://pictures.test/a.png?u=1") in [
        (tag, attributes.get("href")) for tag, attributes in page.elements
    ]
    assert page.text.strip() == "[picture: a chart, pictures.test]"


@pytest.mark.parametrize("address", ["/logout", "?a=1", "#x", "//evil.test", "javascript:x", "https://"])
def test_a_link_into_this_site_is_not_followed(address):
    page = assert_harmless(markdown_html(f"[x]({address})"))
    assert not [attributes for tag, attributes in page.elements if tag == "a" and "href" in attributes]


@pytest.mark.parametrize("code", [0x202E, 0x200B, 0x2066, 0xFEFF, 0xAD, 0x00, 0x07, 0xD800, 0xE0041])
def test_a_hidden_character_is_written_out(code):
    for html in (
        markdown_html(f"a{chr(code)}b"),
        markdown_html(f"`a{chr(code)}b`"),
        code_html(f"a{chr(code)}b", "json"),
    ):
        assert '<span class="hidden" title="' in html
        assert f">U+{code:04X}</span>" in html


def test_joiners_stay_where_scripts_and_emoji_need_them():
    for text in ("👩\u200d🔬", "می\u200cخواهم", "क्\u200dष"):
        assert text in markdown_html(text)


def test_formulas_are_mathml_and_prices_are_not():
    html = markdown_html(r"It costs $5 to $6. $x^2$ and \(y\), \[\frac{a}{b}\]", math=True)
    tags = [tag for tag, _ in assert_harmless(html).elements]
    assert tags.count("math") == 3
    assert "msup" in tags
    assert "mfrac" in tags
    assert "$5 to $6" in html
    assert "<math" not in markdown_html("$x^2$", math=False)


TEX = [
    *r"\{}^_&#%~$<>'\"abx12+-=()[]|/ ",
    r"\frac",
    r"\text",
    r"\begin{matrix}",
    r"\end{matrix}",
    r"\left",
    r"\right",
    r"\sqrt",
    r"\href",
]


@given(st.lists(st.sampled_from(TEX), max_size=30).map("".join))
@settings(max_examples=400, deadline=None)
def test_any_tex_is_mathml_or_refused(tex):
    assert_harmless(mathml(tex, block=False) or "")


def test_a_text_too_long_for_markdown_is_shown_as_it_is():
    text = "**a** " * (LONGEST_MARKDOWN // 6 + 1)
    assert Elements(markdown_html(text)).text == text
