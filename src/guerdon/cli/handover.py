"""guerdon export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.api.handover import DEFAULT_URL
from guerdon.cli.app import app
from guerdon.cli.destinations import Destination
from guerdon.cli.options import AsJson
from guerdon.cli.output import print_facts

HANDOVER_FOLDER = Destination(
    "folder",
    (
        "guerdon_rewards.py",
        "reward.py",
        "README.md",
        "verl.yaml",
        "nemo_rl.yaml",
        "skyrl.yaml",
        "nemo_gym.yaml",
        "requirements.txt",
    ),
)


@app.command()
def export(
    trainer: Annotated[str, typer.Argument(metavar="TRAINER", help="trl, openrlhf, verl, nemo-rl, nemo-gym or skyrl.")],
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Directory of the reward model that is served.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files."), HANDOVER_FOLDER],
    url: Annotated[str, typer.Option("--url", help="Address of `guerdon serve` as the trainer sees it.")] = DEFAULT_URL,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Name of the model there, if it serves several.", show_default=False),
    ] = None,
    json: AsJson = False,
) -> None:
    """Write the reward function that a trainer loads.

    The folder holds reward.py, a client of one file without dependencies, the trainer's options and a README. The trainer's
    environment needs nothing else; a token is read from GUERDON_REWARD_TOKEN and written nowhere.

    Example: guerdon export trl runs/mine/model --out rewards
    """
    from guerdon.api.handover import export_for_trainer

    files = export_for_trainer(trainer, directory, out, url=url, model=model)
    print_facts({"trainer": trainer, "server": url, "files": ", ".join(str(out / name) for name in files)}, json)
