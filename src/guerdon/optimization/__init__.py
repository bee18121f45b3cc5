"""A policy and a reward in, a better policy or its best replies out, and what the reward was worth on the way."""

from guerdon.optimization.best_of_n import (
    Pool,
    PoolCurve,
    best_of_n,
    curve,
    read_pool,
    to_comparisons,
    to_report,
    to_sft_rows,
    write_pool,
)
from guerdon.optimization.rewards import (
    Reward,
    Rewarded,
    combined,
    ensemble_rule,
)

__all__ = [
    "Pool",
    "PoolCurve",
    "Reward",
    "Rewarded",
    "best_of_n",
    "combined",
    "curve",
    "ensemble_rule",
    "read_pool",
    "to_comparisons",
    "to_report",
    "to_sft_rows",
    "write_pool",
]
