"""guerdon export."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from guerdon.api.handover import DEFAULT_URL
from guerdon.cli.app import app
from guerdon.cli.destinations import Destination
from guerdon.cli.options import AsJson
from guerdon.cli.output import print_facts
from guerdon.errors import GuerdonError
from guerdon.serving.handover.files import ALL_FILES


@app.command()
def export(
    to: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="trl, openrlhf, verl, nemo-rl, nemo-gym or skyrl: a trainer's reward function. gguf: for llama.cpp. adapter: for PEFT.",
        ),
    ],
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Directory of the reward model.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files."), Destination("folder", ALL_FILES)],
    url: Annotated[
        str | None,
        typer.Option("--url", help=f"Address of `guerdon serve` as the trainer sees it; {DEFAULT_URL} by default."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Name of the model there, if it serves several.", show_default=False),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="Weights in GGUF: float32, the default, or float16.", show_default=False),
    ] = None,
    json: AsJson = False,
) -> None:
    """Write what another program needs of a reward model.

    For a trainer: reward.py, a client of one file that asks `guerdon serve`, the trainer's options and a README. The trainer's
    environment needs nothing else; a token is read from GUERDON_REWARD_TOKEN and written nowhere. For llama.cpp: the model as GGUF,
    its head, and a client of llama.cpp's server. For PEFT: the adapters of a model that was trained with model.lora_rank.

    Example: guerdon export trl runs/mine/model --out rewards
    """
    from guerdon.api import handover

    _refuse_ignored(to, {"--url": url, "--model": model, "--dtype": dtype})
    if to == "gguf":
        options = handover.export_gguf(directory, out, dtype=dtype or "float32")
        file, client = shlex.quote(str(out / "backbone.gguf")), str(out / "reward.py")
        return print_facts({"start": f"llama-server -m {file} {options}", "client": client}, json)
    if to == "adapter":
        adapter = handover.export_adapter(directory, out)
        facts = {"adapter": str(out), "base": adapter.base, "dtype": adapter.dtype, "labels": str(adapter.labels)}
        return print_facts(facts, json)
    address = url or DEFAULT_URL
    files = handover.export_for_trainer(to, directory, out, url=address, model=model)
    return print_facts({"trainer": to, "server": address, "files": ", ".join(str(out / name) for name in files)}, json)


def _refuse_ignored(to: str, given: dict[str, str | None]) -> None:
    """Raise GuerdonError for an option that this export would ignore."""
    taken = {"gguf": ["--dtype"], "adapter": []}.get(to, ["--url", "--model"])
    for option, value in given.items():
        if value is not None and option not in taken:
            raise GuerdonError(
                f"{option} must be left out for {to}, which would ignore it, got {value!r}. Leave it out."
            )
