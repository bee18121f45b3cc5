"""A report in; one self-contained page, Markdown, or a terminal view out."""

from guerdon.reporting.page import to_html, to_markdown

__all__ = ["to_html", "to_markdown"]
