"""The runs of an ensemble's members: the same comparisons, with a seed, a bootstrap sample or a head for each member."""

from __future__ import annotations

from typing import Literal, get_args

from guerdon.config import Config, build
from guerdon.contracts import GuerdonError

By = Literal["seed", "bootstrap", "heads"]


def member_configs(config: Config, members: int, by: str) -> list[Config]:
    """The config of each run. By "heads" there is one run, whose backbone has one head per member.

    Run i has the seed train.seed + i, which draws its head, its order of the data and, by "bootstrap", its sample.
    """
    if by not in get_args(By):
        raise GuerdonError(f"ensemble: by must be one of {', '.join(get_args(By))}, got {by!r}. Choose one of these.")
    if members < 2:
        raise GuerdonError(f"ensemble: members must be at least 2, got {members}. Train more.")
    given = config.model_dump(exclude_unset=True)
    if by == "heads":
        return [build(given, {"model": {"heads": members}})]
    if config.model.heads > 1:
        raise GuerdonError(
            f"model.heads must be 1 for members by {by}, got {config.model.heads}. Leave it out, or pass by='heads'."
        )
    bootstrap = config.train.bootstrap or by == "bootstrap"
    return [build(given, {"train": {"seed": config.train.seed + i, "bootstrap": bootstrap}}) for i in range(members)]
