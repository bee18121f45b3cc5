"""Score texts, and files of any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from guerdon.config import ImportOptions
from guerdon.contracts import (
    GuerdonError,
    PromptLike,
    Report,
    ResponseLike,
    RewardModel,
    Scores,
)
from guerdon.io import readers
from guerdon.progress import note
from guerdon.scoring.bulk_scorer import BulkScorer
from guerdon.scoring.chunks import CHUNK
from guerdon.scoring.files import score_rows
from guerdon.scoring.token_report import token_report

if TYPE_CHECKING:
    from guerdon.models.token_rewards import TokenRewards


def score(model: RewardModel, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
    """The rewards [n], in nats, of n responses to n prompts; each is a string or chat messages."""
    return model.score(prompts, responses)


def score_tokens(
    model: RewardModel, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]
) -> list[TokenRewards]:
    """The reward after every token of n responses to n prompts, in nats; the last of each is the response's reward.

    Only at the end of a reply is a model trained and calibrated: a value before it shows where the model's opinion changed.
    """
    from guerdon.models.token_rewards import TokenScorer

    return TokenScorer(model).score_tokens(prompts, responses)


def token_rewards_report(scored: str | Path) -> Report:
    """Where the reward was gained in the replies of a file that `score_file` wrote with per_token."""
    return token_report(readers.read_rows(scored), {"file": str(scored)})


def score_file(
    model: BulkScorer | RewardModel,
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    workers: int = 1,
    chunk: int = CHUNK,
    imports: ImportOptions | None = None,
) -> dict[str, int]:
    """Stream the rows of files to `out`, each with its reward or rewards; returns the numbers of rows and responses.

    A row holds prompt (text or messages) with response or responses, or messages that end with an assistant turn; or it is
    a comparison in any known format, read by `imports`, which becomes Guerdon's own row. A row that cannot be read is left
    out and counted in a note. `chunk` responses are scored and written at a time. With a BulkScorer, the same call resumes a
    killed run, and several `workers` share the file; any other model runs in this process and starts over. With a
    BulkScorer(DIR, per_token=True) each row also gets `token_rewards`.
    """
    from guerdon.data.files import Rejects, require_usable, scorable_rows

    if workers != 1 and not isinstance(model, BulkScorer):
        raise GuerdonError(
            f"workers must be 1 for a model that is already loaded, got {workers}. Use score_file(BulkScorer(DIR), ...)."
        )
    sources = [source] if isinstance(source, str | Path) else list(source)
    rejects = Rejects()
    rows = require_usable(scorable_rows(sources, imports or ImportOptions(), rejects, note), rejects)
    if isinstance(model, BulkScorer):
        load, identity = model.load_on_worker, model.identity()
        counts = score_rows(load, sources, out, identity, workers=workers, chunk=chunk, rows=rows)
    else:
        counts = score_rows(lambda _: model, sources, out, None, chunk=chunk, rows=rows)
    if rejects.count:
        note(f"{', '.join(map(str, sources))}: {rejects.number} left out; the first is {rejects.first_reason}")
    return counts
