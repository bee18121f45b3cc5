"""The words for a preference and for each response of it."""

from __future__ import annotations

import pytest

from guerdon.contracts import Comparison, Message, Preference, Prompt, Response
from guerdon.io.labels import label_of, label_of_response


@pytest.mark.parametrize(
    ("preference", "label", "labels"),
    [
        ({"groups": ((1,), (0,))}, "second is better", ["not preferred", "preferred"]),
        ({"groups": ((0, 1),)}, "tie", ["tie", "tie"]),
        ({"q": 0.7}, "probably the first", ["better with probability 0.7", "better with probability 0.3"]),
        ({"groups": ((2,), (0, 1))}, "ranking of 4", ["rank 2 of 4", "rank 2 of 4", "rank 1 of 4", "not ranked"]),
    ],
)
def test_a_preference_is_said_in_words_as_a_whole_and_of_each_response(preference, label, labels):
    responses = tuple(Response(text) for text in "abcd"[: len(labels)])
    comparison = Comparison(Prompt([Message("user", "p")]), responses, Preference(**preference))
    assert label_of(comparison) == label
    assert [label_of_response(comparison, i) for i in range(len(labels))] == labels
