"""How a store is named: store:preferences.db, store:postgresql://host/name, or either without `store:` where a store must be.

`?labels=METHOD` at the end says whose labels are read. No password is ever shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from guerdon.contracts import GuerdonError

PREFIX = "store:"
_SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")
_ADVICE = "Write PATH.db, or postgresql://USER@HOST/DATABASE."


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """Where a store is. Exactly one of `path` (SQLite) and `url` (PostgreSQL) is set. labels: the method to read, if any."""

    path: Path | None = None
    url: str | None = None
    labels: str | None = None

    def __str__(self) -> str:
        """The path, or the URL without its password."""
        if self.path is not None:
            return str(self.path)
        return without_password(self.url or "")


def is_store(source: object) -> bool:
    """Whether a source of comparisons is a store and no file."""
    return str(source).startswith((PREFIX, *_SCHEMES))


def as_source(store: str | Path) -> str:
    """A store's path or URL as a source of comparisons."""
    return str(store) if is_store(store) else f"{PREFIX}{store}"


def locate(source: object) -> StoreLocation:
    """The location that a source names."""
    name, labels = _without_labels(str(source).removeprefix(PREFIX))
    if name.startswith(_SCHEMES):
        return StoreLocation(url=f"postgresql+psycopg://{name.split('://', 1)[1]}", labels=labels)
    if "://" in name:
        scheme = name.split("://", 1)[0]
        raise GuerdonError(f"{PREFIX}URL must be a path or start with postgresql://, got {scheme}://. {_ADVICE}")
    if not name or name == ":memory:":
        raise GuerdonError(f"{PREFIX}STORE must name a database, got {name!r}. {_ADVICE}")
    return StoreLocation(path=Path(name), labels=labels)


def without_password(text: str) -> str:
    """The text without the password of any URL or connection string in it."""
    text = re.sub(r"(://[^:/@\s]*):\S*@", r"\1@", text)
    text = re.sub(r"(?i)([?&\s]password=)[^&\s]*", r"\1…", text)
    return text.replace("postgresql+psycopg://", "postgresql://")


def _without_labels(name: str) -> tuple[str, str | None]:
    """The name without `labels=METHOD` in its query, and that method."""
    base, question, query = name.partition("?")
    if not question:
        return name, None
    pairs = parse_qsl(query, keep_blank_values=True)
    labels = next((value for key, value in pairs if key == "labels"), None)
    if labels is None:
        return name, None
    rest = [(key, value) for key, value in pairs if key != "labels"]
    return (f"{base}?{urlencode(rest)}" if rest else base), labels
