"""A folder for each trainer: the client, a reward function that uses it, the trainer's options, and a README of a few lines."""

from __future__ import annotations

import json
import shlex
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from guerdon.contracts import GuerdonError
from guerdon.errors import OutputError, visible
from guerdon.io import writers
from guerdon.serving.handover.files import CLIENT_FILE, HANDOVERS, MODEL_FORMATS, template_of

MARK: Final = 20  # characters with which a file of the same name begins for every trainer


def handover_files(trainer: str, url: str, folder: Path, directory: str | None, model: str | None) -> dict[str, str]:
    """The texts of the files by name. Raises GuerdonError for an unknown trainer."""
    if trainer not in HANDOVERS:
        raise GuerdonError(
            f"FORMAT must be one of {', '.join((*HANDOVERS, *MODEL_FORMATS))}, got {trainer!r}. "
            "Choose one; guerdon.serving.client is for any other."
        )
    chosen = HANDOVERS[trainer]
    where, shown = folder.resolve(), visible(directory or "DIR")
    values = {
        "url": url.rstrip("/"),
        "folder": shlex.quote(str(where)),
        "reward_file": shlex.quote(str(where / "reward.py")),
        "yaml_reward_file": json.dumps(str(where / "reward.py")),  # a string of JSON is one of YAML
        "directory": shown,
        "yaml_directory": json.dumps(str(Path(directory).resolve()) if directory else "DIR"),
    }
    package = files("guerdon.serving")
    source = template_of(f"{chosen.module}.py")
    served = f"guerdon serve {shlex.quote(shown)}"
    use = Template(chosen.use).substitute(values)
    texts = {
        CLIENT_FILE: (package / "client.py").read_text("utf-8"),
        "reward.py": source.substitute(values, model=json.dumps(model) if model is not None else "None"),
        "README.md": (
            f"# Rewards of a guerdon server for {chosen.title}\n\n"
            f"1. Start the server: `{served}`. It may need a token: set GUERDON_REWARD_TOKEN here too.\n"
            f"2. The address is {values['url']}, or GUERDON_REWARD_URL where that is set.\n"
            f"3. Train:\n\n```\n{use}\n```\n"
        ),
    }
    return texts | {name: template.substitute(values) for name, template in chosen.option_texts().items()}


def write_handover(
    trainer: str, url: str, out: Path, directory: str | None = None, model: str | None = None
) -> list[str]:
    """Write the files into the folder; returns their names. Raises GuerdonError before a file of somebody else is replaced."""
    texts = handover_files(trainer, url, out, directory, model)
    for name, text in texts.items():
        _refuse_other_file(out / name, text)
    for name, text in texts.items():
        writers.write_text(out / name, text)
    return list(texts)


def _refuse_other_file(path: Path, text: str) -> None:
    """Raise GuerdonError if the file exists and does not begin as the text does, whichever trainer it was for."""
    if not path.is_file():
        return
    start = text[:MARK].encode()
    with path.open("rb") as file:
        is_ours = file.read(len(start)) == start
    if not is_ours:
        raise OutputError(
            f"{path}: was not written by `guerdon export`, so it is not replaced. Pass another --out.", path
        )
