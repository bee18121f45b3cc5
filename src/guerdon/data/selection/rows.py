"""Picks in, rows to label out: Guerdon's own rows without a preference, and how each was picked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from guerdon.config import SelectOptions
from guerdon.contracts import digest, prompt_identity, response_identity
from guerdon.data.selection.draw import Picks
from guerdon.data.selection.sources import Candidate
from guerdon.io.schema import prompt_to_row, response_to_row

__all__ = ["pick_rows"]


def pick_rows(
    picks: Picks,
    candidates: Mapping[int, Candidate],
    stream: Literal["train", "test"],
    options: SelectOptions,
    model: str | None,
) -> Iterator[dict[str, Any]]:
    """{id, prompt, responses, group?, source?, selection} for each pick, in order.

    id: of the prompt and the two responses, whatever their order. selection: stream, strategy (how this pick was picked),
    score, propensity, round, model (fingerprint of the model that picked), row and pair (where the texts come from).
    """
    for position, propensity, score, is_swapped in zip(
        picks.position.tolist(), picks.propensity.tolist(), picks.score.tolist(), picks.is_swapped.tolist(), strict=True
    ):
        candidate = candidates[position]
        is_active = not math.isnan(score)
        shown = (1, 0) if is_swapped else (0, 1)
        identities = sorted(str(response_identity(response)) for response in candidate.responses)
        yield {
            "id": digest([prompt_identity(candidate.row.prompt), *identities]),
            **prompt_to_row(candidate.row.prompt),
            "responses": [response_to_row(candidate.responses[i]) for i in shown],
            **({} if candidate.row.group is None else {"group": candidate.row.group}),
            **({} if candidate.row.source is None else {"source": candidate.row.source}),
            "selection": {
                "stream": stream,
                "strategy": "d_optimal" if is_active else "random",
                "score": score if is_active else None,
                "propensity": propensity,
                "round": options.round,
                "model": model if is_active else None,
                "row": candidate.location,
                "pair": [candidate.indices[i] for i in shown],
            },
        }
