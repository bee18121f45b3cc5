"""OpenRLHF's POST /get_reward: texts in, `rewards` and `scores` out.

`scores` feeds its dynamic filtering, which expects 0 to 1 unless told otherwise; like OpenRLHF's own server, ours gives the
rewards in both. Uncertainty goes to extra_logs, which its trainer logs.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from guerdon.runtime.web.json_response import json_response
from guerdon.serving.dialects.common import Body, rendered_items, service_of

router = APIRouter()


class RewardRequest(Body):
    """A request: the whole texts, with special tokens. prompts and labels are not needed."""

    query: list[str] = Field(min_length=1)
    prompts: list[Any] | None = None
    labels: list[Any] | None = None


@router.post("/get_reward")
async def get_reward(request: Request, body: RewardRequest) -> Response:
    """Rewards of texts that the policy's tokenizer decoded."""
    answer = await service_of(request).score(request, rendered_items(body.query))
    scores = answer.scores()
    logs: dict[str, list[float]] = {}
    for name in ("std", "shift_p"):
        values = [value for outcome in answer.outcomes if (value := getattr(outcome, name)) is not None]
        if len(values) == len(scores):
            logs[f"reward_{name}"] = values
    return json_response({"rewards": scores, "scores": scores, "extra_logs": logs})
