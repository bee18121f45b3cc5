"""Secrets of a server: drawn, stored only as hashes, compared in a time that tells nothing."""

from __future__ import annotations

import hashlib
import secrets


def new_secret() -> str:
    """A secret of 256 random bits for a cookie, a link or a token."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """What is stored of a secret. One fast hash is enough: nobody guesses 256 random bits."""
    return hashlib.sha256(as_bytes(secret)).hexdigest()


def is_same_secret(given: str, secret: str) -> bool:
    """Whether both are the same, in a time that tells nothing about where they differ."""
    return secrets.compare_digest(as_bytes(given), as_bytes(secret))


def as_bytes(text: str) -> bytes:
    """Any text, half characters too."""
    return text.encode("utf-8", "surrogatepass")
