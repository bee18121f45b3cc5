"""Passwords as argon2id hashes (RFC 9106, the parameters for limited memory)."""

from __future__ import annotations

import functools
import secrets
import threading
from typing import Final

from argon2 import PasswordHasher, exceptions

from guerdon.errors import GuerdonError
from guerdon.runtime.web.secrets import as_bytes

SHORTEST: Final = 10  # characters, with no rule on which: length is what makes guessing costly
LONGEST: Final = 1000
_HASHER: Final = PasswordHasher()
_AT_ONCE: Final = threading.BoundedSemaphore(4)  # hashes, of 64 MiB each


def hash_password(password: str) -> str:
    """The hash of a password that is long enough."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise GuerdonError(
            f"password must be {SHORTEST} to {LONGEST} characters, got {len(password)}. Choose another; a sentence works well."
        )
    with _AT_ONCE:
        return _HASHER.hash(as_bytes(password))


def is_password(password: str, password_hash: str | None) -> bool:
    """Whether the password is the one that was hashed. Takes as long where there is no hash, so that time tells no names."""
    try:
        with _AT_ONCE:
            _HASHER.verify(password_hash or _unmatched_hash(), as_bytes(password))
    except (exceptions.VerificationError, exceptions.InvalidHashError):
        return False
    return password_hash is not None


def needs_new_hash(password_hash: str) -> bool:
    """Whether the hash was made with weaker parameters than today's."""
    return _HASHER.check_needs_rehash(password_hash)


@functools.cache
def _unmatched_hash() -> str:
    """The hash of a password that nobody has."""
    return _HASHER.hash(secrets.token_bytes(32))
