"""Hand a reward model over to a trainer: files that ask a guerdon server for rewards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from guerdon.errors import GuerdonError, show_value

if TYPE_CHECKING:
    from guerdon.serving.client import RewardClient

DEFAULT_URL = "http://127.0.0.1:8050"


def export_for_trainer(
    trainer: str, directory: str | Path, out: str | Path, *, url: str = DEFAULT_URL, model: str | None = None
) -> Sequence[str]:
    """Write a trainer's reward function and options, and the client that they use, into a folder; returns the files' names.

    trainer: trl, openrlhf, verl, nemo-rl, nemo-gym or skyrl. directory: of the reward model that the server serves. url: of the server.
    model: its name there, where it serves several.
    """
    from guerdon.serving.handover.writing import write_handover

    if not re.fullmatch(r"https?://[A-Za-z0-9._:\[\]-]+/?", url):
        raise GuerdonError(f"--url must be http://HOST:PORT, got {show_value(url)}. Leave the path out.")
    if not str(directory).strip():
        raise GuerdonError("DIR must be the reward model that is served, got nothing. Name its directory.")
    return write_handover(trainer, url, Path(out), str(directory), model)


def reward_client(url: str = DEFAULT_URL, model: str | None = None, token: str | None = None) -> RewardClient:
    """A client of a guerdon server, for any trainer that takes a Python function."""
    from guerdon.serving.client import RewardClient

    return RewardClient(url, model, token)
