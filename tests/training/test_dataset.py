"""Comparisons that are too long, or identical to the model, are refused, dropped or truncated as configured."""

from __future__ import annotations

import pytest
from toys import liked
from training_runs import pair, train

from guerdon import GuerdonError


def test_long_texts_are_refused_dropped_or_truncated_as_configured(tiny_dir, caplog):
    data = [*liked(14), pair("good " * 60, "bad " * 50), pair("so " * 80, "bad")]
    with pytest.raises(
        GuerdonError,
        match=r"max_length=40: comparisons must not be longer, got 2 of 16 that are \(longest \d+ tokens; first \w+\)\. Set",
    ):
        train(tiny_dir, data, model={"max_length": 40})
    assert train(tiny_dir, data, model={"max_length": 40, "truncation": "drop"}).num_dropped == 2
    assert "dropped because they are longer than model.max_length=40: 2 of 16 comparisons" in caplog.text
    assert train(tiny_dir, data, model={"max_length": 40, "truncation": "left"}).num_dropped == 0
    with pytest.raises(GuerdonError, match=r"needs at least one comparison, got 1, of which 1 is too long"):
        train(tiny_dir, data[-1:], model={"max_length": 40, "truncation": "drop"})


def test_responses_that_truncation_makes_identical_are_refused(tiny_dir):
    same_end = pair("good " + "film " * 40, "bad " + "film " * 40)
    with pytest.raises(GuerdonError, match=r"1 of 4 comparisons with identical .*raise model\.max_length"):
        train(tiny_dir, [same_end, *liked(3)], model={"max_length": 32, "truncation": "left"})
