"""A policy and a reward in; its best responses, or a better policy, out, with a measure of whether the reward still holds."""

from guerdon.optimization.best_of_n.curve import CurvePoint, PoolCurve, curve
from guerdon.optimization.best_of_n.exports import to_comparisons, to_sft_rows
from guerdon.optimization.best_of_n.files import Pool, read_pool, write_pool
from guerdon.optimization.best_of_n.report import to_report
from guerdon.optimization.rewards import Reward, RewardScores, combined, ensemble_rule

__all__ = [
    "CurvePoint",
    "Pool",
    "PoolCurve",
    "Reward",
    "RewardScores",
    "combined",
    "curve",
    "ensemble_rule",
    "read_pool",
    "to_comparisons",
    "to_report",
    "to_sft_rows",
    "write_pool",
]
