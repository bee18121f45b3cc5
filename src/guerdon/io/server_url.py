"""The address of a server that speaks OpenAI's API."""

from __future__ import annotations

from urllib.parse import urlsplit

from guerdon.contracts import GuerdonError


def normalize_url(url: str) -> str:
    """scheme://host/.../v1, without a slash at the end. Raises GuerdonError, and never shows a user, password or query."""
    import httpx2

    given = url.strip()
    try:
        parts = urlsplit(given)
        _, has_host = parts.port, bool(parts.hostname)  # reading a port that is not a number raises
    except ValueError:
        raise GuerdonError("url must be an address. Give one such as http://localhost:8000.") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise GuerdonError("url must have no user, query or fragment: they are not sent. Give a key as api_key.")
    if parts.scheme not in ("http", "https") or not has_host:
        raise GuerdonError(
            f"url must start with http:// or https:// and name a host, got {given!r:.80}. "
            "Give one such as http://localhost:8000."
        )
    base = given.rstrip("/").removesuffix("/v1").rstrip("/") + "/v1"
    try:
        return str(httpx2.URL(base))
    except httpx2.InvalidURL as error:
        raise GuerdonError(
            f"url must be an address, got {given!r:.80} ({error}). Give one such as http://localhost:8000."
        ) from None
