"""tf-idf weights of the n-grams of texts: what scikit-learn's TfidfVectorizer gives, several times faster.

All documents are counted at once as arrays of token numbers. An n-gram that too few documents have is dropped before it is
extended: nothing that begins with it is in more of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

__all__ = ["tfidf"]


def tfidf(
    documents: Sequence[Sequence[str]], lengths: tuple[int, int], joint: str, fewest: int, most: int
) -> tuple[Any, list[str]]:
    """The weights [documents, n-grams] as a sparse float32 array, and the n-grams in alphabetical order.

    documents: the tokens of each, or a string of characters. lengths: of the shortest and longest n-grams. joint: what stands
    between the tokens of an n-gram. fewest: documents that have an n-gram. most: n-grams, the most frequent ones. Counts are
    1 + ln, rows have length 1, as with sublinear_tf. ValueError where no n-gram is left.
    """
    from sklearn.feature_extraction.text import TfidfTransformer

    counts, names = _counted(documents, lengths, joint, fewest)
    if not names:
        raise ValueError("no n-gram is in enough documents")
    if len(names) > most:
        frequency = np.asarray(counts.sum(axis=0)).ravel()
        kept = np.sort((-frequency).argsort()[:most])
        counts, names = counts[:, kept], [names[i] for i in kept]
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts), names


def _counted(
    documents: Sequence[Sequence[str]], lengths: tuple[int, int], joint: str, fewest: int
) -> tuple[Any, list[str]]:
    """How often each document has each n-gram, as a sparse array, and the n-grams in alphabetical order."""
    from scipy.sparse import hstack

    tokens = _flat(documents)
    number = defaultdict[str, int]()
    number.default_factory = number.__len__
    token = np.fromiter(map(number.__getitem__, tokens), np.int32, len(tokens))
    sizes = np.array([len(document) for document in documents], np.int32)
    document = np.repeat(np.arange(len(documents), dtype=np.int32), sizes)
    end = np.repeat(np.cumsum(sizes, dtype=np.int32), sizes)
    start, gram = np.arange(len(token), dtype=np.int32), token  # of each n-gram that is left: its place and number
    blocks, names = [], list[str]()
    for n in range(1, lengths[1] + 1):
        if n > 1:
            fits = start + n <= end[start]
            start, gram = start[fits], gram[fits]
            codes = gram.astype(np.int64) * len(number) + token[start + (n - 1)]
            gram = np.unique(codes, return_inverse=True)[1].astype(np.int32)
        if n >= lengths[0] and len(gram):
            block = _document_counts(document[start], gram, len(documents))
            is_common = np.bincount(block.indices, minlength=block.shape[1]) >= fewest
            first = np.empty(block.shape[1], np.int64)
            first[gram] = start
            blocks.append(block[:, np.flatnonzero(is_common)])
            names += [joint.join(tokens[i : i + n]) for i in first[is_common].tolist()]
            is_left = is_common[gram]
            start, gram = start[is_left], (np.cumsum(is_common, dtype=np.int32) - 1)[gram[is_left]]
    order = sorted(range(len(names)), key=names.__getitem__)
    return (hstack(blocks, format="csr")[:, order] if order else None), [names[i] for i in order]


def _flat(documents: Sequence[Sequence[str]]) -> Sequence[str]:
    """The tokens of all documents; characters stay a string."""
    is_text = all(isinstance(document, str) for document in documents)
    return "".join(chain.from_iterable(documents)) if is_text else list(chain.from_iterable(documents))


def _document_counts(document: np.ndarray, gram: np.ndarray, num_documents: int) -> Any:
    from scipy.sparse import coo_array

    entries = (np.ones(len(gram), np.float32), (document, gram))
    block = coo_array(entries, shape=(num_documents, int(gram.max()) + 1)).tocsr()
    block.sum_duplicates()
    return block
