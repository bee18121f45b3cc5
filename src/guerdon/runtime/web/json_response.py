"""Values as JSON. Texts may hold characters that UTF-8 cannot, which JSON escapes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

_DUMPED: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The value as JSON."""
    return Response(json_bytes(value), status, dict(headers or {}), "application/json")


def json_bytes(value: object) -> bytes:
    """The value as JSON in UTF-8; half a character (a lone surrogate) is escaped, which JSON allows."""
    text = _DUMPED(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
