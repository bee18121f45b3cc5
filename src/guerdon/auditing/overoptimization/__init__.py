"""How far a reward stayed true while a policy was optimized for it, or while it chose the best of n."""

from guerdon.auditing.overoptimization.path import Trajectory
from guerdon.auditing.overoptimization.pool import measure_pool
from guerdon.auditing.overoptimization.run import measure_run

__all__ = ["Trajectory", "measure_pool", "measure_run"]
