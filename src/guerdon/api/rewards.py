"""Rewards by name: directories of reward models, functions in Python files, judges, and addresses of reward servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from guerdon.errors import GuerdonError

if TYPE_CHECKING:
    from guerdon.models.judges.calls import CallLog

__all__ = ["combined_reward", "is_judge_file"]


def is_judge_file(name: str) -> bool:
    """Whether a reward of this name is a judge."""
    return name.endswith((".yaml", ".yml"))


def combined_reward(
    names: Sequence[str],
    weights: Sequence[float] | None = None,
    rule: str = "sum",
    changes: Mapping[str, Any] | None = None,
    log: CallLog | None = None,
) -> Any:
    """One reward from directories of reward models, FILE.py:FUNCTION, judges and http://HOST:PORT, with their weights.

    changes: options over those of each judge. log: where calls of judges are kept; in memory by default.
    """
    from guerdon.api import saved_models
    from guerdon.api.judges import JudgeAsReward, MeteredJudge, judge_options
    from guerdon.api.served_rewards import ServedReward, is_served_reward
    from guerdon.io.python_functions import function_from_file, split_function_name
    from guerdon.optimization import combined

    if weights and len(weights) != len(names):
        raise GuerdonError(
            f"--weight must be given once per --reward, got {len(weights)} for {len(names)}. "
            "Give one for each --reward, or none."
        )
    if len(set(names)) < len(names):
        twice = max(names, key=list(names).count)
        raise GuerdonError(f"--reward must name each source once, got {twice} twice. Give it once, with --weight.")
    sources: dict[str, Any] = {}
    for name in names:
        if is_served_reward(name):
            sources[name] = ServedReward(name)
            continue
        file, function = split_function_name(name)
        if is_judge_file(name):
            sources[name] = JudgeAsReward(MeteredJudge(judge_options(name, **(changes or {})), log))
            continue
        sources[name] = function_from_file(file, function) if function else saved_models.load(name, truncation="left")
    return combined(sources, dict(zip(sources, weights, strict=True)) if weights else None, rule)
