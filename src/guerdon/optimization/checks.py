"""Checks of a policy on held-out prompts while it is optimized, and their file, checks.jsonl.

Axes: p held-out prompts with one reply each, the same prompts at every check. KL is nats per sequence to the reference, length is
tokens, rewards are nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from guerdon.contracts import GuerdonError
from guerdon.errors import did_you_mean, field_error, show_value
from guerdon.io import readers, schema
from guerdon.io.fields import as_number
from guerdon.optimization.attribute_columns import attributes_from_row, attributes_to_row, null_for_nan

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

__all__ = ["Check", "from_row", "read_checks", "refuse_unlike", "to_row"]

NUMBERS = ("proxy", "gold", "kl", "length", "std", "shift_p")
OPTIONAL = ("gold", "std", "shift_p")
COLUMNS = (*NUMBERS, "finished", "texts", "truncated")
LATER = ("partly_read", "attributes")  # keys that files of earlier versions lack
TRUNCATED_KEY = "partly_read"  # of `truncated` in the file


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """What was measured of the policy after `update` updates. NaN where a reward or a KL is not known.

    kl_coef: the KL penalty at that time. prompts: digests. proxy: the reward that is optimized. gold: that of a judge that is
    not. kl: k1 summed over a reply's tokens. finished: whether the reply ended by itself. std: spread of the proxy's members.
    shift_p: conformal p-value of the reply being in the reward model's training distribution. truncated: whether the reward
    or gold saw only part of a text that was too long for it. attributes: what the reward says of each named attribute, such as
    a criterion of a rubric: higher is more reward.
    """

    update: int
    kl_coef: float
    prompts: tuple[str, ...]
    proxy: Float[np.ndarray, " p"]
    gold: Float[np.ndarray, " p"] | None
    kl: Float[np.ndarray, " p"]
    length: Float[np.ndarray, " p"]
    finished: Bool[np.ndarray, " p"]
    std: Float[np.ndarray, " p"] | None
    shift_p: Float[np.ndarray, " p"] | None
    texts: tuple[str, ...]
    truncated: Bool[np.ndarray, " p"] | None = None
    attributes: Mapping[str, Float[np.ndarray, " p"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        p = len(self.prompts)
        columns = {name: getattr(self, name) for name in COLUMNS} | dict(self.attributes)
        for name, column in columns.items():
            if column is not None and len(column) != p:
                raise GuerdonError(
                    f"check {self.update}: {name} must have one entry for each of {p} prompts, got {len(column)}. "
                    "Use the file as the run wrote it."
                )
        if p == 0:
            raise GuerdonError(f"check {self.update}: must have at least one prompt, got none. Hold out a prompt.")


def refuse_unlike(first: Check, check: Check) -> None:
    """An error unless both checks are of the same prompts and have the same columns."""
    if check.prompts != first.prompts:
        raise GuerdonError(
            f"check {check.update}: prompts must be those of check {first.update}, got others. "
            "Check the same prompts in the same order every time."
        )
    for name in OPTIONAL:
        if (getattr(check, name) is None) != (getattr(first, name) is None):
            raise GuerdonError(
                f"check {check.update}: {name} must be in all checks or in none, got it in some. Measure it in all, or in none."
            )
    if set(check.attributes) != set(first.attributes):
        only = sorted(set(check.attributes) ^ set(first.attributes))[0]
        raise GuerdonError(
            f"check {check.update}: attributes must be the same in all checks, got {only!r} in some. Keep one run per file."
        )


# ---- The file ----------------------------------------------------------------------------------------------------


def read_checks(path: str | Path) -> list[Check]:
    """The checks in a checks.jsonl, in order; none if there is no file. Errors name file:line.

    A last line without an end, which a killed run leaves behind, is left out.
    """
    path = Path(path)
    if not path.exists():
        return []
    rows = list(readers.read_rows(path))
    if rows and isinstance(rows[-1][1], schema.Rejected) and not path.read_bytes().endswith(b"\n"):
        rows.pop()
    checks: list[Check] = []
    for place, row in rows:
        try:
            if isinstance(row, schema.Rejected):
                raise GuerdonError(row.reason)
            check = from_row(row)
            refuse_unlike(checks[0] if checks else check, check)
            if checks and check.update <= checks[-1].update:
                raise GuerdonError(
                    f"update must be above {checks[-1].update}, got {check.update}. Keep one run per file."
                )
        except GuerdonError as error:
            raise GuerdonError(f"{place}: {error}") from None
        checks.append(check)
    return checks


def to_row(check: Check) -> dict[str, Any]:
    """The check as plain values, for one line of checks.jsonl. JSON has no NaN: it becomes null."""
    row: dict[str, Any] = {_key(each.name): getattr(check, each.name) for each in fields(Check)}
    for name in NUMBERS:
        if row[name] is not None:
            row[name] = null_for_nan(row[name])
    row["attributes"] = attributes_to_row(check.attributes)
    row |= {"prompts": list(check.prompts), "texts": list(check.texts), "finished": [bool(x) for x in check.finished]}
    row[TRUNCATED_KEY] = None if check.truncated is None else [bool(x) for x in check.truncated]
    return row | {"update": int(check.update), "kl_coef": float(check.kl_coef)}


def from_row(row: object) -> Check:
    """The inverse of to_row. An unknown, missing or invalid key is a GuerdonError that names it."""
    known = [_key(each.name) for each in fields(Check)]
    if not isinstance(row, Mapping):
        raise GuerdonError(f"a check must be an object, got {show_value(row)}. Use the file as the run wrote it.")
    if unknown := [key for key in row if key not in known]:
        raise GuerdonError(f"{unknown[0]} is not a known field. {did_you_mean(unknown[0], known)}")
    if missing := [name for name in known if name not in row and name not in LATER]:
        raise GuerdonError(f"{missing[0]} is missing. Use the file as the run wrote it.")
    update = row["update"]
    if isinstance(update, bool) or not isinstance(update, int) or update < 0:
        raise field_error("update", "a count of updates, from 0", update)
    values: dict[str, Any] = {"update": update, "kl_coef": as_number(row["kl_coef"], "kl_coef", low=0.0)}
    for name, kind in (("prompts", str), ("texts", str), ("finished", bool)):
        values[name] = tuple(_list_of(row[name], name, kind))
    values["finished"] = np.array(values["finished"], dtype=bool)
    if row.get(TRUNCATED_KEY) is not None:
        values["truncated"] = np.array(_list_of(row[TRUNCATED_KEY], TRUNCATED_KEY, bool), dtype=bool)
    if row.get("attributes"):
        values["attributes"] = attributes_from_row(row["attributes"], len(values["prompts"]))
    for name in NUMBERS:
        values[name] = None if row[name] is None and name in OPTIONAL else _numbers(row[name], name)
    return Check(**values)


def _key(field: str) -> str:
    return TRUNCATED_KEY if field == "truncated" else field


def _list_of(value: object, name: str, kind: type) -> list[Any]:
    claim, item_claim = ("a list of texts", "text") if kind is str else ("a list of booleans", "true or false")
    if not isinstance(value, list):
        raise field_error(name, claim, value)
    for i, item in enumerate(value):
        if not isinstance(item, kind):
            raise field_error(f"{name}[{i}]", item_claim, item)
    return value


def _numbers(value: object, name: str) -> Float[np.ndarray, " p"]:
    if not isinstance(value, list):
        raise field_error(name, "a list of numbers, one per prompt", value)
    return np.array([math.nan if x is None else as_number(x, f"{name}[{i}]") for i, x in enumerate(value)])
