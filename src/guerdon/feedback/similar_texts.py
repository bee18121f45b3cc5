"""Pairs of similar texts among many, without comparing each with each letter by letter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

AT_ONCE: Final = 500  # rows of the table of similarities: 500 x 10,000 take 40 MB


def similar_texts(texts: Sequence[str], least: float) -> Iterator[tuple[int, int]]:
    """The positions i < j of texts whose character trigrams have a cosine of at least `least`, in order."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    if len(texts) < 2:
        return
    padded = [f"  {text}  " for text in texts]  # so that even an empty text has a trigram
    counts = normalize(CountVectorizer(analyzer="char", ngram_range=(3, 3), lowercase=False).fit_transform(padded))
    for start in range(0, len(texts), AT_ONCE):
        cosine = (counts[start : start + AT_ONCE] @ counts.T).toarray()
        rows, columns = np.nonzero(cosine >= least)
        is_later = columns > rows + start
        yield from zip((rows[is_later] + start).tolist(), columns[is_later].tolist(), strict=True)
