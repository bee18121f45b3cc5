"""Rows to be scored, in chunks of whole rows: some 256 responses, so that rows with many responses stay bounded too."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Float

from guerdon.contracts import GuerdonError, Prompt, Response
from guerdon.io import schema

Conversation = tuple[Prompt, list[Response], bool]  # of schema.conversation_from_row
Values = Float[np.ndarray, " n"]  # the rewards of a chunk's n responses

CHUNK = 256  # responses; small, so that workers share a short file; the last bits of a score depend on it


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows that are scored in one call, the conversation of each, and where the first and the last are."""

    first: str
    last: str
    rows: list[Mapping[str, Any]]
    conversations: list[Conversation]

    def texts(self) -> tuple[list[Prompt], list[Response]]:
        """The n responses, each with its prompt."""
        return flatten(self.conversations)

    def lines(self, values: Values) -> bytes:
        """The rows as JSONL, each with its reward(s)."""
        return b"".join(
            scored_line(row, {"reward": rewards[0]} if is_single else {"rewards": rewards})
            for row, rewards, (_, _, is_single) in zip(
                self.rows, by_row(values, self.conversations), self.conversations, strict=True
            )
        )

    def failure(self, reason: object) -> GuerdonError:
        """An error that names the rows, unless it names one itself."""
        if any(
            prompt.location and str(reason).startswith(f"{prompt.location}:") for prompt, _, _ in self.conversations
        ):
            return GuerdonError(str(reason))
        return GuerdonError(f"{self.first} to {self.last}: {reason}")


def split_into_chunks(rows: Iterable[tuple[str, Any]], size: int) -> Iterator[Chunk]:
    """Chunks of whole (location, row) pairs, with at most `size` responses each unless a single row has more."""
    locations: list[str] = []
    pending: list[Any] = []
    conversations: list[Conversation] = []
    total = 0
    for location, row in rows:
        conversation = schema.conversation_from_row(location, row)
        weight = max(1, len(conversation[1]))  # a row without responses takes memory too
        if pending and total + weight > size:
            yield Chunk(locations[0], locations[-1], pending, conversations)
            locations, pending, conversations, total = [], [], [], 0
        locations.append(location)
        pending.append(row)
        conversations.append(conversation)
        total += weight
    if pending:
        yield Chunk(locations[0], locations[-1], pending, conversations)


def flatten(conversations: Sequence[Conversation]) -> tuple[list[Prompt], list[Response]]:
    """All responses, each with its prompt."""
    pairs = [(prompt, response) for prompt, responses, _ in conversations for response in responses]
    return [prompt for prompt, _ in pairs], [response for _, response in pairs]


def by_row(values: Values, conversations: Sequence[Conversation]) -> list[list[float]]:
    """The rewards of each row's responses: the inverse of flatten."""
    rest = iter(values.tolist())
    return [list(islice(rest, len(responses))) for _, responses, _ in conversations]


def scored_line(row: Mapping[str, Any], rewards: Mapping[str, Any]) -> bytes:
    """The row with its reward(s) as a line of JSON. Half a character (a lone surrogate) becomes its escape."""
    scored = {**row, **rewards}
    try:
        text = _to_json(scored)
    except ValueError:  # NaN or infinity, which Python reads and writes and JSON has not
        text = _to_json(_with_null_for_nan(scored))
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)  # Parquet also holds dates and bytes


def _with_null_for_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_null_for_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_null_for_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
