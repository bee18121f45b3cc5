"""Writes the generated pages beside this file: every option with its default and its sentence. `make docs` runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from assay.config import Config, known_keys

HEAD = """\
# Options

Generated from `src/assay/config.py` by `make docs`. Give an option on the command line as `stage.name=value`, or in a
YAML file with `--config`; a run writes all of them into its `config.yaml`.
"""


def options_page() -> str:
    """docs/options.md as text: one table a stage."""
    return "\n".join([HEAD, *_tables()])


def _tables() -> Iterator[str]:
    keys = list(known_keys())
    for stage, field in Config.model_fields.items():
        yield f"## {stage}\n\n{field.description}\n\n| Option | Default | What it does |\n| --- | --- | --- |"
        for key, option in keys:
            if key.startswith(f"{stage}."):
                yield f"| `{key}` | {_default(option)} | {option.description}{_choices(option)} |"
        yield ""


def _default(option: FieldInfo) -> str:
    value = option.get_default(call_default_factory=True, validated_data={})
    assert value is not PydanticUndefined
    return "none" if value is None or value in ([], {}) else f"`{value}`"


def _choices(option: FieldInfo) -> str:
    choices = [choice for choice in get_args(option.annotation) if isinstance(choice, str)]
    return f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""


if __name__ == "__main__":
    (Path(__file__).parent / "options.md").write_text(options_page(), encoding="utf-8")
