"""A model whose calibration is in the weights of its head, for readers that know no calibration; heads on one backbone become one.

Calibration is affine in the raw rewards, and so is the mean of heads, their scale included. The slopes go into the head. The constant
cannot: a saved head has no bias, because plain transformers drops it. It stays in reward.json, and moves every reward by the same
amount, which no comparison, and no policy that is trained against the reward, depends on.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from guerdon.contracts import GuerdonError, Scores
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.engine.classifier import linear_head, merge_adapters, set_head
from guerdon.models.ensemble import Ensemble
from guerdon.models.reward_model import ScalarNetwork, ScalarRewardModel

if TYPE_CHECKING:
    from jaxtyping import Float

ROUNDING = 1e-9


def baked(model: CalibratedModel, name: str) -> CalibratedModel:
    """The same rewards in nats, with temperature 1, from one head, which replaces the model's own. name: of the model, for errors.

    Raises GuerdonError for what is not affine in the output of one backbone. What was measured of the uncertainty is left out.
    """
    scalar = _single_network(model, name)
    if scalar.card.attributes:
        raise GuerdonError(
            f"{name}: must have one label, got {len(scalar.card.attributes)} attributes. Serve it with Guerdon."
        )
    if scalar.network.encoder:
        raise GuerdonError(
            f"{name}: must be a causal model, whose head is linear, got an encoder. Serve it with Guerdon."
        )
    slopes, constant = _affine(model, scalar.heads)
    classifier = merge_adapters(scalar.network.classifier)
    head = linear_head(classifier)
    weight = torch.from_numpy(slopes) @ head.weight.detach().double().cpu()
    if head.bias is not None:
        constant += float(torch.from_numpy(slopes) @ head.bias.detach().double().cpu())
    set_head(classifier, weight[None].to(head.weight), None)
    calibration = _in_new_units(model.calibration, slopes, constant)
    card = dataclasses.replace(scalar.card, calibration=calibration, uncertainty={}, self_test=())
    single = ScalarRewardModel(ScalarNetwork(classifier, encoder=False), scalar.text, card)
    return CalibratedModel(single.with_card(self_test=_self_test(single, scalar.card.self_test)), calibration)


def _single_network(model: CalibratedModel, name: str) -> ScalarRewardModel:
    inner = model.model
    if isinstance(inner, Ensemble):
        if len(inner.models) > 1:
            raise GuerdonError(
                f"{name}: the members must share one backbone, got {len(inner.models)} of them. Serve it with Guerdon."
            )
        if inner.rule.name != "mean":
            raise GuerdonError(
                f"{name}: the rule must be mean, which is linear, got {inner.rule.name}. Serve it with Guerdon."
            )
        (member,) = inner.models
        inner = member.model if isinstance(member, CalibratedModel) else member
    if not isinstance(inner, ScalarRewardModel):
        raise GuerdonError(f"{name}: must be a model that Guerdon saved, got {type(inner).__name__}. Save it first.")
    return inner


def _affine(model: CalibratedModel, heads: int) -> tuple[Float[np.ndarray, " k"], float]:
    """Slopes and constant of the reward as a function of the raw outputs of the heads."""
    at_zero, *at_units, at_two = _rewards(model, np.vstack([np.zeros(heads), np.eye(heads), np.full(heads, 2.0)]))
    slopes = np.array(at_units) - at_zero
    assert abs(at_zero + 2 * slopes.sum() - at_two) < ROUNDING * (1 + abs(at_two)), (
        "the reward must be affine in its heads"
    )
    return slopes, float(at_zero)


def _rewards(model: CalibratedModel, raw: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """The rewards of texts whose heads give these numbers."""
    members = raw.T.copy()
    scores = Scores(members.mean(0), np.zeros(len(raw), bool), members=members if len(members) > 1 else None)
    inner = model.model
    if isinstance(inner, Ensemble):
        (member,) = inner.models
        scores = inner.combine([member.in_nats(scores) if isinstance(member, CalibratedModel) else scores])
    return model.in_nats(scores).value


def _in_new_units(old: Calibration, slopes: Float[np.ndarray, " k"], constant: float) -> Calibration:
    """Temperature 1 and the constant; the spread of the reference policy in nats."""
    spread = old.reference_spread / old.temperature
    return dataclasses.replace(old, temperature=1.0, reference_mean=-constant, reference_spread=spread)


def _self_test(
    model: ScalarRewardModel, rows: tuple[tuple[str, str, float], ...]
) -> tuple[tuple[str, str, float], ...]:
    """The stored texts with the scores of the new head."""
    if not rows:
        return ()
    values = model.score([row[0] for row in rows], [row[1] for row in rows]).value
    return tuple((prompt, response, float(value)) for (prompt, response, _), value in zip(rows, values, strict=True))
