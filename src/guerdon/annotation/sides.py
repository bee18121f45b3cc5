"""The order in which responses are shown: each order as often as any other, the same again after a reload.

The places in which an item is judged are its slots, numbered from 0. Of a pair, the first slot gets an order drawn by a hash of
the item, and each later slot the opposite one of the slot before. Of more responses, a slot gets a row of a Williams square
(Williams 1949): over a whole square each response has each position equally often, and follows each other response equally often.
"""

from __future__ import annotations

import hashlib


def order_shown(secret: str, item_id: str, slot: int, k: int) -> tuple[int, ...]:
    """The position in the item of each of `k` responses, in the order shown in this slot."""
    start = hashed(secret, "sides", item_id)
    if k == 2:
        first = (start ^ slot) & 1
        return first, 1 - first
    rows = k if k % 2 == 0 else 2 * k
    return _williams_row((start + slot) % rows, k)


def _williams_row(row: int, k: int) -> tuple[int, ...]:
    """A row of the square of an even k; of an odd k, rows from k on are the first k backward."""
    zigzag = [0, *(step // 2 + 1 if step % 2 == 0 else k - 1 - step // 2 for step in range(k - 1))]
    shown = [(position + row) % k for position in zigzag]
    return tuple(shown if row < k else reversed(shown))


def hashed(secret: str, *parts: object) -> int:
    """63 bits that whoever does not know the secret cannot guess."""
    text = "\x1f".join((secret, *map(str, parts)))
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]) >> 1


def token(secret: str, *parts: object, length: int = 32) -> str:
    """Hex digits that whoever does not know the secret cannot guess."""
    text = "\x1f".join((secret, *map(str, parts)))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
