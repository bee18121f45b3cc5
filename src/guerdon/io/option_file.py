"""The options of one stage in a YAML file of their own, or in its section of a config.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from guerdon.config import AnnotationOptions, Options, make
from guerdon.contracts import GuerdonError
from guerdon.errors import show_value
from guerdon.io.readers import read_yaml

Kind = TypeVar("Kind", bound=Options)


def read_annotation(path: str | Path, **changes: Any) -> AnnotationOptions:
    """The options of an annotation.yaml, with other options over them. Errors name the file."""
    return read_options(path, AnnotationOptions, "annotation", "Write verdict: strength7, for example.", changes)


def read_options(path: str | Path, kind: type[Kind], section: str, advice: str, changes: Mapping[str, Any]) -> Kind:
    """The options of a file, with others over them: a mapping of them, or a config.yaml that has them in this section.

    advice: for a file that holds no mapping. Errors name the file.
    """
    values = read_yaml(path, f"a mapping of options of {section}", advice)
    inner = values.get(section)
    options = inner if isinstance(inner, Mapping) else values
    if any(not isinstance(key, str) for key in options):
        key = show_value(next(iter(options)))
        raise GuerdonError(f"{path}: the keys must be options of {section}, got {key}. Correct the file.")
    try:
        return make(kind, {**options, **changes})
    except GuerdonError as error:
        raise GuerdonError(f"{path}: {error}") from None
