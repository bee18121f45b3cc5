"""Whether a reward still holds when a policy is optimized for it, or when it chooses the best of n."""

from guerdon.auditing.overoptimization.path import Trajectory
from guerdon.auditing.overoptimization.pool import measure_pool
from guerdon.auditing.overoptimization.run import measure_run

__all__ = ["Trajectory", "measure_pool", "measure_run"]
