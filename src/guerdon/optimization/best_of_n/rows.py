"""A row of a pool's file: one prompt with its N responses and their columns, or the reason why it was excluded.

Without a reward the row holds the responses only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from guerdon.contracts import GuerdonError, Prompt, Response, Rollouts, prompt_digest
from guerdon.errors import did_you_mean, field_error
from guerdon.io import fields, schema
from guerdon.optimization.attribute_columns import attributes_from_row, attributes_to_row

__all__ = ["Row", "excluded_row", "read_row", "response_row", "rollouts_row"]

Row = dict[str, Any]

KEYS = (
    "id", "prompt", "tools", "responses", "reward", "gold", "log_prob", "std", "shift_p", "partly_read", "attributes", "best",
    "excluded",
)  # fmt: skip
COLUMNS: Mapping[str, Mapping[str, Any]] = {
    "reward": {},
    "gold": {},
    "log_prob": {"claim": "a log-probability, a finite number <= 0", "high": 1e-3},  # sums of float32 may pass 0
    "std": {"claim": "a number >= 0", "low": 0.0},
    "shift_p": {"claim": "a probability in [0, 1]", "low": 0.0, "high": 1.0},
    "partly_read": {"claim": "0 or 1", "low": 0.0, "high": 1.0},
}


def rollouts_row(rollouts: Rollouts) -> Row:
    """The row of one prompt's scored responses. Columns that were not measured are absent, and so is a `truncated` of all False.

    {id, prompt: [{role, content}], responses: [{text, finish}], reward?: [N], gold?: [N], log_prob?: [N], std?: [N],
     shift_p?: [N], partly_read?: [N] of 0 and 1, attributes?: {name: [N], null where not known},
     best?: index of the first response with the highest reward}
    """
    prompt = rollouts.prompts[0]
    columns = {name: getattr(rollouts, name) for name in COLUMNS if name != "partly_read"}
    if rollouts.truncated is not None and rollouts.truncated.any():
        columns["partly_read"] = rollouts.truncated.astype(int)
    attributes = attributes_to_row(rollouts.attributes)
    return {
        "id": prompt_digest(prompt),
        **schema.prompt_to_row(prompt),
        "responses": [response_row(response) for response in rollouts.responses],
        **{name: np.asarray(values).tolist() for name, values in columns.items() if values is not None},
        **({"attributes": attributes} if attributes else {}),
        **({} if rollouts.reward is None else {"best": int(np.argmax(rollouts.reward))}),
    }


def excluded_row(prompt: Prompt, reason: str) -> Row:
    """The row of a prompt without responses: {id, prompt, excluded: reason}."""
    return {"id": prompt_digest(prompt), **schema.prompt_to_row(prompt), "excluded": reason}


def read_row(place: str, row: Any) -> Rollouts:
    """The inverse of rollouts_row; `truncated` is always there. Errors name the place."""
    prompt, responses, _ = schema.conversation_from_row(place, row)
    try:
        columns = _columns(row, len(responses))
    except GuerdonError as error:
        raise GuerdonError(f"{place}: {error}") from None
    n = len(responses)
    truncated = columns.pop("partly_read", np.zeros(n)) > 0
    return Rollouts((prompt,) * n, tuple(responses), samples=n, truncated=truncated, **columns)


def _columns(row: Mapping[str, Any], n: int) -> dict[str, Any]:
    if unknown := [key for key in row if key not in KEYS]:
        raise GuerdonError(f"{unknown[0]} is not a known field. {did_you_mean(unknown[0], KEYS)}")
    if n == 0 or row.get("reward") is None:
        missing = "reward" if n else "responses"
        raise GuerdonError(f"{missing} is missing. Draw the pool with guerdon optimize best-of-n.")
    columns: dict[str, Any] = {}
    for name, limits in COLUMNS.items():
        values = row.get(name)
        if values is None:
            continue
        if not isinstance(values, list) or len(values) != n:
            raise field_error(name, f"a list of {n} numbers, one per response", values)
        columns[name] = np.array([fields.as_number(value, f"{name}[{i}]", **limits) for i, value in enumerate(values)])
    if row.get("attributes") is not None:
        columns["attributes"] = attributes_from_row(row["attributes"], n)
    best = int(np.argmax(columns["reward"]))
    if row.get("best", best) != best:
        raise field_error("best", f"the index of the highest reward, {best}", row["best"], "Leave best out.")
    return columns


def response_row(response: Response) -> Row:
    """A response as plain values; its author, the same in every row, and its ratings are left out."""
    return {key: value for key, value in schema.response_to_row(response).items() if key not in ("author", "ratings")}
