"""Answers as JSON or as a page. Texts may hold characters that UTF-8 cannot: JSON escapes them, pages show a mark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from guerdon.runtime.web.json_response import json_response

FOLDER: Final = Path(__file__).parent

_templates: Final = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)


def page_response(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page from a template."""
    html = _templates.get_template(template).render(values)
    return HTMLResponse(html.encode("utf-8", "replace"), status)


def error_response(status: int, line: str, *, is_page: bool, headers: Mapping[str, str] | None = None) -> Response:
    """An error: one line as JSON, or a page that says it."""
    line = " ".join(line.split())
    if not is_page:
        return json_response({"error": line}, status, headers)
    response = page_response("message.html.j2", status, title=_TITLES.get(status, "This did not work"), line=line)
    response.headers.update(headers or {})
    return response


_TITLES: Final = {
    403: "Not allowed",
    404: "Not here",
    421: "Unknown address",
    429: "Please wait",
    500: "Our mistake",
}
