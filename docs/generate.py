"""Writes the generated pages beside this file: every option, and every command. `make docs` runs it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from guerdon.config import Config, known_keys

OPTIONS_HEAD = """\
# Options

Generated from `src/guerdon/config/` by `make docs`. Give an option on the command line as `stage.name=value`, or in a
YAML file with `--config`; a run writes all of them into its `config.yaml`.
"""
COMMANDS_HEAD = """\
# Commands

Generated from `guerdon COMMAND --help` by `make docs`. Every command also takes options as `STAGE.NAME=VALUE`, all of them
in [options.md](options.md), after its own; defaults come first, then `--recipe`, then `--config`, then flags, then these.

Exit codes: 0 all well; 1 something wrong was found (`check`, `audit`, `doctor`, `benchmark`, `compare`); 2 a mistake in what was given,
reported in one line with its remedy; 3 a judge had no verdict on too many pairs.
Results go to stdout, progress to stderr; `guerdon --quiet COMMAND` shows no progress.
"""
OVERRIDES = "overrides"  # the trailing STAGE.NAME=VALUE words, which every command takes


def pages() -> dict[str, str]:
    """File name -> text of every generated page."""
    return {"options.md": options_page(), "cli.md": commands_page()}


def options_page() -> str:
    """docs/options.md as text: one table a stage."""
    return "\n".join([OPTIONS_HEAD, *_option_tables()])


def commands_page() -> str:
    """docs/cli.md as text: one section a command, in the order of `guerdon --help`."""
    from typer.main import get_command

    from guerdon.cli.app import app

    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    return "\n".join([COMMANDS_HEAD, *(_command_section(name, command) for name, command in commands.items())])


def _option_tables() -> Iterator[str]:
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


def _command_section(name: str, command: Any) -> str:
    parameters = [p for p in command.params if p.name not in (OVERRIDES, "help")]
    rows = [f"| {_spelling(p)} | {p.help}{_parameter_default(p)} |" for p in parameters]
    words = re.sub(r"Example: (.+)", r"```bash\n\1\n```", _reflowed(command.help))
    return "\n".join([f"## guerdon {name}", "", words, "", "| | |", "| --- | --- |", *rows, ""])


def _reflowed(text: str) -> str:
    """A help text with each paragraph on one line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _spelling(parameter: Any) -> str:
    """`MODEL`, `--json` or, with a value, `--out …`; bold where it must be given."""
    if parameter.param_type_name == "argument":
        shown = f"`{(parameter.metavar or parameter.name).upper()}`"
    else:
        shown = f"`{', '.join(parameter.opts)}{'' if parameter.is_flag else ' …'}`"
    return f"**{shown}**" if parameter.required else shown


def _parameter_default(parameter: Any) -> str:
    if parameter.required:
        return " Required."
    return (
        f" Default: `{parameter.default}`." if getattr(parameter, "show_default", False) and parameter.default else ""
    )


if __name__ == "__main__":
    for page, text in pages().items():
        (Path(__file__).parent / page).write_text(text, encoding="utf-8")
