"""Two conversations in, the prompt that both share and where their responses begin out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from guerdon.contracts import GuerdonError, Prompt
from guerdon.errors import field_error

__all__ = ["join_prompt", "response_start"]


def response_start(better: Prompt, worse: Prompt, names: Sequence[str] = ("chosen", "rejected")) -> int:
    """Where the responses begin: at the last assistant turn of both, up to which they are equal.

    Conversations that do not end with the assistant, or that differ before the responses, are an error, which calls them by `names`.
    """
    for key, turns in zip(names, (better, worse), strict=True):
        if turns[-1].role != "assistant":
            raise field_error(f"the last message of {key}", "an assistant message", turns[-1].role)
    equal = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(better, worse, strict=False)))
    last = min(equal, len(better) - 1, len(worse) - 1)
    start = next((i for i in range(last, -1, -1) if better[i].role == worse[i].role == "assistant"), None)
    if start is None or any(turn.role not in ("assistant", "tool") for turn in (*better[start:], *worse[start:])):
        raise GuerdonError(
            f"{' and '.join(names)} must answer one prompt, got diverging messages: they differ before the last message. "
            "Drop the row."
        )
    return start


def join_prompt(column: Prompt, shared: Prompt) -> Prompt:
    """The prompt column and the messages in front of both responses, which may repeat it or go on from it."""
    if not column and not shared:
        raise GuerdonError("prompt is missing, and chosen holds the response only. Give a prompt.")
    if not shared or shared[0].role == "assistant":
        return column + shared
    if not column or shared[-len(column) :] == column or shared[: len(column)] == column:
        return shared
    raise field_error(
        "chosen",
        "the response alone, or the prompt and the response",
        shared[0].content,
        "Drop the prompt column or the extra messages.",
    )
