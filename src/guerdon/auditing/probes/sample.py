"""A bounded sample of pairs spread over prompts, and rewards of everything that is made of them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import GuerdonError, Response
from guerdon.models.scored_pairs import Progress, comparable_pairs

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.contracts import Comparison, Prompt, RewardModel

CHUNK = 8  # pairs whose texts are scored in one call: all that share a prompt stand together

Text = tuple["Prompt", str]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt; `decided` where people prefer the better, else neither is better. `asked`: the last turn."""

    prompt: Prompt
    asked: str
    better: str
    worse: str
    decided: bool
    group: str
    id: str


def sample_pairs(comparisons: Sequence[Comparison], num: int, seed: int) -> list[Pair]:
    """At most `num` pairs, one a comparison, of as many groups as there are; the same for the same seed, in any order of rows.

    A pair with a verdict goes before a tie; two equal texts are no pair.
    """
    queues: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        queues.setdefault(comparison.group, []).append(comparison)
    groups = sorted(queues, key=lambda group: lot(group, seed))
    for queue in queues.values():
        queue.sort(key=lambda comparison: lot(comparison.id, seed))
    found: list[Pair] = []
    for turn in range(max(map(len, queues.values()), default=0)):
        for group in groups:
            if len(found) == num:
                return found
            pair = _pair(queues[group][turn], seed) if turn < len(queues[group]) else None
            if pair is not None:
                found.append(pair)
    return found


def lot(name: str, seed: int) -> tuple[int, str]:
    """What a name draws: sorting by it is a shuffle that depends on names and seed alone."""
    return zlib.crc32(f"{seed} {name}".encode("utf-8", "surrogatepass")), name


def _pair(comparison: Comparison, seed: int) -> Pair | None:
    texts = [response.text for response in comparison.responses]
    pairs = [(i, j, q) for i, j, q in comparable_pairs(comparison) if texts[i] != texts[j]]
    pairs = [pair for pair in pairs if pair[2] != 0.5] or pairs
    if not pairs:
        return None
    i, j, q = pairs[lot(comparison.id, seed)[0] % len(pairs)]
    better, worse = (i, j) if q >= 0.5 else (j, i)
    asked = comparison.prompt[-1].content if comparison.prompt else ""
    return Pair(comparison.prompt, asked, texts[better], texts[worse], q != 0.5, comparison.group, comparison.id)


def score_rows(
    model: RewardModel, rows: Sequence[Sequence[Text]], progress: Progress | None = None
) -> list[Float[np.ndarray, " t"] | None]:
    """Rewards of each row's texts, float64; None for a row that the model refuses (an edited text longer than it reads).

    All texts of a row are scored in one call. If the model refuses every row, its refusal is raised.
    """
    found: list[Float[np.ndarray, " t"] | None] = []
    refusal: GuerdonError | None = None
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        try:
            found += _score(model, part)
        except GuerdonError as error:
            refusal = error
            found += [_score_or_none(model, row) for row in part]
        if progress is not None:
            progress(min(start + CHUNK, len(rows)), len(rows))
    if refusal is not None and all(row is None for row in found):
        raise refusal
    return found


def _score_or_none(model: RewardModel, row: Sequence[Text]) -> Float[np.ndarray, " t"] | None:
    try:
        return _score(model, [row])[0]
    except GuerdonError:
        return None


def _score(model: RewardModel, rows: Sequence[Sequence[Text]]) -> list[Float[np.ndarray, " t"]]:
    texts = [text for row in rows for text in row]
    value = np.asarray(model.score([p for p, _ in texts], [Response(t) for _, t in texts]).value, dtype=np.float64)
    if not np.isfinite(value).all():
        bad = int(np.flatnonzero(~np.isfinite(value))[0])
        raise GuerdonError(
            f"an edited answer has the reward {value[bad]}: {texts[bad][1]!r:.60}; remedy: score it alone"
        )
    return np.split(value, np.cumsum([len(row) for row in rows])[:-1])
