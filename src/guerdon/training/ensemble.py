"""The runs that make an ensemble: the same comparisons, each run with a seed, a resample or a head of its own."""

from __future__ import annotations

from typing import Literal, get_args

from guerdon.config import Config
from guerdon.contracts import GuerdonError

By = Literal["seed", "bootstrap", "heads"]


def runs(config: Config, members: int, by: str) -> list[Config]:
    """The config of each run. By "heads" there is one, whose backbone has as many heads as members are wanted.

    Run i has the seed train.seed + i, which draws its head, its order of the data and, by "bootstrap", its resample.
    """
    if by not in get_args(By):
        raise GuerdonError(f"ensemble: by={by!r} is not known; known are {', '.join(get_args(By))}")
    if members < 2:
        raise GuerdonError(f"ensemble: members={members}; remedy: 2 or more")
    if by == "heads":
        return [config.model_copy(update={"model": config.model.model_copy(update={"heads": members})})]
    if config.model.heads > 1:
        raise GuerdonError(f"model.heads={config.model.heads}: members by {by} have one head each; remedy: by='heads'")
    resampled = config.train.bootstrap or by == "bootstrap"
    return [
        config.model_copy(
            update={"train": config.train.model_copy(update={"seed": config.train.seed + i, "bootstrap": resampled})}
        )
        for i in range(members)
    ]
