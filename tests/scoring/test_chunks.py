"""Chunks are whole rows and bounded by responses."""

from __future__ import annotations

from guerdon.scoring.chunks import split_into_chunks


def test_a_chunk_is_bounded_by_responses_and_holds_whole_rows():
    sizes = [1, 2, 64, 0, 0, 3, 1]
    made = [(f"row {i}", {"prompt": "a", "responses": ["b"] * size}) for i, size in enumerate(sizes)]
    chunks = list(split_into_chunks(made, 4))
    assert [[len(row["responses"]) for row in chunk.rows] for chunk in chunks] == [[1, 2], [64], [0, 0], [3, 1]]
    assert (chunks[0].first, chunks[0].last) == ("row 0", "row 1")
