"""What `POST /v1/reward` takes and gives: the one description that the server, its clients and its documentation share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PATH", "RewardItem", "RewardRequest", "RewardResponse", "RewardResult", "Usage"]

PATH = "/v1/reward"
TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class RewardItem(BaseModel):
    """One text to score, in one of four forms.

    prompt and response; messages, the last of which is the assistant's; text, rendered by the model's chat template; or the
    token ids of such a text. The first two are rows of `guerdon score`.
    """

    model_config = ConfigDict(extra="forbid")

    prompt: str | list[dict[str, Any]] | None = Field(None, description="Text of one user turn, or chat messages.")
    response: str | list[dict[str, Any]] | dict[str, Any] | None = Field(
        None, description="Text of the reply; or its messages, where tools are called."
    )
    messages: list[dict[str, Any]] | None = Field(None, description="Chat messages; the last is the reply.")
    tools: list[Any] | None = Field(None, description="Tools of the prompt, as transformers takes them.")
    text: str | None = Field(None, description="The conversation as the model's chat template renders it.")
    input_ids: list[TokenId] | None = Field(None, description="The token ids of such a text, read as they are.")


class RewardRequest(BaseModel):
    """Texts to score. They are best sent together where they share a prompt, which is then computed once."""

    model_config = ConfigDict(extra="forbid")

    items: list[RewardItem] = Field(min_length=1, description="The texts; results come in their order.")
    model: str | None = Field(None, description="Name of a served model; the first one by default.")
    truncate: bool = Field(False, description="Cut the beginning of a text that is too long, instead of refusing it.")
    deadline: float | None = Field(
        None, gt=0, le=86_400, allow_inf_nan=False, description="Seconds to wait, if less than the server's deadline."
    )
    step: int | None = Field(
        None, ge=0, lt=2**53, description="Step of the training that asks; the live watch groups by it."
    )
    kl: list[float] | None = Field(
        None, description="Nats of each text's reply against the reference policy, for the live watch."
    )


class RewardResult(BaseModel):
    """The reward of one text, or why it has none: then `score` is null and `error` says it."""

    index: int = Field(description="Position among the items.")
    score: float | None = Field(description="Reward in nats, the same number as `guerdon score` gives.")
    probability: float | None = Field(
        None, description="1 / (1 + exp(-score)): that the reply beats one at the calibration's reference mean."
    )
    std: float | None = Field(None, description="Standard deviation of the score, nats, where it was measured.")
    members: list[float] | None = Field(None, description="The reward of each member of an ensemble, nats.")
    shift_p: float | None = Field(
        None, description="p-value of the text being like the model's data; small is out of distribution."
    )
    attributes: dict[str, float | None] | None = Field(
        None, description="The reward of each rated attribute or criterion; null where one has none."
    )
    truncated: bool = Field(False, description="Whether the model did not see the whole text.")
    abstain: bool = Field(False, description="Whether the server's limits advise not to use the score.")
    tokens: int = Field(0, description="Tokens that the model read; 0 for a judge.")
    error: str | None = Field(None, description="Why there is no score.")


class Usage(BaseModel):
    """What a request cost."""

    tokens: int = Field(description="Tokens of all its texts.")


class RewardResponse(BaseModel):
    """The rewards of a request."""

    id: str
    model: str
    results: list[RewardResult]
    usage: Usage
