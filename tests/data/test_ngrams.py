"""Weights of n-grams are scikit-learn's."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guerdon.data.checks.ngrams import tfidf

TEXTS = st.lists(st.text(st.sampled_from("ab cé\n漢𝛼"), max_size=30), min_size=1, max_size=12)


def of_scikit_learn(texts, analyzer, lengths, fewest, most, pattern=None):
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        analyzer=analyzer,
        ngram_range=lengths,
        token_pattern=pattern,
        lowercase=False,
        min_df=fewest,
        max_features=most,
        sublinear_tf=True,
        dtype=np.float32,
    )
    return vectorizer.fit_transform(texts), vectorizer.get_feature_names_out().tolist()


@given(texts=TEXTS, fewest=st.integers(1, 3), most=st.integers(1, 40))
def test_characters_weigh_what_scikit_learn_says(texts, fewest, most):
    try:
        expected, names = of_scikit_learn(texts, "char", (2, 4), fewest, most)
    except ValueError:
        with pytest.raises(ValueError, match="n-gram"):
            tfidf([re.sub(r"\s\s+", " ", text) for text in texts], (2, 4), "", fewest, most)
        return
    weights, ours = tfidf([re.sub(r"\s\s+", " ", text) for text in texts], (2, 4), "", fewest, most)
    assert ours == names
    np.testing.assert_allclose(weights.toarray(), expected.toarray(), rtol=1e-6)


@given(texts=TEXTS, fewest=st.integers(1, 3), most=st.integers(1, 40))
def test_phrases_weigh_what_scikit_learn_says(texts, fewest, most):
    words = [re.findall(r"\w+", text) for text in texts]
    try:
        expected, names = of_scikit_learn(texts, "word", (1, 3), fewest, most, r"\w+")
    except ValueError:
        with pytest.raises(ValueError, match="n-gram"):
            tfidf(words, (1, 3), " ", fewest, most)
        return
    weights, ours = tfidf(words, (1, 3), " ", fewest, most)
    assert ours == names
    np.testing.assert_allclose(weights.toarray(), expected.toarray(), rtol=1e-6)
