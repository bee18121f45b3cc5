"""Versions of the formats that Guerdon writes: an older one is upgraded step by step, a newer one is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from guerdon.contracts import GuerdonError
from guerdon.errors import field_error

Values = dict[str, Any]
Upgrade = Callable[[Values], Values]


def upgrade_format(values: Values, file: str, current: int, upgrades: Mapping[int, Upgrade]) -> Values:
    """The values in the current format, without `version`. `upgrades[v]` turns format v into v + 1.

    `file` is named in errors.
    """
    version = values.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise field_error(
            f"{file}: version", "an integer >= 1", version, "Restore the file from where the model was saved."
        )
    if version > current:
        raise GuerdonError(
            f"{file}: was written by a newer Guerdon (format {version}, this one reads up to {current}). "
            "Upgrade with `pip install -U guerdon`."
        )
    values = {key: value for key, value in values.items() if key != "version"}
    for step in range(version, current):
        values = upgrades[step](values)
    return values
