"""Two responses with the votes of several people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from guerdon.contracts import Comparison, Preference
from guerdon.data.importers.columns import Row, required_list, required_prompt, to_comparison, two_responses
from guerdon.data.importers.table import FIRST, SECOND, TIE
from guerdon.errors import field_error


def from_votes(row: Row) -> Comparison:
    """{prompt, response_a, response_b, votes: [{annotator, label: a, b, tie}]}: q is the share for a, a tie half."""
    responses = two_responses(row, "response_a", "response_b")
    votes = required_list(row, "votes")
    if not votes:
        raise field_error("votes", "a list of at least one vote", votes)
    counts = Counter(_choice(vote, f"votes[{i}]") for i, vote in enumerate(votes))
    first, tie, second = (counts[name] for name in ("a", "tie", "b"))
    preference = Preference(q=(first + tie / 2) / len(votes), votes=(first, tie, second))
    only_voter = votes[0].get("annotator") if len(votes) == 1 and isinstance(votes[0], Mapping) else None
    return to_comparison({"annotator": only_voter, **row}, required_prompt(row), responses, preference)


def _choice(vote: object, field: str) -> str:
    """a, b or tie."""
    label = vote.get("label") if isinstance(vote, Mapping) else vote
    word = str(label).strip().casefold()
    for name, words in (("a", FIRST), ("b", SECOND), ("tie", TIE)):
        if word in words:
            return name
    raise field_error(f"{field}.label", "a, b or tie", label)
