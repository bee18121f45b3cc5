"""Several responses in an order of merit."""

from __future__ import annotations

from collections.abc import Sequence

from guerdon.contracts import Comparison, GuerdonError, Preference, Prompt, Response, digest, response_identity
from guerdon.data.importers.columns import Row, refuse_empty, to_comparison
from guerdon.data.importers.reading import Reading

__all__ = ["drawn_order", "kept", "ranked"]

EMPTY = "replies left out because they are empty"


def ranked(
    row: Row, prompt: Prompt, responses: Sequence[Response], scores: Sequence[float], strength: float | None = None
) -> Comparison:
    """The responses ranked by their scores, higher is better, equal is a tie; an error where one is empty or all are equal."""
    refuse_empty({f"responses[{i}]": response for i, response in enumerate(responses)})
    if len(responses) < 2:
        raise GuerdonError(f"responses must be at least 2, got {len(responses)}. Drop the row.")
    if len({response_identity(response) for response in responses}) == 1:
        raise GuerdonError("responses must differ, got identical ones only. Drop the row.")
    levels = sorted(set(scores), reverse=True)
    groups = tuple(tuple(i for i, score in enumerate(scores) if score == level) for level in levels)
    return to_comparison(row, prompt, tuple(responses), Preference(groups=groups, strength=strength))


def kept(replies: Sequence[tuple[Response, float]], reading: Reading) -> list[tuple[Response, float]]:
    """The replies with a visible character, and their scores; the others are counted."""
    for response, _ in replies:
        if response.is_empty:
            reading.note(EMPTY)
    return [(response, score) for response, score in replies if not response.is_empty]


def drawn_order(prompt: Prompt, replies: Sequence[tuple[Response, float]]) -> list[tuple[Response, float]]:
    """The replies in an order that a hash of the texts draws, for a source that lists them from the best to the worst."""
    contents = [message.content for message in prompt]
    return sorted(replies, key=lambda reply: digest([contents, reply[0].text]))
