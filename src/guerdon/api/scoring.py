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
from guerdon.scoring.bulk_scorer import BulkScorer
from guerdon.scoring.chunks import CHUNK
from guerdon.scoring.files import score_rows


def score(model: RewardModel, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
    """The rewards [n], in nats, of n responses to n prompts; each is a string or chat messages."""
    return model.score(prompts, responses)


def score_file(
    model: BulkScorer | RewardModel, source: str | Path, out: str | Path, *, workers: int = 1, chunk: int = CHUNK
) -> dict[str, int]:
    """Stream a file's rows to `out`, each with its reward or rewards; returns the numbers of rows and responses.

    A row holds prompt (text or messages) with response or responses, or messages that end with an assistant turn.
    `chunk` responses are scored and written at a time. With a BulkScorer, the same call resumes a killed run, and several
    `workers` share the file; any other model runs in this process and starts over.
    """
    if isinstance(model, BulkScorer):
        return score_rows(model.load_on_worker, source, out, model.identity(), workers=workers, chunk=chunk)
    if workers != 1:
        raise GuerdonError(
            f"workers must be 1 for a model that is already loaded, got {workers}. Use score_file(BulkScorer(DIR), ...)."
        )
    return score_rows(lambda _: model, source, out, None, chunk=chunk)
