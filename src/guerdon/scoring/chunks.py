"""Rows to be scored, in chunks of whole rows: some 256 responses, so that rows with many responses stay bounded too."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from guerdon.contracts import GuerdonError, Prompt, Response, RewardModel, Scores
from guerdon.io import schema
from guerdon.models.token_rewards import TokenRewards, TokenScorer

Conversation = tuple[Prompt, list[Response], bool]  # of schema.conversation_from_row

# Columns of a scored row; a row's own of that name is kept under another
ADDED = ("reward", "rewards", "truncated", "token_rewards")
CHUNK = 256  # responses; small, so that workers share a short file; the last bits of a score depend on it


class ChunkScores(NamedTuple):
    """Rewards of a chunk's n responses, whether the model saw each only in part, and those after every token, if measured."""

    value: Float[np.ndarray, " n"]
    truncated: Bool[np.ndarray, " n"]
    tokens: tuple[TokenRewards, ...] | None = None


def score_texts(model: RewardModel, prompts: Sequence[Prompt], responses: Sequence[Response]) -> ChunkScores:
    """What the model says of each response: of every token too, if it is a TokenScorer."""
    if isinstance(model, TokenScorer):
        tokens = tuple(model.score_tokens(prompts, responses))
        truncated = np.array([own.truncated for own in tokens], dtype=bool)
        return ChunkScores(np.array([own.reward for own in tokens]), truncated, tokens)
    scores = model.score(prompts, responses)
    return ChunkScores(scores.value, scores.truncated)


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

    def lines(self, scores: ChunkScores) -> bytes:
        """The rows as JSONL, each with what added_columns gives."""
        return b"".join(map(scored_line, self.rows, added_columns(scores, self.conversations)))

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


def added_columns(scores: ChunkScores | Scores, conversations: Sequence[Conversation]) -> Iterator[dict[str, Any]]:
    """Per row: its `reward`, or the `rewards` of its responses, whether any was `truncated`, and `token_rewards` if measured."""
    values, truncated = iter(scores.value.tolist()), iter(np.asarray(scores.truncated, dtype=bool).tolist())
    measured = scores.tokens if isinstance(scores, ChunkScores) else None
    tokens = iter(measured or ())
    for _, responses, is_single in conversations:
        rewards = list(islice(values, len(responses)))
        was_truncated = any(list(islice(truncated, len(responses))))
        row = {**({"reward": rewards[0]} if is_single else {"rewards": rewards}), "truncated": was_truncated}
        if measured is not None:
            by_token = [own.as_row() for own in islice(tokens, len(responses))]
            row["token_rewards"] = by_token[0] if is_single else by_token
        yield row


def scored_line(row: Mapping[str, Any], added: Mapping[str, Any]) -> bytes:
    """The row with what was added as a line of JSON. Half a character (a lone surrogate) becomes its escape."""
    scored = {**renamed(row), **added}
    try:
        text = _to_json(scored)
    except ValueError:  # NaN or infinity, which Python reads and writes and JSON has not
        text = _to_json(_with_null_for_nan(scored))
    return text.encode("utf-8", "backslashreplace") + b"\n"


def renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its own columns of the names in ADDED as input_reward and so on."""
    return {_free_name(name, row) if name in ADDED else name: value for name, value in row.items()}


def _free_name(name: str, row: Mapping[str, Any]) -> str:
    name = f"input_{name}"
    return _free_name(name, row) if name in row else name


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)  # Parquet also holds dates and bytes


def _with_null_for_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_null_for_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_null_for_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
