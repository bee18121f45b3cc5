"""The key that a server asks for: sent in a header, and shown, logged or written nowhere, even if the server echoes it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from guerdon.errors import GuerdonError, field_error

UNSEEN = r"(?:[^!-~]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\[nrt])*"  # may split an echoed key and be invisible, or escaped
MIN_SECRET = 16  # characters of a key that replies are searched for; a shorter one, such as EMPTY, may be a word


class ServerKey:
    """A bearer token, or none. Its `repr` does not show it."""

    def __init__(self, key: str | None) -> None:
        self._key = key
        self._pattern = re.compile(UNSEEN.join(map(re.escape, key))) if key else None

    def __bool__(self) -> bool:
        return bool(self._key)

    @classmethod
    def from_env(cls, variable: str | None, field: str) -> ServerKey:
        """The key in an environment variable; none where no variable is named. `field` is the option that names it."""
        if variable is None:
            return cls(None)
        key = key_from_env(variable)
        if key is None:
            raise field_error(
                field, "an environment variable that is set", variable, "Export it, or remove the option."
            )
        return cls(key)

    @property
    def headers(self) -> Mapping[str, str]:
        """The header that sends it."""
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def clean(self, text: str) -> str:
        """The text as one short line, without the key and without control characters that a terminal would obey."""
        text = self._pattern.sub("***", text) if self._pattern else text
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split()).rstrip(".")
        return text if len(text) <= 300 else text[:297] + "..."

    def redact(self, text: str) -> str:
        """The text without the key: what a server answers is written to files."""
        if self._pattern is None or len(self._key or "") < MIN_SECRET:
            return text
        return self._pattern.sub("***", text)


def key_from_env(variable: str) -> str | None:
    """The key in an environment variable, without spaces around it; None where it is not set. Raises for one that no header holds."""
    key = os.environ.get(variable, "").strip()
    if key and not re.fullmatch(r"[!-~]+", key):
        raise GuerdonError(f"{variable} must be printable ASCII without spaces. Correct the key.")
    return key or None


def is_readable_by_others(url: str) -> bool:
    """Whether a request leaves this machine without encryption."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_local = ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost" or host.endswith(".localhost")
    return parts.scheme == "http" and not is_local
