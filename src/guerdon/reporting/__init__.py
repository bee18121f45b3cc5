"""A report in; one self-contained HTML page, Markdown, a model card, or a terminal view out."""

from guerdon.reporting.markdown import to_markdown
from guerdon.reporting.page import to_html

__all__ = ["to_html", "to_markdown"]
