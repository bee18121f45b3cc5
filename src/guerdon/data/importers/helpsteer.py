"""NVIDIA's HelpSteer: HelpSteer2 with its preferences, and HelpSteer3."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence

from guerdon.contracts import Comparison, GuerdonError, Message, Preference, Prompt, Response
from guerdon.data.importers.columns import Row, required, to_comparison, to_prompt
from guerdon.data.importers.judgments import Judgment, judged
from guerdon.data.importers.pairs import two_responses
from guerdon.data.importers.rankings import ranked
from guerdon.data.importers.reading import Reading
from guerdon.errors import field_error
from guerdon.io.fields import as_list, as_text, to_number

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
UNRATED = -100  # the strength of an annotator who could not rate the pair
NOT_RATED = "judgments left out because the annotator could not rate the pair"
_TURN = re.compile(r"\n<extra_id_1>(User|Assistant)\n")


# ---- HelpSteer2: attributes ------------------------------------------------------------------------------------------


def prompt_of_attributes(row: Row) -> Hashable:
    """The prompt that neighbors share; an error where the row's response or a rating cannot be used."""
    _rated(row)
    return as_text(required(row, "prompt"), "prompt")


def from_attributes(row: Row, reading: Reading) -> Comparison:
    """{prompt, response, helpfulness, correctness, coherence, complexity, verbosity}, the attributes from 0 to 4, one row per
    response: neighbors with one prompt are compared by the weighted sum of their attributes; equal sums tie.
    """
    rows: Sequence[Row] = row["rows"]
    if len(rows) < 2:
        raise GuerdonError(
            "prompt must be shared by neighboring rows, got one row with it. Keep the rows of a prompt next to each other."
        )
    weights = reading.options.attribute_weights
    responses = [_rated(each) for each in rows]
    # Rounded, so that sums which are equal on paper tie.
    sums = [round(sum(w * r.ratings[name] for name, w in weights.items()), 9) for r in responses]
    shared = {key: value for key, value in rows[0].items() if all(each.get(key) == value for each in rows)}
    return ranked(shared, _prompt(rows[0]["prompt"]), responses, sums, strength=max(sums) - min(sums) or None)


def _rated(row: Row) -> Response:
    claim = "a number from 0 to 4"
    ratings = {name: to_number(required(row, name), name, claim, low=0, high=4) for name in ATTRIBUTES}
    response = Response(as_text(required(row, "response"), "response"), ratings=ratings)
    if response.is_empty:
        raise field_error("response", "a response that is not empty", response.text, "Drop the row.")
    return response


def _prompt(text: str) -> Prompt:
    """The turns of "question\\n<extra_id_1>Assistant\\nanswer\\n<extra_id_1>User\\nquestion"."""
    first, *others = _TURN.split(text)
    roles = ("user" if mark == "User" else "assistant" for mark in others[::2])
    later = (Message(role, content) for role, content in zip(roles, others[1::2], strict=True))
    return Prompt([*to_prompt(first), *later]) if others else to_prompt(first)


# ---- Preferences -----------------------------------------------------------------------------------------------------


def from_helpsteer2_preference(row: Row, reading: Reading) -> Comparison | tuple[Comparison, ...]:
    """{prompt, response_1, response_2, preference_strength, all_preferences_unprocessed: [{strength, justification}],
    preference_statement?, preference_elaboration?}: strengths from -3 to 3, below 0 where the first is better.
    """
    prompt = _prompt(as_text(required(row, "prompt"), "prompt"))
    statement = [row[key] for key in ("preference_statement", "preference_elaboration") if row.get(key)]
    overall = Judgment(
        reading.label(required(row, "preference_strength"), "preference_strength"),
        rationale=" ".join(as_text(text, "preference_statement") for text in statement) or None,
    )
    names = ("response_1", "response_2")
    return _by_annotators(
        row, prompt, names, overall, ("all_preferences_unprocessed", "strength", "justification"), reading
    )


def labels_of_helpsteer2(row: Row) -> list[object]:
    """The overall strength of a row."""
    return [row.get("preference_strength")]


def from_helpsteer3(row: Row, reading: Reading) -> Comparison | tuple[Comparison, ...]:
    """{context: [messages], response1, response2, overall_preference, individual_preference: [{score, reasoning, feedback1,
    feedback2}], domain?, language?}: preferences from -3 to 3, below 0 where the first is better.
    """
    prompt = to_prompt(required(row, "context"))
    overall = Judgment(reading.label(required(row, "overall_preference"), "overall_preference"))
    columns = ("individual_preference", "score", "reasoning")
    return _by_annotators(row, prompt, ("response1", "response2"), overall, columns, reading)


def labels_of_helpsteer3(row: Row) -> list[object]:
    """The overall preference of a row."""
    return [row.get("overall_preference")]


def _by_annotators(
    row: Row,
    prompt: Prompt,
    names: tuple[str, str],
    overall: Judgment,
    columns: tuple[str, str, str],
    reading: Reading,
) -> Comparison | tuple[Comparison, ...]:
    """The judgments in a list of objects: of its column, their number and their reason; `overall` where there are none."""
    first, second = names
    given = [Response(as_text(required(row, name), name)) for name in names]
    responses = two_responses(given, first, second)
    column, number, reason = columns
    values = as_list(row.get(column) or (), column, "a list of judgments")
    judgments = [_judgment(value, f"{column}[{i}]", number, reason) for i, value in enumerate(values)]
    for _ in range(judgments.count(None)):
        reading.note(NOT_RATED)
    rated = [judgment for judgment in judgments if judgment is not None]
    if rated:
        return judged(row, prompt, responses, rated, reading, strength=overall.preference.strength)
    named = {**row, "rationale": row.get("rationale") or overall.rationale}
    return to_comparison(named, prompt, responses, overall.preference)


def _judgment(value: object, field: str, number: str, reason: str) -> Judgment | None:
    if not isinstance(value, Mapping):
        raise field_error(field, f"an object with {number} and {reason}", value)
    claim = f"a number from -3 to 3, or {UNRATED} where the annotator could not rate the pair"
    lead = to_number(value.get(number), f"{field}.{number}", claim)
    if lead == UNRATED:
        return None
    if not -3 <= lead <= 3:
        raise field_error(f"{field}.{number}", claim, lead)
    groups = ((0, 1),) if lead == 0 else ((0,), (1,)) if lead < 0 else ((1,), (0,))
    text = value.get(reason)
    rationale = as_text(text, f"{field}.{reason}") if text else None
    return Judgment(Preference(groups=groups, strength=abs(lead) or None), rationale=rationale)
