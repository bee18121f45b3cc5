"""Two responses of a row with their prompt, and a chosen and a rejected one as a comparison.

Rows of chosen and rejected have lost the order in which the two responses were shown. Which one stands first here is drawn
from a hash of the texts: "chosen first" throughout would teach position to every judge that sees both at once, and would make
"the first is better" true of a whole file. The draw ignores the preference: a pair that was judged both ways is shown in one order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guerdon.contracts import Comparison, GuerdonError, Prompt, Response, digest, response_digest
from guerdon.data.importers.columns import (
    Note,
    Row,
    are_identical,
    join_sides,
    refuse_empty,
    required,
    required_prompt,
    to_comparison,
    to_prompt,
    to_response,
    whole_prompt,
)
from guerdon.data.importers.judged_columns import preference_of
from guerdon.io.messages import to_messages
from guerdon.io.shared_prompt import join_prompt, response_start


def prompt_and_responses(
    row: Row, first: str, second: str, note: Note = lambda line: None
) -> tuple[Prompt, Response, Response]:
    """The prompt of the row and the responses in these two columns: texts, or messages with the prompt in front or without.

    note: called with a line about what was removed from a text. An error where a response is empty, where they are the same, or
    where they answer different prompts.
    """
    values = [required(row, key) for key in (first, second)]
    if all(isinstance(value, list | tuple | Mapping) and not _is_text_object(value) for value in values):
        prompt, responses = _from_messages(row, {first: values[0], second: values[1]}, note)
    else:
        prompt = required_prompt(row)
        given = [to_response(value, key) for key, value in zip((first, second), values, strict=True)]
        prompt, responses = join_sides(prompt, given, row.get("prompt"), note)
    return prompt, *two_responses(responses, first, second)


def two_responses(responses: Sequence[Response], first: str, second: str) -> tuple[Response, Response]:
    """The two responses of these columns; an error where one is empty, or where they are the same."""
    a, b = responses
    refuse_empty({first: a, second: b})
    if are_identical(a, b):
        raise GuerdonError(f"{first} and {second} must differ, got identical responses. Drop the row.")
    return a, b


def _is_text_object(value: object) -> bool:
    return isinstance(value, Mapping) and "text" in value and not {"role", "from"} & set(value)


def _from_messages(row: Row, values: Mapping[str, object], note: Note) -> tuple[Prompt, list[Response]]:
    a, b = (to_messages(value, key) for key, value in values.items())
    start = response_start(a, b, tuple(values))
    column = Prompt() if row.get("prompt") is None else to_prompt(row["prompt"])
    responses = [Response(messages=a[start:]), Response(messages=b[start:])]
    prompt = whole_prompt(row, join_prompt(column, a[:start]))
    return (prompt, responses) if start else join_sides(prompt, responses, note=note)


def to_pair(row: Row, prompt: Prompt, chosen: Response, rejected: Response) -> Comparison:
    """The chosen response above the rejected one, in the drawn order; `margin` becomes the strength, `p_chosen` a soft label."""
    chosen, rejected = two_responses((chosen, rejected), "chosen", "rejected")
    chosen_is_first = _draws_first(prompt, chosen, rejected)
    responses = (chosen, rejected) if chosen_is_first else (rejected, chosen)
    return to_comparison(row, prompt, responses, preference_of(row, chosen_is_first))


def _draws_first(prompt: Prompt, chosen: Response, rejected: Response) -> bool:
    a, b = (response_digest(response) if response.messages else response.text for response in (chosen, rejected))
    drawn = digest([[message.content for message in prompt], *sorted((a, b))])
    return (int(drawn[-1], 16) % 2 == 0) == (a < b)
