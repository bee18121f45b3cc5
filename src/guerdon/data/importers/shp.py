"""Stanford Human Preferences: two comments on a post, of which the later one has more upvotes."""

from __future__ import annotations

import math
from dataclasses import replace

from guerdon.contracts import Comparison, GuerdonError, Response
from guerdon.data.importers.columns import Row, required, to_comparison, to_prompt
from guerdon.data.importers.pairs import two_responses
from guerdon.data.importers.reading import Reading
from guerdon.errors import counted, field_error
from guerdon.io.fields import as_name, as_text, is_absent, to_number

NAMES = ("human_ref_A", "human_ref_B")
ADVICE = (
    "pairs taken whatever their score ratio (the authors advise imports.shp_score_ratio=2 imports.shp_pairs_per_post=5)"
)


def from_shp(row: Row, reading: Reading) -> Comparison:
    """{history, human_ref_A, human_ref_B, labels: 1 where A is better, score_A?, score_B?, score_ratio?, post_id?}.

    The logarithm of score_ratio is the strength. Pairs with a lower ratio than imports.shp_score_ratio, and those of a post
    beyond imports.shp_pairs_per_post, are refused.
    """
    preference = reading.label(required(row, "labels"), "labels")
    given = [_comment(row, side) for side in "AB"]
    a, b = two_responses(given, *NAMES)
    prompt = to_prompt(as_text(required(row, "history"), "history"))
    ratio = row.get("score_ratio")
    ratio = None if is_absent(ratio) else to_number(ratio, "score_ratio", "a number >= 1", low=1)
    _refuse_unwanted(row, ratio, reading)
    names = {key: as_name(row[column], column) for key, column in _NAMES if not is_absent(row.get(column))}
    strength = None if ratio is None or preference.groups == ((0, 1),) else math.log(ratio)
    return to_comparison({**names, **row}, prompt, (a, b), replace(preference, strength=strength))


_NAMES = (("group", "post_id"), ("source", "domain"))


def labels_of_shp(row: Row) -> list[object]:
    """The label of a row."""
    return [row.get("labels")]


def _comment(row: Row, side: str) -> Response:
    score = row.get(f"score_{side}")
    ratings = {} if is_absent(score) else {"score": to_number(score, f"score_{side}", "a finite number")}
    return Response(as_text(required(row, f"human_ref_{side}"), f"human_ref_{side}"), ratings=ratings)


def _refuse_unwanted(row: Row, ratio: float | None, reading: Reading) -> None:
    least, most = reading.options.shp_score_ratio, reading.options.shp_pairs_per_post
    if least == 1 and most is None:
        reading.note(ADVICE)
        return
    if least > 1 and (ratio is None or ratio < least):
        raise field_error("score_ratio", f"at least {least:g}", ratio, "Lower imports.shp_score_ratio to keep the row.")
    if most is not None:
        post = as_name(required(row, "post_id"), "post_id")
        if reading.seen[post] >= most:
            raise GuerdonError(
                f"post_id must have at most {counted(most, 'pair')}, got a further one. Raise imports.shp_pairs_per_post to keep the row."
            )
        reading.seen[post] += 1
