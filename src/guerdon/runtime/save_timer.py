"""Checkpoints by the clock, so that a kill never costs more than some minutes however slow a step is."""

from __future__ import annotations

import time

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list


class SaveTimer:
    """Whether this many minutes have passed since the last checkpoint; 0 never.

    Saving is a joint act of all processes and their clocks differ, so the first one decides for all.
    """

    def __init__(self, minutes: float, accelerator: Accelerator) -> None:
        self.seconds, self.accelerator = 60 * minutes, accelerator
        self.last = time.monotonic()

    def is_due(self) -> bool:
        """Whether a checkpoint is due; every process must ask."""
        if not self.seconds:
            return False
        is_due = time.monotonic() - self.last >= self.seconds
        return bool(broadcast_object_list([is_due])[0]) if self.accelerator.num_processes > 1 else is_due

    def restart(self) -> None:
        """Count from now: a checkpoint has been written."""
        self.last = time.monotonic()
