"""Near-duplicate prompts: those whose sets of word 5-grams have a Jaccard similarity of 0.8 or more, and what they connect.

MinHash signatures (Broder 1997, by rensa) are cut into bands and the bands sorted; prompts that share a band are candidates, and
each candidate is verified by the exact similarity of its 5-grams. The result depends on the set of prompts alone: not on
their order and not on the machine. Memory: about 250 bytes for each distinct prompt; the 5-grams wait in an unnamed temporary file.
"""

from __future__ import annotations

import re
import tempfile
import unicodedata
import weakref
import zlib
from array import array
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Int, UInt

from guerdon.contracts import Prompt
from guerdon.data.hashes import as_column, hash_parts, mixed

__all__ = ["SIMILARITY", "NearDuplicates", "ngram_hashes", "prompt_words", "words"]

SIMILARITY: Final = 0.8  # Jaccard similarity of the sets of 5-grams from which two prompts are near-duplicates
WORDS: Final = 5
BANDS, BAND_ROWS = 20, 6  # 99.8 % of pairs at 0.8 share a band, 27 % of those at 0.5
SIGNATURE: Final = BANDS * BAND_ROWS
SKETCH_MATCHES: Final = 78  # of 120: a pair at 0.8 has fewer with probability 2e-5
NEIGHBORS: Final = 8  # prompts of one band that each prompt is compared with; keeps templates from costing n^2
CHUNK: Final = 200_000  # words for which signatures are computed at once

# Letters of scripts without spaces are words of their own.
_WORD: Final = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)

_ASCII_WORD: Final = re.compile(r"\w+", re.ASCII)  # the same words, faster


def words(text: str) -> list[str]:
    """The words of a text, without case, width and punctuation; the characters themselves where there is no word."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower()) or text.lower().split()
    normalized = unicodedata.normalize("NFKC", text).casefold()
    return _WORD.findall(normalized) or normalized.split()


def prompt_words(prompt: Prompt) -> list[str]:
    """The words of a prompt's turns. A system turn and tools, which many prompts share by design, do not count."""
    return [word for message in prompt if message.role != "system" for word in words(message.content)]


def ngram_hashes(
    texts: Sequence[Sequence[str]], n: int
) -> tuple[UInt[np.ndarray, " total"], Int[np.ndarray, " texts"]]:
    """Hashes of all n-grams of words, text after text, and how many each text has; a shorter text counts as one n-gram."""
    padded = [[*text, *[""] * (n - len(text))] for text in texts]
    lengths = np.array([len(text) for text in padded], np.int64)
    together = "\n".join(word for text in padded for word in text).encode("utf-8", "surrogatepass")
    hashes = np.array([zlib.crc32(word) for word in together.split(b"\n")], np.uint64)
    grams = np.zeros(max(len(hashes) - n + 1, 0), np.uint64)
    for i in range(n):
        grams = grams * np.uint64(0x9E3779B97F4A7C15) + mixed(hashes[i : i + len(grams)])
    starts = np.arange(len(grams)) - np.repeat(np.cumsum(lengths) - lengths, lengths)[: len(grams)]
    is_inside = starts <= np.repeat(lengths, lengths)[: len(grams)] - n
    return mixed(grams[is_inside]), lengths - n + 1


class NearDuplicates:
    """Collects prompts, and says which of them are connected by near-duplicates."""

    def __init__(self) -> None:
        self._keys = array("Q")
        self._known: set[int] = set()
        self._last: tuple[Prompt, int] | None = None  # rows of a prompt are often next to each other
        self._waiting: list[list[str]] = []
        self._num_waiting = 0
        self._bands: list[np.ndarray] = []
        self._sketches: list[np.ndarray] = []
        self._sizes: list[np.ndarray] = []
        self._file = tempfile.TemporaryFile()
        weakref.finalize(self, self._file.close)

    def add(self, prompt: Prompt) -> int:
        """Add a prompt; returns its key, which prompts of the same words share."""
        if self._last and self._last[0] == prompt:
            return self._last[1]
        text = prompt_words(prompt)
        key = hash_parts(" ".join(text))
        self._last = prompt, key
        if key not in self._known:
            self._known.add(key)
            self._keys.append(key)
            self._waiting.append(text)
            self._num_waiting += len(text)
            if self._num_waiting >= CHUNK:
                self._sign()
        return key

    def components(self) -> tuple[UInt[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """The keys, sorted, and the number of each one's component."""
        self._sign()
        order = np.argsort(as_column(self._keys), kind="stable")
        keys = as_column(self._keys)[order]
        if len(keys) < 2:
            return keys, np.zeros(len(keys), np.int64)
        bands = np.concatenate(self._bands)[order]
        sketches = np.concatenate(self._sketches)[order]
        grams = _Grams(self._file, np.concatenate(self._sizes), order)
        component = np.arange(len(keys))
        edges = np.empty((0, 2), np.int64)
        for band in range(BANDS):
            pairs = _candidates(bands, band)
            pairs = pairs[component[pairs[:, 0]] != component[pairs[:, 1]]]
            pairs = pairs[_matches(sketches, pairs) >= SKETCH_MATCHES]
            verified = [pair for pair in pairs.tolist() if grams.similarity(*pair) >= SIMILARITY]
            if verified:
                edges = np.concatenate([edges, np.array(verified, np.int64)])
                component = _connected(edges, len(keys))
        return keys, component

    def _sign(self) -> None:
        """Signatures of the prompts that wait, and their 5-grams into the file."""
        import rensa

        if not self._waiting:
            return
        hashes, counts = ngram_hashes(self._waiting, WORDS)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
        digests = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, SIGNATURE, 1)
        signatures = np.array(digests.to_rows(), np.uint32)
        self._sketches.append(signatures.astype(np.uint8))
        self._bands.append(_band_hashes(signatures))
        self._sizes.append(self._write(hashes, counts))
        self._waiting, self._num_waiting = [], 0

    def _write(self, hashes: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Append the distinct 5-grams of each prompt, sorted; returns how many each has."""
        gram, text = (hashes >> np.uint64(32)).astype(np.uint32), np.repeat(np.arange(len(counts)), counts)
        order = np.lexsort((gram, text))
        gram, text = gram[order], text[order]
        is_new = np.ones(len(gram), bool)
        is_new[1:] = (gram[1:] != gram[:-1]) | (text[1:] != text[:-1])
        self._file.write(gram[is_new].tobytes())
        return np.bincount(text[is_new], minlength=len(counts))


class _Grams:
    """The 5-grams of prompts, read from the file when they are compared."""

    def __init__(self, file: object, sizes: np.ndarray, order: np.ndarray) -> None:
        file.flush()  # type: ignore[attr-defined]
        self._hashes = np.asarray(np.memmap(file, np.uint32, mode="r"))  # type: ignore[call-overload]
        self._ends = np.cumsum(sizes)[order]
        self._starts = self._ends - sizes[order]

    def similarity(self, i: int, j: int) -> float:
        """The Jaccard similarity of two prompts' sets of 5-grams."""
        a, b = (self._hashes[self._starts[k] : self._ends[k]] for k in (i, j))
        both = np.sort(np.concatenate([a, b]), kind="stable")
        shared = int(np.count_nonzero(both[1:] == both[:-1]))
        return shared / (len(a) + len(b) - shared)


def _candidates(bands: np.ndarray, band: int) -> np.ndarray:
    """Pairs [n, 2] that share a band. In a band that many share, each prompt meets the NEIGHBORS next to it.

    Those that share the next band too are next to each other.
    """
    order = np.lexsort((bands[:, (band + 1) % BANDS], bands[:, band]))
    values = bands[order, band]
    pairs = []
    for distance in range(1, NEIGHBORS + 1):
        first = np.flatnonzero(values[distance:] == values[:-distance])
        pairs.append(np.stack([order[first], order[first + distance]], axis=1))
    return np.concatenate(pairs)


def _matches(sketches: np.ndarray, pairs: np.ndarray, chunk: int = 100_000) -> np.ndarray:
    """How many entries of two prompts' signatures agree [n]; the lowest 8 bits of each are compared."""
    counts = [np.zeros(0, np.int64)]
    for start in range(0, len(pairs), chunk):
        first, second = pairs[start : start + chunk].T
        counts.append((sketches[first] == sketches[second]).sum(axis=1))
    return np.concatenate(counts)


def _connected(edges: np.ndarray, n: int) -> np.ndarray:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1])


def _band_hashes(signatures: np.ndarray) -> np.ndarray:
    """One number for each band of each signature [n, BANDS]; candidates by chance are refused when they are verified."""
    rows = signatures.reshape(len(signatures), BANDS, BAND_ROWS).astype(np.uint64)
    hashes = np.zeros(rows.shape[:2], np.uint64)
    for i in range(BAND_ROWS):
        hashes = mixed(hashes + rows[:, :, i])
    return (hashes >> np.uint64(32)).astype(np.uint32)
