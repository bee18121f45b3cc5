"""Two responses with the votes of several people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from guerdon.contracts import Comparison
from guerdon.data.importers.columns import Row, required_list
from guerdon.data.importers.judgments import Judgment, judged
from guerdon.data.importers.pairs import prompt_and_responses
from guerdon.data.importers.reading import Reading
from guerdon.errors import field_error
from guerdon.io.fields import as_name, as_text, is_absent, to_number


def from_votes(row: Row, reading: Reading) -> Comparison | tuple[Comparison, ...]:
    """{prompt, response_a, response_b, votes: [{annotator, label: a, b, tie, strength?, rationale?}]}.

    A label may be all that from_labeled takes, but a probability. A vote may be its label alone.
    """
    prompt, a, b = prompt_and_responses(row, "response_a", "response_b", reading.note)
    votes = required_list(row, "votes")
    if not votes:
        raise field_error("votes", "a list of at least one vote", votes)
    judgments = [_judgment(vote, f"votes[{i}]", reading) for i, vote in enumerate(votes)]
    return judged(row, prompt, (a, b), judgments, reading)


def labels_of_votes(row: Row) -> list[object]:
    """The labels of a row's votes."""
    votes = row.get("votes")
    return [_label(vote) for vote in votes] if isinstance(votes, list | tuple) else []


def _label(vote: object) -> object:
    return vote.get("label") if isinstance(vote, Mapping) else vote


def _judgment(vote: object, field: str, reading: Reading) -> Judgment:
    preference = reading.label(_label(vote), f"{field}.label")
    values = vote if isinstance(vote, Mapping) else {}
    given = {key: values[key] for key in ("annotator", "strength", "rationale") if not is_absent(values.get(key))}
    if "strength" in given:
        strength = to_number(given["strength"], f"{field}.strength", "a number >= 0", low=0)
        preference = replace(preference, strength=strength)
    return Judgment(
        preference,
        as_name(given["annotator"], f"{field}.annotator") if "annotator" in given else None,
        as_text(given["rationale"], f"{field}.rationale") if "rationale" in given else None,
    )
