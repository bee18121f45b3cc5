"""Score texts, and files of any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from guerdon.contracts import (
    GuerdonError,
    PromptLike,
    ResponseLike,
    RewardModel,
    Scores,
)
from guerdon.scoring import bulk
from guerdon.scoring.bulk import BulkScorer


def score(model: RewardModel, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
    """Rewards in nats; strings or chat messages."""
    return model.score(prompts, responses)


def score_file(
    model: BulkScorer | RewardModel, source: str | Path, out: str | Path, *, workers: int = 1, chunk: int = bulk.CHUNK
) -> dict[str, int]:
    """Score every row of a file and write it with its reward(s), streaming; returns how many rows and responses.

    A row holds prompt (text or messages) with response or responses, or messages that end with an assistant turn.
    `chunk` responses are scored and put on the disk at a time. With a BulkScorer the same call goes on from a killed
    run, and several `workers` share the file; another model stays in this process and starts afresh.
    """
    if isinstance(model, BulkScorer):
        return bulk.score_rows(model.on_worker, source, out, model.identity(), workers=workers, chunk=chunk)
    if workers != 1:
        raise GuerdonError(
            f"workers={workers}: a loaded model stays in its process; remedy: score_file(BulkScorer(DIR))"
        )
    return bulk.score_rows(lambda _: model, source, out, None, chunk=chunk)
