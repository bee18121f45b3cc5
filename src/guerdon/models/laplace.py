"""Measure how uncertain a reward model is: a Laplace approximation on its head, and the distance of texts from its data.

Axes: n texts, h features (what the head reads of a text), p pairs. Spreads are in the model's raw reward units, float64.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from guerdon.contracts import GuerdonError, Rollouts, digest, digest_all, prompt_digest, response_identity
from guerdon.errors import verb
from guerdon.formulas.uncertainty import (
    Moments,
    cholesky,
    effective_parameters,
    fit_prior_precision,
    laplace_information,
    ledoit_wolf,
    mahalanobis,
    moments,
)
from guerdon.io.schema import comparisons_digest
from guerdon.models.engine.classifier import linear_head
from guerdon.models.engine.modules import unwrap_peft
from guerdon.models.fingerprint import rounded_fingerprint, sampled_fingerprint, tokenizer_fingerprint
from guerdon.models.scored_pairs import comparable_pairs
from guerdon.models.uncertainty import Uncertainty

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.config import UncertaintyOptions
    from guerdon.contracts import Comparison, PromptLike, ResponseLike
    from guerdon.models.reward_model import ScalarRewardModel
    from guerdon.progress import Progress

log = logging.getLogger("guerdon")

FALSE_ALARM_RATE: Final = 0.05  # held-out groups must be enough to resolve it
CHUNK: Final = 256  # comparisons read at once

_Reply = tuple[Any, Any, str]  # prompt, response, group


def fit_uncertainty(
    model: ScalarRewardModel,
    comparisons: Sequence[Comparison],
    held_out: Sequence[Comparison] | Rollouts,
    options: UncertaintyOptions,
    *,
    progress: Progress | None = None,
) -> Uncertainty:
    """The uncertainty that the training comparisons leave in the model's head, and the distances of held-out replies.

    `held_out` are comparisons, or replies of a policy, of the same kind that were not trained on. Every text is read once;
    memory grows with h^2 and with the number of held-out replies, not with the number of comparisons. Of more than options.most
    comparisons a sample is drawn by hash of the group, and weighted up to stand for all.
    """
    _refuse_unsupported(model)
    sample = _sample_by_hash(comparisons, options.most)
    replies = _replies(held_out)
    num_groups = _count_held_out_groups(comparisons, replies)
    if model.card.data_hash and model.card.data_hash != comparisons_digest(comparisons):
        log.warning(
            "these are not exactly the comparisons that the model was trained on; its uncertainty may differ from what is measured"
        )
    total = len(sample) + len(replies)

    def advance(done: int) -> None:
        if progress:
            progress(done, total)

    # 1. What the training comparisons say about the head, and the distribution of their replies' features
    statistics = _training_statistics(model, sample, advance)
    information = statistics.information * (sum(c.weight for c in comparisons) / sum(c.weight for c in sample))

    # 2. The prior, the posterior, the shape of the data
    prior = options.prior_precision or _fit_prior(information, head_direction(model))
    precision = cholesky(information + prior * np.eye(len(information)))
    shrunk = ledoit_wolf(statistics.moments)
    covariance = cholesky(shrunk.covariance)

    # 3. The distances of in-distribution replies
    mean = statistics.moments.mean
    distance = _distances(model, replies, mean, covariance, lambda done: advance(len(sample) + done))
    _, group_index, group_size = np.unique([group for _, _, group in replies], return_inverse=True, return_counts=True)
    order = np.argsort(distance, kind="stable")
    provenance = {
        "comparisons": len(comparisons),
        "comparisons_read": len(sample),
        "comparisons_hash": digest_all(c.id for c in comparisons),
        "replies": statistics.moments.num_rows,
        "features": len(mean),
        "held_out_replies": len(replies),
        "held_out_groups": num_groups,
        "held_out_hash": digest_all(digest([group, response_identity(response)]) for _, response, group in replies),
        "prior_precision": prior,
        "directions_decided": effective_parameters(information, prior),
        "shrinkage": shrunk.shrinkage,
    }
    weight = (1.0 / group_size)[group_index]
    return Uncertainty(
        mean, precision, covariance, distance[order], weight[order], uncertainty_fingerprint(model), provenance
    )


def features(
    model: ScalarRewardModel, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]
) -> Float[np.ndarray, "n h"]:
    """What the model's head reads of each text, float32."""
    return model.score_with_features(prompts, responses)[1]


def head_direction(model: ScalarRewardModel) -> Float[np.ndarray, " h"]:
    """The direction in feature space in which the reward grows; of rated attributes, that of their weighted sum."""
    weight = linear_head(model.network.classifier).weight
    mixture = np.asarray(model.card.attribute_weights or [1.0], dtype=np.float64)
    direction: np.ndarray = mixture @ weight.detach().cpu().double().numpy()
    return direction


def uncertainty_fingerprint(model: ScalarRewardModel, *, is_sampled: bool = False) -> str:
    """Of the weights, the tokenizer and the template, the same in whatever dtype the backbone was loaded.

    is_sampled: of the first values of each weight only, as format 2 of the file stored it.
    """
    classifier = unwrap_peft(model.network.classifier)
    template, head = model.text.template_hash.encode(), head_direction(model).astype(np.float32).tobytes()
    if is_sampled:
        return sampled_fingerprint(classifier, prefix=template, suffix=head)
    tokenizer = tokenizer_fingerprint(model.text.tokenizer).encode()
    return rounded_fingerprint(classifier, prefix=template + tokenizer, suffix=head)


# ---- Reading texts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _TrainingStatistics:
    """information [h, h]: of the pairs about the head. moments: of the replies' features."""

    information: Float[np.ndarray, "h h"]
    moments: Moments


def _training_statistics(
    model: ScalarRewardModel, comparisons: Sequence[Comparison], advance: Callable[[int], None]
) -> _TrainingStatistics:
    total: _TrainingStatistics | None = None
    num_pairs = 0
    for start in range(0, len(comparisons), CHUNK):
        chunk = comparisons[start : start + CHUNK]
        rows, margin, difference, weight = _read_chunk(model, chunk)
        if total is None:
            pivot, scale = _pivot_and_scale(rows)
        information, sums = laplace_information(difference, margin, weight), moments(rows, pivot, scale)
        total = _TrainingStatistics(
            information if total is None else total.information + information,
            sums if total is None else total.moments + sums,
        )
        num_pairs += len(margin)
        advance(start + len(chunk))
    if total is None or num_pairs == 0:
        raise GuerdonError(
            "uncertainty: the comparisons must hold a comparable pair, got none. "
            "Pass the comparisons that the model was trained on."
        )
    return total


def _read_chunk(
    model: ScalarRewardModel, comparisons: Sequence[Comparison]
) -> tuple[Float[np.ndarray, "n h"], Float[np.ndarray, " p"], Float[np.ndarray, "p h"], Float[np.ndarray, " p"]]:
    """Features of every reply; margins, feature differences and weights of the comparable pairs among them."""
    scores, narrow = model.score_with_features(
        [c.prompt for c in comparisons for _ in c.responses], [r for c in comparisons for r in c.responses]
    )
    first, second, weight, start = [], [], [], 0
    for comparison in comparisons:
        pairs = [(i, j) for i, j, _ in comparable_pairs(comparison)]
        first += [start + i for i, _ in pairs]
        second += [start + j for _, j in pairs]
        weight += [comparison.weight / len(pairs)] * len(pairs)
        start += len(comparison.responses)
    rows = narrow.astype(np.float64)
    a, b = np.array(first, dtype=np.int64), np.array(second, dtype=np.int64)
    return rows, scores.value[a] - scores.value[b], rows[a] - rows[b], np.array(weight, dtype=np.float64)


def _pivot_and_scale(rows: Float[np.ndarray, "n h"]) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, " h"]]:
    """A vector near the mean and one near each feature's spread; features that hardly vary get 1/1000 of the mean spread."""
    spread = rows.std(axis=0)
    if not spread.any():
        raise GuerdonError(
            f"uncertainty: replies must differ in what the model's head reads, got {len(rows)} that {verb(len(rows), 'are')} all the same. "
            "Check the model with `guerdon doctor DIR`."
        )
    return rows.mean(axis=0), np.maximum(spread, 1e-3 * spread.mean())


def _distances(
    model: ScalarRewardModel,
    replies: Sequence[_Reply],
    mean: Float[np.ndarray, " h"],
    covariance: Float[np.ndarray, "h h"],
    advance: Callable[[int], None],
) -> Float[np.ndarray, " m"]:
    """Mahalanobis distance of each reply, in order."""
    distance = np.empty(len(replies))
    for start in range(0, len(replies), CHUNK):
        rows = replies[start : start + CHUNK]
        read = features(model, [prompt for prompt, _, _ in rows], [response for _, response, _ in rows])
        distance[start : start + len(rows)] = mahalanobis(read, mean, covariance)
        advance(start + len(rows))
    return distance


def _fit_prior(information: Float[np.ndarray, "h h"], head: Float[np.ndarray, " h"]) -> float:
    try:
        return fit_prior_precision(information, head)
    except ValueError as error:
        raise GuerdonError(
            f"uncertainty: {error}: the model is certain of every comparison, or of none. "
            f"Set uncertainty.prior_precision={len(head)}."
        ) from None


# ---- The comparisons and replies ---------------------------------------------------------------------------------


def _sample_by_hash(comparisons: Sequence[Comparison], most: int) -> list[Comparison]:
    """At most that many comparisons, by hash of their group; those of one group stand together."""
    by_hash = sorted(comparisons, key=lambda c: (digest(c.group), c.id))
    return by_hash[:most]


def _replies(held_out: Sequence[Comparison] | Rollouts) -> list[_Reply]:
    if isinstance(held_out, Rollouts):
        return [(p, r, prompt_digest(p)) for p, r in zip(held_out.prompts, held_out.responses, strict=True)]
    return [(c.prompt, response, c.group) for c in held_out for response in c.responses]


def _count_held_out_groups(comparisons: Sequence[Comparison], replies: Sequence[_Reply]) -> int:
    """Number of held-out groups. They must be enough to resolve the false-alarm rate, and none may be trained on."""
    groups = {group for _, _, group in replies}
    if shared := groups & {c.group for c in comparisons}:
        raise GuerdonError(
            f"uncertainty: held-out groups must not be trained on, got {len(shared)} of {len(groups)} among the training "
            "comparisons. Hold out the part that `guerdon split` calls calibrate."
        )
    least = round(1 / FALSE_ALARM_RATE) - 1
    if len(groups) < least:
        raise GuerdonError(
            f"uncertainty: held-out groups must be {least} or more to detect 1 reply in {least + 1}, got {len(groups)}. "
            "Hold out more."
        )
    return len(groups)


def _refuse_unsupported(model: ScalarRewardModel) -> None:
    if model.network.encoder:
        raise GuerdonError(
            "uncertainty: the head must read the last token, but this model's family pools the text in its own way. "
            "Choose a causal model, or use the spread of an ensemble."
        )
    if model.heads > 1:
        raise GuerdonError(
            f"uncertainty: the model must have one head, got {model.heads}, which have a spread already. "
            "Measure a single member, or use the ensemble's std."
        )
    if unwrap_peft(model.network.classifier) is not model.network.classifier:
        raise GuerdonError(
            "uncertainty: the adapters must be merged into the weights. Save the model and load it again."
        )
