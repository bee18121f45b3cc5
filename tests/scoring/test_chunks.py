"""Chunks are whole rows and bounded by responses."""

from __future__ import annotations

import json
import math

from guerdon.scoring.chunks import scored_line, split_into_chunks


def test_a_chunk_is_bounded_by_responses_and_holds_whole_rows():
    sizes = [1, 2, 64, 0, 0, 3, 1]
    made = [(f"row {i}", {"prompt": "a", "responses": ["b"] * size}) for i, size in enumerate(sizes)]
    chunks = list(split_into_chunks(made, 4))
    assert [[len(row["responses"]) for row in chunk.rows] for chunk in chunks] == [[1, 2], [64], [0, 0], [3, 1]]
    assert (chunks[0].first, chunks[0].last) == ("row 0", "row 1")


def test_a_rows_own_nan_and_infinity_become_null_because_json_has_neither():
    row = {"prompt": "p", "a": math.nan, "b": [1.5, -math.inf, {"c": math.inf}], "d": "NaN \ud800"}
    line = scored_line(row, {"reward": 0.5})
    expected = {"prompt": "p", "a": None, "b": [1.5, None, {"c": None}], "d": "NaN \ud800", "reward": 0.5}

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(line, parse_constant=refuse) == expected
