"""judge.yaml: the options of a judge in a file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guerdon.config import JudgeOptions, make
from guerdon.contracts import GuerdonError
from guerdon.errors import show_value
from guerdon.io.price_table import priced
from guerdon.io.readers import read_yaml
from guerdon.io.server_url import normalize_url


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
        _refuse_unusable(judge)
        return priced(judge)
    except GuerdonError as error:
        raise GuerdonError(f"{path}: {error}") from None


def jury_members(options: JudgeOptions) -> list[JudgeOptions]:
    """The judges of a jury. Raises GuerdonError with the position of one that cannot be used."""
    members = []
    for i, values in enumerate(options.judges):
        try:
            members.append(make(JudgeOptions, values))
            _refuse_unusable(members[-1])
        except GuerdonError as error:
            raise GuerdonError(f"judge.judges[{i}]: {error}") from None
    return members


def _refuse_unusable(judge: JudgeOptions) -> None:
    """Raise GuerdonError for what a judge lacks, or for an address that is none; before anything is read or asked."""
    judge.require()
    for url in [judge.url] if isinstance(judge.url, str) else judge.url or ():
        try:
            normalize_url(url)
        except GuerdonError as error:
            raise GuerdonError(f"judge.{error}") from None
    jury_members(judge)
