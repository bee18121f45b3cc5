"""Reports as plain values for JSON, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from guerdon.contracts import (
    Curve,
    Estimate,
    Example,
    Finding,
    GuerdonError,
    Message,
    Report,
    Response,
)

__all__ = ["from_json", "to_json"]

FORMAT, VERSION = "guerdon.report", 1

T = TypeVar("T")


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain values. JSON has no NaN: a number that is not finite becomes null."""
    return {"format": FORMAT, "version": VERSION, **_plain(report)}


def from_json(values: Mapping[str, Any]) -> Report:
    """The inverse of to_json: null becomes NaN again. An unknown or missing key is refused, with its place."""
    if values.get("format") != FORMAT or values.get("version") != VERSION:
        got = f"{values.get('format')!r} {values.get('version')!r}"
        raise GuerdonError(f"report: wanted format {FORMAT!r} version {VERSION}, got {got}")
    return _report({key: value for key, value in values.items() if key not in ("format", "version")}, "report")


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _report(values: Mapping[str, Any], at: str) -> Report:
    def example(each: Mapping[str, Any], place: str) -> Example:
        return _build(
            Example,
            each,
            place,
            prompt=tuple(_build(Message, m, f"{place}.prompt") for m in each.get("prompt", ())),
            responses=tuple(_build(Response, r, f"{place}.responses") for r in each.get("responses", ())),
            labels=tuple(each.get("labels", ())),
            rewards=tuple(_number(r) for r in each.get("rewards", ())),
        )

    def finding(each: Mapping[str, Any], place: str) -> Finding:
        cost = each.get("cost")
        return _build(
            Finding,
            each,
            place,
            cost=None if cost is None else _estimate(cost, f"{place}.cost"),
            examples=tuple(example(e, f"{place}.examples") for e in each.get("examples", ())),
        )

    def curve(each: Mapping[str, Any], place: str) -> Curve:
        return _build(
            Curve,
            each,
            place,
            x=tuple(_number(x) for x in each.get("x", ())),
            y=tuple(_estimate(y, f"{place}.y") for y in each.get("y", ())),
            x_names=tuple(each.get("x_names", ())),
        )

    return _build(
        Report,
        values,
        at,
        estimates={key: _estimate(each, f"{at}.{key}") for key, each in values.get("estimates", {}).items()},
        findings=tuple(finding(each, f"{at}.findings") for each in values.get("findings", ())),
        curves={key: curve(each, f"{at}.{key}") for key, each in values.get("curves", {}).items()},
        examples=tuple(example(each, f"{at}.examples") for each in values.get("examples", ())),
        sections=tuple(_report(each, f"{at}.sections") for each in values.get("sections", ())),
    )


def _estimate(values: Mapping[str, Any], at: str) -> Estimate:
    return _build(Estimate, values, at, **{key: _number(values.get(key)) for key in ("value", "low", "high")})


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _build(kind: type[T], values: Mapping[str, Any], at: str, **built: Any) -> T:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if set(values) != known:
        odd = sorted(set(values) ^ known)[0]
        raise GuerdonError(f"{at}: {'unknown' if odd in values else 'missing'} key {odd!r} of a {kind.__name__}")
    return kind(**{**values, **built})
