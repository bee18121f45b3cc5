"""Several responses with a score each."""

from __future__ import annotations

from dataclasses import replace

from guerdon.contracts import Comparison
from guerdon.data.importers.columns import Row, join_sides, required_list, required_prompt, to_response
from guerdon.data.importers.rankings import ranked
from guerdon.data.importers.reading import Reading
from guerdon.errors import field_error
from guerdon.io.fields import to_number


def from_scores(row: Row, reading: Reading) -> Comparison:
    """{prompt, responses: [text], scores: [number, higher is better]}: equal scores tie; each is kept as a rating."""
    responses, scores = (required_list(row, key) for key in ("responses", "scores"))
    if len(responses) != len(scores) or len(responses) < 2:
        raise field_error(
            "scores", f"a list of one number for each of 2 or more responses ({len(responses)} here)", scores
        )
    given = [to_response(response, f"responses[{i}]") for i, response in enumerate(responses)]
    prompt, given = join_sides(required_prompt(row), given, row.get("prompt"), reading.note)
    values = [to_number(score, f"scores[{i}]", "a finite number") for i, score in enumerate(scores)]
    rated = [replace(r, ratings={"score": value}) for r, value in zip(given, values, strict=True)]
    return ranked(row, prompt, rated, values)
