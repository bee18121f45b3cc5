"""What a price table holds."""

from __future__ import annotations

import datetime
from typing import Annotated

from pydantic import Field

from guerdon.config.base import Options

Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ModelPrices(Options):
    """Prices of a million tokens of one model."""

    read: Price = Field(description="Of tokens that it reads.")
    written: Price = Field(description="Of tokens that it writes.")
    cached: Price | None = Field(None, description="Of tokens read from the provider's cache; as `read` by default.")


class PriceTable(Options):
    """Prices of a provider's models on a day."""

    date: datetime.date = Field(description="The day on which the prices were looked up.")
    currency: str = Field("USD", min_length=1, description="Currency of the prices.")
    models: dict[str, ModelPrices] = Field(description="Prices by the name that judge.model has.")
