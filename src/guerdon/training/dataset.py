"""Comparisons as token ids and training targets, tokenized once.

Axes: c comparisons, r responses (of all comparisons, one after the other), a attributes, h heads.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import poisson

from guerdon.config import TrainOptions
from guerdon.config.training import LOSSES_OF_RATINGS
from guerdon.contracts import Comparison, GuerdonError
from guerdon.errors import counted, verb, visible
from guerdon.models.chat import ChatTokenizer
from guerdon.progress import ProgressBar

CHUNK = 512  # comparisons tokenized at once: only token ids are kept, never all padded texts


@dataclass(frozen=True, slots=True)
class TokenizedComparisons:
    """Every comparison, tokenized once.

    ids: token ids of all responses, each after its prompt, in one flat array. starts: where each response starts in `ids`,
    and the end. first: the first response of each comparison, and the number of responses. ranks: 0 is best, -1 was not
    ranked. q and outcome: the preference between two responses; 0.5 and zeros for more than two. ratings: NaN where
    missing. num_dropped: comparisons that were left out because they are too long. head_share: how a comparison's weight is
    divided between bootstrapped heads, each row sums to 1; None divides it evenly.
    """

    ids: Int[np.ndarray, " tokens"]
    starts: Int[np.ndarray, " r_plus_1"]
    first: Int[np.ndarray, " c_plus_1"]
    ranks: Int[np.ndarray, " r"]
    q: Float[np.ndarray, " c"]
    margin: Float[np.ndarray, " c"]
    outcome: Float[np.ndarray, "c 3"]
    weight: Float[np.ndarray, " c"]
    group: tuple[str, ...]
    ratings: Float[np.ndarray, "r a"]
    num_dropped: int
    head_share: Float[np.ndarray, "c h"] | None = None

    def __len__(self) -> int:
        return len(self.weight)

    def response_ids(self, response: int) -> np.ndarray:
        """Token ids of one response after its prompt."""
        return self.ids[self.starts[response] : self.starts[response + 1]]

    def texts(self, comparison: int) -> list[np.ndarray]:
        """Token ids of each response of a comparison, each after its prompt."""
        return [self.response_ids(i) for i in range(self.first[comparison], self.first[comparison + 1])]

    def select(self, rows: Int[np.ndarray, " m"]) -> TokenizedComparisons:
        """Some of the comparisons."""
        spans = [np.arange(self.first[row], self.first[row + 1]) for row in rows]
        responses = np.concatenate(spans)
        ids = [self.response_ids(response) for response in responses]
        return dataclasses.replace(
            self,
            ids=np.concatenate(ids),
            starts=_offsets([len(one) for one in ids]),
            first=_offsets([len(span) for span in spans]),
            ranks=self.ranks[responses],
            ratings=self.ratings[responses],
            group=tuple(self.group[row] for row in rows),
            head_share=None if self.head_share is None else self.head_share[rows],
            **{name: getattr(self, name)[rows] for name in ("q", "margin", "outcome", "weight")},
        )


def tokenize_comparisons(
    text: ChatTokenizer,
    comparisons: Sequence[Comparison],
    options: TrainOptions,
    attributes: Sequence[str] = (),
    bootstrapped_heads: int = 0,
) -> TokenizedComparisons:
    """Tokenize, apply the truncation policy, and refuse what cannot be trained on.

    With `bootstrapped_heads`, each head sees a bootstrap sample of its own; comparisons in none of them are left out.

    Raises GuerdonError, with counts, for texts longer than the model's max_length (truncation "refuse"), for responses that
    are identical after truncation, for preferences the loss cannot use, and when no comparison is left.
    """
    builder = _Builder(text, options, attributes)
    bar = ProgressBar(len(comparisons), "tokens", "comparisons")
    for start in range(0, len(comparisons), CHUNK):
        chunk = comparisons[start : start + CHUNK]
        builder.add(chunk)
        bar.advance(len(chunk))
    bar.close()
    table = builder.build()
    if not bootstrapped_heads:
        return table
    return bootstrap_comparisons(table, [c.id for c in builder.kept], bootstrapped_heads, options.seed)


def bootstrap_comparisons(
    table: TokenizedComparisons, ids: Sequence[str], heads: int, seed: int
) -> TokenizedComparisons:
    """The comparisons with their weights multiplied by their mean count over the heads' bootstrap samples."""
    counts = bootstrap_counts(ids, heads, seed)
    mean = counts.mean(axis=1)
    drawn = np.flatnonzero(mean > 0)
    if not len(drawn):
        raise GuerdonError(
            f"train.bootstrap=True: the bootstrap sample must hold a comparison, got none of {len(ids)}. "
            "Give more comparisons, or another train.seed."
        )
    share = counts / np.where(mean > 0, mean * heads, 1.0)[:, None]
    return dataclasses.replace(table, weight=table.weight * mean, head_share=share).select(drawn)


def bootstrap_counts(ids: Sequence[str], heads: int, seed: int) -> Float[np.ndarray, "c h"]:
    """How often each head's bootstrap sample holds each comparison: Poisson draws of mean 1, by a hash of seed, head and id.

    The online bootstrap (Oza & Russell 2001): a comparison's count depends on nothing but itself, so batches, processes and
    other comparisons do not change it. Head i of seed s draws as head 0 of seed s + i.
    """
    keys = [[f"{seed + head}\0{id}".encode("utf-8", "surrogatepass") for head in range(heads)] for id in ids]
    hashes = [[int.from_bytes(hashlib.sha256(key).digest()[:8]) for key in row] for row in keys]
    uniform = (np.array(hashes, dtype=np.float64).reshape(len(ids), heads) + 0.5) / 2.0**64
    counts: np.ndarray = poisson.ppf(np.minimum(uniform, 1 - 1e-12), 1.0)
    return counts


class _Builder:
    """Collects the columns of TokenizedComparisons chunk by chunk."""

    def __init__(self, text: ChatTokenizer, options: TrainOptions, attributes: Sequence[str]) -> None:
        self.text, self.options, self.attributes = text, options, list(attributes)
        self.ids: list[np.ndarray] = []
        self.lengths: list[int] = []  # of each response
        self.sizes: list[int] = []  # responses of each comparison
        self.too_long: dict[
            str, int
        ] = {}  # tokens of the longest response of each comparison that is too long, by its row
        self.identical: list[str] = []  # locations or ids of comparisons whose responses are the same to the model
        self.kept: list[Comparison] = []
        self.num_dropped = self.num_seen = 0
        # Encodes texts of any length: under "refuse" the error at the end counts all of them.
        self.encoder = ChatTokenizer(text.tokenizer, 10**9, "left", text.template, text.system, text.encoder)

    def add(self, comparisons: Sequence[Comparison]) -> None:
        prompts = [c.prompt for c in comparisons for _ in c.responses]
        encoded = iter(self.encoder.encode(prompts, [r for c in comparisons for r in c.responses]))
        for comparison in comparisons:
            _check_preference(comparison, self.options, self.attributes)
            self._add_one(comparison, [next(encoded).ids for _ in comparison.responses])

    def _add_one(self, comparison: Comparison, rows: list[np.ndarray]) -> None:
        self.num_seen += 1
        longest = max(map(len, rows))
        if longest > self.text.max_length:
            self.too_long[comparison.prompt.location or comparison.id] = longest
            if self.text.truncation != "left":
                self.num_dropped += 1
                return
            rows = [self.text.truncate(row).ids for row in rows]
        if self.options.loss not in LOSSES_OF_RATINGS and all(np.array_equal(rows[0], row) for row in rows[1:]):
            self.identical.append(comparison.prompt.location or comparison.id)
            return
        self.ids += rows
        self.lengths += map(len, rows)
        self.sizes.append(len(rows))
        self.kept.append(comparison)

    def build(self) -> TokenizedComparisons:
        self._check()
        ratings = [
            [response.ratings.get(name, math.nan) for name in self.attributes]
            for comparison in self.kept
            for response in comparison.responses
        ]
        return TokenizedComparisons(
            ids=np.concatenate(self.ids),
            starts=_offsets(self.lengths),
            first=_offsets(self.sizes),
            ranks=np.array([rank for c in self.kept for rank in c.ranks], dtype=np.int64),
            q=np.array([0.5 if c.q is None else c.q for c in self.kept]),
            margin=np.array([_margin(c, self.options) for c in self.kept]),
            outcome=np.array([_outcome(c) for c in self.kept]).reshape(-1, 3),
            weight=np.array([c.weight for c in self.kept]),
            group=tuple(c.group for c in self.kept),
            ratings=np.array(ratings, dtype=np.float64).reshape(sum(self.sizes), len(self.attributes)),
            num_dropped=self.num_dropped,
        )

    def _check(self) -> None:
        """Raise GuerdonError for what is wrong with the comparisons as a whole."""
        if self.too_long and self.text.truncation == "refuse":
            longest = max(self.too_long.values())
            raise GuerdonError(
                f"model.max_length={self.text.max_length}: comparisons must not be longer, got {len(self.too_long)} of "
                f"{self.num_seen} that {verb(len(self.too_long), 'are')} (longest {longest} tokens; first {next(iter(self.too_long))}). "
                f"Set model.max_length={longest} if the model's context allows it, or model.truncation=drop or left."
            )
        if self.identical:
            raise GuerdonError(
                f"responses must differ as the model sees them, got {len(self.identical)} of {counted(self.num_seen, 'comparison')} "
                f"with identical responses (first {self.identical[0]}). Drop them (`guerdon check` lists them), or raise "
                "model.max_length if truncation made them identical."
            )
        if not self.kept:
            raise GuerdonError(
                f"training needs at least one comparison, got {self.num_seen}, of which {self.num_dropped} "
                f"{verb(self.num_dropped, 'are')} too long. "
                "Give more, or raise model.max_length."
            )
        if self.options.loss not in (*LOSSES_OF_RATINGS, "rao_kupper") and all(
            len(set(c.ranks)) == 1 for c in self.kept
        ):
            raise GuerdonError(
                f"comparisons must have a preferred response, got {len(self.kept)} that {verb(len(self.kept), 'are')} all ties. "
                "Add some that have one, or use train.loss=rao_kupper."
            )


def _margin(comparison: Comparison, options: TrainOptions) -> float:
    """Signed nats by which the first response should lead: the preference's strength, toward the better response."""
    strength, q = comparison.preference.strength, comparison.q
    if not options.margin_scale or strength is None or q is None:
        return 0.0
    return options.margin_scale * strength * float(np.sign(q - 0.5))


def _outcome(comparison: Comparison) -> tuple[float, float, float]:
    """P(first better), P(tie), P(second better): from counted votes if there are any, else from the preference."""
    votes, q = comparison.preference.votes, comparison.q
    if votes is not None and any(votes):
        total = votes[0] + votes[1] + votes[2]
        return votes[0] / total, votes[1] / total, votes[2] / total
    if q is None:
        return 0.0, 0.0, 0.0
    return (0.0, 1.0, 0.0) if q == 0.5 else (q, 0.0, 1.0 - q)


def _check_preference(comparison: Comparison, options: TrainOptions, attributes: Sequence[str]) -> None:
    """Raise GuerdonError for a comparison that the loss cannot use."""
    num_responses = len(comparison.responses)
    if options.loss in ("bradley_terry", "rao_kupper") and num_responses > 2:
        raise GuerdonError(
            f"comparison {comparison.id}: train.loss={options.loss} must have 2 responses, got {num_responses}. "
            "Use train.loss=plackett_luce or all_pairs."
        )
    q = comparison.preference.q
    if options.loss in ("plackett_luce", "all_pairs") and q not in (None, 0.0, 0.5, 1.0):
        raise GuerdonError(
            f"comparison {comparison.id}: train.loss={options.loss} must have a ranking, got a soft label q={q}. "
            "Use train.loss=bradley_terry."
        )
    if options.loss in LOSSES_OF_RATINGS:
        _check_ratings(comparison, options.loss, attributes)


def _check_ratings(comparison: Comparison, loss: str, attributes: Sequence[str]) -> None:
    ratings = [r.ratings[name] for r in comparison.responses for name in attributes if name in r.ratings]
    if not ratings:
        rated = sorted({name for response in comparison.responses for name in response.ratings})
        raise GuerdonError(
            f"comparison {comparison.id}: responses must be rated for one of model.attributes={list(attributes)}, "
            f"got {f'ratings for {visible(str(rated))}' if rated else 'no rating'}. Name attributes that are rated."
        )
    if loss == "cross_entropy" and (beyond := [rating for rating in ratings if not 0 <= rating <= 1]):
        raise GuerdonError(
            f"comparison {comparison.id}: train.loss=cross_entropy must have ratings in [0, 1], got {beyond[0]:g}. "
            "Use train.loss=attributes, or scale the ratings."
        )


def _offsets(sizes: Sequence[int]) -> Int[np.ndarray, " n_plus_1"]:
    """Where each of several parts starts when they lie one after the other, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
