"""Reports as plain values for JSON, and back. Reports that 0.1 wrote are read too."""

from __future__ import annotations

import functools
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal

from guerdon.contracts import GuerdonError, Message, Prompt, Report
from guerdon.errors import field_error
from guerdon.io.format_version import upgrade_format

__all__ = ["from_json", "to_json"]

FORMAT, VERSION = "guerdon.report", 3
OLD_FORMAT = "assay.report"  # of 0.1


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain values. JSON has no NaN: a number that is not finite becomes null."""
    return {"format": FORMAT, "version": VERSION, **_plain(report)}


def from_json(values: Mapping[str, Any]) -> Report:
    """The inverse of to_json: null becomes NaN again. An unknown or missing key is refused, with its path."""
    if values.get("format") not in (FORMAT, OLD_FORMAT):
        raise field_error("report: format", FORMAT, values.get("format"), "Pass the report.json of an audit.")
    body = {key: value for key, value in values.items() if key != "format"}
    body = upgrade_format(body, "report", VERSION, {1: _upgrade, 2: dict})  # 3 added a state of rules
    report: Report = _build(Report, body, "report")
    return report


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Prompt) and value.tools:
        return {"messages": [_plain(message) for message in value], "tools": list(value.tools)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


# ---- Plain values to contracts, by the types of their fields -----------------------------------------------------------


def _build(kind: Any, value: Any, path: str) -> Any:
    """The plain value as an object of type `kind`: a dataclass, Prompt, tuple, Mapping, Literal, float or plain value."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):  # X | None
        return None if value is None else _build(arguments[0], value, path)
    if isinstance(kind, type) and is_dataclass(kind):
        return _build_object(kind, _as(Mapping, value, path), path)
    if origin is Literal and value not in arguments:
        raise GuerdonError(
            f"{path} must be one of {', '.join(map(str, arguments))}, got {value!r:.80}. Write it again."
        )
    if kind is float:
        return math.nan if value is None else float(value)
    if kind is Prompt:
        messages, tools = (value["messages"], value["tools"]) if isinstance(value, Mapping) else (value, ())
        return Prompt(_build(tuple[Message, ...], messages, path), tools)
    if origin is tuple:
        return tuple(_build(arguments[0], item, path) for item in _as(list, value, path))
    if origin is Mapping:
        items = _as(Mapping, value, path).items()
        return {key: _build(arguments[1], item, f"{path}.{key}") for key, item in items}
    return value


def _build_object(kind: Any, values: Mapping[str, Any], path: str) -> Any:
    types_of_fields = _types_of_fields(kind)
    known = {field.name for field in fields(kind)}
    if odd := sorted(set(values) ^ known):
        problem = "unknown" if odd[0] in values else "missing"
        raise GuerdonError(f"{path}: {problem} key {odd[0]!r} of a {kind.__name__}. Write the report again.")
    return kind(**{name: _build(types_of_fields[name], values[name], f"{path}.{name}") for name in known})


@functools.cache
def _types_of_fields(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _as(kind: type[Any], value: Any, path: str) -> Any:
    if not isinstance(value, kind):
        raise GuerdonError(f"{path} must be a {kind.__name__.lower()}, got {value!r:.80}. Write the report again.")
    return value


# ---- Reports of 0.1 ----------------------------------------------------------------------------------------------------


def _upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
    """A report of 0.1 in today's form: its gate was a section, its summary a fact, and nothing described estimates."""
    about = dict(values["about"])
    sections, gate = [], None
    for section in values["sections"]:
        if section["title"] == "Verdict" and "verdict" in section["about"]:
            gate = _upgrade_gate(section, about.pop("hygiene", "not checked"))
        else:
            sections.append(_upgrade(section))
    curves = {key: {**curve, "title": ""} for key, curve in values["curves"].items()}
    findings = [{**f, "examples": [_upgrade_example(e) for e in f["examples"]]} for f in values["findings"]]
    return {
        **values,
        "summary": about.pop("verdict", ""),
        "about": about,
        "findings": findings,
        "examples": [_upgrade_example(example) for example in values["examples"]],
        "sections": sections,
        "gate": gate,
        "curves": curves,
        "quantities": {},
    }


def _upgrade_gate(section: Mapping[str, Any], hygiene: str) -> dict[str, Any]:
    about = section["about"]
    rulings = [
        {
            "rule": rule["title"],
            **{key: rule["about"][key] for key in ("state", "measured", "wanted")},
            "effect": rule["about"]["else"],
            **{key: rule["about"].get(key, "") for key in ("limit", "data", "advice")},
            "estimates": rule["estimates"],
        }
        for rule in section["sections"]
    ]
    return {
        "decision": about["verdict"],
        "reason": about["why"],
        "limits": [text for key, text in about.items() if key.startswith("limit ")],
        "needed_data": about.get("data that would help most", ""),
        "expectation": about.get("expectation", ""),
        "published": about.get("published", ""),
        "hygiene": hygiene,
        "rulings": rulings,
    }


def _upgrade_example(example: Mapping[str, Any]) -> dict[str, Any]:
    plain_turn: dict[str, Any] = {"tool_calls": [], "tool_call_id": None, "name": None}
    return {
        **example,
        "prompt": [{**plain_turn, **message} for message in example["prompt"]],
        "responses": [{"messages": [], **response} for response in example["responses"]],
    }
