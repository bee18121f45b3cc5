"""A bounded sample of answer pairs spread over prompts, and the rewards of all the texts made from them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guerdon.auditing.probes.edit import Corpus
from guerdon.contracts import GuerdonError, Response
from guerdon.models.scored_pairs import comparable_pairs
from guerdon.progress import Progress

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.contracts import Comparison, Prompt, RewardModel

__all__ = ["Pair", "Text", "sample_corpus", "sample_pairs", "score_rows"]

CHUNK = 8  # pairs whose texts are scored in one call: all that share a prompt stay together
CORPUS_ANSWERS = 1000  # answers from which names and sentences of other prompts are taken

Text = tuple["Prompt", str]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt. is_decided: people prefer the better; else the two are tied. last_turn: of the prompt."""

    prompt: Prompt
    last_turn: str
    better: str
    worse: str
    is_decided: bool
    group: str
    id: str


def sample_pairs(comparisons: Sequence[Comparison], num: int, seed: int) -> list[Pair]:
    """At most `num` pairs, one per comparison, from as many groups as possible; the order of the comparisons does not matter.

    In a comparison a pair with a preference goes before a tie. Two equal texts are not a pair, and a response in several
    messages is in none: an edit of its text would leave half of a trajectory.
    """
    queues: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        queues.setdefault(comparison.group, []).append(comparison)
    groups = sorted(queues, key=lambda group: _shuffle_key(group, seed))
    for queue in queues.values():
        queue.sort(key=lambda comparison: _shuffle_key(comparison.id, seed))
    pairs: list[Pair] = []
    for turn in range(max(map(len, queues.values()), default=0)):
        for group in groups:
            if len(pairs) == num:
                return pairs
            pair = _pair(queues[group][turn], seed) if turn < len(queues[group]) else None
            if pair is not None:
                pairs.append(pair)
    return pairs


def sample_corpus(comparisons: Sequence[Comparison], seed: int) -> Corpus:
    """Names, sentences and answers of a bounded sample of comparisons; responses in several messages are left out."""
    drawn = sorted(comparisons, key=lambda comparison: _shuffle_key(comparison.id, seed))[: CORPUS_ANSWERS // 2]
    texts = ((c.group, response.text) for c in drawn for response in c.responses[:2] if not response.messages)
    return Corpus.of(texts)


def score_rows(
    model: RewardModel, rows: Sequence[Sequence[Text]], progress: Progress | None = None
) -> list[Float[np.ndarray, " t"] | None]:
    """Rewards of each row's texts, float64; None for a row that the model refuses (an edited text longer than it reads).

    All texts of a row are scored in one call. If the model refuses every row, its error is raised.
    """
    rewards: list[Float[np.ndarray, " t"] | None] = []
    refusal: GuerdonError | None = None
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        try:
            rewards += _score(model, part)
        except GuerdonError as error:
            refusal = error
            rewards += [_score_or_none(model, row) for row in part]
        if progress is not None:
            progress(min(start + CHUNK, len(rows)), len(rows))
    if refusal is not None and all(row is None for row in rewards):
        raise refusal
    return rewards


def _pair(comparison: Comparison, seed: int) -> Pair | None:
    texts = [response.text for response in comparison.responses]
    is_plain = [not response.messages for response in comparison.responses]
    pairs = [
        (i, j, q) for i, j, q in comparable_pairs(comparison) if texts[i] != texts[j] and is_plain[i] and is_plain[j]
    ]
    pairs = [pair for pair in pairs if pair[2] != 0.5] or pairs
    if not pairs:
        return None
    i, j, q = pairs[_shuffle_key(comparison.id, seed)[0] % len(pairs)]
    better, worse = (i, j) if q >= 0.5 else (j, i)
    last_turn = comparison.prompt[-1].content if comparison.prompt else ""
    return Pair(comparison.prompt, last_turn, texts[better], texts[worse], q != 0.5, comparison.group, comparison.id)


def _shuffle_key(name: str, seed: int) -> tuple[int, str]:
    """Sorting by this is a shuffle that depends on the names and the seed alone."""
    return zlib.crc32(f"{seed} {name}".encode("utf-8", "surrogatepass")), name


def _score_or_none(model: RewardModel, row: Sequence[Text]) -> Float[np.ndarray, " t"] | None:
    try:
        return _score(model, [row])[0]
    except GuerdonError:
        return None


def _score(model: RewardModel, rows: Sequence[Sequence[Text]]) -> list[Float[np.ndarray, " t"]]:
    texts = [text for row in rows for text in row]
    scores = model.score([prompt for prompt, _ in texts], [Response(text) for _, text in texts])
    value = np.asarray(scores.value, dtype=np.float64)
    if not np.isfinite(value).all():
        bad = int(np.flatnonzero(~np.isfinite(value))[0])
        raise GuerdonError(
            f"edited answer {texts[bad][1]!r:.60}: its reward must be finite, got {value[bad]}. Score it alone with the model."
        )
    return np.split(value, np.cumsum([len(row) for row in rows])[:-1])
