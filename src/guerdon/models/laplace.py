"""How sure one reward model may be, measured once and kept beside its weights: Laplace on its head, distance from its data.

Axes: n texts, h features (what the head reads of a text: its last token's hidden state), m held-out replies. Doubt is in the
model's raw units of reward, float64; a calibration scales it as it scales the reward.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from guerdon.contracts import (
    GuerdonError,
    Rollouts,
    digest,
    digest_all,
    prompt_digest,
    response_identity,
)
from guerdon.formulas.uncertainty import (
    Moments,
    cholesky,
    conformal_p,
    effective_parameters,
    fit_prior_precision,
    laplace_information,
    laplace_variance,
    ledoit_wolf,
    mahalanobis,
    moments,
)
from guerdon.models.directory import layout
from guerdon.models.engine.modules import unwrap_peft
from guerdon.models.scored_pairs import comparable_pairs

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.config import UncertaintyOptions
    from guerdon.contracts import Comparison, PromptLike, ResponseLike
    from guerdon.models.reward_model import ScalarRewardModel
    from guerdon.models.scored_pairs import Progress

log = logging.getLogger("guerdon")

# In a folder of its own: vLLM and SGLang read every *.safetensors beside the weights as weights.
PLACE: Final = Path("guerdon") / "uncertainty.safetensors"
VERSION: Final = 1
ALARM: Final = 0.05  # the false-alarm rate that held-out replies must be able to tell
CHUNK: Final = 256  # comparisons read at once
REMEDY: Final = "`guerdon uncertainty MODEL --data train.jsonl --held-out calibrate.jsonl`"


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """What the training data say about the head and about where they lie.

    mean: mean feature of the training replies. precision: lower Cholesky factor of the head's posterior precision.
    covariance: that of the replies' shrunk covariance. distance, weight: Mahalanobis distance of the held-out replies, in
    ascending order, and the share each is of its group. fingerprint: of the weights and the template they belong to.
    """

    mean: Float[np.ndarray, " h"]
    precision: Float[np.ndarray, "h h"]
    covariance: Float[np.ndarray, "h h"]
    distance: Float[np.ndarray, " m"]
    weight: Float[np.ndarray, " m"]
    fingerprint: str
    provenance: Mapping[str, Any]

    def std(self, features: Float[np.ndarray, "n h"]) -> Float[np.ndarray, " n"]:
        """Spread of each reward relative to that of the mean training reply, raw units."""
        return self.margin_std(features - self.mean)

    def margin_std(self, difference: Float[np.ndarray, "n h"]) -> Float[np.ndarray, " n"]:
        """Spread of each margin, raw units, from the difference between the features of its two responses."""
        spread: np.ndarray = np.sqrt(laplace_variance(np.asarray(difference, np.float64), self.precision))
        return spread

    def shift_p(self, features: Float[np.ndarray, "n h"]) -> Float[np.ndarray, " n"]:
        """p-value of each text being like the held-out ones."""
        return conformal_p(mahalanobis(features, self.mean, self.covariance), self.distance, self.weight)


def features(
    model: ScalarRewardModel, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike], progress: Any = None
) -> Float[np.ndarray, "n h"]:
    """What the model's head reads of each text, float32. `progress` is told how many were done after each batch."""
    return model.read(prompts, responses, progress)[1]


def fit_uncertainty(
    model: ScalarRewardModel,
    comparisons: Sequence[Comparison],
    held_out: Sequence[Comparison] | Rollouts,
    options: UncertaintyOptions,
    *,
    progress: Progress | None = None,
) -> Uncertainty:
    """What the comparisons that the model was trained on make it sure of, and how far replies that belong in lie from them.

    `held_out` are comparisons, or replies of a policy, that were not trained on but are of the same kind. Every text is
    read once; memory grows with h^2 and with the number of held-out replies, not with the number of comparisons. Of more
    than options.most comparisons a part is drawn by hash of the group, and counted for all.
    """
    _refuse_unsuited(model)
    chosen = _drawn(comparisons, options.most)
    replies = _replies(held_out)
    groups = _own_groups(comparisons, replies)
    if model.card.data_hash and model.card.data_hash != digest_all(map(repr, comparisons)):
        log.warning(
            "these are not exactly the comparisons that the model was trained on; what it is unsure of may differ"
        )
    total, done = len(chosen) + len(replies), 0

    # 1. What the training comparisons tell of the head, and where their replies lie
    information: np.ndarray | None = None
    sums: Moments | None = None
    pairs = 0
    for start in range(0, len(chosen), CHUNK):
        part = chosen[start : start + CHUNK]
        found, margin, difference, weight = _read_chunk(model, part)
        if sums is None:
            pivot, scale = _center(found)
        told = laplace_information(difference, margin, weight)
        seen = moments(found, pivot, scale)
        information, sums = (told, seen) if information is None or sums is None else (information + told, sums + seen)
        pairs, done = pairs + len(margin), done + len(part)
        if progress:
            progress(done, total)
    if information is None or sums is None or pairs == 0:
        raise GuerdonError(
            "uncertainty: no comparable pair; remedy: give the comparisons that the model was trained on"
        )
    information *= sum(c.weight for c in comparisons) / sum(c.weight for c in chosen)

    # 2. The prior, the posterior, the shape of the data
    prior = options.prior_precision or _fitted_prior(information, _head(model))
    precision = cholesky(information + prior * np.eye(len(information)))
    shrunk = ledoit_wolf(sums)
    covariance = cholesky(shrunk.covariance)

    # 3. How far replies lie that belong in
    distance = np.empty(len(replies))
    for start in range(0, len(replies), CHUNK):
        rows = replies[start : start + CHUNK]
        found = features(model, [prompt for prompt, _, _ in rows], [response for _, response, _ in rows])
        distance[start : start + len(rows)] = mahalanobis(found, sums.mean, covariance)
        if progress:
            progress(done + start + len(rows), total)
    _, place, size = np.unique([group for _, _, group in replies], return_inverse=True, return_counts=True)
    order = np.argsort(distance, kind="stable")

    provenance = {
        "comparisons": len(comparisons),
        "comparisons_read": len(chosen),
        "comparisons_hash": digest_all(c.id for c in comparisons),
        "replies": sums.num_rows,
        "features": len(sums.mean),
        "held_out_replies": len(replies),
        "held_out_groups": groups,
        "held_out_hash": digest_all(digest([group, response_identity(response)]) for _, response, group in replies),
        "prior_precision": prior,
        "directions_decided": effective_parameters(information, prior),
        "shrinkage": shrunk.shrinkage,
    }
    return Uncertainty(
        sums.mean, precision, covariance, distance[order], (1.0 / size)[place][order], identity(model), provenance
    )


def identity(model: ScalarRewardModel) -> str:
    """Of the weights and the template, whatever number type the backbone was loaded in: rounded to bfloat16 it is the same."""
    import torch

    plain = unwrap_peft(model.network.classifier)
    total = hashlib.sha256(model.text.template_hash.encode())
    for name, value in plain.named_parameters():
        rounded = value.detach().flatten()[:64].cpu().to(torch.bfloat16).view(torch.int16)
        total.update(name.encode() + rounded.numpy().tobytes())
    total.update(_head(model).astype(np.float32).tobytes())
    return total.hexdigest()[:16]


# ---- On disk -----------------------------------------------------------------------------------------------------


def to_bytes(uncertainty: Uncertainty) -> bytes:
    """The file's content: five tensors, and the rest as JSON in its header."""
    from safetensors.numpy import save

    header = {
        "version": VERSION,
        "fingerprint": uncertainty.fingerprint,
        "provenance": dict(uncertainty.provenance),
    }
    tensors = {name: np.ascontiguousarray(getattr(uncertainty, name), np.float64) for name in TENSORS}
    return save(tensors, {"guerdon": json.dumps(header)})


def write(uncertainty: Uncertainty, folder: Path) -> None:
    """Write the file into a model's directory that is being made."""
    (folder / PLACE).parent.mkdir(exist_ok=True)
    (folder / PLACE).write_bytes(to_bytes(uncertainty))


def read(folder: str | Path) -> Uncertainty | None:
    """What a model's directory holds; None where it holds none."""
    from safetensors import SafetensorError, safe_open

    place = Path(folder) / PLACE
    if not place.is_file():
        return None
    try:
        with safe_open(str(place), framework="numpy") as file:
            header = json.loads((file.metadata() or {})["guerdon"])
            version = header["version"]
            tensors = {name: file.get_tensor(name) for name in TENSORS} if version == VERSION else {}
            fingerprint, provenance = str(header["fingerprint"]), dict(header["provenance"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise GuerdonError(
            f"{place}: is not readable ({what}); remedy: delete it, or write it again with {REMEDY}"
        ) from None
    if version != VERSION:
        raise GuerdonError(
            f"{place}: version is {VERSION} here, got {version!r}; remedy: install the Guerdon that wrote it"
        )
    return Uncertainty(**tensors, fingerprint=fingerprint, provenance=provenance)


def read_for(model: ScalarRewardModel, folder: str | Path) -> Uncertainty | None:
    """What the directory holds for this model; one that belongs to other weights or another template is refused."""
    found = read(folder)
    if found is not None and found.fingerprint != identity(model):
        raise GuerdonError(
            f"{Path(folder) / PLACE}: was measured on other weights or with another chat template; "
            f"remedy: delete it, or measure again with {REMEDY}"
        )
    if found is None and model.card.uncertainty:
        log.warning("%s: is not there though reward.json names it; scores come without std and shift_p", PLACE)
    return found


TENSORS: Final = ("mean", "precision", "covariance", "distance", "weight")


# ---- What is read ------------------------------------------------------------------------------------------------


def _read_chunk(
    model: ScalarRewardModel, comparisons: Sequence[Comparison]
) -> tuple[Float[np.ndarray, "n h"], Float[np.ndarray, " p"], Float[np.ndarray, "p h"], Float[np.ndarray, " p"]]:
    """Features of every reply; margins, differences of features and weights of the comparable pairs among them."""
    scores, found = model.read(
        [c.prompt for c in comparisons for _ in c.responses], [r for c in comparisons for r in c.responses]
    )
    first, second, weight, start = [], [], [], 0
    for comparison in comparisons:
        pairs = [(i, j) for i, j, _ in comparable_pairs(comparison)]
        first += [start + i for i, _ in pairs]
        second += [start + j for _, j in pairs]
        weight += [comparison.weight / len(pairs)] * len(pairs)
        start += len(comparison.responses)
    wide = found.astype(np.float64)
    a, b = np.array(first, dtype=np.int64), np.array(second, dtype=np.int64)
    return wide, scores.value[a] - scores.value[b], wide[a] - wide[b], np.array(weight, dtype=np.float64)


def _center(rows: Float[np.ndarray, "n h"]) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, " h"]]:
    """A vector near the mean and one near the spread of each feature; those that hardly vary get a thousandth of the mean's."""
    spread = rows.std(axis=0)
    if not spread.any():
        raise GuerdonError(
            f"uncertainty: {len(rows)} replies look all the same to the model's head; remedy: check the model with `guerdon doctor`"
        )
    return rows.mean(axis=0), np.maximum(spread, 1e-3 * spread.mean())


def _head(model: ScalarRewardModel) -> Float[np.ndarray, " h"]:
    """The direction in which a reward grows; of rated attributes, that of their mixture."""
    weight = layout.linear_head(model.network.classifier).weight
    mixture = np.asarray(model.card.attribute_weights or [1.0], dtype=np.float64)
    direction: np.ndarray = mixture @ weight.detach().cpu().double().numpy()
    return direction


def _fitted_prior(information: Float[np.ndarray, "h h"], head: Float[np.ndarray, " h"]) -> float:
    try:
        return fit_prior_precision(information, head)
    except ValueError as error:
        raise GuerdonError(
            f"uncertainty: {error}: the model is sure of every comparison, or of none; remedy: uncertainty.prior_precision={len(head)}"
        ) from None


def _drawn(comparisons: Sequence[Comparison], most: int) -> list[Comparison]:
    """At most so many comparisons, by hash of their group, those of a group one after the other."""
    by_hash = sorted(comparisons, key=lambda c: (digest(c.group), c.id))
    return by_hash[:most]


_Reply = tuple[Any, Any, str]  # prompt, response, group


def _replies(held_out: Sequence[Comparison] | Rollouts) -> list[_Reply]:
    if isinstance(held_out, Rollouts):
        return [(p, r, prompt_digest(p)) for p, r in zip(held_out.prompts, held_out.responses, strict=True)]
    return [(c.prompt, response, c.group) for c in held_out for response in c.responses]


def _own_groups(comparisons: Sequence[Comparison], replies: Sequence[_Reply]) -> int:
    """Number of held-out groups, which must be enough to tell a rare reply, and none of them trained on."""
    groups = {group for _, _, group in replies}
    if both := groups & {c.group for c in comparisons}:
        raise GuerdonError(
            f"uncertainty: {len(both)} of {len(groups)} held-out groups are among the training comparisons; "
            "remedy: hold out the part that `guerdon split` calls calibrate"
        )
    least = round(1 / ALARM) - 1
    if len(groups) < least:
        raise GuerdonError(
            f"uncertainty: {len(groups)} held-out groups cannot tell 1 reply in {least + 1}; remedy: hold out {least} or more"
        )
    return len(groups)


def _refuse_unsuited(model: ScalarRewardModel) -> None:
    if model.network.encoder:
        raise GuerdonError(
            "uncertainty: this model's family pools the text in a way of its own, so its head reads no last token; "
            "remedy: a causal model, or the spread of an ensemble"
        )
    if model.heads > 1:
        raise GuerdonError(
            f"uncertainty: {model.heads} heads have their spread, and this is for one; remedy: measure a member, or read its std"
        )
    if unwrap_peft(model.network.classifier) is not model.network.classifier:
        raise GuerdonError("uncertainty: the adapters are not folded in yet; remedy: save the model and load it")
