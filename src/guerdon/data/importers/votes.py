"""Two responses with the votes of several people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from guerdon.contracts import Comparison, Preference
from guerdon.data.importers.columns import Row, required_list, to_comparison
from guerdon.data.importers.labels import LabelReader
from guerdon.data.importers.pairs import prompt_and_responses
from guerdon.errors import field_error


def from_votes(row: Row, read_label: LabelReader) -> Comparison:
    """{prompt, response_a, response_b, votes: [{annotator, label: a, b, tie}]}: q is the share for a, a tie half.

    A label may be all that from_labeled takes, but a probability.
    """
    prompt, a, b = prompt_and_responses(row, "response_a", "response_b")
    votes = required_list(row, "votes")
    if not votes:
        raise field_error("votes", "a list of at least one vote", votes)
    counts = Counter(read_label(_label(vote), f"votes[{i}].label").groups for i, vote in enumerate(votes))
    first, tie, second = (counts[groups] for groups in (((0,), (1,)), ((0, 1),), ((1,), (0,))))
    preference = Preference(q=(first + tie / 2) / len(votes), votes=(first, tie, second))
    only_voter = votes[0].get("annotator") if len(votes) == 1 and isinstance(votes[0], Mapping) else None
    return to_comparison({"annotator": only_voter, **row}, prompt, (a, b), preference)


def labels_of_votes(row: Row) -> list[object]:
    """The labels of a row's votes."""
    votes = row.get("votes")
    return [_label(vote) for vote in votes] if isinstance(votes, list | tuple) else []


def _label(vote: object) -> object:
    return vote.get("label") if isinstance(vote, Mapping) else vote
