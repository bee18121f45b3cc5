"""judge.yaml: the options of a judge in a file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guerdon.config import JudgeOptions, make
from guerdon.contracts import GuerdonError
from guerdon.errors import show_value
from guerdon.io.readers import read_yaml


def read_judge(path: str | Path, **changes: Any) -> JudgeOptions:
    """The judge that a file describes, with other options over it. Errors name the file.

    The file is a mapping of JudgeOptions, or a config.yaml that has them in its section `judge`.
    """
    values = read_yaml(path, "a mapping of options of a judge", "Write kind: endpoint, for example.")
    section = values.get("judge")
    options = section if isinstance(section, Mapping) else values
    if any(not isinstance(key, str) for key in options):
        raise GuerdonError(
            f"{path}: the keys must be options of a judge, got {show_value(next(iter(options)))}. Correct the file."
        )
    try:
        judge = make(JudgeOptions, {**options, **changes})
        judge.require()
    except GuerdonError as error:
        raise GuerdonError(f"{path}: {error}") from None
    return judge
