"""Hashes by which checks compare texts. Normalization is for comparing only: what is stored stays as it is."""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from guerdon.contracts import Comparison, Message, Prompt, Response

__all__ = ["as_column", "hash_parts", "mixed", "normalize", "normalized_prompt", "normalized_response", "row_hash"]


def hash_parts(*parts: object) -> int:
    """8 bytes: among ten million texts two collide with probability 3 in a million."""
    body = "\0".join([_escaped(str(part)) for part in parts])
    return int.from_bytes(hashlib.blake2b(body.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def as_column(numbers: array[int] | array[float]) -> np.ndarray:
    """The numbers as an array [n]; `numbers` must not grow afterwards."""
    return np.frombuffer(numbers, np.dtype(numbers.typecode)) if numbers else np.empty(0, np.dtype(numbers.typecode))


def mixed(values: np.ndarray) -> np.ndarray:
    """Numbers as even hashes (the finalizer of splitmix64, Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def normalize(text: str) -> str:
    """The text without differences of case, width and spacing."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def normalized_prompt(prompt: Prompt, contents: Sequence[str]) -> Iterator[str]:
    """The parts of a prompt, its tools included; contents: the content of each turn, normalized."""
    for message, content in zip(prompt, contents, strict=True):
        yield from _parts(message, content)
    yield from map(normalize, prompt.tools)


def normalized_response(response: Response) -> str:
    """The content of a response, in which the random ids of calls do not count."""
    if not response.messages:
        return normalize(response.text)
    return "\0".join(part for message in response.messages for part in _parts(message, normalize(message.content)))


def row_hash(comparison: Comparison, prompt: int, responses: Sequence[int], ranks: Sequence[int]) -> int:
    """Equal for a comparison with its responses in another order; different for another preference or annotator.

    prompt, responses: their hashes.
    """
    judged = sorted(zip(responses, ranks, strict=True))
    q = comparison.preference.q
    return hash_parts(prompt, judged, None if q is None else abs(q - 0.5), comparison.annotator)


def _escaped(text: str) -> str:
    return text.replace("\0", "\0\0") if "\0" in text else text


def _parts(message: Message, content: str) -> Iterator[str]:
    """Role and content of a message, names and arguments of its calls."""
    yield normalize(message.role)
    yield content
    for call in message.tool_calls:
        yield normalize(call.name)
        yield normalize(call.arguments)
