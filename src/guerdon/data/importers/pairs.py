"""A chosen and a rejected response as a comparison.

Such rows have lost the order in which the two responses were shown. Which one stands first here is drawn from a hash of the
texts: "chosen first" throughout would teach position to every judge that sees both at once, and would make "the first is
better" true of a whole file. The draw ignores the preference: a pair that was judged both ways stands one way.
"""

from __future__ import annotations

from guerdon.contracts import Comparison, GuerdonError, Preference, Prompt, Response, digest, response_digest
from guerdon.data.importers.columns import Row, are_identical, to_comparison
from guerdon.errors import field_error
from guerdon.io.fields import is_absent, to_number


def to_pair(row: Row, prompt: Prompt, chosen: Response, rejected: Response) -> Comparison:
    """The chosen response above the rejected one, in the drawn order; the column `margin` becomes the strength."""
    _refuse_empty(chosen, rejected)
    if are_identical(chosen, rejected):
        raise GuerdonError("chosen and rejected must differ, got identical responses. Drop the row.")
    margin = row.get("margin")
    strength = None if is_absent(margin) else to_number(margin, "margin", "a number >= 0", low=0)
    chosen_is_first = _draws_first(prompt, chosen, rejected)
    return to_comparison(
        row,
        prompt,
        (chosen, rejected) if chosen_is_first else (rejected, chosen),
        Preference(groups=((0,), (1,)) if chosen_is_first else ((1,), (0,)), strength=strength),
    )


def shared_start(a: str, b: str) -> str:
    """The text with which both begin."""
    differences = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return a[: next(differences, min(len(a), len(b)))]


def _refuse_empty(chosen: Response, rejected: Response) -> None:
    if chosen.is_empty and rejected.is_empty:
        raise GuerdonError(
            "chosen and rejected must be responses that are not empty, got two empty ones. Drop the row."
        )
    for key, response in (("chosen", chosen), ("rejected", rejected)):
        if response.is_empty:
            raise field_error(key, "a response that is not empty", response.text, "Drop the row.")


def _draws_first(prompt: Prompt, chosen: Response, rejected: Response) -> bool:
    a, b = (response_digest(response) if response.messages else response.text for response in (chosen, rejected))
    drawn = digest([[message.content for message in prompt], *sorted((a, b))])
    return (int(drawn[-1], 16) % 2 == 0) == (a < b)
