"""POST /v1/reward: ours. The one that tells everything that is known of a reward."""

from __future__ import annotations

import math
import uuid

from fastapi import APIRouter, Request

from guerdon.errors import field_error
from guerdon.serving.dialects.common import conversation, service_of
from guerdon.serving.models import Outcome, abstains
from guerdon.serving.reading import Item
from guerdon.serving.schema import PATH, RewardItem, RewardRequest, RewardResponse, RewardResult, Usage

router = APIRouter()
FORMS = "Give prompt and response, messages, text, or input_ids."


@router.post(PATH)
async def reward(request: Request, body: RewardRequest) -> RewardResponse:
    """Rewards, each with its uncertainty where it was measured. A text without a reward has an error instead."""
    service = service_of(request)
    queue = service.queue(body.model)
    max_length = queue.model.max_length if body.truncate else None
    items = [_item(f"items[{i}]", item, max_length) for i, item in enumerate(body.items)]
    if body.kl is not None and len(body.kl) != len(items):
        raise field_error("kl", f"one number for each of {len(items)} items", len(body.kl), "Send as many.")
    answer = await service.score(request, items, body.model, body.deadline, step=body.step, kl=body.kl)
    below, above = service.options.abstain_below, service.options.abstain_std
    return RewardResponse(
        id=f"reward-{uuid.uuid4().hex}",
        model=answer.model.name,
        results=[_result(i, outcome, below, above) for i, outcome in enumerate(answer.outcomes)],
        usage=Usage(tokens=answer.tokens),
    )


def _item(place: str, item: RewardItem, max_length: int | None) -> Item:
    row = {name: value for name in RewardItem.model_fields if (value := getattr(item, name)) is not None}
    forms: list[str] = [name for name in ("text", "input_ids", "messages") if name in row]
    forms += ["prompt and response"] if {"prompt", "response"} & set(row) else []
    if len(forms) != 1 or (forms[0] in ("text", "input_ids") and len(row) > 1):
        raise field_error(place, "one text in one form", " and ".join(row) or None, FORMS)
    if item.text is not None:
        return Item(place, text=item.text, max_length=max_length)
    if item.input_ids is not None:
        return Item(place, ids=tuple(item.input_ids), max_length=max_length)
    return conversation(place, row, max_length)


def _result(index: int, outcome: Outcome, below: float, above: float | None) -> RewardResult:
    return RewardResult(
        index=index,
        score=outcome.score,
        probability=None if outcome.score is None else probability(outcome.score),
        std=outcome.std,
        members=None if outcome.members is None else list(outcome.members),
        shift_p=outcome.shift_p,
        attributes=dict(outcome.attributes) or None,
        truncated=outcome.truncated,
        abstain=abstains(outcome, below, above),
        tokens=outcome.tokens,
        error=outcome.error,
    )


def probability(score: float) -> float:
    """That a reply with this reward beats one at the reference mean: the logistic function."""
    return 1 / (1 + math.exp(-score)) if score >= 0 else 1 - 1 / (1 + math.exp(score))
