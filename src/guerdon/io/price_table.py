"""Price tables: dated TOML files of what models cost, which a judge names in its option prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from guerdon.config import JudgeOptions, make
from guerdon.config.base import first_problem
from guerdon.config.prices import ModelPrices, PriceTable
from guerdon.contracts import GuerdonError
from guerdon.errors import cause_of, field_error

ADVICE = "Correct it; docs/judge.md shows one."


def priced(options: JudgeOptions) -> JudgeOptions:
    """The same judge with its prices from its price table, and the members of a jury with theirs.

    Options that are given go over the table. A model that the table does not have keeps an unknown price. Errors name the table.
    """
    if options.judges:
        members = [_priced_member(member) for member in options.judges]
        currencies = {str(m.get("currency", "USD")) for m in members if m.get("price_in") is not None}
        if len(currencies) > 1:
            raise field_error("judge.judges", "priced in one currency", sorted(currencies), "Convert the prices.")
        return options.model_copy(update={"judges": members, "currency": (*currencies, options.currency)[0]})
    if options.prices is None:
        return options
    table = read_price_table(options.prices)
    prices = table.models.get(options.model or "")
    if prices is None:
        return options
    columns = {
        "price_in": prices.read, "price_out": prices.written, "price_cached": prices.cached, "currency": table.currency,
        "price_date": table.date.isoformat(),
    }  # fmt: skip
    return options.model_copy(
        update={name: value for name, value in columns.items() if name not in options.model_fields_set}
    )


def _priced_member(member: Mapping[str, Any]) -> dict[str, Any]:
    if not member.get("prices") and not member.get("judges"):
        return dict(member)
    return priced(make(JudgeOptions, member)).model_dump(exclude_unset=True)


def read_price_table(path: str | Path) -> PriceTable:
    """The table in a TOML file. Raises GuerdonError with the place in the file."""
    import tomllib

    try:
        values = tomllib.loads(Path(path).read_text("utf-8"))
    except (ValueError, RecursionError) as error:  # of TOML and of UTF-8
        raise GuerdonError(f"{path}: is not valid TOML ({cause_of(error)}). {ADVICE}") from None
    except OSError as error:
        raise GuerdonError(f"{path}: judge.prices must be a file, got {error.strerror}. {ADVICE}") from None
    try:
        return PriceTable.model_validate(values)
    except ValidationError as error:
        raise GuerdonError(f"{path}: {first_problem(error, _owner)}") from None


def _owner(path: Sequence[str | int]) -> type[BaseModel]:
    return ModelPrices if path[0] == "models" and len(path) > 2 else PriceTable
