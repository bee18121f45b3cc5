"""Texts as random token ids that share prefixes in every way that a batch may contain."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


def tokens(*sizes: int, seed: int = 0) -> list[np.ndarray]:
    """One random text per size."""
    rng = np.random.default_rng(seed)
    return [rng.integers(4, 60, size).astype(np.int32) for size in sizes]


def branches(prompt: np.ndarray, *replies: np.ndarray) -> list[np.ndarray]:
    """The prompt with each reply."""
    return [np.concatenate([prompt, reply]) for reply in replies]


def shapes() -> dict[str, list[np.ndarray]]:
    """Batches by what is special about their trees."""
    long, short, one, a, b, c, empty = tokens(40, 12, 1, 7, 19, 3, 0)
    return {
        "pairs": [*branches(long, a, b), *branches(short, b, c)],
        "an empty reply": branches(long, a, empty),
        "identical replies": branches(long, a, a, b),
        "a reply that is a prefix of another": branches(short, a, np.concatenate([a, b]), b),
        "one-token prompt": branches(one, a, b),
        "one token": [one],
        "nothing in common": tokens(9, 17, 5, seed=1),
        "turns of one conversation": branches(long, a, *branches(b, a, c, *branches(short, a, b))),
        "64 replies": branches(short, *tokens(*range(64), seed=2)),
        "a text longer than a block": branches(tokens(70, seed=3)[0], *tokens(45, 33, seed=4)),
    }


# Few letters and a few copied prefixes: duplicates, prefixes, nested sharing and empty branches all occur.
@st.composite
def similar_texts(draw: st.DrawFn, longest: int = 30) -> list[np.ndarray]:
    """Up to seven texts, most of which share a prefix with another."""
    texts: list[list[int]] = []
    for _ in range(draw(st.integers(1, 7))):
        start = draw(st.sampled_from(texts))[: draw(st.integers(0, longest))] if texts else []
        rest = draw(st.lists(st.integers(4, 6), min_size=0 if start else 1, max_size=longest))
        texts.append(start + rest)
    return [np.array(text, dtype=np.int32) for text in texts]


NESTED = [
    np.array([4, 5] * n + rest, dtype=np.int32) for n, rest in ((9, []), (9, [4]), (9, [4]), (5, [6] * 9), (2, []))
]
ONE_PROMPT = branches(tokens(40)[0], *tokens(7, 21, 3, 0, 7, seed=1))
TEXTS = [*ONE_PROMPT, *branches(tokens(12, seed=2)[0], *tokens(19, 3, seed=3)), *tokens(1, 30, seed=4)]
