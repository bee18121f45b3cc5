"""Files damaged in every way that disks, editors and scripts damage them; one table for every command that reads JSON files."""

from __future__ import annotations

import json
from collections.abc import Iterator

WRONG_VALUES = {
    "a number": 5,
    "a fraction": 0.25,
    "text": "x",
    "a list": [],
    "an object": {},
    "nothing": None,
    "huge": 1e300,
    "a huge integer": 10**400,
    "NaN": float("nan"),
}
DEEP = 100_000  # levels of brackets: more than any stack holds


def corruptions(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Each damage by name, with what is then in the file: of its bytes, and of every top-level key of its object."""
    yield "empty", b""
    yield "truncated", content[: len(content) // 2]
    yield "not UTF-8", b"\xff\xfe" + content
    yield "not an object", b"[]"
    yield "deep nesting", b"[" * DEEP + b"]" * DEEP
    values = json.loads(content)
    for key in values:
        for name, wrong in WRONG_VALUES.items():
            yield f"{key}: {name}", json.dumps({**values, key: wrong}).encode()
        nested = json.dumps({**values, key: "DEEP"})
        yield f"{key}: deep nesting", nested.replace('"DEEP"', "[" * DEEP + "]" * DEEP).encode()
