"""Hashes by which checks compare texts. Normalization is for comparing only: what is stored stays as it is."""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from guerdon.contracts import Comparison, Message, Prompt, Response, prompt_identity, response_identity

__all__ = ["as_column", "hash_parts", "normalize", "normalized_prompt", "normalized_response", "pair_hash", "row_hash"]


def hash_parts(*parts: object) -> int:
    """8 bytes: among ten million texts two collide with probability 3 in a million."""
    texts = [str(part) for part in parts]
    body = "\0".join(text.replace("\0", "\0\0") if "\0" in text else text for text in texts)
    return int.from_bytes(hashlib.blake2b(body.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def as_column(numbers: array[int] | array[float]) -> np.ndarray:
    """The numbers as an array [n]; `numbers` must not grow afterwards."""
    return np.frombuffer(numbers, np.dtype(numbers.typecode)) if numbers else np.empty(0, np.dtype(numbers.typecode))


def normalize(text: str) -> str:
    """The text without differences of case, width and spacing."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def normalized_prompt(prompt: Prompt) -> Iterator[str]:
    """The parts of a prompt, its tools included."""
    for message in prompt:
        yield from _parts(message)
    yield from map(normalize, prompt.tools)


def normalized_response(response: Response) -> str:
    """The content of a response, in which the random ids of calls do not count."""
    if not response.messages:
        return normalize(response.text)
    return "\0".join(part for message in response.messages for part in _parts(message))


def row_hash(comparison: Comparison, prompt: int, identities: Sequence[object]) -> int:
    """Equal for a comparison with its responses in another order; different for another preference or annotator."""
    judged = sorted(zip(map(str, identities), comparison.ranks, strict=True))
    q = comparison.preference.q
    return hash_parts(prompt, judged, None if q is None else abs(q - 0.5), comparison.annotator)


def pair_hash(comparison: Comparison) -> tuple[int, bool]:
    """A hash of the prompt and its two responses in any order, and whether the first is also the first of that hash's order."""
    first, second = (str(response_identity(response)) for response in comparison.responses)
    return hash_parts(prompt_identity(comparison.prompt), *sorted((first, second))), first < second


def _parts(message: Message) -> Iterator[str]:
    """Role and content of a message, names and arguments of its calls."""
    yield normalize(message.role)
    yield normalize(message.content)
    for call in message.tool_calls:
        yield normalize(call.name)
        yield normalize(call.arguments)
